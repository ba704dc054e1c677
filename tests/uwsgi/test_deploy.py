"""What `docs/deploy` says, done: its ini files are started, its units, nginx and images checked."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jobs
import msgspec
import pytest
import yaml
from jobs import notes
from server import ROOT, Server, client, ended, free_port, gone_at_the_end, outcomes, wait_until

from flask_spooler.config import Config
from flask_spooler.doctor.note import JOBS, WEB, ServerNote
from flask_spooler.doctor.starter import examine_unit

DEPLOY = ROOT / "docs" / "deploy"
INIS = ("uwsgi.ini", "split/web.ini", "split/jobs.ini")
UNITS = ("shop.service", "split/shop-web.service", "split/shop-jobs.service")
GRACE = Config(directory=Path("/")).grace
OF_THE_DISK = {"file system", "room", "inodes"}

Deploy = Callable[..., Server]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short name, as the paths of UNIX sockets must have."""
    with tempfile.TemporaryDirectory(prefix="fs-", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
def deploy(place: Path) -> Iterator[Deploy]:
    """Start a server of one of the ini files, all of one test on one spool."""
    servers: list[Server] = []

    def start(ini: str, *options: str, wait: bool = True, **settings: Any) -> Server:
        environment = {"RUNTIME_DIRECTORY": str(place), **settings.pop("environment", {})}
        server = Server(
            directory=place / "spool",
            log_file=place / f"server-{len(servers)}.log",
            ini=str(DEPLOY / ini),
            environment=environment,
            **settings,
        )
        http = ("--http-socket", f"127.0.0.1:{server.port}") if "jobs" not in ini else ()
        spoolers = ("--spooler-import", "jobs")
        server.options = ("--pythonpath", str(ROOT), *spoolers, *http, *options)
        servers.append(server)
        server.start(wait=wait and bool(http))
        name = WEB if "web" in ini else JOBS
        if wait:
            wait_until(lambda: noted(place / "spool" / name))
        return server

    with gone_at_the_end(servers):
        yield start


def noted(file: Path) -> bool:
    if not file.exists():
        return False
    return msgspec.json.decode(file.read_bytes(), type=ServerNote).is_complete


def not_right(server: Server, *words: str) -> list[str]:
    """The names of what the doctor finds, but for what the disk under the test is to blame for."""
    done = server.flask("spooler", "doctor", "--json", *words, check=False)
    return [
        f"{each['name']}: {each['problem']}"
        for each in json.loads(done.stdout)
        if not each["ok"] and each["name"] not in OF_THE_DISK
    ]


def running(path: Path, count: int = 1) -> None:
    wait_until(lambda: sum(line[0] == "start" for line in notes(path)) >= count)


# --- one server -------------------------------------------------------------------------------


def test_the_production_server_runs_jobs_and_the_doctor_finds_nothing(
    deploy: Deploy, place: Path
) -> None:
    server = deploy("uwsgi.ini")
    server.succeeded(server.get("/uwsgi_spool?duration=0").json["id"])
    assert server.get("/spooler/healthz").status == 200, "which the readiness probe asks"
    assert oct((place / "uwsgi.sock").stat().st_mode)[-3:] == "660"
    assert not_right(server) == []
    assert not_right(server, "--ini", server.ini) == []
    assert "doctor: " not in server.log
    server.stop()
    assert not (place / "uwsgi.sock").exists()


def test_spoolers_that_start_afresh_lose_no_job(deploy: Deploy, place: Path) -> None:
    server = deploy("uwsgi.ini", "--spooler-max-tasks", "2")
    with client(jobs.spooler, server.directory):
        handles = [jobs.write.enqueue(str(place / "out")) for _ in range(20)]
        for job in handles:
            assert ended(job)["state"] == "succeeded"
    assert len(notes(place / "out")) == 20
    assert "maximum number of tasks reached" in server.log


def test_a_stop_waits_for_jobs_longer_than_requests_may_take(deploy: Deploy, place: Path) -> None:
    server = deploy("uwsgi.ini", "--harakiri", "1")
    with client(jobs.spooler, server.directory):
        job = jobs.hold.enqueue(str(place / "out"), 4)
        running(place / "out")
        server.stop()
        assert job.state == "succeeded"
        assert outcomes(job) == ["succeeded"]


def test_the_server_tells_systemd_when_it_is_ready(deploy: Deploy, place: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(place / "notify"))
        notify.settimeout(20)
        deploy("uwsgi.ini", environment={"NOTIFY_SOCKET": str(place / "notify")})
        while b"READY=1" not in notify.recv(4096):
            continue


def test_a_spool_can_be_moved_to_another_place(deploy: Deploy, place: Path) -> None:
    server = deploy("uwsgi.ini")
    with client(jobs.spooler, server.directory):
        later = jobs.write.using(delay=4).enqueue(str(place / "out"))
        done = jobs.echo.enqueue(5)
        done.wait(60)
    server.flask("spooler", "drain")
    server.stop()
    new = place / "new"
    new.mkdir()
    pack, unpack = (
        ["tar", "-C", str(place), "-cf", "-", "spool"],
        ["tar", "-C", str(new), "-xpf", "-"],
    )
    packed = subprocess.run(pack, stdout=subprocess.PIPE, check=True).stdout
    subprocess.run(unpack, input=packed, check=True)
    shutil.rmtree(server.directory)
    server.directory = new / "spool"
    server.start()
    assert server.succeeded(later.id)["attempt"] == 1
    assert server.job(done.id)["result"] == 5
    wait_until(lambda: noted(server.directory / JOBS) and not not_right(server))


# --- two servers on one spool -----------------------------------------------------------------


@pytest.fixture
def split(deploy: Deploy) -> tuple[Server, Server]:
    """A jobs instance and a web instance on one spool."""
    workhorse = deploy("split/jobs.ini")
    return workhorse, deploy("split/web.ini")


def test_what_the_web_instance_enqueues_the_jobs_instance_runs(
    split: tuple[Server, Server],
) -> None:
    workhorse, web = split
    job = web.get("/uwsgi_spool?duration=1").json["id"]
    later = web.get("/uwsgi_spool?duration=0&delay=1").json["id"]
    web.succeeded(job)
    web.succeeded(later)
    assert "Working in uwsgi spool... 1/1" in workhorse.log
    assert "Working" not in web.log
    assert len(workhorse.pids("spooler")) == 2
    assert len(workhorse.pids("mule")) == len(workhorse.pids("worker")) == 1
    assert web.pids("spooler") == web.pids("mule") == []


def test_a_job_of_the_web_instance_starts_at_once(split: tuple[Server, Server]) -> None:
    _, web = split
    waits = []
    for _ in range(20):
        asked = time.time()
        shown = web.succeeded(web.get("/uwsgi_spool?duration=0").json["id"])
        waits.append(shown["started_at"] - asked)
    assert sorted(waits)[10] < 0.25, "the bell reaches the housekeeper; its own look is 1 s away"


@pytest.mark.parametrize("way", ["reload", "stop", "kill"])
def test_whatever_happens_to_the_web_instance_no_job_notices(
    split: tuple[Server, Server], place: Path, way: str
) -> None:
    workhorse, web = split
    with client(jobs.spooler, web.directory) as state:
        web.get("/uwsgi_spool?duration=0")
        job = jobs.hold_until.enqueue(str(place / "out"), str(place / "gate"))
        running(place / "out")
        if way == "reload":
            mark = len(web.log)
            web.send(signal.SIGHUP)
            web.seen("gracefully (RE)spawned", after=mark)
            wait_until(web.answers)
        elif way == "stop":
            web.stop()
        else:
            web.kill()
        assert job.state == "running", "it waits for no job of the other instance"
        boots = [str(boot) for boot in state.engine.ledger.servers()]
        assert not any(state.engine.ledger.is_draining(boot, time.time()) for boot in boots)
        assert ended(jobs.write.enqueue(str(place / "next")))["state"] == "succeeded"
        (place / "gate").touch()
        assert ended(job)["state"] == "succeeded"
        assert outcomes(job) == ["succeeded"]
    assert len(notes(place / "out")) == 1, "it started once"
    assert len(workhorse.pids("spooler")) == 2


def test_while_the_jobs_instance_is_away_jobs_are_accepted_and_wait(
    split: tuple[Server, Server],
) -> None:
    workhorse, web = split
    workhorse.stop()
    accepted = [web.get("/uwsgi_spool?duration=0").json["id"] for _ in range(5)]
    assert {web.job(job)["state"] for job in accepted} == {"queued"}
    workhorse.start(wait=False)
    for job in accepted:
        assert web.succeeded(job)["attempt"] == 1


def test_a_stop_of_the_jobs_instance_lets_its_jobs_finish(
    split: tuple[Server, Server], place: Path
) -> None:
    workhorse, web = split
    with client(jobs.spooler, web.directory):
        job = jobs.hold.enqueue(str(place / "out"), 3)
        running(place / "out")
        workhorse.stop()
        assert job.state == "succeeded"
    assert web.answers()


def test_a_running_job_is_cancelled_from_the_web_instance(
    split: tuple[Server, Server], place: Path
) -> None:
    _, web = split
    with client(jobs.spooler, web.directory):
        job = jobs.hold.enqueue(str(place / "out"), 60)
        running(place / "out")
        web.flask("spooler", "cancel", job.id)
        assert ended(job)["state"] == "cancelled"


def test_the_doctor_finds_nothing_in_a_split_deployment(split: tuple[Server, Server]) -> None:
    for server in split:
        assert not_right(server) == []
        assert not_right(server, "--ini", server.ini) == []
        assert "doctor: " not in server.log


def test_a_mule_in_the_web_instance_keeps_no_house_and_is_found(deploy: Deploy) -> None:
    web = deploy("split/web.ini", "--mule=flask_spooler.housekeeper:run")
    workhorse = deploy("split/jobs.ini")
    later = web.get("/uwsgi_spool?duration=0&delay=1").json["id"]
    web.succeeded(later)
    wait_until(lambda: len(not_right(workhorse)) == 1)
    assert not_right(workhorse)[0].startswith("web: housekeeper: ")
    web.seen("doctor: housekeeper: ")


# --- systemd ----------------------------------------------------------------------------------


def unit(name: str) -> list[tuple[str, str]]:
    lines = (DEPLOY / name).read_text().splitlines()
    pairs = [line.partition("=") for line in lines if re.match(r"[A-Z]\w+=", line)]
    return [(key, value) for key, _, value in pairs]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("name", UNITS)
def test_systemd_accepts_the_unit(place: Path, name: str) -> None:
    text = (DEPLOY / name).read_text().replace("/srv/shop/.venv/bin", str(BIN))
    file = place / Path(name).name
    file.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"},
        check=False,
    )
    about_it = [line for line in done.stderr.splitlines() if file.name in line]
    assert (done.returncode, about_it) == (0, [])


