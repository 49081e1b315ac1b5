import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import wsframes
from proxy.core.wsframes import Deflate, FrameReader, deflate_of


def frame(
    payload: bytes, opcode: int = 1, *, final: bool = True, mask: bytes = b"", reserved: int = 0
) -> bytes:
    head = bytes([(0x80 if final else 0) | reserved | opcode])
    bit, length = (0x80 if mask else 0), len(payload)
    if length < 126:
        head += bytes([bit | length])
    elif length < 2**16:
        head += bytes([bit | 126]) + length.to_bytes(2, "big")
    else:
        head += bytes([bit | 127]) + length.to_bytes(8, "big")
    if mask:
        payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return head + mask + payload


def messages(reader: FrameReader, data: bytes, size: int = 2**30) -> list[bytes]:
    found, held = [], b""
    for at in range(0, len(data), size):
        for piece in reader.feed(data[at : at + size]):
            held += piece.data
            if piece.last:
                found.append(held)
                held = b""
    return found


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65535, 65536])
@pytest.mark.parametrize("mask", [b"", b"\x01\xfe\x80\x7f"])
def test_text_of_any_length_comes_out(length: int, mask: bytes) -> None:
    text = bytes(at % 251 for at in range(length))
    for size in (1 << 20, 1000, 3) if length < 1000 else (1 << 20, 1000):
        assert messages(FrameReader(), frame(text, mask=mask) + frame(b"next", mask=mask), size) == [
            text,
            b"next",
        ]


def test_fragments_join_and_control_frames_between_them_do_not_matter() -> None:
    data = (
        frame(b"Hel", final=False)
        + frame(b"ping", 9)
        + frame(b"l", 0, final=False)
        + frame(b"", 10)
        + frame(b"o", 0)
    )
    for size in range(1, len(data) + 1):
        assert messages(FrameReader(), data, size) == [b"Hello"]


def test_binary_messages_pass_unread() -> None:
    reader = FrameReader()
    assert messages(reader, frame(b"\x00" * 500, 2) + frame(b"text")) == [b"text"]
    assert not reader.failed


def test_a_close_frame_is_noticed() -> None:
    reader = FrameReader()
    messages(reader, frame(b"\x03\xe8bye", 8))
    assert reader.closed
    assert not reader.failed


@pytest.mark.parametrize("takeover", [True, False])
@pytest.mark.parametrize("bits", [9, 15])
def test_compressed_messages_are_inflated(takeover: bool, bits: int) -> None:
    packer = zlib.compressobj(wbits=-bits)
    data = b""
    texts = [b"hello hello hello", b"", b"hello again hello"]
    for at, text in enumerate(texts):
        if not takeover:
            packer = zlib.compressobj(wbits=-bits)
        packed = (packer.compress(text) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]
        half = len(packed) // 2
        data += frame(packed[:half], final=False, reserved=0x40, mask=b"abcd") + frame(
            packed[half:], 0, mask=b"wxyz"
        )
        if takeover and at == 0:
            binary = (packer.compress(b"hello binary") + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]
            data += frame(binary, 2, reserved=0x40)
    data += frame(b"not compressed")
    for size in (1 << 20, 5, 1):
        reader = FrameReader(Deflate(bits, takeover))
        assert messages(reader, data, size) == [*texts, b"not compressed"]
        assert not reader.failed


def test_a_message_may_end_its_deflate_stream() -> None:
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(b"Hello") + packer.flush(zlib.Z_FINISH) + b"\x00"
    reader = FrameReader(Deflate())
    assert messages(reader, frame(packed, reserved=0x40) * 2) == [b"Hello", b"Hello"]


def test_a_bomb_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wsframes, "INFLATED_BYTES_MAX", 2**20)
    packer = zlib.compressobj(wbits=-15)
    packed = (packer.compress(bytes(64 * 2**20)) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]
    reader = FrameReader(Deflate())
    tracemalloc.start()
    messages(reader, frame(packed, reserved=0x40))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert reader.failed
    assert peak < 8 * 2**20


@pytest.mark.parametrize(
    "data",
    [
        frame(b"x", 3), frame(b"x", 11), frame(b"x", reserved=0x40), frame(b"x", reserved=0x20), frame(b"x", 0),
        frame(b"x", final=False) + frame(b"y"), frame(b"x" * 126, 9), frame(b"x", 9, final=False),
        b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff", b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ],
)  # fmt: skip
def test_what_are_no_frames_is_given_up(data: bytes) -> None:
    reader = FrameReader()
    messages(reader, data)
    assert reader.failed
    assert reader.feed(frame(b"text")) == []


@pytest.mark.parametrize(
    ("answer", "server", "client"),
    [
        ("", None, None),
        ("x-webkit-deflate-frame", None, None),
        ("permessage-deflate", Deflate(), Deflate()),
        (
            "permessage-deflate; server_no_context_takeover; client_max_window_bits=10",
            Deflate(15, False),
            Deflate(10, True),
        ),
        (
            'Permessage-Deflate;server_max_window_bits="8" ;client_no_context_takeover',
            Deflate(8, True),
            Deflate(15, False),
        ),
        ("permessage-deflate; server_max_window_bits=99", Deflate(), Deflate()),
    ],
)
def test_what_was_agreed_is_read_from_the_answer(
    answer: str, server: Deflate | None, client: Deflate | None
) -> None:
    assert deflate_of(answer, from_client=False) == server
    assert deflate_of(answer, from_client=True) == client


@given(data=st.binary(max_size=400), size=st.integers(1, 50), packed=st.booleans())
def test_no_bytes_make_it_fail_and_the_cut_changes_nothing(data: bytes, size: int, packed: bool) -> None:
    deflate = Deflate() if packed else None
    whole = FrameReader(deflate)
    cut = FrameReader(deflate)
    assert messages(whole, data) == messages(cut, data, size)
    assert whole.failed == cut.failed


@given(size=st.integers(1, 60), whole=st.integers(0, 4))
def test_where_the_last_whole_message_ended_does_not_depend_on_the_cut(size: int, whole: int) -> None:
    message = (
        frame(b"Hel", final=False) + frame(b"ping", 9) + frame(b"lo", 0) + frame(b"", 10) + frame(b"\0", 2)
    )
    reader = FrameReader()
    data = message * whole + message[:8]
    for at in range(0, len(data), size):
        reader.feed(data[at : at + size])
        assert reader.settled <= at + size
    assert reader.settled == len(message) * whole
    assert not reader.between_messages
    reader.feed(message[8:])
    assert reader.settled == len(message) * (whole + 1)
    assert reader.between_messages
