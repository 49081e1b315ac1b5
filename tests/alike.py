"""What the pass makes of bytes that nobody would send, for `test_alike.py`: `python -m tests.alike FIRST COUNT [SHOW]`.

Each case takes an exchange of the corpus, changes its JSON or its bytes at random, cuts it at random, and reads it with all that
reads what comes from a client or an upstream. Prints a digest of all answers for each case, or for case SHOW the answers.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from proxy.core import forms, lightbody, listing, references, splice, spoolformat, sse
from proxy.core.answerhead import FramingError
from proxy.core.call import Call, read_call
from proxy.core.framing import body_of
from proxy.core.headshape import Shapes
from proxy.core.meter import kind_of, open_meter
from proxy.core.refusal import Refusal
from proxy.core.wsmeter import WsMeter, WsTap
from proxy.gateway import front
from proxy.gateway.reader import RequestReader
from proxy.gateway.request import Request
from tests import corpus

EXCHANGES = corpus.load()
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**53 + 1, 2**63, 2**64, 10**30, -(10**30), 0.0, 1.5, 1e308, "", "x", "\ud800",
    "a" * 300, "\0", [], {}, [1, "a", None], {"a": 1}, "gpt-4o", "1", "completed", "file_1", "resp_abc", [{}], [[]],
    {"type": "x"}, {"prompt_tokens": 5}, "é", "data: x",
)  # fmt: skip
NAMES = (
    "usage",
    "model",
    "type",
    "id",
    "object",
    "input_tokens",
    "choices",
    "data",
    "error",
    "output",
    "tools",
    "x",
)
PIECES = (
    b"\r", b"\n", b"\r\n", b"\n\n", b'"', b"\\", b"\\u0000", b"\0", b"{", b"}", b"[", b",", b"data: ", b"usage",
    b'"usage":null,', b"9" * 25, b"\xff", b": ",
)  # fmt: skip
CHUNKED = b"5\r\nhello\r\n3;x=y\r\nabc\r\n0\r\nT: x\r\n\r\nrest"
EXTENSIONS = ("", "permessage-deflate", "permessage-deflate; server_no_context_takeover")


class Changed:
    """Changes things as chance has it."""

    def __init__(self, case: int) -> None:
        self.random = Random(case)

    def often(self, share: float) -> bool:
        return self.random.random() < share

    def tree(self, value: Any) -> Any:
        """A JSON value with some of its members changed, renamed, left out, added or doubled."""
        if self.often(0.08):
            return self.random.choice(VALUES)
        if isinstance(value, dict):
            kept = [(name, each) for name, each in value.items() if not self.often(0.03)]
            changed = {
                self.random.choice(NAMES) if self.often(0.02) else name: self.tree(each)
                for name, each in kept
            }
            if self.often(0.03):
                changed[self.random.choice(NAMES)] = self.random.choice(VALUES)
            return changed
        if isinstance(value, list):
            return [self.tree(each) for each in value] * (2 if self.often(0.05) else 1)
        return value

    def json(self, text: bytes) -> bytes:
        """JSON that was changed as a tree; what is no JSON, as bytes."""
        try:
            tree = self.tree(json.loads(text))
        except ValueError:
            return self.bytes(text)
        separators = self.random.choice([(",", ":"), (", ", ": ")])
        return json.dumps(tree, ensure_ascii=self.often(0.7), separators=separators).encode(
            "utf-8", "surrogatepass"
        )

    def bytes(self, text: bytes) -> bytes:
        """Bytes overwritten, taken out, put in, repeated or cut off."""
        changed = bytearray(text or b"{")
        for _ in range(self.random.choice([1, 1, 2, 5])):
            at, how = self.random.randrange(len(changed) + 1), self.random.random()
            if how < 0.3:
                changed[at : at + 1] = bytes([self.random.randrange(256)])
            elif how < 0.5:
                del changed[at : at + self.random.choice([1, 2, 5, 50])]
            elif how < 0.7:
                changed[at:at] = self.random.choice(PIECES)
            elif how < 0.85:
                start = self.random.randrange(len(changed) + 1)
                changed[at:at] = changed[start : start + self.random.choice([3, 10, 60])]
            else:
                del changed[at:]
        return bytes(changed)

    def stream(self, text: bytes) -> bytes:
        """Server-sent events, some of their data changed as trees."""
        lines = [
            b"data: " + self.json(line[6:]) if line.startswith(b"data: {") and self.often(0.4) else line
            for line in text.split(b"\n")
        ]
        return self.bytes(b"\n".join(lines)) if self.often(0.4) else b"\n".join(lines)

    def body(self, text: bytes) -> bytes:
        """Changed as what it is, or as bytes, or not at all."""
        if self.often(0.15):
            return text
        if text.lstrip()[:1] in {b"{", b"["} and self.often(0.65):
            return self.json(text)
        return self.stream(text) if b"data: " in text else self.bytes(text)

    def cut(self, text: bytes) -> list[bytes]:
        """In pieces, or whole, or byte by byte."""
        if self.often(0.4):
            return [text]
        if len(text) < 3_000 and self.often(0.2):
            return [text[at : at + 1] for at in range(len(text))]
        ends = sorted(self.random.randrange(len(text) + 1) for _ in range(self.random.choice([1, 2, 5, 20])))
        return [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]


def told(call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """What a call gives, or what it raises."""
    try:
        return call(*arguments, **named)
    except (Refusal, FramingError) as error:
        return type(error).__name__, str(error)
    except Exception as error:
        return "FAULT", type(error).__name__


def of_request(changed: Changed, exchange: corpus.Exchange, body: bytes) -> Iterator[Any]:
    """What is made of a request's body, and the call."""
    headers = [(n, v if changed.often(0.95) else changed.bytes(v)) for n, v in exchange.request_headers]
    fields = {name.lower(): value for name, value in reversed(headers)}
    target = exchange.target if changed.often(0.8) else changed.bytes(exchange.target)
    kind = fields.get(b"content-type", b"")
    yield told(lightbody.without_media, body)
    yield told(splice.add_include_usage, body)
    yield told(references.references, body)
    yield told(references.form_references, body, kind)
    yield told(forms.read_form, body, kind)
    yield told(
        read_call,
        method=exchange.method,
        target=target,
        header=fields.get,
        body=body,
        body_bytes=len(body),
    )