BIN = Path(sys.executable).parent


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_gives_jobs_the_time_they_were_promised(name: str) -> None:
    settings = dict(unit(name))
    shown = {
        "KillMode": settings["KillMode"],
        "KillSignal": str(int(signal.Signals[settings["KillSignal"]])),
        "TimeoutStopUSec": f"{settings['TimeoutStopSec']}s",
    }
    assert [finding for finding in examine_unit(shown, GRACE) if not finding.ok] == []
    reloads = [value for key, value in unit(name) if key == "ExecReload"]
    assert reloads[-1] == "/bin/kill -HUP $MAINPID"
    for before in reloads[:-1]:
        waits = float(before.rpartition("--timeout ")[2])
        assert waits < float(settings["TimeoutStartSec"])
    ini = settings["ExecStart"].rpartition("/")[2]
    assert (DEPLOY / Path(name).parent / ini).exists()


def test_what_the_unit_does_at_a_reload_interrupts_no_job(deploy: Deploy, place: Path) -> None:
    server = deploy("uwsgi.ini")
    assert server.process is not None
    with client(jobs.spooler, server.directory):
        job = jobs.hold.enqueue(str(place / "out"), 2)
        running(place / "out")
        mark = len(server.log)
        for line in [value for key, value in unit("shop.service") if key == "ExecReload"]:
            command = line.removeprefix("-").replace("/srv/shop/.venv/bin", str(BIN))
            words = shlex.split(command.replace("$MAINPID", str(server.process.pid)))
            subprocess.run(words, cwd=ROOT, env=server.variables, check=True, timeout=60)
        server.seen("gracefully (RE)spawned", after=mark)
        assert job.state == "succeeded"
        assert outcomes(job) == ["succeeded"]
        assert ended(jobs.write.enqueue(str(place / "next")))["state"] == "succeeded"


