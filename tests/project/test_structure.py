"""Proves what holds of the package as a whole: who imports whom, which names are public, how it is packaged.

The floors are those of the design: a module imports from lower floors only, and urllib3 is for one of them.
What is imported only for types counts as well, as it couples two files just the same.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import subprocess
import sys
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import sseclient_dual

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(sseclient_dual.__file__).parent
FLOORS = {
    "errors": 0,
    "event": 0,
    "handoff": 0,
    "parser": 1,
    "policy": 1,
    "transport": 1,
    "reader": 2,
    "relay": 2,
    "connection": 3,
    "client": 4,
    "__init__": 4.5,  # above what its names come from, below the tools that use them
    "testing": 5,
    "cli_arguments": 5,
    "saved_id": 5,
    "cli": 5,
    "demo": 5,
    "__main__": 5,
}
# What the top floor takes from itself: the command line plays the demo, which plays the scripted server.
BESIDE = {
    "cli": {"cli_arguments", "demo", "saved_id", "testing"},
    "demo": {"testing"},
    "__main__": {"cli", "demo"},
}
# What is imported only where a user has asked for what it is needed for, and may be missing.
EXTRAS = {"transport": {"socks"}}
PUBLIC = {
    "SSEClient",
    "SSEConnection",
    "SSEEvent",
    "Comment",
    "Opened",
    "Interrupted",
    "ReadyState",
    "ReconnectPolicy",
    "EventStreamParser",
    "SSEError",
    "SSEConnectionError",
    "SSEStatusError",
    "SSEContentTypeError",
    "SSEParsingError",
    "SSEEventTooLargeError",
    "SSEClosedError",
}


def imports(module: str, *, types_too: bool = True) -> Iterator[str]:
    """Name every module that a file of the package imports, absolutely, wherever in the file it does."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
    nodes: list[ast.AST] = [tree]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not types_too:
            nodes += node.orelse
            continue
        nodes += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or ""
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 1, f"{module} imports from outside the package"
            if node.module is None:
                yield from (f"sseclient_dual.{alias.name}" for alias in node.names)
            else:
                yield f"sseclient_dual.{node.module}"


# --- floors -------------------------------------------------------------------------------------------------


