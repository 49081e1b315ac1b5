import pytest

from proxy.core.redact import redact, shorten


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Incorrect API key provided: sk-proj-abcdefghij.", "Incorrect API key provided: ***"),
        ("key sk-ab********yz here", "key *** here"),
        ("sk-proxy-0123456789abcdefABCDEF and sk-admin-0123456789", "*** and ***"),
        ("ek_1234567890abcdef", "***"),
        ("Authorization: Bearer abc.def-ghi", "***"),
        ("api_key=supersecret&x=1", "***&x=1"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "***"),
        ("postgres://user:hunter22@db/x", "postgres://***@db/x"),
        ("The model `gpt-9` does not exist", "The model `gpt-9` does not exist"),
        ("max_tokens is too large: 5000", "max_tokens is too large: 5000"),
        ("ask-me task-force", "ask-me task-force"),
    ],
)
def test_credentials_are_taken_out_and_nothing_else(text: str, clean: str) -> None:
    assert redact(text) == clean


def test_a_message_is_one_printable_line_of_bounded_length() -> None:
    assert shorten("a\r\n b\tc\x00d", 100) == "a b c?d"
    assert shorten("x" * 501, 500) == "x" * 499 + "…"
    assert shorten("x" * 500, 500) == "x" * 500
    assert len(shorten("y" * 10**6, 500)) == 500


def test_a_key_is_redacted_before_the_cut_not_after() -> None:
    assert "sk-" not in shorten("x" * 495 + " sk-abcdefghijklmnop", 500)
