"""The simulated OpenAI as an aiohttp application. Every answer says so: `openai-proxy-simulated: true`."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from proxy.simulator import chat, embeddings, models, responses
from proxy.simulator.problems import Problem

SIMULATED_HEADER = "openai-proxy-simulated"
BODY_MAX_BYTES = 64 * 2**20
STORED_RESPONSES_MAX = 1000
THINKING_S = 0.15
"""Before the first byte of an answer."""
PIECE_S = 0.02
"""Between two chunks: 50 tokens a second."""
PIECE_BURST = 3
"""So many chunks arrive together, as they do from OpenAI."""
CUT_AFTER_CHUNKS = 5
NO_KEY = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
    "(i.e. Authorization: Bearer YOUR_KEY)."
)


@dataclass(slots=True)
class Simulation:
    """What the simulator remembers: responses that can be asked for again. `pace` scales its waits; 0: none."""

    pace: float = 1.0
    stored: OrderedDict[str, dict[str, Any]] = field(default_factory=OrderedDict)

    def store(self, response: dict[str, Any]) -> None:
        """Keep a response, and forget the oldest when there are too many."""
        self.stored[response["id"]] = response
        if len(self.stored) > STORED_RESPONSES_MAX:
            self.stored.popitem(last=False)

    async def wait(self, seconds: float) -> None:
        """Take the time that a model takes."""
        if self.pace:
            await asyncio.sleep(seconds * self.pace)


SIMULATION = web.AppKey("simulation", Simulation)
REQUEST_ID = web.RequestKey("request_id", str)
BEGAN = web.RequestKey("began", float)


def make_app(pace: float = 1.0) -> web.Application:
    """The application, ready to be run."""
    app = web.Application(client_max_size=BODY_MAX_BYTES, middlewares=[_edge])
    app[SIMULATION] = Simulation(pace)
    app.router.add_post("/v1/chat/completions", _chat)
    app.router.add_post("/v1/completions", _completions)
    app.router.add_post("/v1/responses", _responses)
    app.router.add_get("/v1/responses/{id}", _get_response)
    app.router.add_delete("/v1/responses/{id}", _delete_response)
    app.router.add_post("/v1/embeddings", _embeddings)
    app.router.add_get("/v1/models", _models)
    app.router.add_get("/v1/models/{id}", _model)
    return app


@web.middleware
async def _edge(request: web.Request, handler: Any) -> web.StreamResponse:
    """Key, request id and OpenAI's headers around every answer; problems become error bodies."""
    request[REQUEST_ID] = f"req_{secrets.token_hex(16)}"
    request[BEGAN] = time.monotonic()
    try:
        if not request.headers.get("authorization", "").lower().startswith("bearer "):
            raise Problem(401, NO_KEY)
        answer: web.StreamResponse = await handler(request)
    except Problem as problem:
        answer = _json(request, problem.body(), problem.status)
        answer.headers.update(problem.headers)
    except web.HTTPRequestEntityTooLarge:
        answer = _json(request, Problem(413, "Simulated: the request is too large.").body(), 413)
    except web.HTTPException:  # no route
        unknown = Problem(404, f"Invalid URL ({request.method} {request.path})")
        answer = _json(request, unknown.body(), 404)
    return answer


def _headers(request: web.Request) -> dict[str, str]:
    return {
        "openai-version": "2020-10-01",
        "openai-organization": "simulated",
        "openai-processing-ms": str(int((time.monotonic() - request[BEGAN]) * 1000)),
        "x-request-id": request[REQUEST_ID],
        "x-ratelimit-limit-requests": "10000",
        "x-ratelimit-remaining-requests": "9999",
        "x-ratelimit-reset-requests": "6ms",
        SIMULATED_HEADER: "true",
    }


def _json(request: web.Request, body: dict[str, Any], status: int = 200) -> web.Response:
    text = json.dumps(body, indent=2, ensure_ascii=False) + "\n"
    return web.Response(
        body=text.encode(), status=status, content_type="application/json", headers=_headers(request)
    )


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.read())
    except ValueError:
        raise Problem(400, "We could not parse the JSON body of your request.") from None
    if not isinstance(body, dict):
        raise Problem(400, "The JSON body of your request must be an object.")
    return body


