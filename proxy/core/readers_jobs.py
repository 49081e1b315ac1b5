"""Readers of work that goes on after its request was answered: runs, batches, evals, fine-tuning, agents' turns, videos.

Their usage is read only from a terminal state: before, it is missing or grows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy.core import tokens
from proxy.core.tally import Tally, word
from proxy.core.usage import Part, Usage

BATCH_TIER = "batch"
VIDEO_LARGE_SIZES = frozenset({"1024x1792", "1792x1024"})

_RUN_ENDS = frozenset({"completed", "failed", "cancelled", "expired", "incomplete"})
_BATCH_ENDS = frozenset({"completed", "failed", "expired", "cancelled"})
_EVAL_ENDS = frozenset({"completed", "failed", "canceled", "cancelled"})
_TUNING_ENDS = frozenset({"succeeded", "failed", "cancelled"})
_TURN_ENDS = frozenset({"completed", "failed", "cancelled"})


def _about(tree: dict[str, Any], tally: Tally, ends: frozenset[str]) -> bool:
    """Id, model, status and error of a job; True when it has come to its end."""
    tally.object_id = word(tree.get("id")) or tally.object_id
    tally.model = word(tree.get("model")) or tally.model
    status = word(tree.get("status"))
    error = tree.get("last_error") or tree.get("error")
    if error:
        tally.error(error)
    if status not in ends:
        return False
    details = tree.get("incomplete_details")
    tally.finish_reason = (word(details.get("reason")) if type(details) is dict else None) or status
    return True


def read_run(tree: dict[str, Any], tally: Tally, hints: Mapping[str, str | int]) -> None:
    """An assistant's run (`thread.run`). Its steps repeat its usage and are never read."""
    del hints
    if tree.get("object", "thread.run") != "thread.run":
        return
    tally.belongs(tree.get("thread_id"), "thread")
    if _about(tree, tally, _RUN_ENDS):
        tally.usage = tokens.read(tree.get("usage")) or tally.usage


def read_batch(tree: dict[str, Any], tally: Tally, hints: Mapping[str, str | int]) -> None:
    """A batch: the sum of its requests, at batch prices, which is what the tier "batch" says."""
    del hints
    tally.service_tier = BATCH_TIER
    tally.belongs(tree.get("output_file_id"), "file")
    tally.belongs(tree.get("error_file_id"), "file")
    errors = tree.get("errors")
    data = errors.get("data") if type(errors) is dict else None
    if type(data) is list and data:
        tally.error(data[0])
    if not _about(tree, tally, _BATCH_ENDS):
        return
    tally.usage = tokens.read(tree.get("usage"))
    counts = tree.get("request_counts")
    if tally.usage is not None and type(counts) is dict:
        requests = tokens.count(counts.get("completed"))
        if requests > 1:
            tally.units["requests"] = requests
    if tally.usage is None and tally.finish_reason == "completed":
        tally.unknown = True


def read_eval(tree: dict[str, Any], tally: Tally, hints: Mapping[str, str | int]) -> None:
    """An eval's run: nothing of its own, a part for each model that took part."""
    del hints
    if not _about(tree, tally, _EVAL_ENDS):
        return
    rows = tree.get("per_model_usage")
    if type(rows) is not list:
        return
    tally.usage = Usage()
    for row in rows:
        usage = tokens.read(row)
        if usage is not None and type(row) is dict:
            invocations = tokens.count(row.get("invocation_count"))
            if invocations > 1:
                usage = tokens.with_units(usage, {"requests": invocations}) or usage
            tally.part(Part("eval", word(row.get("model_name")), usage))


def read_fine_tuning(tree: dict[str, Any], tally: Tally, hints: Mapping[str, str | int]) -> None:
    """A fine-tuning job: the tokens it trained on, of its base model."""
    del hints
    files = tree.get("result_files")
    for each in files if type(files) is list else ():
        tally.belongs(each, "file")
    if _about(tree, tally, _TUNING_ENDS):
        trained = tokens.count(tree.get("trained_tokens"))
        tally.usage = Usage()
        tally.units["trained_tokens"] = trained


def read_grader(tree: dict[str, Any], tally: Tally, hints: Mapping[str, str | int]) -> None:
    """A grader's trial run: a part for each model that graded, else the one number it gives."""
    del hints
    rows = tree.get("model_grader_token_usage_per_model")
    if type(rows) is dict:
        for model, row in rows.items():
            usage = tokens.read(row)
            if usage is None and tokens.count(row):
                usage = Usage(total_tokens=tokens.count(row))
            if usage is not None:
                tally.usage = Usage()
                tally.part(Part("grader", word(model), usage))
    metadata = tree.get("metadata")
    if tally.usage is None and type(metadata) is dict:
        total = tokens.count(metadata.get("token_usage"))
        tally.usage = Usage(total_tokens=total)
        tally.unknown = total > 0


def read_turn(tree: dict[str, Any], tally: Tally, hints: Mapping[str, str | int]) -> None:
    """A turn of an agent's session. A session's own usage is a running sum of its turns and is not read."""
    del hints
    if tree.get("object") != "agent.session.turn":
        tally.object_id = word(tree.get("id")) or tally.object_id
        return
    if not _about(tree, tally, _TURN_ENDS):
        return
    tally.usage = tokens.read(tree.get("usage"))
    tally.unknown = tally.usage is None and tally.finish_reason == "completed"


def read_video(tree: dict[str, Any], tally: Tally, hints: Mapping[str, str | int]) -> None:
    """A video: its seconds, by size. A failed one is free."""
    if not _about(tree, tally, frozenset({"completed", "failed"})):
        return
    tally.usage = Usage()
    length = tokens.milliseconds(tree.get("seconds"))
    if tally.finish_reason != "completed" or length is None:
        return
    size = word(tree.get("size")) or word(hints.get("size"))
    tally.units["video_1024x1792_ms" if size in VIDEO_LARGE_SIZES else "video_ms"] = length
