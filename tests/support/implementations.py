"""The pure and the compiled implementation of the package, side by side in one process."""

from __future__ import annotations

import importlib
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

_PACKAGE = "sseclient_dual"
_CORE = "sseclient_dual_speedups"
_SOURCE = Path(__file__).parents[2] / "speedups" / f"{_CORE}.c"
_SWITCH = "SSECLIENT_DUAL_SPEEDUPS"


@dataclass(frozen=True)
class Implementation:
    """A copy of the package; both copies have the same names."""

    package: Any
    parser: Any  # the module, as the next one
    chunks: Any


def compiler() -> list[str]:
    """Return the command that compiled the interpreter."""
    return shlex.split(sysconfig.get_config_var("CC") or "cc")


def build(folder: Path, *options: str) -> None:
    """Compile the core into a folder, for this interpreter. A warning is an error.

    :raises OSError: there is no compiler, or there are no headers of Python; or this Python does not use the core.
    :raises RuntimeError: the compiler failed.
    """
    if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
        raise OSError("it is for CPython with a GIL")
    headers = sysconfig.get_path("include")
    if not Path(headers, "Python.h").is_file():
        raise FileNotFoundError(f"the headers of Python are not in {headers}")
    folder.mkdir(parents=True, exist_ok=True)
    linking = ["-bundle", "-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-shared", "-fPIC"]
    files = ["-I", headers, str(_SOURCE), "-o", str(folder / f"{_CORE}.abi3.so")]
    command = [*compiler(), "-O2", "-g", "-Wall", "-Wextra", "-Werror", *linking, *options, *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the compiler failed: {done.stderr}")


def load(*, compiled: bool) -> Implementation:
    """Import another copy of the package, with or without the compiled core.

    :raises ImportError: the compiled core cannot be imported.
    """
    with mock.patch.dict(sys.modules), mock.patch.dict(os.environ, {_SWITCH: "" if compiled else "0"}):
        for name in list(sys.modules):
            if name.partition(".")[0] in (_PACKAGE, _CORE):
                del sys.modules[name]
        package = importlib.import_module(_PACKAGE)
        if package.speedups_active is not compiled:
            raise ImportError(f"{_CORE} cannot be used")
        modules = (importlib.import_module(f"{_PACKAGE}.{name}") for name in ("parser", "transport.chunks"))
        return Implementation(package, *modules)


def main() -> None:
    """Build the core into the folder that the command line names; without a compiler, say so and make no folder."""
    folder = Path(sys.argv[1])
    shutil.rmtree(folder, ignore_errors=True)
    try:
        build(folder)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        sys.stdout.write(f"No tests with the compiled core, because it cannot be built here: {error}\n")
        return
    sys.path.insert(0, str(folder))
    load(compiled=True)


if __name__ == "__main__":
    main()