def of_answer(changed: Changed, exchange: corpus.Exchange, call: Call) -> Iterator[Any]:
    """What meters make of its answer, with and without what was asked for in the client's place."""
    kind = kind_of(exchange.answer(b"content-type").encode(), exchange.answer(b"content-encoding").encode())
    text = changed.body(exchange.response_body)
    for strips in (False, True):
        meter = open_meter(
            call, kind, status=exchange.status, strip_usage=strips, keep_text=changed.often(0.5)
        )
        for piece in changed.cut(text):
            yield told(meter.feed_through if strips else meter.feed, piece)
        yield told(meter.flush)
        yield told(meter.finish, changed.often(0.7))
    if exchange.messages:
        messages = WsMeter(call)
        for message in exchange.messages:
            yield told(messages.feed_message, changed.body(message.text), message.from_client)
        yield told(messages.finish, True)
    tap = WsTap(call, changed.random.choice(EXTENSIONS))
    for piece in changed.cut(changed.random.randbytes(changed.random.choice([3, 20, 200]))):
        yield told(tap.feed, piece, False)


def of_texts(changed: Changed, exchange: corpus.Exchange) -> Iterator[Any]:
    """What is made of a list, an event and a segment."""
    found = told(listing.read_listing, changed.body(exchange.response_body))
    if isinstance(found, listing.Listing):
        yield told(listing.without, found, {each.object_id for each in found.elements if changed.often(0.5)})
    yield told(sse.parse, changed.body(exchange.response_body[:500]))
    lines = [spoolformat.encode_line(kind, b'["a",1]') for kind in (spoolformat.OPEN, spoolformat.RECORD)]
    yield told(spoolformat.scan, changed.bytes(b"".join(lines * 2)))


