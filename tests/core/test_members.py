import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from proxy.core.members import Member, members, value_end

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


def test_members_tell_where_they_stand() -> None:
    text = b' { "a" : 1 ,"b":[{"c":"}"}] }x'
    assert members(text, 1) == ([Member("a", 3, 9, 10), Member("b", 12, 16, 27)], 29)


@given(
    value=st.dictionaries(st.text(max_size=6), JSON, max_size=5),
    style=st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t:\r\n")]),
    ascii_only=st.booleans(),
)
def test_what_stands_there_is_the_value_of_the_name(
    value: dict[str, Any], style: tuple[str, str], ascii_only: bool
) -> None:
    text = json.dumps(value, separators=style, ensure_ascii=ascii_only).encode("utf-8", "replace")
    expected = json.loads(text)
    found = members(text, 0)
    assert found is not None
    assert found[1] == len(text)
    assert {member.name: json.loads(text[member.value : member.end]) for member in found[0]} == expected
    for cut in range(len(text)):
        assert members(text[:cut], 0) is None


@given(st.text(alphabet='"\\a', max_size=30), st.integers(0, 600))
def test_a_string_ends_at_its_first_quote_that_is_not_escaped(text: str, more: int) -> None:
    written = json.dumps(text + '\\"' * more).encode()
    assert value_end(written + b',"b"]', 0) == len(written)
    assert value_end(written[:-1], 0) is None


def test_depth_has_a_limit() -> None:
    assert value_end(b"[" * 20_000 + b"]" * 20_000, 0) is None
    assert value_end(b"[" * 9_000 + b"]" * 9_000, 0) == 18_000


@given(st.binary(max_size=80))
def test_no_bytes_make_it_fail(text: bytes) -> None:
    members(text, 0)
    members(b"{" + text, 0)
