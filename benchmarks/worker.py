"""A process that runs one client: it reads tasks from standard input and writes results, as lines of JSON.

`tasks` has the tasks. A client that hangs or crashes here does not affect the others.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any

import tasks
from limits import raise_open_files

_MAX_ERROR = 100  # characters of an error message, to fit a table


def main() -> None:
    """Run the task of each line, until the end of standard input."""
    answers, sys.stdout = sys.stdout, sys.stderr  # keep the output of clients apart from the answers

    def answer(**values: Any) -> None:  # noqa: ANN401 - JSON
        print(json.dumps(values), file=answers, flush=True)

    raise_open_files()
    for line in sys.stdin:
        request = json.loads(line)
        task = getattr(tasks, request.pop("task"))
        try:
            if task is tasks.hold:
                # `hold` never returns: another thread watches for the end of the runner.
                threading.Thread(target=lambda: os._exit(len(sys.stdin.read())), daemon=True).start()
                task(**request, ready=lambda: answer(ready=True))
            else:
                answer(**task(**request))
        except Exception as error:  # noqa: BLE001 - it is the result
            answer(error=f"{type(error).__name__}: {error}".split("\n")[0][:_MAX_ERROR])


if __name__ == "__main__":
    main()
