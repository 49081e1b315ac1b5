"""The headers by which an application says what a call is for, and how strictly they are read.

Our own headers are refused with 400 when they can't be understood, since a silently dropped label is a wrong bill.
`X-Client-Request-Id` is OpenAI's header: it is recorded as far as it can be, and never a reason to refuse.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from proxy.core.refusal import Refusal

TAGS_MAX = 16
LABEL_BYTES_MAX = 128
USER_BYTES_MAX = 256
CLIENT_REQUEST_ID_CHARS_MAX = 512
_HEADER_BYTES_MAX = TAGS_MAX * (LABEL_BYTES_MAX * 3 + 2)
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})|[^\x20-\x7e]")


def operation_of(value: bytes) -> str:
    """X-Usage-Operation: one label. Raises Refusal 400."""
    return _label("X-Usage-Operation", value, LABEL_BYTES_MAX)


def end_user_of(value: bytes) -> str:
    """X-Usage-End-User: one label. Raises Refusal 400."""
    return _label("X-Usage-End-User", value, LABEL_BYTES_MAX)


def on_behalf_of(value: bytes) -> str:
    """X-Usage-User: an id, external id or e-mail. Raises Refusal 400."""
    return _label("X-Usage-User", value, USER_BYTES_MAX)


def tags_of(value: bytes) -> dict[str, str]:
    """X-Usage-Tags: `session=abc,grade=9`, each name and value percent-encoded UTF-8. Raises Refusal 400."""
    if not value.strip():
        return {}
    if len(value) > _HEADER_BYTES_MAX:
        raise _refused("X-Usage-Tags", f"is longer than {_HEADER_BYTES_MAX} bytes")
    tags: dict[str, str] = {}
    for pair in value.split(b","):
        raw_name, equals, raw_value = pair.strip().partition(b"=")
        if not equals or not raw_name:
            raise _refused("X-Usage-Tags", "must look like name=value,name=value")
        name = _decoded("X-Usage-Tags", raw_name)
        text = _decoded("X-Usage-Tags", raw_value)
        if len(name.encode()) + len(text.encode()) + 1 > LABEL_BYTES_MAX:
            raise _refused("X-Usage-Tags", f"holds a tag of more than {LABEL_BYTES_MAX} bytes")
        if name in tags:
            raise _refused("X-Usage-Tags", f"names the tag {name!r} twice")
        tags[name] = text
    if len(tags) > TAGS_MAX:
        raise _refused("X-Usage-Tags", f"holds more than {TAGS_MAX} tags")
    return tags


def client_request_id_of(value: bytes) -> str | None:
    """X-Client-Request-Id: at most CLIENT_REQUEST_ID_CHARS_MAX printable ASCII characters, others as `?`; never refused."""
    text = value[:CLIENT_REQUEST_ID_CHARS_MAX].decode("ascii", "replace")
    return "".join(char if " " <= char <= "~" else "?" for char in text).strip() or None


def _label(header: str, value: bytes, bytes_max: int) -> str:
    text = _decoded(header, value.strip())
    if not text:
        raise _refused(header, "is empty")
    if len(text.encode()) > bytes_max:
        raise _refused(header, f"is longer than {bytes_max} bytes")
    return text


def _decoded(header: str, value: bytes) -> str:
    if len(value) > _HEADER_BYTES_MAX:
        raise _refused(header, f"is longer than {_HEADER_BYTES_MAX} bytes")
    if _BAD_ESCAPE.search(value):
        raise _refused(header, "must be percent-encoded UTF-8")
    try:
        text = unquote_to_bytes(value).decode()
    except UnicodeDecodeError:
        raise _refused(header, "must be percent-encoded UTF-8") from None
    if not text.isprintable():
        raise _refused(header, "must not hold control characters")
    return text


def _refused(header: str, why: str) -> Refusal:
    return Refusal(400, "invalid_header", f"The header {header} {why}.", param=header, reason="header")
