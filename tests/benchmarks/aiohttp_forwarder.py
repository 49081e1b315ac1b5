"""What the proxy would be with aiohttp's own client and responses: a forwarder that meters, checks and records nothing.

python -m tests.benchmarks.aiohttp_forwarder PORT UPSTREAM_URL
"""

from __future__ import annotations

import contextlib
import sys

import aiohttp
import uvloop
from aiohttp import web

DROPPED = {"host", "authorization", "connection", "content-length", "transfer-encoding"}
FRAMING = {"connection", "content-length", "transfer-encoding"}


def application(upstream: str) -> web.Application:
    """Forwards every request to `upstream`, answers streamed."""

    async def session(app: web.Application) -> object:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as opened:
            app["session"] = opened
            yield

    async def forward(request: web.Request) -> web.StreamResponse:
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in DROPPED]
        headers.append(("Authorization", "Bearer sk-real"))
        body = await request.read()
        async with request.app["session"].request(
            request.method, upstream + request.path_qs, headers=headers, data=body
        ) as answer:
            response = web.StreamResponse(status=answer.status, reason=answer.reason)
            for name, value in answer.headers.items():
                if name.lower() not in FRAMING:
                    response.headers.add(name, value)
            if answer.content_length is not None:
                response.content_length = answer.content_length
            with contextlib.suppress(ConnectionError):  # the load ended
                await response.prepare(request)
                async for piece in answer.content.iter_any():
                    await response.write(piece)
                await response.write_eof()
            return response

    app = web.Application(client_max_size=32 << 20)
    app.cleanup_ctx.append(session)
    app.router.add_route("*", "/{path:.*}", forward)
    return app


if __name__ == "__main__":
    web.run_app(
        application(sys.argv[2]),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop=uvloop.new_event_loop(),
        access_log=None,
        print=None,
    )
