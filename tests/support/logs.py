"""Logs of programs whose connections are meant to fail."""

from __future__ import annotations

import logging


def quiet() -> None:
    """Turn off the logs of expected connection failures and of slow callbacks."""
    logging.getLogger("sseclient_dual").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.ERROR)
