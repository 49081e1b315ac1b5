from __future__ import annotations

import datetime as dt
import stat
import threading
from pathlib import Path

import orjson

from proxy.core.spoolformat import encode_record
from proxy.gateway.jsonl import DailyLog, without_user
from tests.exchanges import START_US, exchange_id, make_record

DAY_US = 86_400_000_000


def ids(path: Path) -> list[str]:
    return [orjson.loads(line)["id"] for line in path.read_bytes().splitlines()]


def test_records_go_to_the_file_of_their_day(tmp_path: Path) -> None:
    log = DailyLog(tmp_path)
    log.write(
        [encode_record(make_record(n, started_at_us=START_US + n % 2 * DAY_US)) for n in range(4)],
        replayed=False,
    )
    assert [day for day, _ in log.files()] == ["2025-10-09", "2025-10-10"]
    first, second = (path for _, path in log.files())
    assert ids(first) == [exchange_id(0), exchange_id(2)]
    assert ids(second) == [exchange_id(1), exchange_id(3)]
    assert stat.S_IMODE(first.stat().st_mode) == 0o600


def test_a_replay_adds_only_what_is_missing(tmp_path: Path) -> None:
    log = DailyLog(tmp_path)
    log.write([encode_record(make_record(1))], replayed=False)
    log.write([encode_record(make_record(n)) for n in (1, 2)], replayed=True)
    assert ids(log.files()[0][1]) == [exchange_id(1), exchange_id(2)]


def test_old_files_go(tmp_path: Path) -> None:
    log = DailyLog(tmp_path)
    for day in ("2025-09-08", "2025-09-09", "2025-10-09"):
        (tmp_path / f"token_usage_{day}.jsonl").touch()
    (tmp_path / "token_usage_notes.txt").touch()
    gone = log.prune(dt.date(2025, 10, 9), keep_days=30)
    assert [path.name for path in gone] == ["token_usage_2025-09-08.jsonl"]
    assert [day for day, _ in log.files()] == ["2025-09-09", "2025-10-09"]
    assert (tmp_path / "token_usage_notes.txt").exists()


def test_a_users_lines_can_be_taken_out_of_a_file(tmp_path: Path) -> None:
    log = DailyLog(tmp_path)
    made = [make_record(n, user_id=f"user_{n % 2}") for n in range(4)]
    # somebody else's record that only mentions the user stays
    made.append(make_record(4, user_id="user_0", end_user="user_1"))
    log.write([encode_record(record) for record in made], replayed=False)
    path = log.files()[0][1]
    with path.open("ab") as file:
        file.write(b'{"user_id":"user_1","half a li')
    assert without_user(path, "user_1") == 3
    assert ids(path) == [exchange_id(0), exchange_id(2), exchange_id(4)]
    assert without_user(path, "user_1") == 0


def test_writers_and_a_rewrite_lose_nothing_to_each_other(tmp_path: Path) -> None:
    log = DailyLog(tmp_path)
    log.write([encode_record(make_record(0, user_id="user_gone"))], replayed=False)
    path = log.files()[0][1]

    def write() -> None:
        for number in range(1, 301):
            log.write([encode_record(make_record(number, user_id=f"user_{number % 2}"))], replayed=False)

    writer = threading.Thread(target=write)
    writer.start()
    gone = 0
    while writer.is_alive():
        gone += without_user(path, "user_1")
    writer.join()
    gone += without_user(path, "user_1")
    assert gone == 150
    assert len(ids(path)) == 151


def test_a_directory_that_is_not_there_raises_nothing(tmp_path: Path) -> None:
    log = DailyLog(tmp_path / "gone")
    log.write([encode_record(make_record(1))], replayed=False)
    assert log.files() == []
