# The two commands that matter: make run, make test. A bare make explains the rest.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
KILLS ?= 3000
SOAK ?= 600
NEW_TOKEN := import secrets; print(secrets.token_urlsafe(24))
# What setuptools says of every editable installation is no news to whoever asked for one.
INSTALL := PYTHONWARNINGS='ignore:Editable installation' $(BIN)/pip install --quiet

.PHONY: help run test pythons docs quickstart soak bench lint clean

help: ## list the commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# A stamp is newest when everything is installed: first what the app needs, which is little, then
# what its tests need, which is much.
.venv/app: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(INSTALL) -r requirements.txt -e '.[metrics]'
	@touch $@

.venv/installed: .venv/app
	$(INSTALL) -e '.[test]'
	@sync  # half a gigabyte, which would else be in the way of the tests that sync
	@touch $@

run: .venv/app ## install what is missing and start the server in the foreground
	@echo "Flask-Spooler answers at http://127.0.0.1:$${PORT:-8080} - try, in another terminal:"
	@echo "  curl '127.0.0.1:$${PORT:-8080}/uwsgi_spool?duration=3'           a durable job; then its status_url"
	@echo "  curl '127.0.0.1:$${PORT:-8080}/uwsgi_spool?duration=3&delay=10'  the same, in ten seconds"
	@echo "  .venv/bin/flask spooler list                           all jobs; Ctrl-C here stops the server"
	@token="$${FLASK_SPOOLER_DASHBOARD_TOKEN:-$$($(BIN)/python -c '$(NEW_TOKEN)')}"; \
	echo "The dashboard, by a link that holds its token:"; \
	echo "  http://127.0.0.1:$${PORT:-8080}/spooler/?token=$$token"; \
	FLASK_SPOOLER_DASHBOARD_TOKEN="$$token" PATH="$(CURDIR)/$(BIN):$$PATH" exec uwsgi --ini uwsgi.ini

# Most tests wait for a server most of the time, so several files run at once; those that look at
# the clock closely are marked "alone" and run by themselves after the others.
test: .venv/installed lint ## run every test that this machine can run, and say what was skipped
	$(BIN)/python -m pytest -ra -m 'not alone' -n 4 --dist loadfile
	$(BIN)/python -m pytest -ra -m alone

# tox finds what is on PATH; what pyenv has is there only as far as one of them is chosen.
.venv/tox: .venv/installed
	$(BIN)/pip install --quiet 'tox>=4.25'
	@touch $@

PYENV := $(wildcard $(or $(PYENV_ROOT),$(HOME)/.pyenv)/versions/3.1[0-9].*/bin/python)

pythons: .venv/tox ## run types and tests on every Python of this machine, lower bounds, pyuwsgi; ONLY=3.13: one
	$(BIN)/tox run $(foreach env,$(ONLY),-e $(env)) $(if $(PYENV),--discover $(PYENV))

docs: .venv/installed ## build the documentation, docs/_build/index.html, and fail on any warning
	$(BIN)/python -m sphinx -n -q -W --keep-going -b html docs docs/_build
	@echo "Open docs/_build/index.html"

quickstart: .venv/installed ## follow the quickstart as on a new machine and print how long it takes
	QUICKSTART_FRESH=1 $(BIN)/python -m pytest -q tests/test_quickstart.py

soak: .venv/installed ## kill servers for ten minutes and write docs/reliability.md
	SCHEDULED=100000 $(BIN)/python -m pytest -q -s -k scheduled_under_load tests/uwsgi/test_faults.py
	$(BIN)/python -m tests.witness.run --kills $(KILLS) --seconds $(SOAK) --report docs/reliability.md

# The peers are installed only for this; the stamp is newer when they are.
.venv/bench: .venv/installed
	$(INSTALL) -e '.[test,bench]'
	@touch $@

bench: .venv/bench ## measure beside the peers and write docs/benchmarks.md, about an hour; SHORT=1: minutes
	@command -v redis-server >/dev/null || \
	  { echo "redis-server is missing: on Debian and Ubuntu, apt-get install redis-server" >&2; exit 2; }
	$(BIN)/python -m benchmarks.run $(if $(SHORT),--short) $(foreach question,$(ONLY),--only $(question))

lint: .venv/installed ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean: ## remove what these commands made, but no spool
	rm -rf .venv .tox .bench docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
