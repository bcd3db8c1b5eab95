"""Process each event of a stream exactly once, even if killed at any time.

python resume.py https://example.com/stream progress.db

One transaction stores both the result, here a row, and the position.
"""

from __future__ import annotations

import sqlite3
import sys
from contextlib import suppress

from sseclient_dual import SSEClient


def main(url: str, path: str) -> None:
    """Store the data of each event of `url` in the database at `path`."""
    database = sqlite3.connect(path)
    with database:
        database.execute("CREATE TABLE IF NOT EXISTS done (data TEXT)")
        database.execute(
            "CREATE TABLE IF NOT EXISTS progress"
            " (stream TEXT PRIMARY KEY, last_event_id TEXT)"
        )
    saved = database.execute(
        "SELECT last_event_id FROM progress WHERE stream = ?", [url]
    ).fetchone()

    with (
        SSEClient() as client,
        client.connect(url, last_event_id=saved and saved[0]) as connection,
    ):
        for event in connection:
            with database:  # one transaction: both statements, or neither
                database.execute("INSERT INTO done VALUES (?)", [event.data])
                database.execute(
                    "REPLACE INTO progress VALUES (?, ?)",
                    [url, connection.last_event_id],
                )
            print("done up to", connection.last_event_id, flush=True)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
