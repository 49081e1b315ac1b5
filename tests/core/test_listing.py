import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.listing import read_listing, without

PRETTY = b"""{
  "object": "list",
  "data": [
    {"id": "a", "note": "}],{\\"id\\":\\"c\\""},
    {"id": "b"} ,
    {"id": "c"}
  ],
  "first_id": "a",
  "last_id": "c",
  "has_more": false
}
"""


def cut(text: bytes, *ids: str) -> bytes:
    listing = read_listing(text)
    assert listing is not None
    return without(listing, set(ids))


def test_a_list_of_which_nothing_goes_is_the_very_same_bytes() -> None:
    assert cut(PRETTY, "x") is PRETTY


@pytest.mark.parametrize(
    ("gone", "data", "first", "last"),
    [
        ("a", b"""[
    {"id": "b"} ,
    {"id": "c"}
  ]""", b'"b"', b'"c"'),
        ("b", b"""[
    {"id": "a", "note": "}],{\\"id\\":\\"c\\""} ,
    {"id": "c"}
  ]""", b'"a"', b'"c"'),
        ("c", b"""[
    {"id": "a", "note": "}],{\\"id\\":\\"c\\""},
    {"id": "b"}
  ]""", b'"a"', b'"b"'),
        ("abc", b"[]", b"null", b"null"),
    ],
)  # fmt: skip
def test_exactly_the_elements_go_and_the_cursors_follow(
    gone: str, data: bytes, first: bytes, last: bytes
) -> None:
    expected = b'{\n  "object": "list",\n  "data": %b,\n  "first_id": %b,\n  "last_id": %b,\n  "has_more": false\n}\n'
    assert cut(PRETTY, *gone) == expected % (data, first, last)


def test_where_nothing_is_left_but_there_is_more_the_cursor_stays() -> None:
    text = b'{"data":[{"id":"a"}],"first_id":"a","last_id":"a","has_more":true}'
    assert cut(text, "a") == b'{"data":[],"first_id":null,"last_id":"a","has_more":true}'
    listing = read_listing(text)
    assert listing is not None
    assert listing.cursor == "a"


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b'{"data":{}}', b'{"data":[{"id":"a"}', b'{"data":[{"id":"a"}{"id":"b"}]}', b'{"data":[,]}']
)  # fmt: skip
def test_what_is_no_list_is_not_taken_for_one(text: bytes) -> None:
    assert read_listing(text) is None


ids = st.sampled_from(["a", "b", "\u00e9", 'q"q', "d\\e"])
elements = st.one_of(
    st.builds(lambda each, more: {"id": each, "x": more}, ids, st.text()), st.integers(), st.text()
)


@given(st.lists(elements), st.sets(ids), st.sampled_from([None, 1, 4]), st.booleans())
def test_what_is_left_is_what_a_parser_would_keep(
    data: list[Any], gone: set[str], indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps({"object": "list", "data": data}, indent=indent, ensure_ascii=ascii_only).encode()
    kept = [each for each in data if not (isinstance(each, dict) and each["id"] in gone)]
    assert json.loads(cut(text, *gone)) == {"object": "list", "data": kept}
