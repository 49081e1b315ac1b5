"""What is held of a spool in memory: the same records as on its disk, in the same order, whatever jams and whoever is slow."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from proxy.gateway import unread
from proxy.gateway.spool import Spool
from proxy.gateway.unread import Unread


def test_writes_are_taken_whole_and_in_order() -> None:
    held = Unread()
    held.add((1, 10, [b"a", b"b"]), 10)
    held.add((1, 20, [b"c"]), 10)
    held.add((2, 10, [b"d", b"e"]), 10)
    assert held.take(3) == (1, 20, [b"a", b"b", b"c"])
    assert held.take(1) == (2, 10, [b"d", b"e"]), "never less than one write"
    assert held.take(1) is None


def test_of_more_than_its_bound_nothing_is_held_until_the_reader_has_caught_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unread, "HELD_BYTES_MAX", 20)
    held = Unread()
    held.add((1, 20, [b"a"]), 20)
    assert held.whole
    held.add((1, 21, [b"b"]), 1)
    assert (held.whole, held.take(9)) == (False, None)
    held.add((1, 31, [b"c"]), 1)
    assert held.take(9) is None
    held.caught_up()
    held.add((1, 41, [b"d"]), 20)
    assert held.take(9) == (1, 41, [b"d"])


@pytest.mark.parametrize("seed", range(30))
def test_whatever_comes_and_jams_every_record_is_read_once_and_its_segments_go(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = Random(seed)
    spool = Spool(tmp_path, "w", max_bytes=2**20, segment_bytes=4096)
    written: list[bytes] = []
    read: list[bytes] = []
    ways = set()
    open_ones: list[str] = []
    for step in range(400):
        if step in {0, 150, 300}:
            monkeypatch.setattr(unread, "HELD_BYTES_MAX", 60 if step == 150 else 10_000)
        chance = random.random()
        if chance < 0.3:
            spool.gather_open(str(step), b"[%d]" % step)
            open_ones.append(str(step))
        elif chance < 0.6 and open_ones:
            records = tuple(b"[%d,%d]" % (step, part) for part in range(random.randint(1, 3)))
            spool.gather_record(open_ones.pop(random.randrange(len(open_ones))), records)
            written += records
        elif chance < 0.8:
            assert not spool.commit()
        elif chance < 0.9:
            ways.add(spool.reads_disk)
            batch = spool.read(random.randint(1, 40))
            read += batch.payloads
            assert batch.payloads or not batch.more
            spool.acknowledge(batch)
            spool.sync()
    for exchange_id in open_ones:
        spool.gather_record(exchange_id, (exchange_id.encode(),))
        written.append(exchange_id.encode())
    spool.commit()
    more = True
    while more:
        batch = spool.read(40)
        read += batch.payloads
        more = batch.more
        spool.acknowledge(batch)
    assert read == written
    assert ways == {False, True}, "both ways were taken"
    assert (spool.unread, spool.reads_disk, spool.at_rest) == (0, False, True)
    spool.rotate()
    assert spool.bytes == 0
    assert spool.close(), "nothing is left"
