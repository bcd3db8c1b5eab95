"""TLS: whom to trust, who one is, whose context that is, and what errors and warnings say of it."""

from __future__ import annotations

import datetime as dt
import hashlib
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme
import urllib3
from urllib3.exceptions import InsecureRequestWarning

from sseclient_dual import ReconnectPolicy, SSEClient, SSEConnectionError
from sseclient_dual.testing import CUT, SSEServer, redirect, stream
from support.parameters import without_address
from support.tls import context_state
from support.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from support.apis import Face

    Tls = tuple[ssl.SSLContext, str]

QUICK = ReconnectPolicy(retry_delay=10, jitter=0)
HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Give an authority that is not that of the fixture `tls`."""
    return trustme.CA()


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def demanding_context(authority: trustme.CA, version: ssl.TLSVersion) -> ssl.SSLContext:
    """Return a server's context that wants a client certificate of the authority, over one version of TLS."""
    context = server_context(authority.issue_cert(HOST))
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    context.minimum_version = context.maximum_version = version
    return context


def trusting_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def unverified_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def read_one(face: Face, client_options: dict[str, Any], url: str, **options: Any) -> str:
    with face.client(**({"policy": QUICK} | client_options)) as client, face.connect(client, url, **options) as conn:
        return face.next(conn).data


def rejected(face: Face, client_options: dict[str, Any], server: SSEServer, **options: Any) -> str:
    """Return what is said of a certificate that is rejected, for good though reconnecting is on."""
    before = len(server.requests)
    with face.client(**({"policy": QUICK} | client_options)) as client:
        with pytest.raises(SSEConnectionError) as caught:
            face.open(client.connect(server.url, reconnect=True, **options))
    assert len(server.requests) == before
    assert caught.value.final
    assert f"the certificate of {server.origin} was rejected" in str(caught.value)
    return str(caught.value)


# -- whom to trust


def test_verify_as_a_file_a_folder_and_a_path(face: Face, tls: Tls, tmp_path: Path) -> None:
    text = Path(tls[1]).read_bytes()
    openssl = shutil.which("openssl")
    bundles: list[Any] = [tls[1], Path(tls[1])]
    if openssl is not None:  # OpenSSL looks for the hash of the authority's name
        hashed = subprocess.run(
            [openssl, "x509", "-hash", "-noout", "-in", tls[1]], capture_output=True, text=True, check=True
        ).stdout.strip()
        (tmp_path / f"{hashed}.0").write_bytes(text)
        bundles += [str(tmp_path), tmp_path]
    with SSEServer(default=stream("data: x\n\n"), tls=tls[0]) as server:
        for bundle in bundles:
            assert read_one(face, {"verify": bundle}, server.url) == "x"
            assert read_one(face, {}, server.url, verify=bundle) == "x"
        rejected(face, {}, server)
        rejected(face, {"verify": True}, server)


def test_a_folder_without_the_authority(face: Face, tls: Tls, tmp_path: Path) -> None:
    with SSEServer(default=stream("data: x\n\n"), tls=tls[0]) as server:
        rejected(face, {"verify": tmp_path}, server)


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_a_connection_has_the_last_word(face: Face, tls: Tls, authority: trustme.CA, tmp_path: Path) -> None:
    other = str(tmp_path / "other.pem")
    authority.cert_pem.write_to_path(other)
    trusting = ssl.create_default_context(cafile=tls[1])
    wary = ssl.create_default_context(cafile=other)
    careless = unverified_context()
    with SSEServer(default=stream("data: x\n\n"), tls=tls[0]) as server:
        assert read_one(face, {"verify": False}, server.url) == "x"
        assert read_one(face, {}, server.url, verify=False) == "x"
        assert read_one(face, {"verify": other}, server.url, verify=False) == "x"
        assert read_one(face, {"verify": other}, server.url, verify=tls[1]) == "x"
        assert read_one(face, {"verify": other}, server.url, ssl_context=trusting) == "x"
        assert read_one(face, {"verify": False}, server.url, ssl_context=trusting) == "x"
        assert read_one(face, {"ssl_context": wary}, server.url, ssl_context=trusting) == "x"
        assert read_one(face, {"ssl_context": wary}, server.url, verify=tls[1]) == "x"
        assert read_one(face, {"ssl_context": wary}, server.url, verify=False) == "x"
        assert read_one(face, {"ssl_context": careless}, server.url) == "x"
        # To check, without saying by whom, is what these do already.
        assert read_one(face, {"verify": tls[1]}, server.url, verify=True) == "x"
        assert read_one(face, {"ssl_context": trusting}, server.url, verify=True) == "x"
        rejected(face, {"verify": False}, server, verify=True)
        rejected(face, {"verify": False}, server, verify=other)
        rejected(face, {"verify": False}, server, ssl_context=wary)
        rejected(face, {"verify": tls[1]}, server, ssl_context=wary)
        rejected(face, {"ssl_context": careless}, server, verify=True)
        rejected(face, {"ssl_context": trusting}, server, verify=other)


