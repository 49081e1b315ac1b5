"""Reports in other currencies, against sums of each record's cost at its own day's rate, computed here."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest

from proxy.core.period import period
from proxy.store import folds, people, records
from tests.admin import usage
from tests.admin.conftest import NOW, Api, payload, record
from tests.databases import filled_database

RATES = {
    "BRL": {"2026-01-01": "5.431", "2026-07-05": "5.517", "2026-08-12": "5.6"},
    "EUR": {"2026-07-01": "0.8613"},
}


async def filled(pool) -> list[dict[str, Any]]:
    """Usage of three users over 100 days, and one record just before and one just after a rate changes."""
    crowd = []
    for number in range(3):
        user = await people.create_user(pool, name=f"user {number}")
        key, _ = await people.create_key(pool, user_id=user["id"])
        crowd.append({"user_id": user["id"], "key_id": key["id"]})
    change = datetime(2026, 7, 5, tzinfo=UTC)
    edges = [
        record(moment, **crowd[0], cost_nanousd=333_333_333)
        for moment in (change - timedelta(microseconds=1), change, change + timedelta(hours=1))
    ]
    generated = [*usage.generate(crowd, count=300), *edges]
    assert await records.store(pool, list(map(payload, generated))) == len(generated)
    return generated


@pytest.fixture(scope="module", params=["hours", "folds"])
def usage_of_100_days(request, postgres_server) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(a database with it, what is in it). Each test has a copy: to fold it takes seconds."""

    async def fill(pool) -> list[dict[str, Any]]:
        lines = await filled(pool)
        if request.param == "folds":
            assert await folds.make_due(pool, NOW) > 90
        return lines

    with filled_database(postgres_server, fill) as found:
        yield found


@pytest.fixture
def template(usage_of_100_days):
    return usage_of_100_days[0]


@pytest.fixture
def lines(usage_of_100_days):
    return usage_of_100_days[1]


@pytest.fixture
async def api(serve, pool):
    _, key = await people.create_admin_key(pool, name="tests")
    return Api(await serve(admin_requests_per_minute=100_000, currencies=RATES), key, pool)


def converted(lines, code, name="cost_nanousd", count=1):
    """The sum of each record at its own day's rate, as the API writes it; None without a rate."""
    total = Decimal(0)
    for line in lines:
        rates = [rate for day, rate in RATES[code].items() if day <= usage.at(line).strftime("%Y-%m-%d")]
        if line[name] and not rates:
            return None
        total += (line[name] or 0) * Decimal(rates[-1] if rates else 0)
    total = total.quantize(Decimal(1), ROUND_HALF_UP) / count
    text = f"{total.quantize(Decimal(1), ROUND_HALF_UP) / 10**9:.9f}".rstrip("0").rstrip(".")
    return text or "0"


def check(row, lines):
    for code in RATES:
        assert row[f"cost_{code.lower()}"] == converted(lines, code), code
        if "cache_saved_usd" in row:
            assert row[f"cache_saved_{code.lower()}"] == converted(lines, code, "cache_saved_nanousd"), code
            average = converted(lines, code, count=len(lines)) if lines else None
            assert row[f"average_cost_{code.lower()}"] == average, code


@pytest.mark.parametrize("tz", ["UTC", "America/Sao_Paulo"])
async def test_a_sum_over_days_with_several_rates_has_each_day_at_its_own(api, lines, tz):
    for start, end in (
        ("2026-07-02", "2026-08-14"),
        ("2026-06-01", "2026-08-01"),
        ("2026-06-03", "2026-06-20"),
    ):
        asked = period(NOW, start=start, end=end, tz=tz)
        mine = usage.between(lines, asked.start, asked.end)
        overview = await api.get(f"/admin/stats/overview?start={start}&end={end}&tz={tz}")
        check(overview["sums"], mine)
        check(overview["before"], usage.between(lines, asked.before.start, asked.start))
        for path, key in (
            ("users", lambda line: line["user_id"]),
            ("models", usage.model),
            ("days", usage.day(tz)),
            ("months", lambda line: usage.day(tz)(line)[:7]),
        ):
            rows = (await api.get(f"/admin/stats/{path}?start={start}&end={end}&tz={tz}&limit=1000"))["data"]
            assert len(rows) > 0
            for row in rows:
                check(row, [line for line in mine if key(line) == row["key"]])


