"""When a connection is read, and that one which brings much lets the others have their turn."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import cast

import pytest
import uvloop

from proxy.gateway.intake import Intake


class Reading:
    """A transport that notes when it is read."""

    def __init__(self) -> None:
        self.reads = True
        self.closing = False
        self.told: list[str] = []

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.told.append("pause")
        self.reads = False

    def resume_reading(self) -> None:
        self.told.append("resume")
        self.reads = True


@pytest.fixture
def transport() -> Reading:
    return Reading()


@pytest.fixture
def intake(transport: Reading) -> Intake:
    return Intake(cast("asyncio.Transport", transport))


async def test_a_rest_lasts_one_turn(intake: Intake, transport: Reading):
    intake.rest()
    intake.rest()
    assert transport.told == ["pause"]
    await asyncio.sleep(0)
    assert transport.told == ["pause", "resume"]


async def test_what_is_paused_during_a_rest_stays_so_after_it(intake: Intake, transport: Reading):
    intake.rest()
    intake.pause()
    await asyncio.sleep(0)
    assert not transport.reads
    intake.resume()
    assert transport.reads


async def test_what_is_resumed_during_a_rest_is_read_after_it(intake: Intake, transport: Reading):
    intake.rest()
    intake.pause()
    intake.resume()
    assert not transport.reads
    await asyncio.sleep(0)
    assert transport.reads


async def test_what_is_paused_needs_no_rest(intake: Intake, transport: Reading):
    intake.pause()
    intake.rest()
    await asyncio.sleep(0)
    assert transport.told == ["pause"]
    assert intake.paused


async def test_a_closed_connection_is_left_alone(intake: Intake, transport: Reading):
    intake.rest()
    transport.closing = True
    await asyncio.sleep(0)
    intake.pause()
    intake.resume()
    intake.rest()
    assert transport.told == ["pause"]


MUCH = 20_000_000


class Taker(asyncio.Protocol):
    """Notes in which turn of the loop it was given something."""

    def __init__(self) -> None:
        self.turn = self.received = 0
        self.turns: list[int] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.intake = Intake(cast("asyncio.Transport", transport))

    def data_received(self, data: bytes) -> None:
        self.turns.append(self.turn)
        self.received += len(data)
        self.intake.rest()


def test_a_connection_that_is_always_full_is_read_once_a_turn():
    async def run(sock: socket.socket) -> Taker:
        loop = asyncio.get_running_loop()
        transport, taker = await loop.create_connection(Taker, sock=sock)
        async with asyncio.timeout(60):
            while taker.received < MUCH:
                taker.turn += 1
                await asyncio.sleep(0)
        transport.close()
        await asyncio.sleep(0)
        return taker

    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
        sender = threading.Thread(target=theirs.sendall, args=(bytes(MUCH),))
        sender.start()
        taker = uvloop.run(run(ours))
        sender.join()
        theirs.close()
    assert taker.received == MUCH
    assert len(set(taker.turns)) == len(taker.turns)