def test_overriding_changes_nothing_for_other_connections(face: Face, tls: Tls) -> None:
    with SSEServer(default=stream("data: x\n\n"), tls=tls[0]) as server, face.client(policy=QUICK) as client:
        with face.connect(client, server.url, verify=tls[1], keep_connection=True) as conn:
            assert face.next(conn).data == "x"
        with pytest.raises(SSEConnectionError, match="rejected"):
            face.open(client.connect(server.url))


def test_closing_the_client_closes_what_connections_of_other_settings_kept(face: Face, tls: Tls) -> None:
    with SSEServer(stream("data: x\n\n"), tls=tls[0]) as server, face.client() as client:
        conn = client.connect(server.url, verify=tls[1], keep_connection=True, reconnect=False)
        assert len(face.rest(conn)) == 1
        server.wait_for_connections(1)
        client.close()
        server.wait_for_connections(0)
        assert conn.status == 200


# -- certificates that will not do


def test_a_certificate_for_another_host(face: Face, authority: trustme.CA) -> None:
    path = ssl.create_default_context()
    authority.configure_trust(path)
    with SSEServer(tls=server_context(authority.issue_cert("example.com"))) as server:
        assert "127.0.0.1" in rejected(face, {"ssl_context": path}, server)


def test_a_certificate_that_has_expired(face: Face, authority: trustme.CA) -> None:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    past = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)
    with SSEServer(tls=server_context(authority.issue_cert(HOST, not_before=past, not_after=past))) as server:
        assert "certificate has expired" in rejected(face, {"ssl_context": context}, server)


def test_a_certificate_signed_by_nobody_known(face: Face, tls: Tls) -> None:
    with SSEServer(tls=tls[0]) as server:
        message = rejected(face, {}, server)
    assert "trust the authority" in message


def test_a_certificate_is_checked_after_a_redirect_too(face: Face, tls: Tls, authority: trustme.CA) -> None:
    with SSEServer(tls=server_context(authority.issue_cert(HOST))) as other:
        with SSEServer(redirect(other.url), tls=tls[0]) as server, face.client(verify=tls[1]) as client:
            with pytest.raises(SSEConnectionError, match=f"certificate of {other.origin} was rejected"):
                face.open(client.connect(server.url))


# -- who one is


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_certificate(face: Face, authority: trustme.CA, version: ssl.TLSVersion) -> None:
    serving = demanding_context(authority, version)
    context = trusting_context(authority)
    nobody = trusting_context(authority)
    authority.issue_cert("client@example.com").configure_cert(context)
    before = context_state(context)
    with SSEServer(stream("data: x\n\n", CUT), default=stream("data: y\n\n"), tls=serving) as server:
        with face.client(ssl_context=context, policy=QUICK) as client, face.connect(client, server.url) as conn:
            assert [event.data for event in face.take(conn, 2)] == ["x", "y"]
        assert read_one(face, {}, server.url, ssl_context=context) == "y"
        assert read_one(face, {"pool": urllib3.PoolManager(ssl_context=context)}, server.url) == "y"
        seen = len(server.requests)
        with face.client(ssl_context=nobody) as client, pytest.raises(SSEConnectionError):
            face.open(client.connect(server.url, reconnect=False))
        assert len(server.requests) == seen
    assert context_state(context) == before


