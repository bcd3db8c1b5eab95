"""Web workers that relay a feed in Redis are killed; browsers hop between them, and get each event exactly once.

Each worker has a standby ingest, so that killing one may also end the ingest. Each browser compares what it receives
with the numbers of the upstream. `make soak ARGS='web_workers [kills] [seed]'` runs longer than
`test_web_workers.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from servers.running import Server, python
from sseclient_dual import ReconnectPolicy, SSEClient, SSEError, SSEEvent
from sseclient_dual.testing import SSEServer
from support.journals import Journal
from support.logs import quiet
from support.redis_servers import RedisServer
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from sseclient_dual import SSEConnection

KILLS = 200  # in `make soak`

_GUNICORN = "gunicorn --bind {host}:{port} --config servers/gunicorn_conf.py --worker-class"
COMMANDS = {
    "gthread": f"{_GUNICORN} gthread servers.redis_app:wsgi",
    "gevent": f"{_GUNICORN} gevent servers.redis_app:wsgi",
    "uvicorn": "uvicorn --host {host} --port {port} --lifespan off --log-level error servers.redis_app:asgi",
}
_BROWSERS = 6  # with each API
_MOST_BEFORE_HOP = 300  # events that a browser reads from one worker


@dataclass
class Tally:
    """The counters and failures of a run."""

    received: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    hops: int = 0
    published: int = 0
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.kills.total()} workers killed, {dict(self.kills)}; {self.published} events published, "
            f"{self.received.total()} received, {dict(self.received)}, {self.hops} hops, "
            f"{len(self.failures)} failures"
        )


class Browser:
    """What one browser has received, and where it goes next."""

    def __init__(self, site: Site, seed: int) -> None:
        self.number = 0  # of the last event
        self.last_id = "0-0/"
        self._site = site
        self._random = random.Random(seed)

    def url(self) -> str:
        """Return the URL of any worker."""
        return f"{self._random.choice(self._site.workers).url}/events"

    def hop_after(self) -> int:
        """Return how many events to read before the next hop."""
        self._site.tally.hops += 1
        return self._random.randint(1, _MOST_BEFORE_HOP)

    def receive(self, event: SSEEvent, kind: str) -> None:
        """Check an event: it must be the next one."""
        tally = self._site.tally
        tally.received[kind] += 1
        self.number += 1
        self.last_id = event.last_event_id
        if event.type != "message" or event.data != str(self.number):
            tally.failures.append(f"{kind}: {event!r} instead of {self.number}")
            raise SystemExit


class Site:
    """The workers, the browsers, and who stops them."""

    def __init__(self, client: SSEClient, workers: list[Server], tally: Tally) -> None:
        self.client = client
        self.workers = workers
        self.tally = tally
        self.is_over = False
        self.is_given_up = False

    def is_done(self, browser: Browser) -> bool:
        return self.is_given_up or (self.is_over and browser.number >= self.tally.published)

    def use_threads(self, browser: Browser) -> None:
        """Be a browser in a thread."""
        while not self.is_done(browser):
            with contextlib.suppress(SSEError, TimeoutError):
                with self._connect(browser) as conn:
                    for _ in range(browser.hop_after()):
                        if self.is_done(browser):
                            break
                        browser.receive(conn.recv(1.0), "thread")

    async def use_tasks(self, browser: Browser) -> None:
        """Be a browser in a task."""
        while not self.is_done(browser):
            with contextlib.suppress(SSEError, TimeoutError):
                async with self._connect(browser) as conn:
                    for _ in range(browser.hop_after()):
                        if self.is_done(browser):
                            break
                        browser.receive(await conn.arecv(1.0), "task")
            await asyncio.sleep(0)

    def _connect(self, browser: Browser) -> SSEConnection:
        return self.client.connect(browser.url(), reconnect=False, last_event_id=browser.last_id)

    async def gather(self, browsers: list[Browser]) -> None:
        """Run browsers as tasks."""
        await asyncio.gather(*map(self.use_tasks, browsers))


def run(kinds: list[str], seed: int, *, kills: int) -> Tally:
    """Kill workers, and return what the browsers have received.

    :param kinds: the keys of `COMMANDS` to start.
    """
    tally = Tally()
    rng = random.Random(seed)
    journal = Journal(retry=10)
    with ExitStack() as stack:
        upstream = stack.enter_context(SSEServer(default=journal))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = stack.enter_context(RedisServer(folder / "data"))
        environment = {"REDIS": redis.url, "UPSTREAM": upstream.url, "PYTHONPATH": "..:."}
        workers = {kind: Server(python(COMMANDS[kind]), environment) for kind in kinds}
        for worker in workers.values():
            stack.enter_context(worker)
        client = stack.enter_context(SSEClient(policy=ReconnectPolicy(dedup=False)))
        site = Site(client, list(workers.values()), tally)
        browsers = [Browser(site, rng.randrange(2**32)) for _ in range(2 * _BROWSERS)]
        threads = [threading.Thread(target=site.use_threads, args=[browser]) for browser in browsers[:_BROWSERS]]
        threads.append(threading.Thread(target=lambda: asyncio.run(site.gather(browsers[_BROWSERS:]))))
        journal.wait_for_answers(1)
        for thread in threads:
            thread.start()
        try:
            for _ in range(kills):
                _publish(journal, rng)
                kind = rng.choice(kinds)
                workers[kind].kill()
                tally.kills[kind] += 1
                _publish(journal, rng)
                workers[kind].start()
            _publish(journal, rng)
        finally:
            tally.published = journal.published
            site.is_over = True
            _join(threads, tally)
            tally.failures += [f"a browser is at {each.number}" for each in browsers if not site.is_done(each)]
            site.is_given_up = True
            site.client.close()
    return tally


def _join(threads: list[threading.Thread], tally: Tally) -> None:
    """Wait for the browsers, as long as any of them receives events."""
    received, since = -1, time.monotonic()
    while time.monotonic() < since + PATIENCE and any(thread.is_alive() for thread in threads):
        if tally.received.total() > received:
            received, since = tally.received.total(), time.monotonic()
        for thread in threads:
            thread.join(0.1)


def _publish(journal: Journal, rng: random.Random) -> None:
    """Publish some events, over some time."""
    for _ in range(rng.randrange(20)):
        journal.publish(rng.randint(1, 20))
        time.sleep(rng.random() / 50)


def main(arguments: list[str]) -> int:
    """Run with all kinds of workers; return the exit status."""
    kills = int(arguments[0]) if arguments else KILLS
    seed = int(arguments[1]) if arguments[1:] else random.randrange(2**32)
    quiet()
    print(f"seed {seed}", flush=True)
    tally = run(list(COMMANDS), seed, kills=kills)
    print(tally)
    for failure in tally.failures:
        print(failure)
    return int(bool(tally.failures))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
