import base64
import re

import orjson
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.core.call import Call, read_call
from proxy.core.estimate import MEDIA_MAX, _data_urls, _end_of_base64, estimate_usage, input_of, texts_of
from proxy.core.usage import Reading, Usage


def call(body: dict[str, object]) -> Call:
    data = orjson.dumps(body)
    return read_call(
        method="POST", target=b"/v1/chat/completions", header={}.get, body=data, body_bytes=len(data)
    )


def test_text_is_a_third_of_its_bytes_to_reserve_and_a_quarter_to_bill() -> None:
    found = call({"model": "m", "messages": [{"role": "user", "content": "x" * 955}]})
    assert found.input_text_bytes == 1010
    assert found.input_estimate_tokens == 337
    used = estimate_usage(found, Reading(delivered_bytes=41, delivered_chars=41))
    assert used == Usage(input_tokens=253, output_tokens=11, total_tokens=264)


def test_pictures_count_as_pictures_not_as_their_bytes() -> None:
    picture = base64.b64encode(bytes(60_000)).decode()
    content = [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}}] * 2
    found = call({"model": "m", "messages": [{"role": "user", "content": content}]})
    assert found.input_media_tokens == 2 * 1600
    assert found.input_text_bytes < 300
    slashed = orjson.dumps(
        {"input": [{"type": "input_image", "image_url": f"data:image/png;base64,{picture}"}]}
    ).replace(b"/", b"\\/")
    assert input_of(slashed)[0] < 200


def test_a_linked_picture_counts_as_a_picture() -> None:
    content = [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]
    assert call({"messages": [{"content": content}]}).input_media_tokens == 1600


def test_sound_and_files_count_by_their_decoded_size() -> None:
    sound = base64.b64encode(bytes(48_000)).decode()
    text, media = input_of(
        orjson.dumps({"type": "input_audio", "input_audio": {"data": sound, "format": "wav"}})
    )
    assert (text < 100, media) == (True, 31)
    file = base64.b64encode(bytes(30_000)).decode()
    text, media = input_of(
        orjson.dumps({"type": "input_file", "file_data": f"data:application/pdf;base64,{file}"})
    )
    assert (text < 100, media) == (True, 601)


def test_no_answer_is_estimated_beyond_its_own_ceiling() -> None:
    found = call({"model": "m", "max_tokens": 5})
    assert estimate_usage(found, Reading(delivered_bytes=4000)).output_tokens == 5


def test_a_real_tokenizer_counts_what_it_is_given() -> None:
    found = call({"model": "m"})
    reading = Reading(delivered_bytes=13, delivered_text="one two thre")
    words = lambda text: len(text.split())
    used = estimate_usage(found, reading, count_tokens=words, input_text="a b c d")
    assert used == Usage(input_tokens=4, output_tokens=4, total_tokens=8)


def test_media_beyond_a_limit_count_as_text() -> None:
    for piece in (b'"data:audio/wav;base64,' + b"A" * 300 + b'",', b'"data":"' + b"A" * 300 + b'",'):
        found = [input_of(b'{"input_audio":[' + piece * count) for count in (MEDIA_MAX, MEDIA_MAX + 3)]
        assert found[1][1] == found[0][1] > 0
        assert found[1][0] - found[0][0] == 3 * len(piece)


def test_a_tokenizer_reads_the_texts_of_a_request_and_not_its_names_or_media() -> None:
    body = orjson.dumps(
        {
            "model": "gpt-4o",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "Look:"},
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                    ],
                },
            ],
            "tools": [{"type": "function", "function": {"name": "draw", "description": "Draws."}}],
            "user": "42",
        }
    )
    assert texts_of(body) == "system\nBe brief.\nuser\nLook:\ndraw\nDraws."
    assert texts_of(b"no JSON") is None
    assert texts_of(b'"data:image/png;base64,AAAA"') == ""


OLD_DATA_URL = re.compile(rb"data:([a-z]{1,32})[^,\"]{0,128};base64,([A-Za-z0-9+/=\\]*+)", re.IGNORECASE)
OLD_INPUT_AUDIO = re.compile(rb'"data"\s*+:\s*+"([A-Za-z0-9+/=\\]{256,}+)"')
PIECES = st.sampled_from(
    [b"data:image/png", b"DATA:audio/wav", b"data:application/pdf;name=a", b"data:", b";base64,", b";charset=x;base64,", b"base64,",
     b"A" * 300, b"AA==", b"\\/", b'"', b",", b" and text ", b'"data": "', b'"data":"', b"\xc3\xa4", b"B" * 70_000]
)  # fmt: skip


@given(st.lists(PIECES, max_size=14))
@example([b'"data": "', b"A" * 300, b'"data": "', b"A" * 300, b'"'])
def test_media_are_found_as_a_pattern_finds_them(pieces: list[bytes]):
    body = b"input_audio" + b"x" * 3000 + b"".join(pieces)
    urls = [(found[1].lower(), len(found[0])) for found in OLD_DATA_URL.finditer(body)]
    sounds = [len(found[0]) for found in OLD_INPUT_AUDIO.finditer(body)]
    assert list(_data_urls(body)) == urls
    assert input_of(body)[0] == max(0, len(body) - sum(size for _, size in urls) - sum(sounds))


def test_the_end_of_base64_is_found_beyond_any_block():
    for size in (0, 1, 65_535, 65_536, 65_537, 200_000):
        assert _end_of_base64(b"(" + b"A" * size + b')"', 1) == 1 + size
        assert _end_of_base64(b"(" + b"A" * size, 1) == 1 + size
