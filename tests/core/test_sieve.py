import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import sieve
from proxy.core.sieve import Sieve, reduce

KEEP = frozenset({"a", "usage", "é", 'q"'})


def kept(value: Any, depth: int = 0) -> Any:
    """What the sieve promises: the value without the members whose names are not wanted."""
    if isinstance(value, dict):
        return {name: kept(inner) for name, inner in value.items() if name in KEEP}
    if isinstance(value, list):
        return [kept(inner) for inner in value]
    return value


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=3) | st.sampled_from(sorted(KEEP)), inner, max_size=5)
    ),
    max_leaves=25,
)


@given(
    value=JSON,
    style=st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t:\r\n")]),
    ascii_only=st.booleans(),
    size=st.integers(1, 40),
)
def test_the_sieve_keeps_what_is_wanted_however_the_text_is_cut(
    value: Any, style: tuple[str, str], ascii_only: bool, size: int
) -> None:
    text = json.dumps(value, separators=style, ensure_ascii=ascii_only).encode("utf-8", "replace")
    made = Sieve(KEEP)
    for at in range(0, len(text), size):
        made.feed(text[at : at + size])
    assert made.result() == kept(json.loads(text))


@pytest.mark.parametrize(
    "text",
    [b"", b" ", b"{", b'{"a"', b'{"a":', b'{"a":1', b'{"a":1,', b'{"a":1,}', b"{,}", b"[1,]", b"[1 2]", b'{"a" 1}', b'{"a":}',
     b'{"a":01}', b'{"a":1.}', b'{"a":--1}', b'{"x":1e}', b"{a:1}", b'{"a":1]', b"[1}", b"]", b'"abc', b"tru", b'{"a":xyz}', b'{"a":"b" "c"}', b":", b'{"x":[}'],
)  # fmt: skip
def test_what_is_no_json_in_structure_gives_nothing(text: bytes) -> None:
    assert reduce(text, KEEP) is None


def test_what_a_strict_parser_rejects_is_read_where_its_structure_is_clear() -> None:
    assert reduce(b'{"a":NaN,"x":"\xff","usage":{"a":"\\ud800"}}', KEEP) == {
        "a": None,
        "usage": {"a": "\ud800"},
    }


@pytest.mark.parametrize(
    ("number", "value"),
    [(b"1e400", None), (b"-1e999999999", None), (b"1" * 4000, None), (b"123.25", 123.25), (b"-7", -7), (b"0.5e-3", 0.0005)],
)  # fmt: skip
def test_a_number_of_any_size_hides_nothing(number: bytes, value: object) -> None:
    for text in (b'{"a":%b,"usage":{"a":1}}' % number, b'{"usage":{"a":1},"a":%b}' % number):
        assert reduce(text, KEEP) == {"a": value, "usage": {"a": 1}}
        cut = Sieve(KEEP)
        for at in range(len(text)):
            cut.feed(text[at : at + 1])
        assert cut.result() == {"a": value, "usage": {"a": 1}}
    assert reduce(b'{"x":%b,"a":1}' % number, KEEP) == {"a": 1}


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_a_byte_order_mark_hides_nothing(size: int) -> None:
    text = b'\xef\xbb\xbf{"a":1}'
    made = Sieve(KEEP)
    for at in range(0, len(text), size):
        made.feed(text[at : at + size])
    assert made.result() == {"a": 1}
    assert reduce(b"\xef\xbb", KEEP) is None
    assert reduce(b'{"a":\xef\xbb\xbf1}', KEEP) is None


def test_the_last_of_two_members_of_one_name_counts() -> None:
    assert reduce(b'{"a":1,"a":2}', KEEP) == {"a": 2}


def test_names_may_be_escaped() -> None:
    assert reduce(rb'{"\u0061":1,"q\"":2,"\u00e9":3,"b\\":4}', KEEP) == {"a": 1, 'q"': 2, "é": 3}


def test_strings_and_lists_that_are_too_long_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reduce(b'{"a":"' + b"x" * 4097 + b'","usage":1}', KEEP) == {"a": "", "usage": 1}
    monkeypatch.setattr(sieve, "ITEMS_MAX", 3)
    assert reduce(b'{"a":[1,2,[],{"a":1},5],"usage":1}', KEEP) == {"a": [1, 2, []], "usage": 1}


def test_depth_has_a_limit_but_what_follows_is_read() -> None:
    deep = b'{"a":' * 70 + b"1" + b"}" * 70
    assert reduce(b'{"a":' + deep + b',"usage":7}', KEEP)["usage"] == 7  # type: ignore[index]
    assert reduce(b"[" * 100_000 + b"]" * 100_000, KEEP) is not None


def test_memory_stays_small_whatever_passes_through() -> None:
    piece = b'{"embedding":[' + b"0.0123456," * 50_000 + b'1],"b64":"' + b"A" * 2**20 + b'"},'
    made = Sieve(KEEP)
    tracemalloc.start()
    made.feed(b'{"data":[')
    for _ in range(40):
        made.feed(piece)
    made.feed(b'{}],"usage":{"a":5}}')
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert made.result() == {"usage": {"a": 5}}
    assert peak < 2**20


@given(
    st.lists(
        st.binary(max_size=30) | st.sampled_from([b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b'"a":'])
    )
)
def test_no_bytes_make_it_fail(pieces: list[bytes]) -> None:
    made = Sieve(KEEP)
    for piece in pieces:
        made.feed(piece)
    assert made.result() == reduce(b"".join(pieces), KEEP)


@given(data=st.data())
def test_long_strings_and_long_runs_of_numbers_are_skipped_alike(data):
    """Searches for single bytes take over where a pattern would take long: at every length around where they do."""
    around = st.one_of(st.integers(0, 300), st.integers(4_000, 4_200), st.integers(65_500, 65_600))
    text = st.tuples(around, st.sampled_from(["", '"', "\\", "]", "\u00e9"]), st.integers(0, 130)).map(
        lambda parts: "x" * parts[0] + parts[1] + "y" * parts[2]
    )
    numbers = around.map(lambda count: [0.125] * (count // 6))
    skipped = data.draw(st.lists(st.one_of(text, numbers, st.builds(lambda t: {"k": t}, text)), max_size=4))
    value = {"skipped": skipped, "usage": {"total_tokens": 7}, "id": data.draw(text)[:4000], "last": skipped}
    raw = json.dumps(value, ensure_ascii=data.draw(st.booleans())).encode()
    cut = data.draw(st.integers(0, len(raw)))
    sieve = Sieve(frozenset({"usage", "total_tokens", "id"}))
    sieve.feed(raw[:cut])
    sieve.feed(raw[cut:])
    assert sieve.result() == {"usage": {"total_tokens": 7}, "id": value["id"]}
