import pytest

from proxy.core.references import REFERENCES_MAX, form_references, hides_names, references


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"previous_response_id":"resp_1"}', {"resp_1": "previous_response_id"}),
        (b'{"conversation":"conv_1"}', {"conv_1": "conversation"}),
        (b'{"conversation":{"id":"conv_1"}}', {"conv_1": "conversation"}),
        (b'{"container":"cntr_1"}', {"cntr_1": "container"}),
        (b'{"tools":[{"type":"file_search","vector_store_ids":["vs_1","vs_2"]}]}', {"vs_1": "vector_store_ids", "vs_2": "vector_store_ids"}),
        (b'{"tools":[{"container":{"type":"auto","file_ids":["file-1"]}}]}', {"file-1": "file_ids"}),
        (b'{"input":[{"content":[{"type":"input_file","file_id":"file-1"}]}]}', {"file-1": "file_id"}),
        (b'{"messages":[{"attachments":[{"file_id":"file-1"}]}]}', {"file-1": "file_id"}),
        (b'{"thread":{"messages":[{"attachments":[{"file_id":"file-1"}]}]},"assistant_id":"asst_1"}', {"file-1": "file_id", "asst_1": "assistant_id"}),
        (b'{"tool_resources":{"code_interpreter":{"file_ids":["file-1"]}}}', {"file-1": "file_ids"}),
        (b'{"training_file":"file-1","validation_file":"file-2"}', {"file-1": "training_file", "file-2": "validation_file"}),
        (b'{"response":{"previous_response_id":"resp_1"}}', {"resp_1": "previous_response_id"}),
        # read leniently: a lone surrogate, bytes that are not UTF-8
        (b'{"metadata":{"x":"\\ud800"},"file_id":"file-1"}', {"file-1": "file_id"}),
        (b'{"x":"\xff","file_id":"file-1"}', {"file-1": "file_id"}),
        (b'{"x":1e400,"file_id":"file-1"}', {"file-1": "file_id"}),
        (b'\xef\xbb\xbf{"file_id":"file-1"}', {"file-1": "file_id"}),
        ('{"file_id":"file-1"}'.encode("utf-16"), {"file-1": "file_id"}),
        (b'{"x":"\\ud800","input":[' + b"0," * 30_000 + b'{"file_id":"file-1"}]}', {"file-1": "file_id"}),
        (b'{"previous\\u005fresponse\\u005fid":"resp_1"}', {"resp_1": "previous_response_id"}),
    ],
)  # fmt: skip
def test_an_id_is_found_where_openai_reads_it(body: bytes, found: dict[str, str]) -> None:
    assert dict(references(body)) == found


@pytest.mark.parametrize(
    "body",
    [
        b'{"input":"previous_response_id resp_1","metadata":{"file_id":"file-1"}}',
        b'{"input":[{"role":"user","content":"{\\"file_id\\":\\"file-1\\"}"}]}',
        b'{"tools":[{"type":"function","parameters":{"properties":{"file_id":{"id":"file-1"}}}}]}',
        b'{"previous_response_id":null,"conversation":7,"file_ids":[1,null,""]}',
        b"[]",
        b"not JSON",
        b"",
    ],
)
def test_what_people_write_names_nothing(body: bytes) -> None:
    assert references(body) == ()


def test_a_body_is_looked_at_within_bounds() -> None:
    many = b",".join(b'"file-%d"' % number for number in range(REFERENCES_MAX + 5))
    assert len(references(b'{"file_ids":[' + many + b"]}")) == REFERENCES_MAX + 1
    deep = b'{"input":' * 500 + b'{"file_id":"file-1"}' + b"}" * 500
    assert references(deep) == ()
    assert references(b'{"input":[' * 50_000 + b"]}" * 50_000) == ()


@pytest.mark.parametrize(
    ("body", "hidden"),
    [
        (b'{"previous_response_id":"resp_1"}', False),
        (b'{"previous\\u005fresponse_id":"resp_1"}', True),
        ('{"file_id":"file-1"}'.encode("utf-16-be"), True),
        ('{"file_id":"file-1"}'.encode("utf-32"), True),
        ('{"input":"caf\u00e9"}'.encode(), False),
    ],
)
def test_names_that_are_not_written_as_usual_are_noticed(body: bytes, hidden: bool) -> None:
    assert hides_names(body) is hidden


def form(*fields: tuple[bytes, bytes]) -> bytes:
    parts = [b'--x\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % field for field in fields]
    return b"".join(parts) + b"--x--\r\n"


def test_a_form_names_objects_as_the_sdks_write_them() -> None:
    fields = [
        (b"prompt", b"a video like video_9"), (b"video[id]", b"video_1"), (b"file_id", b"file-1"),
        (b"input_reference[file_id]", b"file-2"), (b"file_ids[]", b"file-3"), (b"consent", b"cons_1"),
        (b"file_id", b"file-4"), (b"metadata[x]", b"file-5"), (b"[", b""), (b"", b""),
    ]  # fmt: skip
    assert form_references(form(*fields), b"multipart/form-data; boundary=x") == (
        ("video_1", "video"), ("file-1", "file_id"), ("file-2", "file_id"), ("file-3", "file_ids"), ("cons_1", "consent"),
        ("file-4", "file_id"),
    )  # fmt: skip
    assert form_references(form((b"file_id", b"file-1")), b"application/json") == ()


def test_fields_before_it_hide_no_name() -> None:
    many = [(b"x%d" % number, b"y") for number in range(500)]
    assert form_references(form(*many, (b"file_id", b"f")), b"multipart/form-data; boundary=x") == (
        ("f", "file_id"),
    )
