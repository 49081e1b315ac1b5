"""The tokenizer: counts tokens of broken streams, where the extra `openai-usage-proxy[tokenizer]` is installed.

Its vocabularies are not in the package: `tiktoken` downloads them once, or takes them from TIKTOKEN_CACHE_DIR. So they are loaded
beside the event loop, and until they are there, or when they can't be had, the rule counts (core/estimate.py). Counting itself
is bounded: of a long text a sample is counted.
"""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Callable
from typing import Any, Protocol

log = logging.getLogger(__name__)
NEWEST = "o200k_base"
OLDER = "cl100k_base"
_OLDER_MODELS = ("gpt-4-", "gpt-3.5", "text-embedding-", "babbage-002", "davinci-002")
SAMPLE_CHARS = 8_192
"""Some milliseconds: no longer may the event loop be held up."""
KEPT_BYTES_MAX = 64 * 1024
"""A longer request is counted by the rule."""


class Encoding(Protocol):
    """What is used of `tiktoken.Encoding`."""

    def encode_ordinary(self, text: str) -> list[int]:
        """The text's tokens; names of special tokens in it are text."""


class Tokenizer:
    """Counts, once it is loaded. One per worker."""

    def __init__(self, load: Callable[[str], Encoding]) -> None:
        """`load` gives an encoding by its name; it may block, and raise anything."""
        self._load = load
        self._encodings: dict[str, Encoding] = {}

    @property
    def ready(self) -> bool:
        """Whether it counts."""
        return bool(self._encodings)

    def start(self) -> None:
        """Load in a thread of its own. Nobody waits for it, neither at the start nor at the end: a download may hang."""
        threading.Thread(target=self.load, name="tokenizer", daemon=True).start()

    def load(self) -> None:
        """Load the vocabularies. Raises nothing: without them the rule counts."""
        for name in (NEWEST, OLDER):
            try:
                self._encodings[name] = self._load(name)
            except Exception as error:  # noqa: BLE001  whatever a download may raise
                log.warning(
                    "no vocabulary for the tokenizer, broken streams are estimated by their bytes",
                    extra={"vocabulary": name, "error": repr(error)},
                )

    def counter(self, model: str | None) -> Callable[[str], int] | None:
        """Counts the tokens of a text as this model does, about; None where that is not known."""
        name = OLDER if model == "gpt-4" or (model or "").startswith(_OLDER_MODELS) else NEWEST
        encoding = self._encodings.get(name)
        if encoding is None:
            return None
        return lambda text: _count(encoding, text)


def installed(wanted: str) -> Tokenizer | None:
    """The tokenizer of the setting `tokenizer`; None where it is "none", or the extra is not installed."""
    if wanted != "tiktoken":
        return None
    try:
        tiktoken: Any = importlib.import_module("tiktoken")
    except ImportError:
        return None
    return Tokenizer(tiktoken.get_encoding)


def _count(encoding: Encoding, text: str) -> int:
    if len(text) <= SAMPLE_CHARS:
        return len(encoding.encode_ordinary(text))
    sample = len(encoding.encode_ordinary(text[:SAMPLE_CHARS]))
    return -(-sample * len(text) // SAMPLE_CHARS)
