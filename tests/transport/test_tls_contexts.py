"""TLS settings: contexts of the caller, bad arguments, and warnings."""

from __future__ import annotations

import hashlib
import ssl
import subprocess
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import trustme
import urllib3
from cryptography.hazmat.primitives import serialization
from urllib3.exceptions import InsecureRequestWarning
from urllib3.util.ssl_ import create_urllib3_context

from sseclient_dual import SSEClient, SSEConnectionError
from sseclient_dual.testing import CUT, SSEServer, stream
from sseclient_dual.transport import tls as tls_module
from support.certificates import read_one, rejected, unverified_context
from support.parameters import without_address
from support.policies import QUICK
from support.processes import HOST
from support.tls import context_state, server_context

if TYPE_CHECKING:
    from pathlib import Path

    from support.apis import Api
    from support.tls import Tls


# -- contexts of the caller


@pytest.mark.parametrize("made_by", ["client", "connection", "pool"])
def test_a_context_is_never_modified(api: Api, made_by: str) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.hostname_checks_common_name = True  # urllib3's own contexts turn it off
    context.set_alpn_protocols(["own/1"])
    before = context_state(context)
    serving = server_context(authority.issue_cert(HOST))
    serving.set_alpn_protocols(["own/1", "http/1.1"])

    sockets: list[ssl.SSLSocket | ssl.SSLObject] = []

    def remember(sock: ssl.SSLSocket | ssl.SSLObject, _name: str, _context: ssl.SSLContext) -> None:
        sockets.append(sock)

    serving.sni_callback = remember
    with SSEServer(stream("data: x\n\n", CUT), stream("data: y\n\n"), tls=serving) as server:
        client_options: dict[str, Any] = {"ssl_context": context} if made_by == "client" else {}
        if made_by == "pool":
            client_options["pool"] = urllib3.PoolManager(ssl_context=context)
        options = {"ssl_context": context} if made_by == "connection" else {}
        with api.client(policy=QUICK, **client_options) as client:
            with api.connect(client, server.url, **options) as conn:
                assert [event.data for event in api.rest(conn)] == ["x", "y"]
    assert {sock.selected_alpn_protocol() for sock in sockets} == {"own/1"}
    assert context_state(context) == before


def test_an_unverified_context_is_accepted_and_not_modified(api: Api, tls: Tls) -> None:
    context = unverified_context()
    before = context_state(context)
    with SSEServer(default=stream("data: x\n\n"), tls=tls[0]) as server:
        with pytest.warns(InsecureRequestWarning):
            assert read_one(api, {"ssl_context": context}, server.url) == "x"
        with pytest.warns(InsecureRequestWarning):
            assert read_one(api, {"pool": urllib3.PoolManager(ssl_context=context)}, server.url) == "x"
    assert context_state(context) == before


