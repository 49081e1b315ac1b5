import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.sse import Cutter, parse


@pytest.mark.parametrize(
    ("event", "found"),
    [
        (b"data: {}\n\n", (b"", b"{}")),
        (b"data:{}\r\n\r\n", (b"", b"{}")),
        (b"data:  x\r\r", (b"", b" x")),
        (b"event: a\ndata: 1\ndata: 2\n\n", (b"a", b"1\n2")),
        (b"event:a\r\ndata\r\ndata: x\r\n\r\n", (b"a", b"\nx")),
        (b": comment\nid: 7\nretry: 3\n\n", (b"", None)),
        (b"\xef\xbb\xbfdata: x\n\n", (b"", b"x")),
        (b"data: x", (b"", b"x")),
        (b"data: x\n", (b"", b"x")),
        (b"\ndata: x\n\n", (b"", b"x")),
        (b"data: a\nevent: b\n\n", (b"b", b"a")),
        (b"\n", (b"", None)),
        (b"", (b"", None)),
    ],
)
def test_an_event_has_a_name_and_data(event: bytes, found: tuple[bytes, bytes | None]) -> None:
    assert parse(event) == found


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_a_stream_is_cut_at_its_blank_lines(newline: bytes) -> None:
    events = [b"data: 1" + newline * 2, b"event: x" + newline + b"data: 2" + newline * 2]
    cutter = Cutter()
    assert cutter.cut(b"".join(events)) == events
    assert cutter.held == 0
    assert cutter.cut(b"data: 3") == []
    assert cutter.held == 7
    assert cutter.take() == b"data: 3"
    assert cutter.held == 0


LINES = st.lists(
    st.sampled_from([b"data: a", b"data:b", b"event: e", b": c", b"", b"id", b"x\xff"]), max_size=12
)


@given(
    lines=LINES,
    ends=st.lists(st.sampled_from([b"\n", b"\r\n", b"\r"]), min_size=12, max_size=12),
    size=st.integers(1, 9),
)
def test_how_a_stream_is_cut_changes_no_event(lines: list[bytes], ends: list[bytes], size: int) -> None:
    text = b"".join(line + end for line, end in zip(lines, ends, strict=False))
    whole = Cutter()
    expected = [parse(event) for event in whole.cut(text)] + [parse(whole.take())]
    cutter, found = Cutter(), []
    cut = b""
    for at in range(0, len(text), size):
        for event in cutter.cut(text[at : at + size]):
            found.append(parse(event))
            cut += event
    found.append(parse(cutter.take()))
    says = [event for event in expected if event[1] is not None]
    assert [event for event in found if event[1] is not None] == says


def test_a_long_line_in_small_pieces_takes_linear_time() -> None:
    cutter = Cutter()
    for _ in range(20_000):
        assert cutter.cut(b"data" * 10) == []
    assert cutter.held == 800_000
    assert len(cutter.cut(b"\n\n")) == 1
