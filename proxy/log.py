"""Logs: one line per event on stderr, as JSON or as text for people, with credentials redacted whatever wrote them.

Facts go into `extra={...}` and become fields of their own; the message stays the same words each time. Message bodies
are never given to a logger. One line per exchange appears at debug.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import orjson

LINE_CHARS_MAX = 16_384
REDACTED = "[redacted]"
_CREDENTIAL = re.compile(
    r"""(?ix)
    (?P<scheme> \b (?:bearer|basic) \s+ ) [\w.~+/=:-]{6,}      # Authorization values
    | \b (?P<prefix> sk-proxy- | sk- | ek_ | sess- ) [\w-]{6,} # OpenAI's and our own keys
    | \b eyJ [\w-]{8,} \. [\w-]+ \. [\w-]*                     # JSON Web Tokens
    | (?P<user> :// [^\s/:@]* : ) [^\s/@]+ (?= @ )             # passwords in URLs
    | (?P<name> \b (?:api[-_]?key|password|passwd|secret|authorization) ["']? \s* [=:] \s* ["']? )
      (?! \s* (?:bearer|basic) \b ) [^\s"',&}]{4,}
    """
)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_PLAIN = re.compile(r"^[^\s\"=]+$")


def redact(text: str) -> str:
    """The text with every credential that can be recognised replaced; what kind it was stays readable."""
    return _CREDENTIAL.sub(_redacted, text)


def _redacted(found: re.Match[str]) -> str:
    kept = found["scheme"] or found["prefix"] or found["user"] or found["name"] or ""
    return f"{kept}{REDACTED}"


def configure(
    level: str = "info", form: Literal["json", "text"] = "text", stream: TextIO | None = None
) -> None:
    """Send this process's logs to `stream` (stderr). The level is ours; libraries speak from warning up."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    chosen = logging.getLevelNamesMapping()[level.upper()]
    root.setLevel(max(chosen, logging.WARNING))
    logging.getLogger("proxy").setLevel(chosen)
    logging.getLogger("aiohttp.server").addFilter(_is_our_fault)
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a closed stderr must not turn each log line into a traceback


def _is_our_fault(record: logging.LogRecord) -> bool:
    """False for requests that are not HTTP: aiohttp logs a traceback of each, and anybody can send them. They get a 400."""
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or kind.__module__ != "aiohttp.http_exceptions"


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def _fault(record: logging.LogRecord) -> str | None:
    if record.exc_info and record.exc_info[0] is not None:
        return "".join(traceback.format_exception(*record.exc_info)).rstrip()
    return None


def _cut(line: str) -> str:
    return line if len(line) <= LINE_CHARS_MAX else f"{line[:LINE_CHARS_MAX]}…"


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message, the extra fields, and `exception` where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, redacted, without its newline."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _cut(redact(record.getMessage())),
            "pid": record.process,
        }
        for name, value in _fields(record).items():
            plain = value is None or isinstance(value, bool | int | float)
            line[name] = value if plain else _cut(redact(str(value)))
        if fault := _fault(record):
            line["exception"] = _cut(redact(fault))
        try:
            return orjson.dumps(line).decode()
        except TypeError:  # a lone surrogate or a number of more than 64 bits
            return json.dumps(line)


class TextFormatter(logging.Formatter):
    """For people: `12:30:01.250 info  gateway.recorder  flushed records=12`, and the traceback below where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, redacted, without its newline."""
        time = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S.%f")[:-3]
        name = record.name.removeprefix("proxy.")
        fields = "".join(f" {key}={_quoted(value)}" for key, value in _fields(record).items())
        line = f"{time} {record.levelname.lower():<7} {name}  {_one_line(record.getMessage())}{fields}"
        if fault := _fault(record):
            line = f"{line}\n{fault}"
        return _cut(redact(line))


def _one_line(text: str) -> str:
    """No line breaks or escape sequences: what a client sent must not look like a log line of its own."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _quoted(value: object) -> str:
    text = str(value)
    return (
        text if _PLAIN.match(text) and text.isprintable() else json.dumps(_one_line(text), ensure_ascii=False)
    )
