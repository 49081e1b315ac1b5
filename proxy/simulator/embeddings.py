"""POST /v1/embeddings: unit vectors that are the same for the same text."""

from __future__ import annotations

import base64
import hashlib
import math
import struct
from typing import Any

from proxy.simulator import models
from proxy.simulator.problems import invalid, missing, raise_wanted
from proxy.simulator.words import ceiling_of, count_tokens

INPUTS_MAX = 2048


def embeddings(body: dict[str, Any]) -> dict[str, Any]:
    """The answer: one vector for each input."""
    given = body.get("input")
    if given is None:
        raise missing("input")
    tokens_only = isinstance(given, list) and bool(given) and all(isinstance(each, int) for each in given)
    inputs = [given] if isinstance(given, str) or tokens_only else given
    if not isinstance(inputs, list) or not 1 <= len(inputs) <= INPUTS_MAX:
        raise invalid("input", f"Invalid 'input': expected 1 to {INPUTS_MAX} texts or arrays of tokens.")
    if not all(isinstance(each, str | list) for each in inputs):
        raise invalid("input", "Invalid 'input': each must be a text or an array of tokens.")
    raise_wanted(str(body.get("model")), *(each for each in inputs if isinstance(each, str)))
    model = models.find(body.get("model"), "embedding")
    dimensions = min(ceiling_of(body, "dimensions") or model.dimensions, model.dimensions)
    as_base64 = body.get("encoding_format") == "base64"
    data = []
    for index, each in enumerate(inputs):
        vector = unit_vector(repr(each), dimensions)
        shown = base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode() if as_base64 else vector
        data.append({"object": "embedding", "index": index, "embedding": shown})
    tokens = sum(count_tokens(each) if isinstance(each, str) else len(each) for each in inputs)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": model.served, "usage": usage}


def unit_vector(seed: str, dimensions: int) -> list[float]:
    """Pseudo-random numbers from the seed, scaled to length 1."""
    raw = hashlib.shake_256(seed.encode("utf-8", "replace")).digest(dimensions * 2)
    values = [value / 32768 for value in struct.unpack(f"<{dimensions}h", raw)]
    length = math.sqrt(sum(value * value for value in values)) or 1.0
    return [value / length for value in values]
