"""Print the events of a stream, with automatic reconnects. Ctrl-C ends it.

python tail.py https://example.com/stream            from now on
python tail.py https://example.com/stream last.id    after the last run's end

With a file, the next run resumes where this one ended, however it ended.
"""

from __future__ import annotations

import argparse
import sys

from sseclient_dual import SSEClient, SSEError


def main(url: str, checkpoint: str | None = None) -> None:
    """Print the events of `url`; keep the position in a file, if given."""
    with (
        SSEClient() as client,
        client.connect(url, checkpoint=checkpoint) as connection,
    ):
        for event in connection:
            print(f"{event.type}: {event.data}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("checkpoint", nargs="?")
    arguments = parser.parse_args()
    try:
        main(arguments.url, arguments.checkpoint)
    except (SSEError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        pass
