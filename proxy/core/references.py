"""References: which objects a JSON request names in its body, by structure and only where OpenAI reads an id.

What a user writes in a message or keeps in `metadata` names nothing. A body that a strict parser rejects is read by the
sieve, so that leniency upstream is no way around; ids beyond REFERENCES_MAX are not looked at.
"""

from __future__ import annotations

from typing import Any

import orjson

from proxy.core import sieve
from proxy.core.objects import ID_CHARS_MAX

REFERENCES_MAX = 1_000
DEPTH_MAX = 24

_NAMES = frozenset(
    {
        "assistant_id",
        "batch_id",
        "container",
        "container_id",
        "conversation",
        "conversation_id",
        "eval_id",
        "file_id",
        "file_ids",
        "input_file_id",
        "previous_response_id",
        "skill_id",
        "thread_id",
        "training_file",
        "validation_file",
        "vector_store_id",
        "vector_store_ids",
        "video",
    }
)
"""Members whose value is an id, a list of ids, or an object with an `id`."""

_AROUND = frozenset(
    {
        "attachments",
        "code_interpreter",
        "content",
        "data_source",
        "environment",
        "file",
        "file_search",
        "files",
        "image",
        "image_url",
        "images",
        "input",
        "input_image_mask",
        "input_messages",
        "input_reference",
        "item",
        "items",
        "mask",
        "messages",
        "output",
        "resources",
        "response",
        "session",
        "skills",
        "source",
        "template",
        "testing_criteria",
        "thread",
        "tool_resources",
        "tools",
        "vector_stores",
    }
)
"""Members that such members may stand in, at any depth."""

_KEEP = _NAMES | _AROUND | {"id"}


def references(body: bytes) -> tuple[tuple[str, str], ...]:
    """(id, the member that names it) of every object that a body names, each once, in order."""
    try:
        tree = orjson.loads(body)
    except ValueError:
        tree = sieve.reduce(body, _KEEP)
    found: dict[str, str] = {}
    _walk(tree, found, DEPTH_MAX)
    return tuple(found.items())


def _walk(tree: Any, found: dict[str, str], depth: int) -> None:
    if depth == 0 or len(found) >= REFERENCES_MAX:
        return
    if type(tree) is list:
        for each in tree:
            if type(each) is dict or type(each) is list:
                _walk(each, found, depth - 1)
    elif type(tree) is dict:
        for name, value in tree.items():
            if name in _NAMES:
                _take(name, value, found)
            if (name in _AROUND or name in _NAMES) and (type(value) is dict or type(value) is list):
                _walk(value, found, depth - 1)


def _take(name: str, value: Any, found: dict[str, str]) -> None:
    if type(value) is dict:
        value = value.get("id")
    for each in value if type(value) is list else (value,):
        if type(each) is str and 0 < len(each) <= ID_CHARS_MAX and len(found) < REFERENCES_MAX:
            found.setdefault(each, name)
