"""A body that would take seconds to read is refused; every other one is read, whatever it holds."""

from __future__ import annotations

import gzip

import pytest

from proxy.core.call import read_call
from proxy.core.density import CONTAINERS_MAX, MARKS_MAX, TEXTS_MAX
from proxy.core.forms import PARTS_MAX
from proxy.core.references import form_references, references
from proxy.core.refusal import Refusal

HEAD = b'{"model":"gpt-4o","max_tokens":7,"messages":['
BROKEN = b'{"model":"gpt-4o","user":"\xff","max_tokens":7,"messages":['


def ceiling(body: bytes, coding: bytes | None = None) -> int | None:
    headers = {b"content-encoding": coding} if coding else {}
    found = read_call(
        method="POST", target=b"/v1/chat/completions", header=headers.get, body=body, body_bytes=len(body)
    )
    return found.output_ceiling_tokens


@pytest.mark.parametrize(
    "body",
    [
        HEAD + b"[]," * CONTAINERS_MAX + b"1]}",
        HEAD + b"{}," * CONTAINERS_MAX + b"1]}",
        HEAD + b"[" * CONTAINERS_MAX + b"]" * CONTAINERS_MAX + b"]}",
        HEAD + b'{"a":' * CONTAINERS_MAX + b"1" + b"}" * CONTAINERS_MAX + b"]}",
        (HEAD + b"[]," * CONTAINERS_MAX + b"1]}").decode().encode("utf-16"),
        BROKEN + b"1," * MARKS_MAX + b"1]}",
        BROKEN[:-13] + b'"a":1,' * (MARKS_MAX // 2) + b'"b":1}',
        HEAD + b'"[",[],' * CONTAINERS_MAX + b"1]}",
        HEAD + b'"\\\\",[],' * CONTAINERS_MAX + b"1]}",
        HEAD + b'"",' * TEXTS_MAX + b"[]," * CONTAINERS_MAX + b"1]}",
    ],
)
def test_more_structure_than_can_be_read_is_refused(body: bytes) -> None:
    for read in (ceiling, references):
        if read is references and body.startswith(BROKEN[:-13]):
            continue  # a parser that is lenient and quick reads it
        with pytest.raises(Refusal) as refused:
            read(body)
        assert (refused.value.status, refused.value.code) == (413, "request_too_large")


def test_a_form_of_more_parts_than_are_read_names_no_objects_unseen() -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n'
    last = b'--b\r\nContent-Disposition: form-data; name="video[id]"\r\n\r\nvideo_1\r\n--b--\r\n'
    kind = b"multipart/form-data; boundary=b"

    assert form_references(part * (PARTS_MAX - 2) + last, kind) == (("video_1", "video"),)
    with pytest.raises(Refusal) as refused:
        form_references(part * PARTS_MAX + last, kind)
    assert refused.value.status == 413


def test_a_compressed_body_hides_nothing_of_it() -> None:
    with pytest.raises(Refusal):
        ceiling(gzip.compress(HEAD + b"[]," * CONTAINERS_MAX + b"1]}"), b"gzip")


@pytest.mark.parametrize(
    "body",
    [
        HEAD + b'"' + b"x" * 2**21 + b'"]}',
        HEAD + b"7," * MARKS_MAX + b"1]}",
        HEAD + b"[]," * (CONTAINERS_MAX - 2) + b"1]}",
        BROKEN + b'"' + b"x\xff" * 2**20 + b'"]}',
        BROKEN + b'"' + b'\\"' * 2**20 + b'"]}',
        HEAD + b'"' + b"[[1,2]]," * CONTAINERS_MAX + b'"]}',
        HEAD + b'"' + b'\\\\{\\"a\\":[1]},' * CONTAINERS_MAX + b'\\\\"]}',
        BROKEN + b'"' + b"x = {a: [1, 2]}" * MARKS_MAX + b'"]}',
    ],
)
def test_long_texts_and_numbers_are_read(body: bytes) -> None:
    assert ceiling(body) == 7
