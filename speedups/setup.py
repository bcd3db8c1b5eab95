"""Build the compiled core; pyproject.toml has the metadata."""

import re
import sysconfig
from pathlib import Path

from setuptools import Extension, setup

SOURCE = "sseclient_dual_speedups.c"

(version,) = re.findall(r'^#define VERSION "(.+)"', Path(__file__).with_name(SOURCE).read_text(), re.MULTILINE)

# Without a compiler, and on free-threaded builds, the distribution is empty: the package remains pure Python.
if sysconfig.get_config_var("Py_GIL_DISABLED"):
    setup(version=version)
else:
    setup(
        version=version,
        ext_modules=[Extension("sseclient_dual_speedups", [SOURCE], py_limited_api=True, optional=True)],
        options={"bdist_wheel": {"py_limited_api": "cp310"}},
    )
