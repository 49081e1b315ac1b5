from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.core.spoolformat import OPEN, RECORD, scan
from proxy.gateway import spooldir, unread
from proxy.gateway.segments import READ_BYTES
from proxy.gateway.spool import Spool


@pytest.fixture(params=["memory", "disk"])
def spool(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spool]:
    """A spool that reads what it wrote from memory, and one that holds nothing there."""
    if request.param == "disk":
        monkeypatch.setattr(unread, "HELD_BYTES_MAX", 0)
    made = Spool(tmp_path, "w1", max_bytes=2**20, segment_bytes=4096)
    yield made
    if made._descriptor >= 0:
        made.close()


def payload(number: int, size: int = 0) -> bytes:
    return orjson.dumps({"id": str(number), "x": "x" * size})


def on_disk(directory: Path) -> list[tuple[bytes, str]]:
    return [
        (kind, orjson.loads(body)["id"])
        for path in spooldir.segments(directory)
        for kind, body in scan(path.read_bytes()).lines
    ]


def test_what_was_appended_is_in_the_file_when_the_call_returns(spool: Spool) -> None:
    spool.append_open("1", payload(1))
    spool.append_record("1", payload(1))
    assert on_disk(spool.directory) == [(OPEN, "1"), (RECORD, "1")]


def test_records_are_read_in_order_and_once(spool: Spool) -> None:
    for number in range(5):
        spool.append_open(str(number), payload(number))
        spool.append_record(str(number), payload(number))
    assert spool.unread == 5
    assert spool.read(3).payloads == [payload(0), payload(1), payload(2)]
    assert spool.read(3).payloads == [payload(3), payload(4)]
    assert spool.read(3).payloads == []
    assert spool.unread == 0


def test_a_line_longer_than_one_read_is_found(tmp_path: Path) -> None:
    long = orjson.dumps(["x" * (READ_BYTES + 1000)])
    made = Spool(tmp_path, "w3", max_bytes=2**24)
    for number, payload in enumerate((b"[1]", long, b"[2]")):
        made.append_record(str(number), payload)
    batch = made.read(10)
    assert (batch.payloads, batch.damaged) == ([b"[1]", long, b"[2]"], 0)
    made.acknowledge(batch)
    assert made.close()


def test_reading_goes_on_over_many_segments(spool: Spool) -> None:
    for number in range(100):
        spool.append_record(str(number), payload(number, 500))
    assert len(spooldir.segments(spool.directory)) > 10
    assert spool.read(1000).payloads == [payload(number, 500) for number in range(100)]


def test_a_segment_goes_when_all_before_its_end_is_stored(spool: Spool) -> None:
    for number in range(100):
        spool.append_record(str(number), payload(number, 500))
    first = spool.read(50)
    spool.sync()
    before = spool.bytes
    spool.acknowledge(first)
    spool.sync()
    left = {name for _, name in on_disk(spool.directory)}
    assert left >= {str(number) for number in range(50, 100)}
    assert "0" not in left
    assert spool.bytes < before
    assert spool.bytes == sum(path.stat().st_size for path in spooldir.segments(spool.directory))


def test_an_open_line_outlives_its_segment_until_its_record_comes(spool: Spool) -> None:
    spool.append_open("long", payload(-1, 100))
    for number in range(50):
        spool.append_record(str(number), payload(number, 500))
    spool.acknowledge(spool.read(1000))
    spool.sync()
    names = [name for kind, name in on_disk(spool.directory) if kind == OPEN]
    assert names == ["-1"]
    spool.append_record("long", payload(-1, 100))
    for number in range(50):
        spool.append_record(str(number), payload(number, 500))
    spool.acknowledge(spool.read(1000))
    spool.sync()
    assert OPEN not in [kind for kind, _ in on_disk(spool.directory)]


def test_a_segment_full_of_open_lines_is_not_written_again_and_again(spool: Spool) -> None:
    for number in range(200):
        spool.append_open(str(number), payload(number, 300))
    size = spool.bytes
    for _ in range(20):
        spool.acknowledge(spool.read(1000))
    assert spool.bytes == size
    for number in range(200):
        spool.append_record(str(number), payload(number))
    spool.acknowledge(spool.read(1000))
    spool.sync()
    assert spool.bytes < 2 * 4096 + 400


def test_segments_are_removed_only_after_what_was_carried_over_is_synced(spool: Spool) -> None:
    spool.append_open("long", payload(-1))
    for number in range(50):
        spool.append_record(str(number), payload(number, 500))
    first = spooldir.segments(spool.directory)[0]
    spool.acknowledge(spool.read(1000))
    assert first.exists()
    assert spool.sync()
    assert not first.exists()
    assert not spool.sync()


