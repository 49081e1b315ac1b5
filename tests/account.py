"""An upstream account that remembers what was made in it: responses, batches, files, runs, videos, client secrets, calls.

`Account.respond` is a `Respond` of the fake upstream. Ids are unique, as OpenAI's are; background work ends when a test says so
(`finish`), and then shows its usage to whoever asks.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote

from tests import openai_answers
from tests.openai_answers import dumps, error, plain
from tests.wire import head

Answer = tuple[bytes, ...]
RESPONSE_USAGE = {
    "input_tokens": 1000,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 200,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 1200,
}
BATCH_USAGE = {
    "input_tokens": 100_000,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 20_000,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 120_000,
}
EVAL_USAGE = {
    "model_name": "gpt-4o-mini-2024-07-18", "invocation_count": 2, "prompt_tokens": 200, "completion_tokens": 40,
    "cached_tokens": 0, "total_tokens": 240,
}  # fmt: skip
RUN_USAGE = {"prompt_tokens": 50, "completion_tokens": 10, "total_tokens": 60}
MODEL = "gpt-4o-mini-2024-07-18"
PAGE = 20


class Account:
    """Everything in it is kept by id, in the order in which it was made."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.secrets: list[str] = []
        self.expires_at = 4_000_000_000
        """Of the client secrets that are issued from now on."""
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def respond(self, method: bytes, target: bytes, body: bytes) -> Answer:
        """The answer to any request."""
        path, _, query = target.decode().partition("?")
        parts = [part for part in unquote(path).split("/") if part][1:]
        with self._lock:
            maker = self._makers().get((method, path))
            if maker is not None:
                return maker(json.loads(body) if body[:1] == b"{" else {})
            if method == b"GET" and path in _LISTED:
                return self._list(_LISTED[path], parse_qs(query))
            if parts[:1] == ["threads"] and parts[2:3] == ["runs"] and method == b"POST" and len(parts) == 3:
                return self._run(parts[1])
            found = self.objects.get(next((part for part in reversed(parts) if part in self.objects), ""))
            if found is not None:
                return plain(dumps(found))
        if path == "/v1/models":
            return openai_answers.answer(method, target, body)
        return error(b"404 Not Found", None, f"Nothing at {path}.")

    def finish(self, object_id: str, status: str = "completed") -> None:
        """Background work has come to its end."""
        with self._lock:
            found = self.objects[object_id]
            found["status"] = status
            if found["object"] == "batch":
                found["usage"] = BATCH_USAGE
                found["request_counts"] = {"total": 100, "completed": 100, "failed": 0}
                found["output_file_id"] = self._add("file", {"object": "file", "purpose": "batch_output"})[
                    "id"
                ]
            elif found["object"] == "thread.run":
                found["usage"] = RUN_USAGE
            elif found["object"] == "response":
                found["usage"] = RESPONSE_USAGE
            elif found["object"] == "fine_tuning.job":
                found |= {
                    "trained_tokens": 5000,
                    "result_files": [self._add("file", {"object": "file"})["id"]],
                }
            elif found["object"] == "eval.run":
                found["per_model_usage"] = [EVAL_USAGE]

    def _makers(self) -> dict[tuple[bytes, str], Callable[[dict[str, Any]], Answer]]:
        return {
            (b"POST", "/v1/responses"): self._response,
            (b"POST", "/v1/batches"): self._batch,
            (b"POST", "/v1/files"): lambda asked: self._made("file", {"object": "file", "purpose": "batch"}),
            (b"POST", "/v1/conversations"): lambda asked: self._made("conv", {"object": "conversation"}),
            (b"POST", "/v1/videos"): lambda asked: self._made(
                "video",
                {
                    "object": "video",
                    "model": "sora-2",
                    "status": "queued",
                    "seconds": "4",
                    "size": "720x1280",
                },
            ),
            (b"POST", "/v1/threads/runs"): lambda asked: self._run(
                self._add("thread", {"object": "thread"})["id"]
            ),
            (b"POST", "/v1/fine_tuning/jobs"): lambda asked: self._made(
                "ftjob",
                {
                    "object": "fine_tuning.job",
                    "model": asked.get("model"),
                    "status": "queued",
                    "trained_tokens": None,
                },
            ),
            (b"POST", "/v1/evals/eval_1/runs"): lambda asked: self._made(
                "evalrun", {"object": "eval.run", "eval_id": "eval_1", "status": "queued", "model": MODEL}
            ),
            (b"POST", "/v1/chat/completions"): self._chat,
            (b"POST", "/v1/realtime/client_secrets"): self._secret,
            (b"POST", "/v1/realtime/calls"): self._call,
        }

    def _add(self, prefix: str, fields: dict[str, Any]) -> dict[str, Any]:
        joint = "-" if prefix == "file" else "_"
        made = {"id": f"{prefix}{joint}{next(self._numbers):06d}", **fields}
        self.objects[made["id"]] = made
        return made

    def _made(self, prefix: str, fields: dict[str, Any]) -> Answer:
        return plain(dumps(self._add(prefix, fields)))

    def _response(self, asked: dict[str, Any]) -> Answer:
        background = bool(asked.get("background"))
        made = self._add(
            "resp",
            {
                "object": "response",
                "model": MODEL,
                "status": "queued" if background else "completed",
                "background": background,
                "output": [],
                "usage": None if background else RESPONSE_USAGE,
                "service_tier": "default",
            },
        )
        for tool in asked.get("tools", ()):
            if tool["type"] == "code_interpreter":
                made["tools"] = [tool]
                made["output"] = [{"type": "code_interpreter_call", "container_id": "cntr_shared"}]
        return plain(dumps(made))

    def _chat(self, asked: dict[str, Any]) -> Answer:
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        made = self._add("chatcmpl", {"object": "chat.completion", "model": MODEL, "usage": usage})
        if not asked.get("store"):
            del self.objects[made["id"]]
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi."}}
        return plain(dumps(made | {"choices": [choice]}))

    def _batch(self, asked: dict[str, Any]) -> Answer:
        return self._made(
            "batch",
            {
                "object": "batch",
                "model": MODEL,
                "endpoint": "/v1/responses",
                "input_file_id": asked.get("input_file_id"),
                "status": "validating",
                "usage": None,
            },
        )

    def _run(self, thread_id: str) -> Answer:
        return self._made(
            "run",
            {
                "object": "thread.run",
                "thread_id": thread_id,
                "model": MODEL,
                "status": "queued",
                "usage": None,
            },
        )

    def _secret(self, asked: dict[str, Any]) -> Answer:
        secret = f"ek_{next(self._numbers):032d}"
        self.secrets.append(secret)
        session = {"type": "realtime", "id": "sess_1", "model": "gpt-realtime"}
        return plain(dumps({"value": secret, "expires_at": self.expires_at, "session": session}))

    def _call(self, asked: dict[str, Any]) -> Answer:
        made = self._add("rtc", {"object": "realtime.call"})
        sdp = b"v=0\r\n"
        return (
            head(
                b"HTTP/1.1 201 Created",
                b"Content-Type: application/sdp",
                b"Content-Length: %d" % len(sdp),
                b"Location: /v1/realtime/calls/" + made["id"].encode(),
            )
            + sdp,
        )

    def _list(self, kind: str, asked: dict[str, list[str]]) -> Answer:
        """Newest first, as OpenAI lists."""
        found = [each for each in reversed(self.objects.values()) if each["object"] == kind]
        after = asked.get("after", [None])[0]
        if after is not None:
            at = next((at for at, each in enumerate(found) if each["id"] == after), len(found))
            found = found[at + 1 :]
        page = found[: int(asked.get("limit", [str(PAGE)])[0])]
        return plain(
            dumps(
                {
                    "object": "list",
                    "data": page,
                    "first_id": page[0]["id"] if page else None,
                    "last_id": page[-1]["id"] if page else None,
                    "has_more": len(found) > len(page),
                }
            )
        )


_LISTED = {
    "/v1/files": "file",
    "/v1/batches": "batch",
    "/v1/videos": "video",
    "/v1/chat/completions": "chat.completion",
}
