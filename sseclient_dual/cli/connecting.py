"""The client and the connection that the arguments describe; files that options name are read here."""

from __future__ import annotations

import ssl
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sseclient_dual import FileCheckpoint, ReconnectPolicy, SSEClient
from sseclient_dual.transport import DEFAULT_TIMEOUT, Timeout, check_http2

from .values import read_body

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from sseclient_dual import SSEConnection
    from sseclient_dual.client import StreamOptions
    from sseclient_dual.redis import RedisIngest
    from sseclient_dual.transport import TimeoutArgument


def make_client(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> SSEClient:
    """Return a client with the settings for TLS, proxy and retries.

    :raises SystemExit: a file with certificates cannot be read, or the package for HTTP/2 is missing.
    """
    with _usage_errors(parser, "--http2"):
        check_http2(arguments.http2)
    context = _tls_context(parser, arguments)
    with _without_warnings():
        return SSEClient(
            ssl_context=context,
            proxy=arguments.proxy or None,
            trust_env=arguments.proxy != "",
            http2=arguments.http2,
            cookies=None if arguments.cookie is None else dict(arguments.cookie),
            policy=ReconnectPolicy(max_retries=arguments.max_retries, dedup=arguments.dedup),
        )


def connect(client: SSEClient, parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> SSEConnection:
    """Return the connection; no I/O over the network happens yet.

    :raises SystemExit: a file with the body or the saved ID cannot be used.
    """
    options = stream_options(parser, arguments)
    _, checkpoint = saved_position(parser, arguments)  # the connection loads the id, exactly as it was saved
    with _without_warnings():
        return client.connect(arguments.url, checkpoint=checkpoint, **options)


def make_ingest(client: SSEClient, parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> RedisIngest:
    """Return the ingest of ``--to``; no I/O over the network happens yet.

    :raises SystemExit: the value of an option cannot be used, or redis-py is missing.
    """
    options = stream_options(parser, arguments)
    settings = {
        name: getattr(arguments, name) for name in ("lease", "maxlen") if getattr(arguments, name) is not None
    }
    try:
        from sseclient_dual.redis import RedisIngest  # noqa: PLC0415 - needs an extra

        with _without_warnings():
            return RedisIngest(
                client, arguments.url, redis=arguments.target, name=arguments.stream, **settings, **options
            )
    except (ImportError, ValueError) as error:
        parser.error(f"argument --to, --stream or --lease: {error}")


def stream_options(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> StreamOptions:
    """Return the arguments of a connection that describe its request and how to read the response.

    :raises SystemExit: a file with the body cannot be used.
    """
    body, headers = _body(parser, arguments), arguments.header
    if arguments.json_data is not None and "content-type" not in {name.lower() for name, _ in headers}:
        headers = [*headers, ("Content-Type", "application/json")]
    return {
        "method": arguments.request,
        "headers": headers,
        "data": body,
        "auth": arguments.user,
        "timeout": _timeout(arguments),
        "redirect": arguments.redirect,
        "reconnect": arguments.reconnect,
        "retry_delay": arguments.retry_delay,
        "last_event_id": arguments.last_event_id,
        "until": arguments.until,
        "strict": arguments.strict,
        "max_event_size": arguments.max_event_size,
    }


def saved_position(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace
) -> tuple[str | None, FileCheckpoint | None]:
    """Return the id after which to resume, and where to save the position.

    :raises SystemExit: the file with the saved ID cannot be used.
    """
    first_id: str | None = arguments.last_event_id
    if arguments.save_id is None:
        return first_id, None
    with _usage_errors(parser, "--save-id"):
        checkpoint = FileCheckpoint(arguments.save_id)
        if first_id is None:
            first_id = checkpoint.load() or ""
        checkpoint.save(first_id)  # fail now rather than after the first event
    return first_id, checkpoint


def _tls_context(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> ssl.SSLContext | None:
    """Return the context for the TLS options, None without any."""
    authorities = arguments.cacert
    if not arguments.insecure and authorities is None and arguments.cert is None:
        return None
    with _usage_errors(parser, "--cacert"):
        if authorities is not None and Path(authorities).is_dir():
            context = ssl.create_default_context(capath=authorities)
        else:
            context = ssl.create_default_context(cafile=authorities)
    context.set_alpn_protocols(["h2", "http/1.1"] if arguments.http2 is True else ["http/1.1"])
    if arguments.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if arguments.cert is not None:
        with _usage_errors(parser, "--cert" if arguments.key is None else "--cert or --key"):
            context.load_cert_chain(arguments.cert, arguments.key)
    return context


def _body(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> bytes | None:
    for option, data in (("-d/--data", arguments.data), ("-j/--json-data", arguments.json_data)):
        if data is not None:
            with _usage_errors(parser, option):
                return read_body(data)
    return None


def _timeout(arguments: argparse.Namespace) -> TimeoutArgument:
    if arguments.connect_timeout is not None:
        return Timeout(connect=arguments.connect_timeout, read=arguments.timeout)
    if arguments.timeout is not None:
        timeout: float = arguments.timeout
        return timeout
    return DEFAULT_TIMEOUT


@contextmanager
def _usage_errors(parser: argparse.ArgumentParser, option: str) -> Iterator[None]:
    """Report errors as invalid values of `option`."""
    try:
        yield
    except ssl.SSLError as error:
        why = f" ({error.reason.lower().replace('_', ' ')})" if error.reason else ""
        parser.error(f"argument {option}: not a valid PEM file{why}")
    except (OSError, ValueError) as error:
        parser.error(f"argument {option}: {getattr(error, 'strerror', None) or error}")


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Ignore warnings for programmers: they name arguments of Python functions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
