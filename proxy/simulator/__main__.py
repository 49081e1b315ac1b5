"""`python -m proxy.simulator`: the simulated OpenAI as a process, on a socket that the server hands to it or on a port.

It ends when the server that started it is gone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket

import uvloop
from aiohttp import web

from proxy.simulator.server import make_app

PARENT_CHECK_S = 1.0


async def simulate(sock: socket.socket, pace: float, parent: int | None) -> None:
    """Serve on a listening socket until SIGTERM, or until `parent` is no longer our parent process."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    runner = web.AppRunner(make_app(pace), access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.SockSite(runner, sock).start()
    while not stopping.is_set() and parent in {None, os.getppid()}:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), PARENT_CHECK_S)
    await runner.cleanup()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m proxy.simulator", description="A simulated OpenAI API.")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--pace", type=float, default=1.0, help="scales its waits; 0 answers at once")
    parser.add_argument("--fd", type=int, help="a listening socket, inherited")
    parser.add_argument("--parent", type=int, help="end when this is no longer the parent process")
    given = parser.parse_args()
    sock = socket.socket(fileno=given.fd) if given.fd is not None else socket.socket()
    if given.fd is None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", given.port))
        sock.listen()
        print(f"simulated OpenAI on http://127.0.0.1:{sock.getsockname()[1]}/v1", flush=True)  # noqa: T201
    uvloop.run(simulate(sock, given.pace, given.parent))


if __name__ == "__main__":
    main()