def of_head(changed: Changed, exchange: corpus.Exchange) -> Iterator[Any]:
    """What is made of answers' heads that come one after the other, and of a body in chunks."""
    framed = changed.random.choice(
        [b"Content-Length: 42", b"Transfer-Encoding: chunked", b"Connection: keep-alive"]
    )
    lines = [b"%b: %b" % header for header in exchange.response_headers]
    head = b"\r\n".join([b"HTTP/1.1 %d OK" % exchange.status, *lines, framed, b"", b""])
    shapes = Shapes()
    for _ in range(3):
        read = told(shapes.read, head if changed.often(0.4) else changed.bytes(head))
        if read is None or read[0] in {"FramingError", "FAULT"}:
            yield read
            continue
        found, size = read
        yield found.raw, found.status, found.http_1_0, found.fields, found.keep_alive, size
        yield told(found.render, b"x-a: b\r\n", reframed=changed.often(0.3))
        body = told(body_of, found, b"POST")
        for piece in changed.cut(CHUNKED if changed.often(0.5) else changed.bytes(CHUNKED)):
            yield (told(body.take, piece), body.content, body.done) if hasattr(body, "take") else body


class Reads:
    """Notes what a reader of requests tells."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def request_began(self) -> None:
        self.told.append("began")

    def request_head(self, request: Request) -> None:
        self.told.append((request.method, request.target, request.headers, request.length, request.chunked))
        self.told.append((request.websocket, request.is_json, request.is_encoded, request.keep_alive))

    def request_body(self, request: Request, data: bytes) -> None:
        self.told.append(data)

    def request_end(self, request: Request, *, had_body: bool) -> None:
        self.told.append(had_body)


def of_connection(changed: Changed, exchange: corpus.Exchange, body: bytes) -> Iterator[Any]:
    """What is made of requests that come one after the other."""
    lines = [b"%b: %b" % header for header in exchange.request_headers]
    first = b"%b %b HTTP/1.1" % (exchange.method.encode(), exchange.target)
    request = b"\r\n".join([first, *lines, b"Content-Length: %d" % len(body), b"", body])
    reads = Reads()
    reader = RequestReader(reads, lambda: 0.0, lambda: 0)
    for _ in range(3):
        data = request if changed.often(0.5) else changed.bytes(request)
        known = told(reader.again, data)
        if isinstance(known, Request):
            yield known.target, known.body
            continue
        for piece in changed.cut(data):
            left = told(reader.feed, piece)
            yield left
            if isinstance(left, tuple):
                reader.reset()
                break
    yield reads.told


def answers(case: int) -> list[str]:
    """All that one case gives."""
    changed = Changed(case)
    exchange = changed.random.choice(EXCHANGES)
    body = changed.body(exchange.request_body)
    found = list(of_request(changed, exchange, body))
    call = found[-1]
    if isinstance(call, Call):
        found += of_answer(changed, exchange, call)
    for more in (
        of_texts(changed, exchange),
        of_head(changed, exchange),
        of_connection(changed, exchange, body),
    ):
        found += more
    return [re.sub(r" at 0x[0-9a-f]+", "", repr(each)) for each in found]


def main() -> None:
    """One line for each case."""
    first, count, *show = (int(argument) for argument in sys.argv[1:])
    print(front.__file__)
    for case in show or range(first, first + count):
        lines = answers(case)
        if show:
            print(*lines, sep="\n")
            continue
        digest = hashlib.md5("\n".join(lines).encode("utf-8", "backslashreplace")).hexdigest()
        print(case, digest, len(lines), sum("'FAULT'" in line for line in lines))


if __name__ == "__main__":
    main()
