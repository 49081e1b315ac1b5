"""A large body without its media says what the whole says."""

from __future__ import annotations

import base64

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import splice
from proxy.core.call import read_call, read_call_behind
from proxy.core.callhead import read_call_head
from proxy.core.estimate import input_of
from proxy.core.lightbody import MEDIA_MAX, PIECE_BYTES_MIN, without_media
from proxy.core.references import references

PICTURE = base64.b64encode(bytes(range(256)) * 40).decode()
URL = "data:image/png;base64," + PICTURE


def chat(*content: object, **more: object) -> bytes:
    return orjson.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": list(content)}], **more})


def picture(url: str = URL) -> dict[str, object]:
    return {"type": "image_url", "image_url": {"url": url}}


def test_pictures_and_files_are_taken_out_and_counted():
    body = chat(
        {"type": "text", "text": "What is it?"},
        picture(),
        {
            "type": "file",
            "file": {"file_data": "data:application/pdf;base64," + PICTURE, "filename": "a.pdf"},
        },
        {"type": "file", "file": {"file_id": "file-1"}},
    )

    light, taken = without_media(body)

    assert light == body.replace(PICTURE.encode(), b"")
    assert sum(taken.values()) == 2 * len(PICTURE) == len(body) - len(light)
    assert all(light[:place].endswith(b";base64,") for place in taken)
    assert input_of(light, taken) == input_of(body)
    assert references(light) == references(body) == (("file-1", "file_id"),)


@pytest.mark.parametrize(
    "text",
    [
        URL[:-3000] + " and so on " + PICTURE,
        "data:image/png;base64," + PICTURE + "é",
        'data:image/png;base64,"' + PICTURE,
        "data:image/png;base64," + PICTURE + "\\",
        "data:image/png;base64," + PICTURE[: PIECE_BYTES_MIN - 1],
    ],
)
def test_what_may_be_text_stays(text):
    body = chat({"type": "text", "text": text})

    assert without_media(body) == (body, {})


def test_base64_that_is_no_data_url_counts_as_text():
    body = chat({"type": "text", "text": "x;base64," + PICTURE})

    light, taken = without_media(body)

    assert sum(taken.values()) == len(PICTURE)
    assert input_of(light, taken) == input_of(body) == (len(body), 0)


def test_no_more_of_them_are_looked_at_than_a_request_may_have():
    body = chat(*(picture() for _ in range(MEDIA_MAX + 5)))

    _, taken = without_media(body)

    assert len(taken) == MEDIA_MAX


def test_a_body_that_ends_in_a_picture_stays():
    cut = chat(picture())[:-400]

    assert without_media(cut) == (cut, {})


contents = st.lists(
    st.one_of(
        st.just(picture()),
        st.text(max_size=60).map(lambda text: {"type": "text", "text": text}),
        st.text(max_size=9).map(lambda text: picture(URL + text)),
        st.text(max_size=9).map(lambda text: {"type": "text", "text": text + ";base64," + PICTURE}),
        st.just({"type": "input_audio", "input_audio": {"data": PICTURE, "format": "wav"}}),
        st.just({"type": "input_file", "file_data": "data:audio/wav;base64," + PICTURE, "file_id": "file-2"}),
    ),
    max_size=6,
)


@given(contents, st.booleans(), st.sampled_from([None, {"include_usage": True}, {"a": URL}]))
def test_the_call_and_all_it_names_are_those_of_the_whole(content, stream, options):
    body = chat(*content, stream=stream, stream_options=options, user="u" + URL[:30])
    light, taken = without_media(body)
    head = read_call_head("POST", b"/v1/chat/completions", lambda name: None)

    of_light = read_call_behind(head, lambda name: None, light, len(body), taken)

    whole = read_call(
        method="POST",
        target=b"/v1/chat/completions",
        header=lambda name: None,
        body=body,
        body_bytes=len(body),
    )
    assert of_light == whole
    assert references(light) == references(body)
    assert splice.add_include_usage(body, light) == splice.add_include_usage(body)