def test_every_module_has_a_floor() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} == set(FLOORS)
    assert not [path for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"]


@pytest.mark.parametrize("page", ["README.md", "docs/design.rst"])
def test_every_module_is_in_the_table_of_files(page: str) -> None:
    text = (PACKAGE.parent / page).read_text(encoding="utf-8")
    assert not [module for module in FLOORS if not module.startswith("__") and f"`{module}.py`" not in text]


@pytest.mark.parametrize("module", FLOORS)
def test_a_module_imports_from_lower_floors_only(module: str) -> None:
    for name in imports(module):
        top, _, rest = name.partition(".")
        if top != "sseclient_dual":
            continue
        imported = rest.partition(".")[0] or "__init__"
        if imported not in FLOORS:
            imported = "__init__"
        assert imported in BESIDE.get(module, set()) or FLOORS[imported] < FLOORS[module], (
            f"{module} (floor {FLOORS[module]}) imports {imported} (floor {FLOORS[imported]})"
        )


@pytest.mark.parametrize("module", FLOORS)
def test_only_the_transport_imports_urllib3(module: str) -> None:
    of_urllib3 = [name for name in imports(module) if name.partition(".")[0] == "urllib3"]
    assert bool(of_urllib3) == (module == "transport")


@pytest.mark.parametrize("module", FLOORS)
def test_nothing_is_imported_but_the_standard_library_urllib3_and_the_package(module: str) -> None:
    # Type checkers know typing_extensions by themselves, so what only they read may import from it.
    tops = {name.partition(".")[0] for name in imports(module, types_too=False)} - EXTRAS.get(module, set())
    assert tops <= sys.stdlib_module_names | {"urllib3", "sseclient_dual"}
    tops_of_types = {name.partition(".")[0] for name in imports(module)} - tops - EXTRAS.get(module, set())
    assert tops_of_types <= sys.stdlib_module_names | {"urllib3", "sseclient_dual", "typing_extensions"}


def imported_by(statement: str) -> set[str]:
    """Name what a fresh interpreter has imported after a statement, and had not before."""
    script = f"import sys; before = set(sys.modules); {statement}; print(*(set(sys.modules) - before))"
    # An interpreter that measures coverage has imported more than a user's.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert not done.stderr
    return set(done.stdout.split())


def test_importing_the_package_imports_no_asyncio_and_no_tools() -> None:
    names = imported_by("import sseclient_dual")
    assert "sseclient_dual.client" in names
    assert not [name for name in names if name.partition(".")[0] == "asyncio"]
    for tool in ("testing", "cli", "cli_arguments", "saved_id", "demo", "__main__"):
        assert f"sseclient_dual.{tool}" not in names
    assert not names & set().union(*EXTRAS.values())


def test_importing_the_parser_alone_is_possible() -> None:
    # As it does no I/O, whoever vendors floors 0 and 1 finds nothing of the network there.
    for module in ("errors", "event", "parser", "policy", "handoff"):
        tops = {name.partition(".")[0] for name in imports(module)}
        assert not tops & {"socket", "ssl", "http", "urllib"}


# --- public names -------------------------------------------------------------------------------------------


def test_all_is_exactly_what_is_promised() -> None:
    assert len(sseclient_dual.__all__) == len(set(sseclient_dual.__all__)) == len(PUBLIC) == 16
    assert set(sseclient_dual.__all__) == PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_a_public_name_is_a_class_of_the_package(name: str) -> None:
    value = getattr(sseclient_dual, name)
    assert inspect.isclass(value)
    assert value.__name__ == name
    assert value.__module__.partition(".")[0] == "sseclient_dual"


def test_nothing_else_is_public_in_the_package() -> None:
    # What is no identifier is pytest's: it rewrites the assertions of plugins, and so of their package.
    names = {name for name in vars(sseclient_dual) if name.isidentifier() and not name.startswith("_")}
    assert names - PUBLIC - set(FLOORS) <= {"annotations"}


def test_the_tree_of_errors() -> None:
    parents = {
        "SSEError": "Exception",
        "SSEConnectionError": "SSEError",
        "SSEClosedError": "SSEError",
        "SSEStatusError": "SSEConnectionError",
        "SSEContentTypeError": "SSEConnectionError",
        "SSEParsingError": "SSEConnectionError",
        "SSEEventTooLargeError": "SSEConnectionError",
    }
    for child, parent in parents.items():
        ancestors = [
            cls.__name__ for cls in getattr(sseclient_dual, child).__mro__[1:] if not cls.__name__.startswith("_")
        ]
        assert ancestors[0] == parent


def members(cls: type) -> Iterator[tuple[str, object]]:
    """The public members that a class defines itself or inherits from a class of the package."""
    for base in cls.__mro__:
        if base.__module__.partition(".")[0] != "sseclient_dual":
            continue
        for name, member in vars(base).items():
            if not name.startswith("_") and (
                inspect.isroutine(member) or isinstance(member, (property, classmethod, staticmethod, type))
            ):
                yield f"{base.__name__}.{name}", member


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_everything_public_has_a_docstring(name: str) -> None:
    cls: type = getattr(sseclient_dual, name)
    # A dataclass writes its signature where a docstring is missing.
    assert cls.__doc__
    assert not cls.__doc__.startswith(f"{name}(")
    assert [member_name for member_name, member in members(cls) if not inspect.getdoc(member)] == []


@pytest.mark.parametrize("module", FLOORS)
def test_every_module_says_what_it_is_for(module: str) -> None:
    assert ast.get_docstring(ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8")))


# --- packaging ----------------------------------------------------------------------------------------------


def test_the_package_is_marked_as_typed() -> None:
    assert resources.files("sseclient_dual").joinpath("py.typed").is_file()


def test_the_version_is_told_once() -> None:
    assert metadata.version("sseclient-dual") == sseclient_dual.__version__


def test_the_one_dependency_is_urllib3() -> None:
    required = [line for line in metadata.requires("sseclient-dual") or [] if "extra ==" not in line]
    assert [line.replace(" ", "") for line in required] in (["urllib3<3,>=2.6.3"], ["urllib3>=2.6.3,<3"])


def test_the_command_is_installed() -> None:
    (command,) = metadata.entry_points(group="console_scripts", name="sseclient-dual")
    assert command.value == "sseclient_dual.cli:main"
    assert callable(getattr(importlib.import_module("sseclient_dual.cli"), "main", None))


def test_the_plugin_of_pytest_is_installed() -> None:
    (plugin,) = metadata.entry_points(group="pytest11", name="sseclient_dual")
    assert plugin.value == "pytest_sseclient_dual"


def test_the_plugin_of_pytest_imports_nothing_before_a_test_asks_for_it() -> None:
    # Above all not ssl: what imports it before gevent patches it keeps what is not patched.
    assert imported_by("import pytest; before |= set(sys.modules); import pytest_sseclient_dual") == {
        "pytest_sseclient_dual"
    }
