"""The relays of ``docs/examples`` as processes, each with a port for the upstream server of the test."""

from __future__ import annotations

from servers.running import HOST, Server, need, python
from support.examples import EXAMPLES
from support.processes import free_port

HEARTBEAT = 0.1  # seconds
LINGER = 0.2  # seconds

_GUNICORN = f"gunicorn --bind {{host}}:{{port}} --config servers/gunicorn_conf.py --chdir {EXAMPLES} --worker-class"
_UVICORN = f"uvicorn --host {{host}} --port {{port}} --app-dir {EXAMPLES}"
COMMANDS = {
    "flask-gthread": f"{_GUNICORN} gthread flask_relay:app",
    "flask-gevent": f"{_GUNICORN} gevent flask_relay:app",
    "django-gthread": f"{_GUNICORN} gthread django_relay:wsgi",
    "django-gevent": f"{_GUNICORN} gevent django_relay:wsgi",
    "django-uvicorn": f"{_UVICORN} --lifespan off django_relay:asgi",
    "starlette-uvicorn": f"{_UVICORN} starlette_relay:app",
    "fastapi-uvicorn": f"{_UVICORN} fastapi_relay:app",
}


class Relay(Server):
    """A relay, by its name in `COMMANDS`, and more options for its server.

    The test starts the upstream server at `upstream_port`. `page` shows the feed that all browsers share, and
    `user_page` a stream of its own. Each page reads the stream at its own URL plus ``events``.
    """

    def __init__(self, name: str, *options: str) -> None:
        app, _, runner = name.partition("-")
        self.upstream_port = free_port()
        environment = {
            "UPSTREAM": f"http://{HOST}:{self.upstream_port}/stream",
            "HEARTBEAT": str(HEARTBEAT),
            "LINGER": str(LINGER),
        }
        need(app, *{"gthread": ["gunicorn"], "gevent": ["gunicorn", "gevent"]}.get(runner, [runner]))
        super().__init__([*python(COMMANDS[name]), *options], environment)
        self.page = f"{self.url}/async/" if name == "django-uvicorn" else f"{self.url}/"
        self.user_page = f"{self.page}users/ann/"
