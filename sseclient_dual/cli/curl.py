"""What to do instead of options that curl has, and this command has not."""

from __future__ import annotations

from typing import Final

_BUFFER = "not needed: events are printed as they arrive"
_FAIL = "not needed: an error status of the server is an error"
_INCLUDE = "use --verbose, which prints the status"
_LOCATION = "not needed: redirects are followed"
_MAX_TIME = "use: timeout SECONDS sseclient-dual ..."
_OUTPUT = "redirect the output: > FILE"
_SILENT = "not needed: there is no progress meter"
_USER_AGENT = "use --header 'User-Agent: ...'"

HINTS: Final = {
    "-A": _USER_AGENT,
    "--user-agent": _USER_AGENT,
    "--compressed": "use --header 'Accept-Encoding: gzip'",
    "--data-binary": "use --data",
    "-f": _FAIL,
    "--fail": _FAIL,
    "-i": _INCLUDE,
    "--include": _INCLUDE,
    "-L": _LOCATION,
    "--location": _LOCATION,
    "-m": _MAX_TIME,
    "--max-time": _MAX_TIME,
    "-N": _BUFFER,
    "--no-buffer": _BUFFER,
    "-o": _OUTPUT,
    "--output": _OUTPUT,
    "-s": _SILENT,
    "--silent": _SILENT,
    "--url": "pass the URL without an option",
    "-x": "use --proxy",
}
"""The end of the message about an unknown option."""
