import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from proxy.core.forms import FormReader, read_form

TYPE = b"multipart/form-data; boundary=X1"


def form(*parts: tuple[str, bytes]) -> bytes:
    return (
        b"".join(b"--X1\r\n%b\r\n\r\n%b\r\n" % (head.encode(), value) for head, value in parts)
        + b"--X1--\r\n"
    )


def field(name: str, value: bytes) -> tuple[str, bytes]:
    return f'Content-Disposition: form-data; name="{name}"', value


def upload(name: str, value: bytes) -> tuple[str, bytes]:
    return f'Content-Disposition: form-data; name="{name}"; filename="a"\r\nContent-Type: audio/mpeg', value


def test_text_fields_are_read_and_files_are_not() -> None:
    body = form(
        upload("file", b'\r\n--X\r\nname="model"'),
        field("model", b"whisper-1"),
        field("empty", b""),
        field("long", b"x" * 2000),
    )
    assert read_form(body, TYPE) == {"model": "whisper-1", "empty": ""}


def test_the_boundary_may_be_quoted_and_names_need_no_quotes() -> None:
    body = b"--a b\r\ncontent-disposition: form-data; name=model\r\n\r\nm\xc3\xa9\r\n--a b--"
    assert read_form(body, b'multipart/form-data; charset=x; boundary="a b"') == {"model": "mé"}


def test_without_a_boundary_there_is_no_form() -> None:
    assert read_form(b"x", b"multipart/form-data") is None
    assert read_form(b"x", b"application/json; boundary=x") is None


def test_of_two_fields_of_one_name_nobody_knows_which_counts() -> None:
    assert read_form(form(field("model", b"a"), field("model", b"a")), TYPE) == {"model": "a"}
    assert read_form(form(field("model", b"a"), field("model", b"b"), field("n", b"1")), TYPE) == {
        "model": "",
        "n": "1",
    }


def test_a_part_has_the_name_that_its_disposition_says() -> None:
    body = form(('X-Note: form-data; name="model"\r\nContent-Disposition: form-data; name="n"', b"1"))
    assert read_form(body, TYPE) == {"n": "1"}


def test_a_form_with_two_boundaries_says_nothing() -> None:
    for kind in (b"multipart/form-data; boundary=X1; boundary=b", b"multipart/form-data; xboundary=X1"):
        reader = FormReader(kind)
        reader.feed(form(field("model", b"whisper-1")))
        assert (reader.usable, reader.fields, reader.overfull) == (False, {}, True)
    assert read_form(form(field("n", b"1")), b"multipart/form-data; xboundary=b; Boundary=X1") == {"n": "1"}


def test_the_name_of_a_file_is_no_name_of_a_part() -> None:
    odd = 'Content-Disposition: form-data; filename="a; name=b; \\"c"; name="file"', b"x"
    assert read_form(form(odd, field("model", b"whisper-1")), TYPE) == {"model": "whisper-1"}


def test_a_form_whose_parts_have_two_names_says_nothing() -> None:
    twice = 'Content-Disposition: form-data; name="n"; name="model"'
    lines = 'Content-Disposition: form-data; name="n"\r\ncontent-disposition: form-data; name="model"'
    for head in (twice, lines):
        reader = FormReader(TYPE)
        reader.feed(form(field("model", b"cheap"), (head, b"dear"), field("model", b"cheap")))
        assert (reader.fields, reader.overfull) == ({}, True)


def test_a_huge_upload_takes_no_memory() -> None:
    reader = FormReader(TYPE)
    reader.feed(form(upload("file", b""))[:-10])
    piece = b"\r\n--X" + bytes(2**20)
    tracemalloc.start()
    for _ in range(64):
        reader.feed(piece)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    reader.feed(b"\r\n" + form(field("model", b"m")))
    assert reader.fields == {"model": "m"}
    assert peak < 8 * 2**20


@given(
    values=st.lists(
        st.tuples(st.booleans(), st.binary(max_size=80).filter(lambda value: b"--X1" not in value)),
        max_size=5,
    ),
    size=st.integers(1, 60),
)
def test_how_a_form_is_cut_changes_nothing(values: list[tuple[bool, bytes]], size: int) -> None:
    parts = [(upload if is_file else field)(f"f{i}", value) for i, (is_file, value) in enumerate(values)]
    body = form(*parts)
    reader = FormReader(TYPE)
    for at in range(0, len(body), size):
        reader.feed(body[at : at + size])
    assert reader.fields == {
        f"f{i}": value.decode("utf-8", "replace") for i, (is_file, value) in enumerate(values) if not is_file
    }


@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"\r\n--X1", b"--X1\r\n", b"\r\n\r\n", b"--"])))
def test_no_bytes_make_it_fail(pieces: list[bytes]) -> None:
    reader = FormReader(TYPE)
    for piece in pieces:
        reader.feed(piece)
    assert reader.fields == read_form(b"".join(pieces), TYPE)
