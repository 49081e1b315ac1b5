from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from proxy.cli.failure import CommandError
from proxy.cli.retain import retain
from proxy.store import partitions, records
from tests.admin.conftest import payload, record
from tests.cli.typed import on_pool, typed

NOW = datetime.now(UTC)
OLD, OLDEST = NOW - timedelta(days=500), NOW - timedelta(days=5_000)


@pytest.fixture
def filled(database_url, tmp_path, monkeypatch):
    """Records of today, of 500 days ago in their month, of long ago in none; and a daily log of each day."""
    monkeypatch.setenv("PROXY_DATABASE_URL", database_url)
    monkeypatch.setenv("PROXY_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")

    async def fill(pool):
        await records.store(pool, [payload(record(moment)) for moment in (NOW, OLD, OLDEST)])
        await partitions.make_ahead(pool, NOW, NOW - timedelta(days=1_000))
        await pool.execute("analyze usage_records")

    on_pool(database_url, fill)
    for day in (NOW, OLD):
        (tmp_path / f"token_usage_{day:%Y-%m-%d}.jsonl").write_text("{}\n")
    return database_url


def days(database_url):
    rows = on_pool(database_url, lambda pool: pool.fetch("select started_at from usage_records order by 1"))
    return [row["started_at"].date() for row in rows]


def test_what_would_go_is_shown_and_goes_only_when_agreed_to(filled, tmp_path):
    shown = typed(retain, "--dry-run")
    assert f"{OLD:%Y-%m}" in shown
    assert "in no month" in shown
    assert f"token_usage_{OLD:%Y-%m-%d}.jsonl" in shown
    assert f"{NOW:%Y-%m-%d}.jsonl" not in shown
    with pytest.raises(CommandError, match="--yes"):
        typed(retain)
    assert typed(retain, "--json")["removed"] is False
    assert len(days(filled)) == 3

    answer = typed(retain, "--yes", "--json")
    assert answer["removed"] is True
    assert [(row["kind"], row["records"]) for row in answer["data"]] == [
        ("month", 1),
        ("records", 1),
        ("daily log", None),
    ]
    assert days(filled) == [NOW.date()]
    assert [path.name for path in tmp_path.glob("token_usage_*")] == [f"token_usage_{NOW:%Y-%m-%d}.jsonl"]
    sums = on_pool(filled, lambda pool: pool.fetchval("select sum(requests)::int from usage_hourly"))
    assert sums == 3
    assert (
        on_pool(
            filled,
            lambda pool: pool.fetchval("select count(*) from audit_log where action = 'retention.run'"),
        )
        == 1
    )
    assert "nothing is past its retention" in typed(retain)


def test_other_numbers_than_the_settings_may_be_given(filled):
    assert (
        typed(retain, "--records-days", "4000", "--jsonl-days", "4000", "--yes", "--json")["removed"] is True
    )
    assert days(filled) == [OLD.date(), NOW.date()]
