"""A process that runs one client: a line of JSON on standard input says what to do, one on standard output what came.

What each task does is in `tasks`; what is slow or dies here harms no other client.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any

import tasks
from limits import raise_open_files

_LONGEST = 100  # characters of an error that a table has room for


def main() -> None:
    """Do what each line says, until there are no more."""
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever a client prints is no answer

    def answer(**values: Any) -> None:  # noqa: ANN401 - JSON
        print(json.dumps(values), file=answers, flush=True)

    raise_open_files()
    for line in sys.stdin:
        request = json.loads(line)
        task = getattr(tasks, request.pop("task"))
        try:
            if task is tasks.hold:
                # It never returns, so somebody else has to see the runner go.
                threading.Thread(target=lambda: os._exit(len(sys.stdin.read())), daemon=True).start()
                task(**request, ready=lambda: answer(ready=True))
            else:
                answer(**task(**request))
        except Exception as error:  # noqa: BLE001 - it is the result
            answer(error=f"{type(error).__name__}: {error}".split("\n")[0][:_LONGEST])


if __name__ == "__main__":
    main()
