"""A process that runs one client: it reads tasks from standard input and writes results, as lines of JSON.

The tasks are in `tasks`, `scale_readers`, `feed_readers` and `ingest_tasks`. A client that hangs or crashes here does
not affect the others.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any

import feed_readers
import ingest_tasks
import scale_readers
import tasks
from limits import raise_open_files

_LONG = {  # tasks that answer more than once, or never
    "scale": scale_readers.scale,
    "feed": feed_readers.feed,
    "ingest": ingest_tasks.ingest,
    "browse": ingest_tasks.browse,
}
_MAX_ERROR = 100  # characters of an error message, to fit a table


def main() -> None:
    """Run the task of each line, until the end of standard input."""
    answers, sys.stdout = sys.stdout, sys.stderr  # keep the output of clients apart from the answers

    def answer(**values: Any) -> None:  # noqa: ANN401 - JSON
        print(json.dumps(values), file=answers, flush=True)

    raise_open_files()
    for line in sys.stdin:
        request = json.loads(line)
        name = request.pop("task")
        task: Any = _LONG.get(name) or getattr(tasks, name)
        try:
            if name == "hold" or name in _LONG:
                # These tasks run long: another thread watches for the end of the runner.
                threading.Thread(target=lambda: os._exit(len(sys.stdin.read())), daemon=True).start()
            if name == "hold":
                task(**request, ready=lambda: answer(ready=True))  # never returns
            elif name in _LONG:
                answer(**task(**request, answer=answer))  # answers more than once
            else:
                answer(**task(**request))
        except Exception as error:  # noqa: BLE001 - it is the result
            answer(error=f"{type(error).__name__}: {error}".split("\n")[0][:_MAX_ERROR])


if __name__ == "__main__":
    main()