# --- nginx ------------------------------------------------------------------------------------


@pytest.fixture
def nginx(place: Path) -> list[str]:
    """The command for nginx with our server in it, on a port and a socket of this test."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed")
    place.chmod(0o755)  # its workers are another user
    site = (DEPLOY / "nginx.conf").read_text()
    site = site.replace("listen 80;", f"listen 127.0.0.1:{free_port()};")
    (place / "site.conf").write_text(site.replace("/run/shop/uwsgi.sock", f"{place}/uwsgi.sock"))
    shutil.copy("/etc/nginx/uwsgi_params", place)
    user = "user root;" if os.geteuid() == 0 else ""
    (place / "nginx.conf").write_text(
        f"{user} daemon off; pid {place}/nginx.pid; error_log stderr;\n"
        f"events {{}} http {{ access_log off; include {place}/site.conf;\n"
        + "".join(
            f"{name}_temp_path {place}/{name};\n"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        + "}\n"
    )
    return [program, "-p", str(place), "-c", str(place / "nginx.conf")]


def test_nginx_accepts_the_configuration(nginx: list[str]) -> None:
    done = subprocess.run([*nginx, "-t"], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr


def test_requests_reach_the_app_through_nginx(
    deploy: Deploy, place: Path, nginx: list[str]
) -> None:
    server = deploy("uwsgi.ini")
    (listens,) = re.findall(r"listen 127.0.0.1:(\d+)", (place / "site.conf").read_text())
    with (place / "nginx.log").open("wb") as log:
        process = subprocess.Popen(nginx, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until(lambda: reachable(int(listens)))
        url = f"http://127.0.0.1:{listens}/uwsgi_spool?duration=0"
        with urllib.request.urlopen(url, timeout=60) as answer:
            job = json.load(answer)["id"]
        server.succeeded(job)
    finally:
        process.terminate()
        process.wait(60)


def reachable(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# --- images and pages -------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """The instructions of the last stage of the Dockerfile, and COPY of all."""
    text = re.sub(r"\\\n", " ", (DEPLOY / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    found = [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]
    last = max(place for place, (word, _) in enumerate(found) if word == "FROM")
    return [pair for pair in found[:last] if pair[0] == "COPY"] + found[last:]


def test_what_the_image_copies_exists_and_its_first_process_is_the_server() -> None:
    found = instructions()
    for word, rest in found:
        if word == "COPY" and not rest.startswith("--from"):
            *sources, _ = rest.split()
            assert all((ROOT / source).exists() for source in sources), rest
    settings = dict(found)
    assert json.loads(settings["CMD"])[:3] == ["uwsgi", "--ini", "uwsgi.ini"]
    assert "ENTRYPOINT" not in settings
    assert settings["STOPSIGNAL"] == "SIGTERM"
    assert settings["USER"] not in ("root", "0")
    assert f"SPOOLER_DIRECTORY={settings['VOLUME']}/spool" in settings["ENV"]


def test_compose_gives_the_spool_a_volume_and_a_stop_its_time() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    service = compose["services"]["shop"]
    assert service["deploy"]["replicas"] == 1
    assert float(service["stop_grace_period"].removesuffix("s")) > GRACE
    volume, _, target = service["volumes"][0].partition(":")
    assert volume in compose["volumes"]
    assert dict(instructions())["VOLUME"] == target


def test_kubernetes_runs_one_pod_on_one_volume_and_gives_a_stop_its_time() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", (DEPLOY / "kubernetes.md").read_text(), re.DOTALL)
    claim, deployment = yaml.safe_load_all(block)
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    assert pod["terminationGracePeriodSeconds"] > GRACE
    assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    (mount,) = container["volumeMounts"]
    variables = {each["name"]: each["value"] for each in container["env"]}
    assert variables["SPOOLER_DIRECTORY"].startswith(f"{mount['mountPath']}/")
    assert container["readinessProbe"]["httpGet"]["path"] == "/spooler/healthz"
    assert "command" not in container


@pytest.mark.parametrize("name", [*INIS, *UNITS])
def test_every_setting_has_its_reason(name: str) -> None:
    explained = False
    for line in (DEPLOY / name).read_text().splitlines():
        text = line.strip()
        if not text or text.startswith("["):
            explained = explained and bool(text)
        elif text[0] in ";#":
            explained = True
        elif not text.startswith(NEED_NONE):
            assert explained, f"{name}: {text}"


NEED_NONE = (
    "master", "module", "processes", "if-env", "end-if", "set-placeholder",
    "Description", "After", "WorkingDirectory", "ExecStart=", "WantedBy",
)  # fmt: skip
"""What says by its name what it is for."""


@pytest.mark.parametrize(
    "page", sorted(str(path.relative_to(DEPLOY)) for path in DEPLOY.rglob("*.md"))
)
def test_every_link_of_a_page_leads_somewhere(page: str) -> None:
    file = DEPLOY / page
    for target in re.findall(r"\]\(([^)#]+)\)", file.read_text()):
        assert "//" in target or (file.parent / target).exists(), target


def test_the_split_files_differ_from_the_whole_one_where_they_must() -> None:
    whole, web, workhorse = (set(settings(DEPLOY / name)) for name in INIS)
    assert ("spooler-external", "%(spool)") in web
    assert not {key for key, _ in web} & {"spooler", "mule", "spooler-processes"}
    assert {key for key, _ in web - whole} == {"spooler-external", "socket"}
    assert workhorse - whole == {
        ("socket", "%(run)/jobs.sock"), ("chmod-socket", "600"), ("processes", "1"),
    }  # fmt: skip


def settings(file: Path) -> list[tuple[str, str]]:
    lines = [line for line in file.read_text().splitlines() if not line.startswith("if-")]
    found = [line.partition(" = ") for line in lines if " = " in line and line[0] != ";"]
    return [(key, value) for key, _, value in found]
