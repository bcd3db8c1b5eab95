"""Check that the wheel and the source archive in dist/ have all files that they need, and no others: `make build`.

The description in the wheel, which a package index shows, must have no links to files of the repository.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

METADATA = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}


def tracked(*paths: str) -> set[str]:
    """Return the files that git knows."""
    listing = subprocess.run(["git", "ls-files", "-z", "--", *paths], capture_output=True, text=True, check=True)
    return set(listing.stdout.rstrip("\0").split("\0"))


def in_wheel(path: Path) -> tuple[set[str], set[str]]:
    """Return the files in a wheel and those that belong there: the package, the pytest plugin and the metadata."""
    distribution, version, _ = path.name.split("-", 2)
    metadata = {f"{distribution}-{version}.dist-info/{name}" for name in METADATA}
    with zipfile.ZipFile(path) as wheel:
        return set(wheel.namelist()), tracked("sseclient_dual", "pytest_sseclient_dual.py") | metadata


def links_to_files(path: Path) -> set[str]:
    """Return the links in the description in a wheel that are not URLs."""
    with zipfile.ZipFile(path) as wheel:
        metadata = next(name for name in wheel.namelist() if name.endswith("/METADATA"))
        return set(re.findall(r"\]\((?!https?:)([^)]*)\)", wheel.read(metadata).decode()))


def in_source_archive(path: Path) -> tuple[set[str], set[str]]:
    """Return the files in a source archive and those that belong there: the whole project, so that its tests run."""
    folder = path.name.removesuffix(".tar.gz") + "/"
    with tarfile.open(path) as archive:
        found = {member.name.removeprefix(folder) for member in archive.getmembers() if not member.isdir()}
    return found, tracked() | {"PKG-INFO"}


def main() -> int:
    """Check the files that are named in the command line, print what is wrong, and return the exit status."""
    status = 0
    for path in map(Path, sys.argv[1:]):
        is_wheel = path.suffix == ".whl"
        found, expected = (in_wheel if is_wheel else in_source_archive)(path)
        links = links_to_files(path) if is_wheel else set()
        problems = {"missing": expected - found, "unexpected": found - expected, "link to a file": links}
        for problem, names in problems.items():
            for name in sorted(names):
                print(f"{path.name}: {problem}: {name}")
                status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