@pytest.mark.parametrize(
    ("version", "missing"),  # an alert of TLS 1.2 does not say that it is missing
    [(ssl.TLSVersion.TLSv1_2, False), (ssl.TLSVersion.TLSv1_3, False), (ssl.TLSVersion.TLSv1_3, True)],
)
def test_a_client_certificate_that_will_not_do_is_final(
    face: Face, authority: trustme.CA, version: ssl.TLSVersion, *, missing: bool
) -> None:
    serving = demanding_context(authority, version)
    context = trusting_context(authority)
    if not missing:
        trustme.CA().issue_cert("client@example.com").configure_cert(context)
    with SSEServer(tls=serving) as server:
        with face.client(ssl_context=context, policy=QUICK) as client:
            # Should the end of the connection overtake the alert, that is a drop, and the next attempt tells.
            with pytest.raises(SSEConnectionError, match="this side's certificate was rejected") as caught:
                face.open(client.connect(server.url, reconnect=True))
            assert caught.value.final
        assert server.requests == []


# -- whose context it is


@pytest.mark.parametrize("made_by", ["client", "connection", "pool"])
def test_a_context_is_never_modified(face: Face, made_by: str) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.hostname_checks_common_name = True  # which urllib3's own contexts do not have
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
        with face.client(policy=QUICK, **client_options) as client:
            with face.connect(client, server.url, **options) as conn:
                assert [event.data for event in face.rest(conn)] == ["x", "y"]
    assert {sock.selected_alpn_protocol() for sock in sockets} == {"own/1"}
    assert context_state(context) == before


def test_a_careless_context_stays_careless_and_is_not_modified(face: Face, tls: Tls) -> None:
    context = unverified_context()
    before = context_state(context)
    with SSEServer(default=stream("data: x\n\n"), tls=tls[0]) as server:
        with pytest.warns(InsecureRequestWarning):
            assert read_one(face, {"ssl_context": context}, server.url) == "x"
        with pytest.warns(InsecureRequestWarning):
            assert read_one(face, {"pool": urllib3.PoolManager(ssl_context=context)}, server.url) == "x"
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
def test_a_lent_context_with_settings_that_would_change_it_is_refused(settings: dict[str, Any], name: str) -> None:
    pool = urllib3.PoolManager(ssl_context=ssl.create_default_context(), **settings)
    with pytest.raises(ValueError, match=rf"^pool has an ssl_context, and {name}"):
        SSEClient(pool)
    with SSEClient(pool, ssl_context=ssl.create_default_context()):
        pass  # instead of every other setting
    del pool.connection_pool_kw["ssl_context"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with SSEClient(pool):
            pass


def test_a_lent_context_with_settings_that_agree(face: Face, tls: Tls) -> None:
    context = ssl.create_default_context(cafile=tls[1])
    pool = urllib3.PoolManager(ssl_context=context, cert_reqs="CERT_REQUIRED")
    with SSEServer(stream("data: x\n\n"), tls=tls[0]) as server:
        assert read_one(face, {"pool": pool}, server.url) == "x"


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
        (TypeError, "verify and ssl_context", {"verify": False, "ssl_context": ssl.create_default_context()}),
        (TypeError, "verify and ssl_context", {"verify": "/x", "ssl_context": ssl.create_default_context()}),
    ],
    ids=without_address,
)
def test_a_bad_argument_is_named_at_once(
    where: str, kind: type[Exception], name: str, arguments: dict[str, Any]
) -> None:
    with SSEClient() as client, pytest.raises(kind, match=rf"^{name}\b"):
        SSEClient(**arguments) if where == "client" else client.connect("https://127.0.0.1:9/", **arguments)


# -- what is warned about


