import pytest

from proxy.gateway.issued import read_secret


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b'{"value":"ek_1","expires_at":1763633400,"session":{}}', ("ek_1", 1763633400.0)),
        (b'{"id":"sess_1","client_secret":{"value":"ek_1","expires_at":7}}', ("ek_1", 7.0)),
        (b'{"id":"cksess_1","client_secret":"ek_1","expires_at":7}', ("ek_1", 7.0)),
        (b'{"value":"ek_1"}', ("ek_1", None)),
        (b'{"value":"sk-1"}', None),
        (b'{"value":7,"client_secret":[]}', None),
        (b"[]", None),
        (b"not JSON", None),
        (b"", None),
    ],
)
def test_a_secret_is_found_in_each_form_of_answer(
    text: bytes, found: tuple[str, float | None] | None
) -> None:
    assert read_secret(text) == found