async def _stream(
    request: web.Request, events: Iterator[dict[str, Any]], *, named: bool, cut: bool
) -> web.StreamResponse:
    """Server-sent events with a model's pauses. `named`: as the responses API does, with event lines and no [DONE]."""
    simulation = request.app[SIMULATION]
    first = next(events)  # a bad request is answered as an error, not as a stream
    await simulation.wait(THINKING_S)
    headers = _headers(request) | {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-cache",
    }
    answer = web.StreamResponse(headers=headers)
    await answer.prepare(request)
    await answer.write(_event(first, named=named))
    for number, event in enumerate(events, 1):
        if number % PIECE_BURST == 0:
            await simulation.wait(PIECE_S * PIECE_BURST)
        if cut and number == CUT_AFTER_CHUNKS:
            assert request.transport is not None
            request.transport.abort()
            return answer
        await answer.write(_event(event, named=named))
    if not named:
        await answer.write(b"data: [DONE]\n\n")
    await answer.write_eof()
    return answer


def _event(event: dict[str, Any], *, named: bool) -> bytes:
    line = f"event: {event['type']}\n" if named else ""
    return f"{line}data: {json.dumps(event, separators=(',', ':'), ensure_ascii=False)}\n\n".encode()


def _wants_cut(body: dict[str, Any]) -> bool:
    return "simulate-cut" in json.dumps(body)


async def _chat(request: web.Request) -> web.StreamResponse:
    body = await _body(request)
    now, request_id = int(time.time()), request[REQUEST_ID]
    if body.get("stream"):
        chunks = chat.chat_chunks(body, now, request_id)
        return await _stream(request, chunks, named=False, cut=_wants_cut(body))
    answer = chat.chat(body, now, request_id)
    await request.app[SIMULATION].wait(THINKING_S)
    return _json(request, answer)


async def _completions(request: web.Request) -> web.StreamResponse:
    body = await _body(request)
    now, request_id = int(time.time()), request[REQUEST_ID]
    if body.get("stream"):
        chunks = chat.completion_chunks(body, now, request_id)
        return await _stream(request, chunks, named=False, cut=_wants_cut(body))
    answer = chat.completion(body, now, request_id)
    await request.app[SIMULATION].wait(THINKING_S)
    return _json(request, answer)


async def _responses(request: web.Request) -> web.StreamResponse:
    body = await _body(request)
    simulation = request.app[SIMULATION]
    now, request_id = int(time.time()), request[REQUEST_ID]
    answer = responses.response(body, now, request_id)
    if body.get("store", True):
        simulation.store(answer)
    if body.get("stream"):
        events = responses.response_events(body, now, request_id)
        return await _stream(request, events, named=True, cut=_wants_cut(body))
    await simulation.wait(THINKING_S)
    return _json(request, answer)


def _stored(request: web.Request) -> dict[str, Any]:
    named = request.match_info["id"]
    found = request.app[SIMULATION].stored.get(named)
    if found is None:
        raise Problem(404, f"Response with id '{named}' not found.")
    return found


async def _get_response(request: web.Request) -> web.StreamResponse:
    return _json(request, _stored(request))


async def _delete_response(request: web.Request) -> web.StreamResponse:
    found = _stored(request)
    del request.app[SIMULATION].stored[found["id"]]
    return _json(request, {"id": found["id"], "object": "response", "deleted": True})


async def _embeddings(request: web.Request) -> web.StreamResponse:
    answer = embeddings.embeddings(await _body(request))
    await request.app[SIMULATION].wait(THINKING_S)
    return _json(request, answer)


async def _models(request: web.Request) -> web.StreamResponse:
    data = [models.described(model, name) for name, model in models.MODELS.items()]
    return _json(request, {"object": "list", "data": data})


async def _model(request: web.Request) -> web.StreamResponse:
    name = request.match_info["id"]
    if name not in models.MODELS:
        models.find(name)
    return _json(request, models.described(models.MODELS[name], name))
