"""What depends on a line of the spool is sent when the line is written, and what arrived together is written together."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.core.spoolformat import OPEN, RECORD, scan
from proxy.gateway import spooldir
from proxy.gateway.relay import Relay
from proxy.gateway.turn import TOGETHER_MAX, Turn
from tests.benchmarks import guarded
from tests.benchmarks.measure import body
from tests.benchmarks.upstream import completion
from tests.compiled import replaces


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[guarded.Rig]:
    rig = guarded.build(tmp_path)
    yield rig
    rig.recorder._spool.close()


def written(rig: guarded.Rig) -> list[bytes]:
    """The kinds of the lines that lie on the disk."""
    paths = spooldir.segments(rig.recorder._spool.directory)
    return [kind for path in paths for kind, _ in scan(path.read_bytes()).lines]


def test_a_request_leaves_when_its_open_line_is_written_and_an_answer_ends_when_its_record_is(
    rig: guarded.Rig,
) -> None:
    seen: list[list[bytes]] = []
    for wire in (rig.upstream, rig.client):
        write = wire.write

        def watched(data: bytes, write: Callable[[bytes], None] = write) -> None:
            seen.append(written(rig))
            write(data)

        wire.write = watched  # type: ignore[method-assign]

    _, answer = rig.exchange(guarded.request(body()), [completion()])

    assert seen == [[OPEN], [OPEN, RECORD]]
    assert answer.endswith(completion()[-20:])


def test_what_arrives_in_one_turn_is_written_in_one_go(
    rig: guarded.Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[int] = []
    write = os.write

    def counted(descriptor: int, data: bytes) -> int:
        writes.append(data.count(b"\n"))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", counted)
    spool = rig.recorder._spool
    for number in range(5):
        spool.gather_open(str(number), b"{}")
    assert written(rig) == []
    assert rig.recorder._spool.commit() == []

    assert writes == [5]
    assert written(rig) == [OPEN] * 5


def test_a_disk_with_room_for_some_lines_takes_those(
    rig: guarded.Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def small(descriptor: int, data: bytes) -> int:
        if len(data) > 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", small)
    spool = rig.recorder._spool
    spool.gather_open("small", b"{}")
    spool.gather_record("large", (b"x" * 200,))
    spool.gather_record("small", (b"{}",))

    assert [entry[0] for entry, _ in spool.commit()] == ["large"]
    assert written(rig) == [OPEN, RECORD]
    assert (spool.open_exchanges, spool.unread) == (0, 1)


def test_a_request_whose_open_line_can_not_be_written_is_not_forwarded(
    rig: guarded.Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    rig.upstream.abort = lambda: None  # type: ignore[attr-defined]
    monkeypatch.setattr(os, "write", full)
    sent, answer = rig.exchange(guarded.request(body()), [])

    assert sent == b""
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"usage_not_recordable" in answer


@replaces
def test_a_post_goes_to_another_connection_when_its_own_closed_before_it_was_sent(rig: guarded.Rig) -> None:
    pool = rig.connection._pool
    dialed: list[Relay] = []
    rig.connection.served = 1
    rig.upstream.abort = lambda: None  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Relay, "_dial", lambda relay: dialed.append(relay))  # noqa: PLW0108
        rig.front.data_received(guarded.request(body()))
        rig.upstream.is_closing = lambda: True  # type: ignore[method-assign]
        rig.turn()
        rig.connection.connection_lost(None)

    assert rig.upstream.take() == b""
    assert len(dialed) == 1
    assert pool.idle == 0


def test_nothing_waits_for_more_than_so_many_others() -> None:
    commits: list[int] = []
    sent: list[int] = []
    turn = Turn(lambda: commits.append(len(sent)), lambda end: None)
    for number in range(TOGETHER_MAX + 1):
        turn.then(lambda number=number: sent.append(number))  # type: ignore[misc]

    assert commits == [0]
    assert sent == list(range(TOGETHER_MAX))


def test_one_exchange_that_fails_does_not_keep_the_others(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[int] = []
    ends: list[Callable[[], None]] = []
    turn = Turn(lambda: None, ends.append)
    turn.then(lambda: 1 // 0)  # type: ignore[arg-type, return-value]
    turn.then(lambda: sent.append(1))
    [end] = ends
    end()

    assert sent == [1]
    assert "could not go on" in caplog.text