def test_at_rest_everything_stored_can_be_let_go(spool: Spool) -> None:
    spool.append_open("long", payload(-1))
    spool.append_record("1", payload(1, 100))
    batch = spool.read(10)
    assert not spool.at_rest
    spool.acknowledge(batch)
    assert spool.at_rest
    spool.rotate()
    spool.sync()
    assert on_disk(spool.directory) == [(OPEN, "-1")]
    spool.append_record("2", payload(2))
    assert not spool.at_rest
    assert spool.read(10).payloads == [payload(2)]


def test_a_full_disk_leaves_no_half_line(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    spool.append_record("1", payload(1))
    write = os.write

    def half(descriptor: int, data: bytes) -> int:
        return write(descriptor, data[: len(data) // 2])

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(OSError, match="No space left") as caught:
        spool.append_open("2", payload(2))
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(OSError, match="No space left"):
        spool.append_record("3", payload(3))
    monkeypatch.undo()
    spool.append_record("4", payload(4))
    assert spool.open_exchanges == 0
    assert spool.read(10).payloads == [payload(1), payload(4)]
    assert b"".join(path.read_bytes() for path in spooldir.segments(spool.directory)).count(b"\n") == 2


def test_where_half_a_line_can_not_be_cut_off_no_line_follows_it(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.append_record("1", payload(1))
    write = os.write

    def refuse(*_: Any) -> None:
        raise OSError(errno.EIO, "no")

    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:5]))
    monkeypatch.setattr(os, "ftruncate", refuse)
    with pytest.raises(OSError, match="No space left"):
        spool.append_record("2", payload(2))
    monkeypatch.undo()
    spool.append_record("3", payload(3))
    assert spool.read(10).payloads == [payload(1), payload(3)]
    assert on_disk(spool.directory) == [(RECORD, "1"), (RECORD, "3")]


def test_the_oldest_records_are_given_up_first(spool: Spool) -> None:
    spool.append_open("long", payload(-1))
    for number in range(40):
        spool.append_record(str(number), payload(number, 500))
    dropped = spool.drop_oldest()
    assert dropped > 0
    assert spool.read(1000).payloads == [payload(number, 500) for number in range(dropped, 40)]
    assert (OPEN, "-1") in on_disk(spool.directory)


def test_the_only_segment_can_be_given_up_too(spool: Spool) -> None:
    spool.append_record("1", payload(1))
    assert spool.drop_oldest() == 1
    assert spool.drop_oldest() == 0
    assert spool.read(10).payloads == []


def test_a_spool_with_nothing_left_takes_its_directory_along(spool: Spool) -> None:
    spool.append_record("1", payload(1))
    spool.acknowledge(spool.read(10))
    assert spool.close()
    assert not spool.directory.exists()


def test_what_is_not_stored_stays_for_others(spool: Spool) -> None:
    spool.append_record("1", payload(1))
    spool.read(10)
    assert not spool.close()
    assert on_disk(spool.directory) == [(RECORD, "1")]
    spool_lock = spooldir.take_lock(spool.directory)
    assert spool_lock is not None
    os.close(spool_lock)


def test_a_living_worker_keeps_its_lock(spool: Spool) -> None:
    assert spooldir.spools(spool.directory.parent) == [spool.directory]
    assert spooldir.take_lock(spool.directory) is None


def test_with_always_every_append_is_synced_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: (synced.append(descriptor), real(descriptor))[1])
    always = Spool(tmp_path, "w2", max_bytes=2**20, sync_each=True)
    always.append_open("1", payload(1))
    always.append_record("1", payload(1))
    assert len(synced) == 2
    assert not always.sync()
    always.close()


def test_a_failed_sync_is_tried_again(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    spool.append_record("1", payload(1))

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "no")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(OSError, match="no"):
        spool.sync()
    monkeypatch.undo()
    assert spool.unsynced
    assert spool.sync()


def test_descriptors_do_not_pile_up(spool: Spool) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for number in range(200):
        spool.append_record(str(number), payload(number, 500))
        spool.sync()
        spool.acknowledge(spool.read(10))
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_died_while_it_was_made_or_removed_is_swept_away(spool: Spool) -> None:
    root = spool.directory.parent
    for name in (".old-1", ".new-2", ".new-3"):
        (root / name).mkdir()
        (root / name / "lock").touch()
    now = os.stat(root).st_mtime
    os.utime(root / ".new-2", (now - 3601, now - 3601))
    assert spooldir.spools(root) == [spool.directory]
    spooldir.sweep(root, now)
    assert sorted(path.name for path in root.iterdir()) == [".new-3", "w1"]
