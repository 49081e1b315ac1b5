import pytest

from proxy.gateway.lists import after


@pytest.mark.parametrize(
    ("target", "following"),
    [
        (b"/v1/files", b"/v1/files?after=file-1%2F"),
        (b"/v1/files?limit=3", b"/v1/files?limit=3&after=file-1%2F"),
        (b"/v1/files?after=file-0&limit=3", b"/v1/files?limit=3&after=file-1%2F"),
    ],
)
def test_the_next_page_is_asked_for_like_the_one_before(target: bytes, following: bytes) -> None:
    assert after(target, "file-1/") == following