async def test_all_of_the_dashboard_has_them(api, lines):
    ever = await api.get("/admin/stats")
    check(ever["overall"], lines)
    check(ever["month"], usage.between(lines, datetime(2026, 8, 1, tzinfo=UTC), NOW))
    check(ever["today"], usage.between(lines, NOW.replace(hour=0, minute=0), NOW))
    page = await api.get(f"/admin/users/{lines[0]['user_id']}/usage?start=2026-07-01")
    mine = [line for line in lines if line["user_id"] == lines[0]["user_id"]]
    check(page["overall"], mine)
    for row in page["months"]:
        check(row, [line for line in mine if usage.day("UTC")(line)[:7] == row["key"]])
    performance = await api.get("/admin/stats/performance?start=2026-07-01")
    since = usage.between(lines, datetime(2026, 7, 1, tzinfo=UTC), NOW)
    for row in performance["data"]:
        check(row["sums"], [line for line in since if usage.model(line) == row["model"]])


async def test_trends_have_each_day_and_its_average(api, lines):
    answer = await api.get("/admin/stats/trends?start=2026-07-01")

    for place, row in enumerate(answer["days"]):
        day = datetime.fromisoformat(row["day"]).replace(tzinfo=UTC)
        check(row, usage.between(lines, day, day + timedelta(days=1)))
        first = max(0, place - 6)
        values = [Decimal(each["cost_brl"]) for each in answer["days"][first : place + 1]]
        assert abs(Decimal(row["average_cost_brl"]) - sum(values) / len(values)) <= Decimal("1e-9")
    assert len(answer["days"]) == 46
    # The rest of August at the last seven days' average: 16 days and what is left of the 15th.
    so_far = Decimal(converted(usage.between(lines, datetime(2026, 8, 1, tzinfo=UTC), NOW), "BRL"))
    week = sum(Decimal(row["cost_brl"]) for row in answer["days"][-8:-1])
    rest = 17 - Decimal(13 * 60 + 20) / 1440
    assert abs(Decimal(answer["forecast"]["cost_brl"]) - so_far - week / 7 * rest) <= Decimal("1e-8")


async def test_before_the_first_rate_there_is_no_amount_in_a_currency(api, lines):
    sums = (await api.get("/admin/stats/overview?start=2026-06-01&end=2026-06-30"))["sums"]

    assert sums["cost_usd"] != "0"
    assert (sums["cost_eur"], sums["average_cost_eur"], sums["cache_saved_eur"]) == (None, None, None)
    idle = (await api.get("/admin/stats/overview?start=2026-03-01&end=2026-03-02"))["sums"]
    assert (idle["cost_eur"], idle["cost_brl"], idle["average_cost_brl"]) == ("0", "0", None)


async def test_my_own_usage_has_them_too(api, pool, store):
    user = await people.create_user(pool, name="me")
    key_row, key = await people.create_key(pool, user_id=user["id"])
    own = [
        record(NOW - timedelta(days=age), user_id=user["id"], key_id=key_row["id"], cost_nanousd=10**9)
        for age in (1, 2, 3, 4)  # the rate of the 12th holds for two of them
    ]
    await store(*own)

    mine = api.as_(key)

    assert (await mine.get("/me"))["month"]["cost_brl"] == "22.317"
    check((await mine.get("/me/usage?days=7"))["sums"], own)
    (row,) = (await mine.get("/me/usage/by?group_by=model"))["data"]
    check(row, own)


async def test_a_record_is_at_the_rate_of_its_own_day(api, lines):
    page = await api.get("/admin/records?start=2026-06-01&end=2026-08-20&limit=1000")
    by_id = {str(line["id"]): line for line in lines}
    assert len(page["data"]) > 100
    for row in page["data"]:
        line = by_id[row["id"]]
        for code in RATES:
            expected = None if line["cost_nanousd"] is None else converted([line], code)
            assert row[f"cost_{code.lower()}"] == expected
        assert Decimal(row["cache_saved_usd"]) * 10**9 == line["cache_saved_nanousd"]
    one = page["data"][0]
    assert await api.get(f"/admin/records/{one['id']}") == one
