"""Requests that carry a number, by which the upstream's side and the records can tell which of them arrived."""

from __future__ import annotations

import http.client
import json


def ask_numbered(connection: http.client.HTTPConnection, key: str, number: int) -> int:
    """Ask with `number` as the message and as the tag `n`, read the answer whole; returns its status.

    Raises OSError or http.client.HTTPException when the connection breaks.
    """
    body = {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": str(number)}],
        "max_tokens": 50,
    }
    headers = {
        "authorization": f"Bearer {key}",
        "content-type": "application/json",
        "x-usage-tags": f"n={number}",
    }
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status
