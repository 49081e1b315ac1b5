"""Answers are cut where HTTP/1.1 says, whatever the pieces they arrive in, and broken framing is an error."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.answerhead import FramingError, parse_head
from proxy.core.framing import ChunkedBody, LengthBody, UntilCloseBody, body_of, chunk


def head_of(raw: bytes):
    parsed = parse_head(raw)
    assert parsed is not None
    return parsed[0]


@pytest.mark.parametrize(
    ("raw", "method", "kind"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"GET", LengthBody),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"GET", ChunkedBody),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"GET",
            ChunkedBody,
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", b"GET", UntilCloseBody),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"GET", UntilCloseBody),
    ],
)
def test_the_head_says_how_the_body_is_framed(raw, method, kind):
    assert type(body_of(head_of(raw), method)) is kind


@pytest.mark.parametrize(
    ("status", "method"), [(b"200 OK", b"HEAD"), (b"204 No Content", b"GET"), (b"304 Not Modified", b"GET")]
)
def test_some_answers_have_no_body_whatever_their_head_says(status, method):
    head = head_of(b"HTTP/1.1 " + status + b"\r\nContent-Length: 5\r\n\r\n")

    assert body_of(head, method).done


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
    ],
)
def test_ambiguous_lengths_are_errors(raw):
    with pytest.raises(FramingError):
        body_of(head_of(raw), b"GET")


CHUNKED = b'3\r\nabc\r\n0a;ext="1"\r\n0123456789\r\n0\r\nX-Trailer: 1\r\nY: 2\r\n\r\n'


def take_all(body, pieces):
    content, used = b"", 0
    for piece in pieces:
        taken = body.take(piece)
        used += taken
        content += body.content
        if body.done:
            break
    return content, used


@given(st.lists(st.integers(0, len(CHUNKED)), max_size=8))
def test_chunks_are_read_the_same_however_they_are_cut(cuts):
    edges = [0, *sorted(cuts), len(CHUNKED)]
    pieces = [CHUNKED[a:b] for a, b in itertools.pairwise(edges)]
    body = ChunkedBody()

    content, used = take_all(body, pieces)

    assert (content, used, body.done) == (b"abc0123456789", len(CHUNKED), True)


def test_what_follows_the_last_chunk_is_not_the_bodys():
    body = ChunkedBody()

    used = body.take(b"0\r\n\r\nHTTP/1.1 200 OK\r\n")

    assert (used, body.done) == (5, True)


@pytest.mark.parametrize(
    "raw",
    [
        b"-1\r\n",
        b"+1\r\n",
        b"0x1\r\n",
        b"1_0\r\n",
        b"\r\n",
        b" 1\r\n",
        b"1\n",
        b"g\r\n",
        b"1\r\nab\r\n",
        b"1\r\na\n\n",
        b"ffffffffffffffff\r\n",
        b"0\r\nA: b\nC: d\r\n",
        b"1" * 9000,
        b"0\r\n" + b"A: b\r\n" * 20_000,
    ],
)
def test_broken_chunks_are_errors(raw):
    with pytest.raises(FramingError):
        ChunkedBody().take(raw)


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=5), st.integers(1, 7))
def test_what_is_chunked_reads_back(parts, step):
    raw = b"".join(map(chunk, parts)) + b"0\r\n\r\n"
    body = ChunkedBody()

    content, used = take_all(body, [raw[at : at + step] for at in range(0, len(raw), step)])

    assert (content, used) == (b"".join(parts), len(raw))


@given(st.binary(max_size=40), st.integers(1, 30))
def test_a_counted_body_ends_at_its_length(data, length):
    body = LengthBody(length)

    used = body.take(data)

    assert used == min(len(data), length)
    assert body.content == data[:used]
    assert body.done == (len(data) >= length)
