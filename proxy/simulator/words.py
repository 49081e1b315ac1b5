"""What a simulated model says, and how many tokens that is: the same for the same request, always.

A token is four characters, rounded up; a text comes in pieces of one token. This is no tokenizer, but near enough to
look real, and anybody can check the sums.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from proxy.simulator.models import Model
from proxy.simulator.problems import invalid

TOKEN_CHARS = 4
MESSAGE_OVERHEAD_TOKENS = 4
REPLY_OVERHEAD_TOKENS = 3
QUOTED_CHARS_MAX = 160
CACHED_FROM_TOKENS = 1024
CACHED_STEP_TOKENS = 128
_CLOSING = (
    "Nothing of it was sent to OpenAI.",
    "Set OPENAI_API_KEY and start again to get real answers.",
    "Usage, cost and quotas are counted as if it were real.",
)


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: its text in pieces, and its token counts."""

    pieces: tuple[str, ...]
    finish_reason: str
    input_tokens: int
    cached_tokens: int
    reasoning_tokens: int

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.pieces)

    @property
    def output_tokens(self) -> int:
        """Reasoning included."""
        return len(self.pieces) + self.reasoning_tokens


def count_tokens(text: str) -> int:
    """Tokens of a text; none for an empty one."""
    return -(-len(text) // TOKEN_CHARS)


def texts_of(content: Any) -> Iterator[str]:
    """The texts in a message's content: a string, or parts of which some have a text."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, str):
                yield part
            elif isinstance(part, dict) and isinstance(part.get("text"), str):
                yield part["text"]


def input_tokens(contents: Iterable[Any]) -> int:
    """Tokens of a conversation of these contents."""
    total = REPLY_OVERHEAD_TOKENS
    for content in contents:
        total += MESSAGE_OVERHEAD_TOKENS + sum(count_tokens(text) for text in texts_of(content))
    return total


def reply(model: Model, contents: list[Any], ceiling: int | None, *, as_json: bool = False) -> Reply:
    """What the model answers to a conversation, within `ceiling` output tokens."""
    said = next((text for content in reversed(contents) for text in texts_of(content)), "")
    quoted = said if len(said) <= QUOTED_CHARS_MAX else said[:QUOTED_CHARS_MAX] + "…"
    closing = _CLOSING[hashlib.sha256(said.encode("utf-8", "replace")).digest()[0] % len(_CLOSING)]
    text = f"This is a simulated answer by {model.id}. You said: “{quoted}” {closing}"
    if as_json:
        text = '{"simulated": true, "model": "' + model.id + '"}'
    pieces = tuple(text[at : at + TOKEN_CHARS] for at in range(0, len(text), TOKEN_CHARS))
    reasoning = model.reasoning_tokens
    finish_reason = "stop"
    if ceiling is not None and len(pieces) + reasoning > ceiling:
        reasoning = min(reasoning, ceiling)
        pieces, finish_reason = pieces[: ceiling - reasoning], "length"
    counted = input_tokens(contents)
    cached = counted // 2 // CACHED_STEP_TOKENS * CACHED_STEP_TOKENS if counted >= CACHED_FROM_TOKENS else 0
    return Reply(pieces, finish_reason, counted, cached, reasoning)


def ceiling_of(body: dict[str, Any], *names: str) -> int | None:
    """The first of these parameters that is given; None: no ceiling. Raises Problem when it is no number above 0."""
    for name in names:
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise invalid(name, f"Invalid '{name}': must be an integer above or equal to 1.")
        return value
    return None


def made_id(prefix: str, *seeds: object) -> str:
    """An id of OpenAI's looks: the same for the same seeds."""
    return prefix + hashlib.sha256(repr(seeds).encode("utf-8", "replace")).hexdigest()[:32]
