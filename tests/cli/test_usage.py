"""Wrong usage: one short usage line, and the mistake, which names the option and shows no value."""

from __future__ import annotations

import importlib.util
import re

import pytest

from sseclient_dual import cli
from sseclient_dual.cli.curl import HINTS
from support.command import assert_no_credentials, run

USAGE = "usage: sseclient-dual [OPTIONS] URL"
COOKIE = "must look like NAME=VALUE, without semicolons and control characters"
SCHEMES = "with one of the schemes http, https, socks4, socks4a, socks5, socks5h"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the URL is missing; see --help"),
        (["http://a:b/"], "argument URL: must look like https://host/path, with special characters percent-encoded"),
        (["http://a/", "-H", "X"], "argument -H/--header: must look like 'Name: value'"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert not done.stdout
    assert done.stderr.splitlines() == [USAGE, f"sseclient-dual: error: {message}"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["http://a/", "--demo"], "pass either a URL or --demo, not both"),
        (["-X", "POST", "--event", "HTTPS://a/"], "the URL is missing, or the value of --event is; see --help"),
        (["--json", "-H", "A: b", "--proxy", "http://a/"], "the URL is missing; see --help"),
        (["ftp://a/"], "argument URL: must begin with http:// or https://"),
        (["http://"], "argument URL: must look like https://host/path, with special characters percent-encoded"),
        (["http://a/", "-H", ": x"], "argument -H/--header: must look like 'Name: value'"),
        (
            ["http://a/", "-H", "X: a\nb"],
            "argument -H/--header: must not contain control characters, or special characters in the name",
        ),
        (["http://a/", "-X", "A B"], "argument -X/--request: must be an HTTP method, such as GET"),
        (["http://a/", "--timeout", "x"], "argument --timeout: must be a number"),
        (["http://a/", "--timeout", "inf"], "argument --timeout: must be a number"),
        (["http://a/", "--timeout", "-1"], "argument --timeout: must be greater than 0"),
        (["http://a/", "--retry-delay", "-1"], "argument --retry-delay: must be at least 0"),
        (["http://a/", "--retry-delay", "nan"], "argument --retry-delay: must be a number"),
        (
            ["http://a/", "-H", "X(: a"],
            "argument -H/--header: must not contain control characters, or special characters in the name",
        ),
        (
            ["http://a%3Ab:c@d/"],
            "argument URL: must look like https://host/path, with special characters percent-encoded",
        ),
        (
            ["http://a/", "--last-event-id", "\udcff"],
            "argument --last-event-id: must be valid UTF-8 without CR, LF and NUL",
        ),
        (["http://a/", "--max-events", "0"], "argument --max-events: must be a whole number, at least 1"),
        (["http://a/", "--max-events", "1" * 5000], "argument --max-events: must be a whole number, at least 1"),
        (
            ["http://a/", "--last-event-id", "a\nb"],
            "argument --last-event-id: must be valid UTF-8 without CR, LF and NUL",
        ),
        (["http://a/", "-d", "@/dev/null/hunter2"], "argument -d/--data: Not a directory"),
        (["http://a/", "-d", "@/nowhere"], "argument -d/--data: No such file or directory"),
        (["http://a/", "--save-id", "/dev/null/id"], "argument --save-id: Not a directory"),
        (
            ["http://a/", "--save-id", "/dev/null"],
            "argument --save-id: not a regular file, so it cannot hold an event ID: /dev/null",
        ),
        (
            ["http://a/", "--save-id", "/"],
            "argument --save-id: not a regular file, so it cannot hold an event ID: /",
        ),
        (
            ["http://a/", "--save-id", "/nowhere/id"],
            "argument --save-id: could not save the event ID: No such file or directory",
        ),
        (["http://a/", "--raw", "--json"], "argument --json: not allowed with argument --raw"),
        (
            ["http://a/", "--raw", "--event", "x"],
            "argument --event: not allowed with argument --raw, which prints everything",
        ),
        (["http://a/", "--header"], "argument -H/--header: expected one argument"),
        (["http://a/", "--retry", "1"], "unknown option --retry; did you mean --retry-delay?"),
        (["http://a/", "-q", "--queue=x"], "unknown option -q; see --help"),
        (["http://a/", "--timeot=3"], "unknown option --timeot; did you mean --timeout?"),
        (["-q", "1", "http://a/"], "unknown option -q; see --help"),  # not the URL
        (["-q", "1", "http://a/", "--stat"], "unknown option -q; see --help"),
        (["--xyz", "1", "http://a/"], "unknown option --xyz; see --help"),
        (["http://a/", "--JSON"], "unknown option --JSON; did you mean --json?"),
        (["-json", "http://a/"], "unknown option -json; did you mean --json?"),  # not -j with the body "son"
        (["-user=alice:hunter2", "http://a/"], "unknown option -user; did you mean --user?"),
        (["http://a/", "-help"], "unknown option -help; did you mean --help?"),
        (["http://a/", "--json=hunter2"], "argument --json: takes no value"),
        ([], "the URL is missing; see --help"),
        (["--until", "http://a/"], "the URL is missing, or the value of --until is; see --help"),
        (["http://a/", "-u", "alice"], "argument -u/--user: must look like USER:PASSWORD"),
        (["http://a/", "-u", "a:\udcff"], "argument -u/--user: must be valid UTF-8"),
        (["http://a/", "-b", "a"], f"argument -b/--cookie: {COOKIE}"),
        (["http://a/", "-b", "a=1; b=2"], f"argument -b/--cookie: {COOKIE}"),
        (["http://a/", "-d", "x", "-j", "x"], "argument -j/--json-data: not allowed with argument -d/--data"),
        (["http://a/", "-j", "@/nowhere"], "argument -j/--json-data: No such file or directory"),
        (["http://a/", "--max-retries", "-1"], "argument --max-retries: must be a whole number, at least 0"),
        (["http://a/", "--color", "red"], "argument --color: must be auto, always or never"),
        (["http://a/", "--proxy", "ftp://b"], f"argument --proxy: must be a URL like http://host:port, {SCHEMES}"),
        (
            ["http://a/", "--raw", "--timestamps"],
            "argument --timestamps: not allowed with argument --raw, which prints bytes unchanged",
        ),
        (["http://a/", "--cacert", "/nowhere"], "argument --cacert: No such file or directory"),
        (
            ["http://a/", "--cacert", __file__],
            "argument --cacert: not a valid PEM file (no certificate or crl found)",
        ),
        *(
            (["http://a/", option, ""], f"argument {option}: must be the name of a file, not empty")
            for option in ("--cacert", "--cert", "--key", "--save-id")
        ),
        (["http://a/", "--cert", "/nowhere"], "argument --cert: No such file or directory"),
        (["http://a/", "--cert", __file__], "argument --cert: not a valid PEM file"),
        (
            ["http://a/", "--cert", "/nowhere", "--key", "/nowhere"],
            "argument --cert or --key: No such file or directory",
        ),
        (["http://a/", "--key", "/nowhere"], "argument --key: needs --cert, the certificate of this key"),
        (["http://a/", "http://b/"], "more than one URL; are quotes missing?"),
        (["-N", "http://a/"], "unknown option -N; not needed: events are printed as they arrive"),
        (["-sS", "http://a/"], "unknown option -s; not needed: there is no progress meter"),
        (["--max-time", "5", "http://a/"], "unknown option --max-time; use: timeout SECONDS sseclient-dual ..."),
        *(
            (arguments, "argument --json: takes no value; to send JSON, use --json-data")
            for arguments in (["--json", '{"a": 1}', "http://a/"], ["http://a/", "--json", "@a"], ["--json", "[]"])
        ),
        (
            ["http://a/", "-d", "a=1", "--data", "b=2"],
            "argument -d/--data: given more than once; a request has one body",
        ),
        (
            ["http://a/", "-j", "1", "-j", "2"],
            "argument -j/--json-data: given more than once; a request has one body",
        ),
    ],
)
def test_main_refuses_wrong_usage(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        cli.main(arguments)
    assert ending.value.code == 2
    assert capsys.readouterr().err.splitlines() == [USAGE, f"sseclient-dual: error: {message}"]


def test_no_hint_is_about_an_option_of_this_command() -> None:
    help_text = run("--help").stdout
    assert not [option for option in HINTS if re.search(rf"(?<![\w-]){option}(?![\w-])", help_text)]


@pytest.mark.parametrize("option", ["--http2", "--http2-prior-knowledge"])
def test_the_extra_of_http2_is_named_if_it_is_missing(
    option: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(SystemExit) as ending:
        cli.main(["http://a/", option])
    assert ending.value.code == 2
    message = "argument --http2: http2 needs an extra: pip install 'sseclient-dual[http2]'"
    assert capsys.readouterr().err.splitlines() == [USAGE, f"sseclient-dual: error: {message}"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["http://alice:hunter2@["],
        ["alice:hunter2@host"],
        ["ftp://alice:hunter2@host/"],
        ["http://alice:hunter2@127.0.0.1:99999/"],
        ["http://a/", "http://alice:hunter2@host/"],
        ["http://a/", "-H", "Authorization:", "Bearer", "hunter2"],
        ["http://a/", "-H", "Authorization", "Bearer hunter2"],
        ["http://a/", "-H", "Authorization Bearer hunter2: x"],
        ["http://a/", "-H", "Authorization: Bearer hunter2\r"],
        ["http://a/", "--password=alice:hunter2"],
        ["http://a/", "-palice:hunter2"],
        ["-p", "alice:hunter2", "http://a/"],
        ["http://a/", "-u", "alice hunter2"],
        ["http://a/", "--json=alice:hunter2"],
        ["http://a/", "--color", "alice:hunter2"],
        ["http://a/", "--proxy", "ftp://alice:hunter2@host"],
        ["http://a/", "--proxy", "http://alice:hunter2%FF@host"],
        ["http://a/", "--cacert", "alice:hunter2"],
        ["http://a/", "--cert", "alice:hunter2"],
        ["--timeout", "http://alice:hunter2@host/"],
        ["--max-events", "http://alice:hunter2@host/"],
    ],
)
def test_main_shows_no_credentials_in_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        cli.main(arguments)
    assert ending.value.code == 2
    output = capsys.readouterr().err
    assert output.count("error:") == 1
    assert_no_credentials(output)
