"""Readers of images, audio and containers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy.core import tokens
from proxy.core.readers_response import CONTAINER_SIZES, image_tokens, svg_part
from proxy.core.tally import Tally, word


def read_images(tree: dict[str, Any], tally: Tally, hints: Mapping[str, str | int]) -> None:
    """ImagesResponse. Models without usage (dall-e) are priced for each image."""
    del hints
    if tree.get("error"):
        tally.error(tree["error"])
    usage = image_tokens(tree.get("usage"))
    tally.usage = usage or tally.usage
    data = tree.get("data")
    if usage is None and type(data) is list and data:
        tally.units["images"] = len(data)
    svg_part(tree.get("svg_usage"), tally)


def read_image_event(tree: dict[str, Any], tally: Tally) -> None:
    """`image_generation.completed`, `image_edit.completed`: one for each image, added up."""
    usage = image_tokens(tree.get("usage"))
    if usage is not None:
        tally.usage = tokens.add(tally.usage, usage) if tally.usage else usage


def read_speech(tree: dict[str, Any], tally: Tally, hints: Mapping[str, str | int]) -> None:
    """`speech.audio.done`. What the model puts out is audio."""
    del hints
    usage = tokens.read(tree.get("usage"))
    if usage is not None:
        tally.usage = tokens.replaced(
            usage, output_audio_tokens=usage.output_audio_tokens or usage.output_tokens
        )


def read_transcription(tree: dict[str, Any], tally: Tally, hints: Mapping[str, str | int]) -> None:
    """A transcription: tokens or a duration; `verbose_json` of old models has only its own `duration`."""
    del hints
    if tree.get("error"):
        tally.error(tree["error"])
    usage = tokens.read(tree.get("usage"))
    if usage is not None:
        tally.usage = usage
    elif (length := tokens.milliseconds(tree.get("duration"))) is not None:
        tally.units["audio_ms"] = length
    elif tally.usage is None:
        tally.unknown = True


def read_translation(tree: dict[str, Any], tally: Tally, hints: Mapping[str, str | int]) -> None:
    """A translation: `verbose_json` has a `duration`, `json` nothing."""
    read_transcription(tree, tally, hints)


def read_container(tree: dict[str, Any], tally: Tally, hints: Mapping[str, str | int]) -> None:
    """A container that was made: one session of its size."""
    tally.object_id = word(tree.get("id"))
    size = word(tree.get("memory_limit")) or word(hints.get("memory_limit"))
    if tally.object_id is not None:
        tally.units[f"containers_{size}" if size in CONTAINER_SIZES else "containers_1g"] = 1
