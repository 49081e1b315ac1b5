"""Reader of the Response object, plain or inside its events: tokens, tools with a fee, and models that worked inside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy.core import tokens
from proxy.core.tally import Tally, word
from proxy.core.usage import Part, Usage

CONTAINER_SIZES = frozenset({"1g", "4g", "16g", "64g"})
_PREVIEW = "web_search_preview"
TERMINAL = frozenset({"completed", "failed", "incomplete", "cancelled"})


def read_response(tree: dict[str, Any], tally: Tally, hints: Mapping[str, str | int]) -> None:
    """A Response (`response`). Usage is null until it is terminal, and may stay null when it failed before it began."""
    tally.model = word(tree.get("model")) or tally.model
    tally.service_tier = word(tree.get("service_tier")) or tally.service_tier
    tally.object_id = word(tree.get("id")) or tally.object_id
    if tree.get("error"):
        tally.error(tree["error"])
    status = word(tree.get("status"))
    if status not in TERMINAL and status is not None:
        return
    details = tree.get("incomplete_details")
    reason = word(details.get("reason")) if type(details) is dict else None
    tally.finish_reason = reason or status or tally.finish_reason
    _read_usage(tree, tally, hints)


def read_compact(tree: dict[str, Any], tally: Tally, hints: Mapping[str, str | int]) -> None:
    """A compacted response: usage and output as in a Response, without model, tier and status."""
    tally.object_id = word(tree.get("id")) or tally.object_id
    _read_usage(tree, tally, hints)


def _read_usage(tree: dict[str, Any], tally: Tally, hints: Mapping[str, str | int]) -> None:
    usage = tokens.read(tree.get("usage"))
    if usage is not None:
        tally.usage = usage
    tally.units.clear()
    tally.parts.clear()
    output = tree.get("output")
    items = [item for item in output if type(item) is dict] if type(output) is list else []
    tool_usage = tree.get("tool_usage")
    tool_usage = tool_usage if type(tool_usage) is dict else {}
    _web_searches(tree, tool_usage, items, tally, hints)
    calls = sum(1 for item in items if item.get("type") == "file_search_call")
    if calls:
        tally.units["file_searches"] = calls
    _containers(tree, items, tally, hints)
    _images(tree, tool_usage, items, tally)


def _web_searches(
    tree: dict[str, Any],
    tool_usage: dict[str, Any],
    items: list[dict[str, Any]],
    tally: Tally,
    hints: Mapping[str, str | int],
) -> None:
    """`tool_usage.web_search.num_requests` counts the billable ones; without it, calls that searched (not: opened a page).

    The preview of the tool has a price of its own. Which of the two it was, the answer says in its `tools`, else the request.
    """
    reported = tool_usage.get("web_search")
    if type(reported) is dict and "num_requests" in reported:
        searches = tokens.count(reported["num_requests"])
    else:
        searches = 0
        for item in items:
            if item.get("type") == "web_search_call" and item.get("status") != "failed":
                action = item.get("action")
                opened = type(action) is dict and action.get("type", "search") != "search"
                searches += not opened
    if searches:
        kind = word(hints.get("web_search")) or ""
        tools = tree.get("tools")
        for tool in tools if type(tools) is list else []:
            offered = word(tool.get("type")) if type(tool) is dict else None
            if offered is not None and offered.startswith("web_search"):
                kind = offered
        tally.units["web_search_previews" if kind.startswith(_PREVIEW) else "web_searches"] = searches


def _containers(
    tree: dict[str, Any], items: list[dict[str, Any]], tally: Tally, hints: Mapping[str, str | int]
) -> None:
    """Containers that the code interpreter ran in, each a part with its id, since later answers may use it again.

    A container that the request named by id was paid for when it was made.
    """
    size, named = word(hints.get("memory_limit")), None
    tools = tree.get("tools")
    for tool in tools if type(tools) is list else []:
        if type(tool) is dict and tool.get("type") == "code_interpreter":
            container = tool.get("container")
            named = container if type(container) is str else None
            if type(container) is dict:
                size = word(container.get("memory_limit")) or size
    unit = f"containers_{size}" if size in CONTAINER_SIZES else "containers_1g"
    seen: set[str] = set()
    for item in items:
        container_id = word(item.get("container_id"))
        if container_id is not None and container_id != named and container_id not in seen:
            seen.add(container_id)
            tally.part(Part("container", None, Usage(units=((unit, 1),)), container_id))


def _images(
    tree: dict[str, Any], tool_usage: dict[str, Any], items: list[dict[str, Any]], tally: Tally
) -> None:
    """The image tool's tokens (its model is named only in the tool's own settings) and those of drawn SVGs."""
    usage = image_tokens(tool_usage.get("image_gen"))
    if usage is not None and usage.total_tokens:
        tally.part(Part("image_gen", _image_model(tree, items), usage))
    for item in items:
        svg_part(item.get("svg_usage"), tally)


def _image_model(tree: dict[str, Any], items: list[dict[str, Any]]) -> str | None:
    for item in items:
        if item.get("type") == "image_generation_call" and (model := word(item.get("model"))):
            return model
    tools = tree.get("tools")
    for tool in tools if type(tools) is list else []:
        if type(tool) is dict and tool.get("type") == "image_generation":
            return word(tool.get("model"))
    return None


def image_tokens(value: Any) -> Usage | None:
    """An image usage object. Output that its details don't say to be text is image tokens (OpenAI's description of them)."""
    usage = tokens.read(value)
    if usage is None:
        return None
    details = value.get("output_tokens_details")
    if type(details) is dict:
        if "image_tokens" in details:
            return usage
        text = tokens.count(details.get("text_tokens"))
        return tokens.replaced(usage, output_image_tokens=max(0, usage.output_tokens - text))
    return tokens.replaced(usage, output_image_tokens=usage.output_tokens)


def svg_part(value: Any, tally: Tally) -> None:
    """`svg_usage` names its own model: a part."""
    usage = tokens.read(value)
    if usage is not None:
        tally.part(Part("svg", word(value.get("model")), usage))
