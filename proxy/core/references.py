"""References: which objects a JSON request names in its body, by structure and only where OpenAI reads an id.

What a user writes in a message or keeps in `metadata` names nothing. A body that a strict parser rejects is read as the
most lenient one would read it, so that leniency upstream is no way around. Forms name objects too.
"""

from __future__ import annotations

import json
from typing import Any

import orjson

from proxy.core import sieve
from proxy.core.decode import as_utf8
from proxy.core.density import refuse_dense, refuse_dense_text, too_many_parts
from proxy.core.forms import FormReader
from proxy.core.objects import ID_CHARS_MAX

REFERENCES_MAX = 5_000
"""More than any endpoint takes. Who gets more than so many must not pass them on unlooked at."""
DEPTH_MAX = 24

_NAMES = frozenset(
    {
        "assistant_id",
        "batch_id",
        "consent",
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


def hides_names(body: bytes) -> bool:
    """A search for names as they are usually written may miss some: letters are escaped, or take two bytes. Hot path."""
    # Not `in` for more than a byte: it asks first whether that is a number, and makes an exception of its answer (1,600 instructions).
    return body.find(b"\\u00") >= 0 or 0 in body[:4]


def references(body: bytes) -> tuple[tuple[str, str], ...]:
    """(id, the member that names it) of every object that a body names, each once, in order.

    Where there are more than REFERENCES_MAX, one more than that. Raises Refusal 413 as density.py has it.
    """
    refuse_dense(body)
    found: dict[str, str] = {}
    _walk(_parse(body), found, DEPTH_MAX)
    return tuple(found.items())


def form_references(body: bytes, content_type: bytes) -> tuple[tuple[str, str], ...]:
    """The same of a form: `file_id`, `video[id]`, `input_reference[file_id]`, as the official SDKs write them."""
    reader = _FormIds(content_type)
    reader.feed(body)
    if reader.overfull:
        raise too_many_parts()
    return tuple(reader.found.items())


class _FormIds(FormReader):
    """Reads every text field of a form, also those of one name."""

    __slots__ = ("found",)

    def __init__(self, content_type: bytes) -> None:
        super().__init__(content_type)
        self.found: dict[str, str] = {}

    def _keep(self, name: str, value: bytes) -> None:
        parts = [part for part in name.replace("]", "").split("[") if part]
        if parts[-1:] == ["id"]:
            parts.pop()
        for part in parts[-1:]:
            if part in _NAMES:
                _take(part, value.decode("utf-8", "replace"), self.found)


def _parse(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except ValueError:
        pass
    text = as_utf8(body)
    try:
        return json.loads(text.decode("utf-8", "replace"), strict=False)
    except (ValueError, RecursionError):
        refuse_dense_text(text)
        return sieve.reduce(text, _KEEP)


def _walk(tree: Any, found: dict[str, str], depth: int) -> None:
    if depth == 0 or len(found) > REFERENCES_MAX:
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
        if type(each) is str and 0 < len(each) <= ID_CHARS_MAX and len(found) <= REFERENCES_MAX:
            found.setdefault(each, name)
