"""Fuzz the parser, the HTTP layer and the compiled core: `make fuzz`.

`targets.py` and `speedups.py` define the inputs and the checks. For the parser and the HTTP layer, the engine is
atheris, guided by the coverage of the package; if atheris is not installed, hypothesis is used and a message says so.
Each process keeps a separate corpus in build/fuzz/ and reuses it in the next run.

The compiled core is compared with the Python code. Its coverage cannot guide an engine, so the inputs are made from a
grammar, which is much faster. The target `sanitized` does the same with AddressSanitizer, UBSan and leak checking,
and also fails each allocation of memory.

A failing input is saved in build/fuzz/ as crash-*; `make fuzz ARGS='parser FILE'` runs it again.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import os
import re
import subprocess
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from support.implementations import build, compiler

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER = Path("build", "fuzz")
LONGEST = {"parser": 80, "http": 300, "http2": 300}  # bytes of an input
INPUTS = {
    "parser": 5_000_000,
    "http": 50_000,
    "http2": 50_000,
    "speedups": 10_000_000,
    "sanitized": 300_000,
}  # by default
COMPILED = {  # the targets that need the compiled core, and their options for the compiler
    "speedups": (),
    "sanitized": ("-O1", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
}
HAS_ATHERIS = importlib.util.find_spec("atheris") is not None
_PROGRESS = 100_000  # inputs
_EXECUTED = re.compile(r"stat::number_of_executed_units:\s*(\d+)")


def load_target(name: str) -> tuple[AbstractContextManager[Callable[[bytes], None]], list[bytes]]:
    """Return a context that yields the target, and the seeds. Instrument the package before the call, if needed."""
    from fuzz import http2, speedups, targets  # noqa: PLC0415 - import the package, so only after instrumentation

    if name == "parser":
        return nullcontext(targets.parser), targets.parser_seeds()
    if name == "http":
        return targets.HTTP(), targets.http_seeds()
    if name == "http2":
        return http2.HTTP2(), http2.seeds()
    return nullcontext(speedups.Speedups()), []


def fuzz_with_atheris(name: str, inputs: int, seed: int) -> None:
    """Fuzz in this process; libFuzzer ends the process."""
    import atheris  # noqa: PLC0415 - may be missing

    with atheris.instrument_imports(include=["sseclient_dual"]):
        context, seeds = load_target(name)
    corpus = FOLDER / f"{name}-{seed}"
    corpus.mkdir(parents=True, exist_ok=True)
    for index, data in enumerate(seeds):
        (corpus / f"seed-{index}").write_bytes(data)
    options = [f"-runs={inputs}", f"-seed={seed}", f"-max_len={LONGEST[name]}", "-timeout=60", "-print_final_stats=1"]
    with context as target:
        atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={FOLDER}/", str(corpus)], target)
        atheris.Fuzz()


def fuzz_with_hypothesis(name: str, inputs: int, seed: int) -> None:
    """Fuzz in this process, and print the number of inputs in the format of atheris."""
    import hypothesis  # noqa: PLC0415 - slow to import, and atheris does not need it
    from hypothesis import strategies as st  # noqa: PLC0415

    context, seeds = load_target(name)
    count = 0
    with context as target:

        @hypothesis.seed(seed)
        @hypothesis.settings(max_examples=inputs, deadline=None, database=None, print_blob=False)
        @hypothesis.given(
            st.binary(max_size=LONGEST[name]) | st.tuples(st.binary(max_size=9), st.sampled_from(seeds))
        )
        def run(data: bytes | tuple[bytes, bytes]) -> None:
            nonlocal count
            count += 1
            target(data if isinstance(data, bytes) else data[0] + data[1][len(data[0]) :])

        try:
            run()
        finally:
            print(f"stat::number_of_executed_units: {count}")


def fuzz_with_grammar(name: str, inputs: int, seed: int) -> None:
    """Fuzz the compiled core in this process with inputs from a grammar."""
    from fuzz import out_of_memory, speedups  # noqa: PLC0415 - as in `load_target`

    if name == "sanitized":
        print("failed allocations:", flush=True)
        out_of_memory.main()
    target = speedups.Speedups()
    count = 0
    data = b""
    try:
        for data in itertools.islice(speedups.inputs(seed), inputs):
            target(data)
            count += 1
            if count % _PROGRESS == 0:
                print(f"{count} inputs", flush=True)
    except Exception:
        (FOLDER / f"crash-{name}-{seed}").write_bytes(data)
        raise
    finally:
        print(f"stat::number_of_executed_units: {count}")


def engine_of(name: str) -> tuple[str, Callable[[str, int, int], None]]:
    """Return the description of the engine for a target, and its function."""
    if name in COMPILED:
        return "grammar", fuzz_with_grammar
    if HAS_ATHERIS:
        return "atheris", fuzz_with_atheris
    return "hypothesis (atheris is not installed)", fuzz_with_hypothesis


def prepare(name: str) -> dict[str, str]:
    """Compile the core if a target needs it; return the environment for the processes.

    :raises OSError: there is no compiler, or there are no headers of Python.
    """
    environment = dict(os.environ)
    if name in COMPILED:
        folder = (FOLDER / f"core-{name}").resolve()
        build(folder, *COMPILED[name])
        environment["PYTHONPATH"] = os.pathsep.join([str(folder), *filter(None, [environment.get("PYTHONPATH")])])
    if name == "sanitized":
        command = [*compiler(), "-print-file-name=libasan.so"]
        environment["LD_PRELOAD"] = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        environment["PYTHONMALLOC"] = "malloc"
        environment.setdefault("ASAN_OPTIONS", "detect_leaks=1")
        environment.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
    return environment


def fuzz(name: str, inputs: int, processes: int) -> bool:
    """Fuzz one target in separate processes, print the result, and return True if no input failed."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        environment = prepare(name)
    except OSError as error:
        print(f"{name}: SKIPPED, the core cannot be compiled: {error}", flush=True)
        return True
    begin = time.monotonic()
    logs = [FOLDER / f"{name}-{number}.log" for number in range(1, processes + 1)]
    running = []
    for number, log in enumerate(logs, 1):
        command = _command(name, "--worker", str(number), "--inputs", str(-(-inputs // processes)))
        with log.open("wb") as output:
            running.append(subprocess.Popen(command, stdout=output, stderr=output, env=environment))
    while any(process.poll() is None for process in running):
        time.sleep(5)
        print(f"{name}: {time.monotonic() - begin:.0f} s", *map(_last_line, logs), sep="; ", flush=True)
    took = time.monotonic() - begin
    done = sum(int(number) for log in logs for number in _EXECUTED.findall(log.read_text(errors="replace")))
    crashes = [str(log) for log, process in zip(logs, running, strict=True) if process.returncode]
    engine, _ = engine_of(name)
    print(
        f"{name}: {done} inputs in {took:.0f} s ({done / took:.0f} per second), {processes} processes, {engine}; "
        f"crashes: {len(crashes)}",
        *crashes,
        flush=True,
    )
    return not crashes and done >= inputs


def _command(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "fuzz.driver", name, *arguments]


def _last_line(log: Path) -> str:
    return (log.read_text(errors="replace").splitlines() or [""])[-1][:90]


def main() -> int:
    """Run the command line; return 0 if no input failed and the requested number of inputs was run."""
    arguments = argparse.ArgumentParser(description="Fuzz the parser, the HTTP layer and the compiled core.")
    arguments.add_argument("target", nargs="?", choices=INPUTS, help="the target to fuzz; default: all")
    arguments.add_argument("file", nargs="?", type=Path, help="a file with an input to run again")
    arguments.add_argument("--inputs", type=int, help=f"minimum number of inputs; default: {INPUTS}")
    arguments.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    arguments.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.worker is None and given.file is None:
        names = list(INPUTS) if given.target is None else [given.target]
        passed = [fuzz(name, given.inputs or INPUTS[name], given.processes) for name in names]
        return 0 if all(passed) else 1
    if given.worker is None:
        command = _command(given.target, str(given.file), "--worker", "0")
        return subprocess.run(command, env=prepare(given.target), check=False).returncode
    if given.file is None:
        engine_of(given.target)[1](given.target, given.inputs, given.worker)
    else:
        with load_target(given.target)[0] as target:
            target(given.file.read_bytes())
    return 0


if __name__ == "__main__":
    sys.exit(main())
