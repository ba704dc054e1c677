"""Programs that run inside a witness server only are no modules to look for tests in."""

collect_ignore = ["witness_app.py", "enqueuer.py"]
