from __future__ import annotations

import orjson

from proxy.core.leftover import Leftover
from proxy.core.spoolformat import OPEN, RECORD, encode_line, encode_open, encode_record, scan
from tests.exchanges import exchange_id, make_open, make_record


def opened(number: int) -> tuple[bytes, bytes]:
    return (OPEN, encode_open(make_open(number)))


def recorded(number: int) -> tuple[bytes, bytes]:
    return (RECORD, encode_record(make_record(number)))


def ids(payloads: list[bytes]) -> list[str]:
    return [orjson.loads(payload)[0] for payload in payloads]


def test_an_exchange_without_a_record_is_lost() -> None:
    left = Leftover()
    assert ids(left.records([opened(1), opened(2), recorded(1)])) == [exchange_id(1)]
    assert ids(left.lost()) == [exchange_id(2)]


def test_an_open_line_that_was_carried_over_is_one_exchange() -> None:
    left = Leftover()
    left.records([opened(1), opened(2)])
    left.records([opened(1), opened(2), recorded(2)])
    assert ids(left.lost()) == [exchange_id(1)]


def test_an_open_line_behind_its_record_loses_nothing() -> None:
    left = Leftover()
    left.records([recorded(1)])
    left.records([opened(1)])
    assert left.lost() == []


def test_cut_at_every_byte_no_record_before_the_cut_is_lost_and_nothing_is_invented() -> None:
    lines = [opened(1), opened(2), recorded(2), opened(3), recorded(1), opened(4), recorded(4)]
    data = b""
    ends = []
    for kind, payload in lines:
        data += encode_line(kind, payload)
        ends.append(len(data))
    for cut in range(len(data) + 1):
        left = Leftover()
        records = ids(left.records(scan(data[:cut]).lines))
        lost = ids(left.lost())
        whole = [line for line, end in zip(lines, ends, strict=True) if end <= cut]
        assert records == ids([payload for kind, payload in whole if kind == RECORD])
        begun = ids([payload for kind, payload in whole if kind == OPEN])
        assert sorted(records + lost) == sorted(begun)
