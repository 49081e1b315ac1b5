"""What is folded is read once for the questions of one transaction."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from proxy.store import marks
from proxy.store.marks import Marks
from proxy.store.session import transaction

FIRST = datetime(2026, 5, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


async def mark(pool, grain, moments):
    await pool.executemany(
        "insert into usage_folded (grain, at) values ($1, $2)", [(grain, moment) for moment in moments]
    )


async def test_hours_sixes_and_days_are_stretches_and_larger_ones_are_blocks(pool):
    await mark(pool, "day", [FIRST, FIRST + DAY, FIRST + 3 * DAY])
    await mark(pool, "hour", [FIRST + 2 * DAY, FIRST + 2 * DAY + HOUR, FIRST + 2 * DAY + 5 * HOUR])
    await mark(pool, "six", [FIRST, FIRST + 6 * HOUR, FIRST + 18 * HOUR])
    await mark(pool, "month", [FIRST, FIRST + 31 * DAY])
    await mark(pool, "month_head", [FIRST + 9 * DAY])
    await mark(pool, "third", [FIRST])  # of an older version

    found = await marks.folded(pool, FIRST, FIRST + 62 * DAY)

    assert dict(found) == {
        "day": [(FIRST, FIRST + 2 * DAY), (FIRST + 3 * DAY, FIRST + 4 * DAY)],
        "hour": [
            (FIRST, FIRST + 2 * DAY + 2 * HOUR),
            (FIRST + 2 * DAY + 5 * HOUR, FIRST + 2 * DAY + 6 * HOUR),
            (FIRST + 3 * DAY, FIRST + 4 * DAY),
        ],
        "six": [(FIRST, FIRST + 12 * HOUR), (FIRST + 18 * HOUR, FIRST + DAY)],
        "month": [(FIRST, FIRST + 31 * DAY), (FIRST + 31 * DAY, FIRST + 61 * DAY)],
        "month_head": [(FIRST, FIRST + 10 * DAY)],
    }


async def test_they_are_read_again_only_for_what_lies_beyond(pool):
    await mark(pool, "day", [FIRST + number * DAY for number in range(20)])
    await mark(pool, "window", [FIRST + number * DAY for number in range(1, 20)])
    known = Marks()

    assert (await known.folded(pool, FIRST + 5 * DAY, FIRST + 9 * DAY))["day"] == [
        (FIRST + 4 * DAY, FIRST + 9 * DAY)
    ]
    await pool.execute("delete from usage_folded where at = $1", FIRST + 6 * DAY)
    within = await known.folded(pool, FIRST + 6 * DAY, FIRST + 8 * DAY)
    assert within["day"] == [(FIRST + 4 * DAY, FIRST + 9 * DAY)]
    beyond = await known.folded(pool, FIRST + 6 * DAY, FIRST + 12 * DAY)
    assert beyond["day"] == [(FIRST + 4 * DAY, FIRST + 6 * DAY), (FIRST + 7 * DAY, FIRST + 12 * DAY)]

    assert await known.windows(pool, FIRST, FIRST + 3 * DAY) == [(FIRST + DAY, FIRST + 3 * DAY)]
    assert await known.windows(pool, FIRST, FIRST + 8 * DAY) == [
        (FIRST + DAY, FIRST + 6 * DAY),
        (FIRST + 7 * DAY, FIRST + 8 * DAY),
    ]


async def test_a_transaction_of_one_moment_does_not_see_what_is_forgotten_meanwhile(pool):
    await mark(pool, "six", [FIRST])
    for one_moment, seen in ((True, 1), (False, 0)):
        async with transaction(pool, statement_timeout_s=10, one_moment=one_moment) as connection:
            assert await connection.fetchval("select count(*) from usage_folded") == 1
            await pool.execute("delete from usage_folded")
            assert await connection.fetchval("select count(*) from usage_folded") == seen
        await mark(pool, "six", [FIRST])