def test_a_context_serves_several_threads_at_once(tls: Tls) -> None:
    context = ssl.create_default_context(cafile=tls[1])
    with SSEServer(default=stream("data: x\n\n"), tls=tls[0]) as server, SSEClient(ssl_context=context) as client:
        connections = [client.connect(server.url, reconnect=False) for _ in range(10)]
        assert [[event.data for event in conn] for conn in connections] == [["x"]] * 10


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"ca_certs": "some.pem"}, "ca_certs"),
        ({"ca_cert_dir": "some"}, "ca_cert_dir"),
        ({"ca_cert_data": "some"}, "ca_cert_data"),
        ({"cert_file": "some.pem"}, "cert_file"),
        ({"cert_reqs": "CERT_NONE"}, "cert_reqs"),
        ({"assert_hostname": False}, "assert_hostname"),
        ({"assert_hostname": "example.com"}, "assert_hostname"),
        ({"assert_fingerprint": "00" * 32}, "assert_fingerprint"),
    ],
)
def test_pool_settings_that_would_modify_a_context_raise_value_error(settings: dict[str, Any], name: str) -> None:
    pool = urllib3.PoolManager(ssl_context=ssl.create_default_context(), **settings)
    with pytest.raises(ValueError, match=rf"^pool has an ssl_context, and {name}"):
        SSEClient(pool)
    with SSEClient(pool, ssl_context=ssl.create_default_context()):
        pass  # it replaces all other TLS settings
    del pool.connection_pool_kw["ssl_context"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with SSEClient(pool):
            pass


def test_pool_settings_that_agree_with_a_context_are_accepted(api: Api, tls: Tls) -> None:
    context = ssl.create_default_context(cafile=tls[1])
    pool = urllib3.PoolManager(ssl_context=context, cert_reqs="CERT_REQUIRED")
    with SSEServer(stream("data: x\n\n"), tls=tls[0]) as server:
        assert read_one(api, {"pool": pool}, server.url) == "x"


# -- contexts made from settings


def test_the_client_certificate_of_a_pool_is_sent(api: Api, tls: Tls, tmp_path: Path) -> None:
    authority = trustme.CA()
    serving = server_context(authority.issue_cert(HOST))
    serving.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(serving)
    trusted, key = str(tmp_path / "authority.pem"), str(tmp_path / "client.pem")
    authority.cert_pem.write_to_path(trusted)
    authority.issue_cert("client@example.com").private_key_and_cert_chain_pem.write_to_path(key)
    with SSEServer(stream("data: x\n\n", CUT), default=stream("data: y\n\n"), tls=serving) as server:
        pool = urllib3.PoolManager(ca_certs=trusted, cert_file=key, key_password="unused")
        with api.client(pool, policy=QUICK) as client, api.connect(client, server.url) as conn:
            assert [event.data for event in api.take(conn, 2)] == ["x", "y"]


def test_an_encrypted_key_without_a_password_is_an_error(api: Api, tls: Tls, tmp_path: Path) -> None:
    certificate, key = tmp_path / "client.pem", tmp_path / "key.pem"
    issued = trustme.CA().issue_cert("client@example.com")
    issued.cert_chain_pems[0].write_to_path(str(certificate))
    loaded = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    encryption = serialization.BestAvailableEncryption(b"secret")
    key.write_bytes(
        loaded.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption),
    )
    settings: dict[str, Any] = {"ca_certs": tls[1], "cert_file": str(certificate), "key_file": str(key)}
    with SSEServer(default=stream("data: x\n\n"), tls=tls[0]) as server:
        with api.client(urllib3.PoolManager(**settings)) as client:
            with pytest.raises(SSEConnectionError, match="TLS failed") as caught:
                api.open(client.connect(server.url, reconnect=False))
            assert "password is required" in str(caught.value.__cause__)
        assert read_one(api, {"pool": urllib3.PoolManager(**settings, key_password="secret")}, server.url) == "x"


