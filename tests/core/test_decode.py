import gzip
import tracemalloc
import zlib
from typing import Any

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.decode import PIECE_BYTES_MAX, Decoder, as_utf8, codings_of, decode_whole

RAW_DEFLATE = lambda data: (made := zlib.compressobj(wbits=-15)).compress(data) + made.flush()
PACKERS: dict[str, Any] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "raw deflate": RAW_DEFLATE,
    "br": brotli.compress,
    "zstd": zstandard.compress,
    "two gzip members": lambda data: gzip.compress(data[:5]) + gzip.compress(data[5:]),
    "two zstd frames": lambda data: zstandard.compress(data[:5]) + zstandard.compress(data[5:]),
}


def coding(name: str) -> str:
    return next(known for known in ("gzip", "deflate", "br", "zstd") if known in name)


@pytest.mark.parametrize("name", PACKERS)
@given(data=st.binary(max_size=2000).map(lambda part: part * 7), size=st.integers(1, 500))
def test_what_was_packed_comes_out_however_it_is_cut(name: str, data: bytes, size: int) -> None:
    packed = PACKERS[name](data)
    decoder = Decoder((coding(name),), 2**20)
    out = b"".join(b"".join(decoder.pieces(packed[at : at + size])) for at in range(0, len(packed), size))
    assert out == data
    assert not decoder.failed


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd"])
def test_a_bomb_takes_no_memory_and_is_given_up(name: str) -> None:
    bomb = PACKERS[name](bytes(64 * 2**20))
    tracemalloc.start()
    decoder = Decoder((name,), 32 * 2**20)
    longest = total = 0
    for piece in decoder.pieces(bomb):
        longest, total = max(longest, len(piece)), total + len(piece)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert decoder.failed
    assert total <= 32 * 2**20
    assert peak < 12 * 2**20
    if name in {"gzip", "deflate"}:  # the others bound a piece by their own blocks
        assert longest <= PIECE_BYTES_MAX
    assert list(decoder.pieces(b"more")) == []


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd"])
@given(data=st.binary(max_size=100))
def test_broken_bytes_are_given_up_without_a_fault(name: str, data: bytes) -> None:
    decoder = Decoder((name,), 2**20)
    list(decoder.pieces(PACKERS[name](b"hello" * 50)[:12] + data))
    list(decoder.pieces(data))


def test_codings_are_undone_in_reverse() -> None:
    assert codings_of("") == codings_of("identity") == ()
    assert codings_of("gzip") == ("gzip",)
    assert codings_of(" GZIP , br") == ("br", "gzip")
    assert codings_of("x-gzip") == ("gzip",)
    assert codings_of("compress") is None
    assert codings_of("gzip,gzip,gzip,gzip,gzip") is None
    assert decode_whole(brotli.compress(gzip.compress(b"hello")), b"gzip, br", 100) == b"hello"


def test_a_whole_body_beyond_its_limit_or_of_an_unknown_coding_is_none() -> None:
    assert decode_whole(gzip.compress(b"x" * 101), b"gzip", 100) is None
    assert decode_whole(b"x", b"snappy", 100) is None
    assert decode_whole(b"xyz", b"gzip", 100) is None
    assert decode_whole(b"x", b"identity", 100) == b"x"


def test_padding_behind_a_gzip_body_does_no_harm() -> None:
    decoder = Decoder(("gzip",), 100)
    assert b"".join(decoder.pieces(gzip.compress(b"hello") + bytes(64))) == b"hello"
    assert not decoder.failed


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_json_is_understood_in_every_unicode_encoding(encoding: str) -> None:
    text = '{"model":"gpt-4o","café":"\U0001f600"}'
    assert as_utf8(text.encode(encoding)) == text.encode()


@given(st.binary(max_size=40))
def test_no_bytes_make_encodings_fail(body: bytes) -> None:
    assert isinstance(as_utf8(body), bytes)
