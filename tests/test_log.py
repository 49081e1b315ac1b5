"""Log lines: fields, levels, and no credential in any of them."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import orjson
import pytest

from proxy import log

KEY = "sk-proxy-" + "a1B2" * 11 + "xy"


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("proxy")
    before = (root.handlers[:], root.level, ours.level, logging.raiseExceptions)
    yield
    root.handlers[:], logging.raiseExceptions = before[0], before[3]
    root.setLevel(before[1])
    ours.setLevel(before[2])
    logging.captureWarnings(False)


def lines(level: str = "info", form: str = "json") -> io.StringIO:
    stream = io.StringIO()
    log.configure(level, form, stream)
    return stream


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"key {KEY} is gone", "key sk-proxy-[redacted] is gone"),
        ("Incorrect API key provided: sk-abc123def456.", "Incorrect API key provided: sk-[redacted]."),
        ("sk-svcacct-A_b-C1234567", "sk-[redacted]"),
        ("secret ek_68af296e8e408191a1120ab6", "secret ek_[redacted]"),
        ("Authorization: Bearer abcdef.ghi-jkl", "Authorization: Bearer [redacted]"),
        ("authorization=hunter22", "authorization=[redacted]"),
        ("{'api-key': 'abcdef12'}", "{'api-key': '[redacted]'}"),
        ("postgres://proxy:hunter2@db/proxy", "postgres://proxy:[redacted]@db/proxy"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "[redacted]"),
        ("openai-insecure-api-key.sk-abcdefghij", "openai-insecure-api-key.sk-[redacted]"),
    ],
)
def test_credentials_are_redacted(text: str, expected: str):
    assert log.redact(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "task-force and risk-averse",
        "GET /v1/responses/resp_0123456789",
        "https://api.openai.com:443/v1",
        "sk-",
    ],
)
def test_what_is_no_credential_stays(text: str):
    assert log.redact(text) == text


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_way_into_a_line_carries_a_key(form: str):
    stream = lines(form=form)
    logger = logging.getLogger("proxy.gateway.keyring")
    try:
        raise ValueError(f"bad key {KEY}")
    except ValueError:
        logger.exception("refused %s", KEY, extra={"header": f"Bearer {KEY}", "headers": {"api-key": KEY}})
    assert stream.getvalue().count("[redacted]") >= 4
    assert "a1B2" not in stream.getvalue()


def test_a_json_line_has_its_extra_fields():
    stream = lines()
    logging.getLogger("proxy.gateway.recorder").info(
        "flushed", extra={"records": 12, "seconds": 0.5, "to": None}
    )
    line = orjson.loads(stream.getvalue())
    assert (line.pop("pid") > 0, line.pop("time")[-6:]) == (True, "+00:00")
    assert line == {
        "level": "info",
        "logger": "proxy.gateway.recorder",
        "message": "flushed",
        "records": 12,
        "seconds": 0.5,
        "to": None,
    }


def test_a_text_line_reads_well():
    stream = lines(form="text")
    logging.getLogger("proxy.gateway.recorder").info("flushed", extra={"records": 12, "why": "two words"})
    assert stream.getvalue()[13:] == 'info    gateway.recorder  flushed records=12 why="two words"\n'


def test_a_value_can_not_forge_a_line():
    stream = lines(form="text")
    logging.getLogger("proxy").warning(
        "path %s", "/v1/x\n12:00 error all lost \x1b[31m", extra={"q": "a\nb=c"}
    )
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()


def test_what_json_can_not_hold_is_logged_all_the_same():
    stream = lines()
    logging.getLogger("proxy").warning("odd \udcff", extra={"big": 2**80})
    assert orjson.loads(stream.getvalue().replace("\\udcff", "?"))["big"] > 2**79


def test_long_lines_are_cut():
    stream = lines(form="text")
    logging.getLogger("proxy").warning("x" * 100_000)
    assert len(stream.getvalue()) == log.LINE_CHARS_MAX + 2


def test_the_level_is_ours_and_libraries_speak_from_warning_up():
    stream = lines("debug", "text")
    logging.getLogger("proxy.gateway").debug("ours at debug")
    logging.getLogger("asyncio").debug("theirs at debug")
    logging.getLogger("asyncio").warning("theirs at warning")
    assert [line.split("  ")[-1] for line in stream.getvalue().splitlines()] == [
        "ours at debug",
        "theirs at warning",
    ]
    quiet = lines("error", "text")
    logging.getLogger("proxy.gateway").warning("ours at warning")
    assert quiet.getvalue() == ""
