"""The programs of ``docs/web-workers.rst`` with several workers: one upstream connection, and every event once."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from servers.running import Server, need, python
from sseclient_dual import SSEClient
from sseclient_dual.testing import SSEServer
from support.journals import Journal
from support.pages import blocks
from support.policies import QUICK
from support.processes import TESTS

if TYPE_CHECKING:
    from pathlib import Path

    from support.redis_servers import RedisServer

pytestmark = [pytest.mark.real, pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")]

PAGE = TESTS.parent / "docs" / "web-workers.rst"
SETTINGS = """\
from django.urls import path
from prices.views import events

SECRET_KEY = "made up"
ROOT_URLCONF = __name__
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = ["prices.apps.PricesConfig"]
urlpatterns = [path("events", events)]
"""
WSGI = """\
import os
from django.core.wsgi import get_wsgi_application

os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
application = get_wsgi_application()
"""


def write_programs(folder: Path, redis: str, upstream: str) -> None:
    """Write the files of the page, which begin with their names."""
    for block in blocks(PAGE):
        name = block.partition("\n")[0].removeprefix("# ")
        if name.endswith(".py"):
            (folder / name).parent.mkdir(exist_ok=True)
            program = block.replace("redis://localhost:6379/0", redis).replace("https://example.com/stream", upstream)
            (folder / name).write_text(program, encoding="utf-8")
    with (folder / "gunicorn.conf.py").open("a", encoding="utf-8") as config:
        config.write("control_socket_disable = True\n")  # the socket would be in the user's home
    (folder / "prices" / "__init__.py").touch()
    (folder / "settings.py").write_text(SETTINGS, encoding="utf-8")
    (folder / "site_wsgi.py").write_text(WSGI, encoding="utf-8")


@pytest.mark.parametrize(
    ("database", "framework", "options"),
    [
        (1, "flask", "--config {folder}/gunicorn.conf.py --workers 2 app:app"),
        (2, "flask", "--config {folder}/gunicorn.conf.py --workers 2 --preload --worker-class gevent app:app"),
        (3, "django", f"--config {TESTS}/servers/gunicorn_conf.py --workers 2 site_wsgi:application"),
    ],
)
def test_several_workers_share_one_upstream_connection(
    server: RedisServer, database: int, framework: str, options: str, tmp_path: Path
) -> None:
    need(framework, "gunicorn", *(["gevent"] if "gevent" in options else []))
    journal = Journal(retry=10)
    with SSEServer(default=journal) as upstream, SSEClient(policy=QUICK) as client:
        write_programs(tmp_path, server.url.removesuffix("0") + str(database), upstream.url)
        command = f"gunicorn --bind {{host}}:{{port}} --chdir {tmp_path} {options.format(folder=tmp_path)}"
        with Server(python(command), {"INGEST": "1"}) as site:
            journal.wait_for_answers(1)
            journal.publish(5)
            for _ in range(4):  # by any of the workers
                with client.connect(f"{site.url}/events", last_event_id="0-0/") as browser:
                    assert [next(browser).data for _ in range(5)] == ["1", "2", "3", "4", "5"]
        assert len(upstream.requests) == 1
