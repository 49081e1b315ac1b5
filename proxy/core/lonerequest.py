"""Requests that stand alone: bytes that are exactly one request, as those of an application are that waits for each answer.

Such a request can be answered without being read, at a tenth of what reading it costs, and the connection goes on behind it.
Strict: whatever a reader of HTTP might take for anything but one request is not one, and goes the long way.
"""

from __future__ import annotations

import re

# A body that ends the bytes where its Content-Length says, in a request that asks for nothing else of the connection.
_HEAD = re.compile(
    rb"POST /v1/[!-~]* HTTP/1\.1\r\n(?:[!#-'*+.^-z|~0-9A-Z-]+:[ \t!-~\x80-\xff]*\r\n)+\r\n", re.DOTALL
)
_LENGTH = re.compile(rb"\ncontent-length:([^\r]*)", re.IGNORECASE)
_SPECIAL = re.compile(
    rb"\n(?:connection:(?![ \t]*keep-alive[ \t]*\r)|transfer-encoding|expect|upgrade|origin)", re.IGNORECASE
)
HEAD_MAX_BYTES = 16 * 1024
LENGTH_DIGITS_MAX = 8


def stands_alone(data: bytes) -> bool:
    """Whether these bytes are one whole POST under /v1/ over a connection that is to be kept, and nothing of another.

    Not so when it comes from a web page (Origin), whose answers need headers that depend on it.
    """
    head = _HEAD.match(data, 0, HEAD_MAX_BYTES)
    if head is None:
        return False
    end = head.end()
    lengths = _LENGTH.findall(data, 0, end)
    if len(lengths) != 1 or _SPECIAL.search(data, 0, end) is not None:
        return False
    length: bytes = lengths[0].strip(b" \t")
    return length.isdigit() and len(length) <= LENGTH_DIGITS_MAX and end + int(length) == len(data)
