import pytest

from proxy.core.references import REFERENCES_MAX, references


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
    assert len(references(b'{"file_ids":[' + many + b"]}")) == REFERENCES_MAX
    deep = b'{"input":' * 500 + b'{"file_id":"file-1"}' + b"}" * 500
    assert references(deep) == ()
