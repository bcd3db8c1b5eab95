"""Build the compiled core; pyproject.toml has the metadata."""

import re
from pathlib import Path

from setuptools import Extension, setup

SOURCE = "sseclient_dual_speedups.c"

(version,) = re.findall(r'^#define VERSION "(.+)"', Path(__file__).with_name(SOURCE).read_text(), re.MULTILINE)

setup(
    version=version,
    # Optional: without a compiler, the distribution is empty and the package remains pure Python.
    ext_modules=[Extension("sseclient_dual_speedups", [SOURCE], py_limited_api=True, optional=True)],
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
