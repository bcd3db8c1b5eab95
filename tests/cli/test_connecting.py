"""Options of the request and the connection: credentials, JSON, TLS, proxies, timeouts, retries, the last event."""

from __future__ import annotations

import json
import ssl
import subprocess
from typing import TYPE_CHECKING

import pytest
import trustme

from sseclient_dual import SSEEvent
from sseclient_dual.testing import CUT, HANG, Gate, SSEServer, redirect, status, stream
from support.command import ENVIRONMENT, assert_no_credentials, assert_one_error, run
from support.processes import HOST, program
from support.proxies import has_connected, tinyproxy_with
from support.tls import server_context
from support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from support.tls import Tls

ONE = stream("data: x\n\n")


# -- the request


@pytest.mark.parametrize("option", ["-u", "--user"])
@pytest.mark.parametrize("in_url", ["", "someone:else@"])
def test_basic_authentication(option: str, in_url: str, sse_server: SSEServer) -> None:
    url = sse_server.url.replace("//", f"//{in_url}")
    sse_server.add(stream("data: x\n\n", CUT))
    done = run(url, option, "alice:hunter2", "-vv", "--retry-delay", "10")
    assert done.returncode == 0
    for request in sse_server.requests:
        assert request.headers["Authorization"] == "Basic YWxpY2U6aHVudGVyMg=="
    assert_no_credentials(done.stdout + done.stderr)


def test_a_password_with_special_characters(sse_server: SSEServer) -> None:
    assert run(sse_server.url, "-u", "al ice:pass:☃ %41").returncode == 0
    assert sse_server.requests[0].headers["Authorization"] == "Basic YWwgaWNlOnBhc3M64piDICU0MQ=="


@pytest.mark.parametrize("option", ["-j", "--json-data"])
@pytest.mark.parametrize("source", ["argument", "file", "input"])
def test_json_data(option: str, source: str, tmp_path: Path, sse_server: SSEServer) -> None:
    body = '{"snow": "☃",\n "stream": true}\n'
    file = tmp_path / "body.json"
    file.write_text(body, encoding="utf-8")
    data = {"argument": body, "file": f"@{file}", "input": "-"}[source]
    assert run(sse_server.url, option, data, input=body).returncode == 0
    (request,) = sse_server.requests
    assert request.method == "POST"
    assert request.headers["Content-Type"] == "application/json"
    assert request.body == body.encode()
    assert request.json() == json.loads(body)


def test_json_data_with_another_method_and_media_type(sse_server: SSEServer) -> None:
    options = ["-X", "PUT", "-H", "content-type: application/merge-patch+json"]
    assert run(sse_server.url, "-j", "{}", *options).returncode == 0
    (request,) = sse_server.requests
    assert request.method == "PUT"
    assert request.headers["Content-Type"] == "application/merge-patch+json"


def test_cookies(sse_server: SSEServer) -> None:
    sse_server.add(stream("data: x\n\n", CUT, headers={"Set-Cookie": "node=7"}))
    assert run(sse_server.url, "-b", "a=1", "--cookie", "b=2=3", "--retry-delay", "10").returncode == 0
    first, second = (request.headers["Cookie"] for request in sse_server.requests)
    assert set(first.split("; ")) == {"a=1", "b=2=3"}
    assert set(second.split("; ")) == {"a=1", "b=2=3", "node=7"}


def test_redirects_are_not_followed() -> None:
    with SSEServer(redirect("/elsewhere")) as server:
        assert_one_error(run(server.url, "--no-redirect"), "status 302 Found, not 200")
        assert len(server.requests) == 1


# -- TLS


@pytest.mark.parametrize("option", ["-k", "--insecure"])
def test_certificates_are_not_checked(option: str, tls: Tls) -> None:
    with SSEServer(ONE, tls=tls[0]) as server:
        done = run(server.url.replace(HOST, "localhost"), option, "--no-reconnect")
    assert (done.returncode, done.stdout, done.stderr) == (0, "x\n", "")