@pytest.fixture
def threads_must_not_warn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give the list of the warnings of other threads, which are errors there, too."""
    heard: list[str] = []
    real = warnings.warn

    def warn(message: Any, *arguments: Any, **options: Any) -> None:
        if threading.current_thread() is not threading.main_thread():
            heard.append(str(message))
        options["stacklevel"] = options.get("stacklevel", 1) + 1
        real(message, *arguments, **options)

    monkeypatch.setattr(warnings, "warn", warn)
    return heard


def test_verify_off_is_warned_about_once_where_it_is_said(
    face: Face, tls: Tls, threads_must_not_warn: list[str]
) -> None:
    with SSEServer(stream("data: x\n\n", CUT), default=stream("data: y\n\n"), tls=tls[0]) as server:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            client = SSEClient(verify=False, policy=QUICK)
            assert len(said) == 1
            with face.enter(client), face.connect(client, server.url) as conn:
                assert [event.data for event in face.take(conn, 2)] == ["x", "y"]
                client.connect(server.url, verify=False)
        assert len(said) == 1
        assert said[0].category is InsecureRequestWarning
        assert said[0].filename == __file__
        assert "certificates are not checked" in str(said[0].message)

        with warnings.catch_warnings(record=True) as said, face.client() as client:
            warnings.simplefilter("always")
            conn = client.connect(server.url, verify=False)
            assert [(warning.category, warning.filename) for warning in said] == [(InsecureRequestWarning, __file__)]
            with face.enter(conn):
                assert face.next(conn).data == "y"
            assert len(said) == 1
    assert threads_must_not_warn == []


def test_what_checks_is_not_warned_about(face: Face, tls: Tls, threads_must_not_warn: list[str]) -> None:
    with SSEServer(default=stream("data: x\n\n"), tls=tls[0]) as server:
        certificate = ssl.get_server_certificate((HOST, server.port))
        fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate)).hexdigest()
        pool = urllib3.PoolManager(cert_reqs="CERT_NONE", assert_fingerprint=fingerprint)
        assert read_one(face, {"pool": pool}, server.url) == "x"
        rejected(face, {"pool": urllib3.PoolManager(cert_reqs="CERT_NONE", assert_fingerprint="00" * 32)}, server)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for settings in ({}, {"verify": True}, {"verify": tls[1]}, {"ssl_context": ssl.create_default_context()}):
                SSEClient(**settings).close()
            SSEClient().connect("http://127.0.0.1:9/", verify=True)
    assert threads_must_not_warn == []


def test_warnings_may_be_errors(face: Face, tls: Tls) -> None:
    pool = urllib3.PoolManager(cert_reqs="CERT_NONE")
    with SSEServer(default=stream("data: x\n\n"), tls=tls[0]) as server, face.client() as client:
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
            with face.enter(conn):
                assert face.next(conn).data == "x"


def test_a_script_that_makes_warnings_errors_and_asks_for_none(tls: Tls, tmp_path: Path) -> None:
    """As a user has it: an interpreter of its own, and the warning switched off in the one place that it names."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, warnings\n"
        "from sseclient_dual import ReconnectPolicy, SSEClient\n"
        "with warnings.catch_warnings():\n"
        "    warnings.simplefilter('ignore')\n"
        "    client = SSEClient(verify=False, policy=ReconnectPolicy(retry_delay=1))\n"
        "with client, client.connect(sys.argv[1]) as conn:\n"
        "    print([event.data for event in conn], conn.stats.reconnects)\n"
    )
    with SSEServer(stream("data: x\n\n", CUT), stream("data: y\n\n"), tls=tls[0]) as server:
        command = [sys.executable, "-W", "error", str(script), server.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "['x', 'y'] 2\n"
    assert done.returncode == 0
    assert "Warning" not in done.stderr


# -- TLS that breaks


@pytest.mark.parametrize("breaks", [False, True], ids=["ended", "broken"])
@pytest.mark.parametrize("size", [10, 16_000, 60_000, 300_000])
def test_what_came_in_many_records_before_tls_ended_or_broke_is_handed_over(
    face: Face, tls: Tls, size: int, *, breaks: bool
) -> None:
    context, authority_file = tls
    first = b"data: 1\n\ndata: 2\n\ndata: 3\n\n"
    last = b"data: " + b"x" * size + b"\n\n"
    all_sent = threading.Event()

    def serve(listener: socket.socket) -> None:
        plain, _ = listener.accept()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
        with plain, plain.dup() as beneath, context.wrap_socket(plain, server_side=True) as sock:
            sock.recv(65536)
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + first)
            sock.sendall(last)
            if breaks:
                beneath.sendall(b"no TLS at all")
            else:
                beneath.shutdown(socket.SHUT_WR)
            all_sent.set()
            beneath.recv(65536)

    with socket.create_server((HOST, 0)) as listener:
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        with face.client(verify=authority_file) as client:
            url = f"https://{HOST}:{listener.getsockname()[1]}/"
            conn = face.open(client.connect(url, reconnect=False, queue_size=1))
            wait_until(lambda: conn.stats.events, "a full queue, so that the rest waits in the socket")
            assert all_sent.wait(PATIENCE)
            assert [event.data for event in face.take(conn, 4)] == ["1", "2", "3", "x" * size]
            if breaks:
                with pytest.raises(SSEConnectionError, match="the connection broke") as caught:
                    face.next(conn)
                assert isinstance(caught.value.__cause__, urllib3.exceptions.SSLError)
            else:
                assert face.rest(conn) == []
        server.join()
