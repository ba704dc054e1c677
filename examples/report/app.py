"""What uWSGI and the flask command load: one app, made by the factory."""

from nightly import create_app

app = create_app()