def test_connections_share_the_context_of_their_client(tls: Tls, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    real = create_urllib3_context

    def count(*args: Any, **options: Any) -> ssl.SSLContext:
        made.append(args)
        return real(*args, **options)

    monkeypatch.setattr(tls_module, "create_urllib3_context", count)
    with SSEServer(default=stream("data: x\n\n"), tls=tls[0]) as server, SSEClient(verify=tls[1]) as client:
        assert made == []
        connections = [client.connect(server.url, reconnect=False) for _ in range(10)]
        assert [[event.data for event in conn] for conn in connections] == [["x"]] * 10
    assert len(made) == 1


# -- bad arguments


@pytest.mark.parametrize("where", ["client", "connection"])
@pytest.mark.parametrize(
    ("kind", "name", "arguments"),
    [
        (TypeError, "verify", {"verify": 1}),
        (TypeError, "verify", {"verify": b"/etc/ssl"}),
        (ValueError, "verify", {"verify": ""}),
        (ValueError, "verify", {"verify": "/no/such/file"}),
        (ValueError, "verify", {"verify": __file__}),
        (TypeError, "ssl_context", {"ssl_context": True}),
        (TypeError, "ssl_context", {"ssl_context": "/etc/ssl"}),
        (
            TypeError,
            "pass either verify or ssl_context",
            {"verify": False, "ssl_context": ssl.create_default_context()},
        ),
        (
            TypeError,
            "pass either verify or ssl_context",
            {"verify": "/x", "ssl_context": ssl.create_default_context()},
        ),
    ],
    ids=without_address,
)
def test_a_bad_argument_raises_at_once(
    where: str, kind: type[Exception], name: str, arguments: dict[str, Any]
) -> None:
    with SSEClient() as client, pytest.raises(kind, match=rf"^{name}\b"):
        SSEClient(**arguments) if where == "client" else client.connect("https://127.0.0.1:9/", **arguments)


# -- warnings


@pytest.fixture
def warnings_of_threads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of warnings that other threads emit, which must stay empty."""
    emitted: list[str] = []
    real = warnings.warn

    def warn(message: Any, *arguments: Any, **options: Any) -> None:
        if threading.current_thread() is not threading.main_thread():
            emitted.append(str(message))
        options["stacklevel"] = options.get("stacklevel", 1) + 1
        real(message, *arguments, **options)

    monkeypatch.setattr(warnings, "warn", warn)
    return emitted


def test_verify_false_warns_once_in_the_callers_frame(api: Api, tls: Tls, warnings_of_threads: list[str]) -> None:
    with SSEServer(stream("data: x\n\n", CUT), default=stream("data: y\n\n"), tls=tls[0]) as server:
        with warnings.catch_warnings(record=True) as recorded:
            warnings.simplefilter("always")
            client = SSEClient(verify=False, policy=QUICK)
            assert len(recorded) == 1
            with api.enter(client), api.connect(client, server.url) as conn:
                assert [event.data for event in api.take(conn, 2)] == ["x", "y"]
                client.connect(server.url, verify=False)
        assert len(recorded) == 1
        assert recorded[0].category is InsecureRequestWarning
        assert recorded[0].filename == __file__
        assert "certificates are not checked" in str(recorded[0].message)

        with warnings.catch_warnings(record=True) as recorded, api.client() as client:
            warnings.simplefilter("always")
            conn = client.connect(server.url, verify=False)
            assert [(warning.category, warning.filename) for warning in recorded] == [
                (InsecureRequestWarning, __file__)
            ]
            with api.enter(conn):
                assert api.next(conn).data == "y"
            assert len(recorded) == 1
    assert warnings_of_threads == []


def test_settings_that_check_certificates_do_not_warn(api: Api, tls: Tls, warnings_of_threads: list[str]) -> None:
    with SSEServer(default=stream("data: x\n\n"), tls=tls[0]) as server:
        certificate = ssl.get_server_certificate((HOST, server.port))
        fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate)).hexdigest()
        pool = urllib3.PoolManager(cert_reqs="CERT_NONE", assert_fingerprint=fingerprint)
        assert read_one(api, {"pool": pool}, server.url) == "x"
        rejected(api, {"pool": urllib3.PoolManager(cert_reqs="CERT_NONE", assert_fingerprint="00" * 32)}, server)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for settings in ({}, {"verify": True}, {"verify": tls[1]}, {"ssl_context": ssl.create_default_context()}):
                SSEClient(**settings).close()
            SSEClient().connect("http://127.0.0.1:9/", verify=True)
    assert warnings_of_threads == []


def test_warnings_may_be_errors(api: Api, tls: Tls) -> None:
    pool = urllib3.PoolManager(cert_reqs="CERT_NONE")
    with SSEServer(default=stream("data: x\n\n"), tls=tls[0]) as server, api.client() as client:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(InsecureRequestWarning):
                SSEClient(verify=False)
            with pytest.raises(InsecureRequestWarning):
                SSEClient(pool)
            with pytest.raises(InsecureRequestWarning):
                client.connect(server.url, verify=False)
        with pytest.warns(InsecureRequestWarning):
            conn = client.connect(server.url, verify=False, reconnect=False)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with api.enter(conn):
                assert api.next(conn).data == "x"


def test_a_script_with_warnings_as_errors_can_suppress_the_warning(tls: Tls, tmp_path: Path) -> None:
    """Run a separate interpreter; its script suppresses the warning only where it creates the client."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, warnings\n"
        "from sseclient_dual import ReconnectPolicy, SSEClient\n"
        "with warnings.catch_warnings():\n"
        "    warnings.simplefilter('ignore')\n"
        "    client = SSEClient(verify=False, policy=ReconnectPolicy(retry_delay=10))\n"
        "with client, client.connect(sys.argv[1]) as conn:\n"
        "    print([event.data for event in conn], conn.stats.reconnects)\n"
    )
    with SSEServer(stream("data: x\n\n", CUT), stream("data: y\n\n"), tls=tls[0]) as server:
        command = [sys.executable, "-W", "error", str(script), server.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "['x', 'y'] 2\n"
    assert done.returncode == 0
    assert "Warning" not in done.stderr