@pytest.mark.parametrize(
    ("option", "shown"), [("--http2", ", HTTP/2"), ("--http2-prior-knowledge", ", HTTP/2"), ("-v", "")]
)
def test_http2_is_used_and_shown(option: str, shown: str, tls: Tls) -> None:
    with SSEServer(ONE, tls=tls[0], http2=True) as server:
        done = run(server.url, option, "-v", "--insecure", "--no-reconnect")
    assert (done.returncode, done.stdout) == (0, "x\n")
    assert f"sseclient-dual: connected to {server.url}, status 200{shown}\n" in done.stderr


def test_the_authorities_of_a_file(tls: Tls) -> None:
    with SSEServer(ONE, tls=tls[0]) as server:
        done = run(server.url, "--cacert", tls[1], "--no-reconnect")
        assert (done.returncode, done.stdout, done.stderr) == (0, "x\n", "")


def test_the_authorities_of_a_folder(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    subprocess.run([program("openssl", "openssl"), "rehash", str(tmp_path)], check=True)
    with SSEServer(ONE, tls=server_context(authority.issue_cert(HOST))) as server:
        done = run(server.url, "--cacert", str(tmp_path), "--no-reconnect")
        assert (done.returncode, done.stdout, done.stderr) == (0, "x\n", "")


def test_the_error_for_an_untrusted_certificate_names_options(tls: Tls) -> None:
    with SSEServer(tls=tls[0]) as server:
        done = run(server.url)
        assert_one_error(done, f"the certificate of {server.origin} was rejected", "--cacert", "--insecure")
        assert "verify" not in done.stderr.partition(")")[2]


@pytest.mark.parametrize("separate", [False, True], ids=["one file", "two files"])
def test_a_client_certificate(tmp_path: Path, *, separate: bool) -> None:
    authority = trustme.CA()
    context = server_context(authority.issue_cert(HOST))
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    client = authority.issue_cert("client@example.com")
    trusted, key, certificate = tmp_path / "ca.pem", tmp_path / "key.pem", tmp_path / "client.pem"
    authority.cert_pem.write_to_path(str(trusted))
    client.private_key_pem.write_to_path(str(key))
    if separate:
        client.cert_chain_pems[0].write_to_path(str(certificate))
    else:
        client.private_key_and_cert_chain_pem.write_to_path(str(certificate))
    options = ["--cacert", str(trusted), "--max-retries", "5", "--retry-delay", "10"]
    identity = ["--cert", str(certificate), *(["--key", str(key)] if separate else [])]
    with SSEServer(ONE, tls=context) as server:
        done = run(server.url, *options, *identity)
        assert (done.returncode, done.stdout, done.stderr) == (0, "x\n", "")
        missing = run(server.url, *options)
    assert missing.returncode == 1
    assert "use --cert with one that the server trusts" in missing.stderr.splitlines()[-1]


# -- proxies


def test_a_proxy_replaces_that_of_the_environment(tmp_path: Path) -> None:
    environment = {**ENVIRONMENT, "HTTP_PROXY": "http://127.0.0.1:1", "NO_PROXY": "", "no_proxy": ""}
    with tinyproxy_with(tmp_path, "BasicAuth alice hunter2") as process, SSEServer(ONE, ONE) as server:
        proxy = f"http://alice:hunter2@{HOST}:{process.port}"
        done = run(server.url, "--proxy", proxy, "-vv", "--no-reconnect", env=environment)
        assert (done.returncode, done.stdout) == (0, "x\n")
        assert_no_credentials(done.stderr)
        wait_until(lambda: has_connected(process, server.port), "the proxy to log the connection")
        done = run(server.url, "--proxy", "", "--no-reconnect", env=environment)
        assert (done.returncode, done.stdout, done.stderr) == (0, "x\n", "")
        done = run(server.url, "--no-reconnect", env=environment)
        assert_one_error(done, f"{server.origin} (through the proxy http://127.0.0.1:1)")


# -- time limits and retries


def test_the_connect_timeout_and_the_timeout_are_separate() -> None:
    gate = Gate()
    with SSEServer(handshake=gate, tls=None) as server:
        done = run(server.url, "--no-reconnect", "--connect-timeout", "30", "--timeout", "0.3")
        assert_one_error(done, "no data arrived for 0.3 s", "raise --timeout")
        gate.open()


def test_the_connect_timeout(tls: Tls) -> None:
    gate = Gate()
    with SSEServer(handshake=gate, tls=tls[0]) as server:
        done = run(server.url, "--no-reconnect", "--connect-timeout", "0.3")
        assert_one_error(done, "could not connect within 0.3 s", "raise --connect-timeout")
        gate.open()


@pytest.mark.parametrize("retries", [0, 2])
def test_the_maximum_number_of_retries(retries: int) -> None:
    with SSEServer(default=status(503)) as server:
        done = run(server.url, "--max-retries", str(retries), "--retry-delay", "10")
        assert len(server.requests) == 1 + retries
    assert done.returncode == 1
    *warnings, error = done.stderr.splitlines()
    assert len(warnings) == retries
    assert error.endswith("status 503 Service Unavailable, not 200")


def test_giving_up_names_the_option() -> None:
    with SSEServer(default=stream(": nothing new\n\n")) as server:
        done = run(server.url, "--max-retries", "1", "--retry-delay", "10")
    assert done.returncode == 1
    error = done.stderr.splitlines()[-1]
    assert "gave up after 2 connections" in error
    assert error.endswith("or raise --max-retries")


def test_reconnecting_although_the_request_is_a_post() -> None:
    with SSEServer(stream("data: x\n\n", CUT), stream("data: y\n\n")) as server:
        done = run(server.url, "-d", "x", "--reconnect", "--retry-delay", "10")
        assert (done.returncode, done.stdout) == (0, "x\ny\n")
        assert [request.method for request in server.requests] == ["POST"] * 3


# -- the end of the stream


@pytest.mark.parametrize("options", [[], ["--json"], ["--timestamps"], ["--event", "other"]])
def test_until(options: list[str]) -> None:
    with SSEServer(stream("data: x\n\ndata: [DONE]\n\ndata: late\n\n", HANG)) as server:
        done = run(server.url, "-v", "--until", "[DONE]", *options)
    assert done.returncode == 0
    assert "DONE" not in done.stdout
    assert "late" not in done.stdout
    assert len(done.stdout.splitlines()) == (0 if "--event" in options else 1)
    assert done.stderr.splitlines()[-1].endswith("ended by the event of --until")


def test_an_end_before_that_of_until_is_an_error() -> None:
    with SSEServer(stream("data: x\n\n")) as server:
        done = run(server.url, "--until", "[DONE]", "--no-reconnect")
    assert done.stdout == "x\n"
    assert_one_error(done, "the response ended before its last event", "check the value of --until")


def test_until_and_status_204(sse_server: SSEServer) -> None:
    done = run(sse_server.url, "--until", "[DONE]", "-v")
    assert (done.returncode, done.stderr) == (0, "sseclient-dual: ended by the server, status 204\n")


def test_the_maximum_size_of_an_event() -> None:
    with SSEServer(*[stream(f"data: {'x' * 5000}\n\n")] * 2) as server:
        assert_one_error(run(server.url, "--max-event-size", "4000"), "use --max-event-size")
        assert run(server.url, "--max-event-size", "6000", "--no-reconnect").stdout == "x" * 5000 + "\n"


@pytest.mark.parametrize(("setting", "printed"), [("on", "xy"), ("id", "xyy"), ("off", "xyyx")])
def test_deduplication(setting: str, printed: str) -> None:
    events = SSEEvent("x", id="1"), SSEEvent("y")
    with SSEServer(stream(*events, CUT), stream(*reversed(events))) as server:
        done = run(server.url, "--dedup", setting, "--retry-delay", "10")
    assert done.stdout.replace("#1: ", "").replace("\n", "") == printed
