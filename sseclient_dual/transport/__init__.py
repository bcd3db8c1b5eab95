"""HTTP, and the only folder that imports urllib3: prepare a request, open it, read its body, abort it.

A `Request` holds the user's checked arguments. An `Exchange` is one attempt at it, redirects included: one thread
opens, reads and closes it, and any other may abort it. All errors of the layers below are raised as
`SSEConnectionError`.
"""

from urllib3 import PoolManager
from urllib3.exceptions import InsecureRequestWarning
from urllib3.util import Timeout

from .body import NOTHING
from .cookies import Cookies, CookiesArgument
from .exchange import Exchange
from .headers import HeadersArgument, authorization, check_headers, merge
from .pools import Pools
from .request import (
    DEFAULT_TIMEOUT,
    HTTP2,
    JSONDumps,
    ParamsArgument,
    Request,
    TimeoutArgument,
    check_http2,
    prepare,
    split_timeout,
)

__all__ = [
    "DEFAULT_TIMEOUT",
    "HTTP2",
    "NOTHING",
    "Cookies",
    "CookiesArgument",
    "Exchange",
    "HeadersArgument",
    "InsecureRequestWarning",
    "JSONDumps",
    "ParamsArgument",
    "PoolManager",
    "Pools",
    "Request",
    "Timeout",
    "TimeoutArgument",
    "authorization",
    "check_headers",
    "check_http2",
    "merge",
    "prepare",
    "split_timeout",
]
