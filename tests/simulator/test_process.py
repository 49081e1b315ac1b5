"""The simulator as a process: on a socket handed to it, and gone when its parent is."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
START_S = 30


@contextlib.contextmanager
def started(*arguments: str, fd: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "proxy.simulator", *arguments]
    inherited = () if fd is None else (fd,)
    with subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=inherited, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


def models(port: int) -> bytes:
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/models", headers={"authorization": "Bearer x"}
    )
    with urllib.request.urlopen(asked, timeout=START_S) as answer:
        return answer.read()


def test_it_serves_an_inherited_socket_until_it_is_told_to_stop():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        with started("--fd", str(sock.fileno()), "--parent", str(os.getpid()), fd=sock.fileno()) as process:
            assert b"gpt-4o" in models(sock.getsockname()[1])
            process.send_signal(signal.SIGTERM)
            assert process.wait(START_S) == 0


def test_it_says_where_it_listens():
    with started("--pace", "0") as process:
        line = process.stdout.readline().decode()
        assert line.startswith("simulated OpenAI on http://127.0.0.1:")
        assert b"gpt-4o" in models(int(line.rsplit(":", 1)[1].removesuffix("/v1\n")))
        process.send_signal(signal.SIGINT)
        assert process.wait(START_S) == 0


def test_it_ends_when_its_parent_is_another():
    with started("--parent", "1") as process:
        assert process.wait(START_S) == 0
