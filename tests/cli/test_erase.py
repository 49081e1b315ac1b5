from __future__ import annotations

import pytest

from proxy.cli.erase import erase
from proxy.cli.failure import CommandError
from proxy.core.spoolformat import decode_record
from proxy.gateway.jsonl import DailyLog
from proxy.store import people, records
from tests.admin.conftest import payload, record
from tests.admin.test_personal import mentions
from tests.cli.typed import on_pool, typed

NAME = "Ana Sørensen"


@pytest.fixture
def ana(database_url, tmp_path, monkeypatch):
    monkeypatch.setenv("PROXY_DATABASE_URL", database_url)
    monkeypatch.setenv("PROXY_DATA_DIR", str(tmp_path))

    async def fill(pool):
        user = await people.create_user(pool, name=NAME, email="ana@x.example", tags={"t": "lilac"})
        line = payload(record(user_id=user["id"], error_message=f"for {NAME}"))
        await records.store(pool, [line])
        DailyLog(tmp_path).write([line], replayed=False)
        assert decode_record(line)["user_id"] == user["id"]
        return user["id"]

    return on_pool(database_url, fill)


def test_an_erased_user_is_gone_from_the_database_and_the_data_dir(ana, database_url, tmp_path):
    with pytest.raises(CommandError, match="--yes"):
        typed(erase, "ana@x.example")
    assert on_pool(database_url, lambda pool: mentions(pool, NAME)) != []

    answer = typed(erase, "ana@x.example", "--yes", "--json")
    assert (answer["user_id"], answer["complete"]) == (ana, True)
    assert on_pool(database_url, lambda pool: mentions(pool, NAME, "ana@x.example", "lilac")) == []
    files = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert ana.encode() not in files
    assert NAME.encode() not in files


def test_nobody_can_not_be_erased(ana):
    with pytest.raises(CommandError, match="There is no user"):
        typed(erase, "nobody", "--yes")
