import base64

import orjson

from proxy.core.call import Call, read_call
from proxy.core.estimate import estimate_usage, input_of, texts_of
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
