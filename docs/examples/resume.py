"""Process each event of a stream exactly once, even if killed at any time.

python resume.py https://example.com/stream progress.db

The checkpoint is in the database of the results: saving the position commits
the transaction that holds the results up to there. The events need ids.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
from contextlib import closing

from sseclient_dual import SSEClient, SSEError


class Progress:
    """The position in one stream, stored with the results."""

    def __init__(self, database: sqlite3.Connection, stream: str) -> None:
        self._database = database
        self._stream = stream

    def load(self) -> str | None:
        """Return the last event ID saved, None before the first."""
        row = self._database.execute(
            "SELECT last_event_id FROM progress WHERE stream = ?",
            [self._stream],
        ).fetchone()
        return None if row is None else str(row[0])

    def save(self, last_event_id: str) -> None:
        """Commit the results since the last save, and the position."""
        self._database.execute(
            "REPLACE INTO progress VALUES (?, ?)",
            [self._stream, last_event_id],
        )
        self._database.commit()
        print("done up to", last_event_id, flush=True)


def main(url: str, path: str) -> None:
    """Store the data of each event of `url` in the database at `path`."""
    with closing(sqlite3.connect(path)) as database:
        with database:
            database.execute("CREATE TABLE IF NOT EXISTS done (data TEXT)")
            database.execute(
                "CREATE TABLE IF NOT EXISTS progress"
                " (stream TEXT PRIMARY KEY, last_event_id TEXT)"
            )
        progress = Progress(database, url)
        with (
            SSEClient() as client,
            client.connect(url, checkpoint=progress) as connection,
        ):
            for event in connection:
                database.execute("INSERT INTO done VALUES (?)", [event.data])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("database")
    arguments = parser.parse_args()
    try:
        main(arguments.url, arguments.database)
    except (SSEError, ValueError, sqlite3.Error) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        pass
