"""kill -9 of a process that records, at random moments: afterwards there is exactly one row for each exchange."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from proxy.gateway.recorder import Recorder
from proxy.gateway.turn import TOGETHER_MAX
from proxy.metrics import Metrics
from proxy.settings import Settings
from tests.exchanges import exchange_id

ROOT = Path(__file__).parents[2]
ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "2"))
STEPS_MAX = 3_000


def run_and_kill(url: str, data_dir: Path, first: int, steps: int) -> tuple[set[int], set[int]]:
    """Numbers (opened, recorded) by a process that was killed after about `steps` steps."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.gateway.recording_process", url, str(data_dir), str(first)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(steps)]
    process.send_signal(signal.SIGKILL)
    said += process.stdout.readlines()
    process.stdout.close()
    process.wait()
    whole = [line.split() for line in said if line.endswith(b"\n")]
    assert len(whole) >= steps, "it died before it was killed"
    return (
        {int(number) for step, number in whole if step == b"o"},
        {int(number) for step, number in whole if step == b"r"},
    )


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(ROUNDS))
async def test_after_a_kill_every_exchange_has_exactly_one_row(
    pool: asyncpg.Pool, database_url: str, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    opened: set[int] = set()
    recorded: set[int] = set()
    for kill in range(2):
        steps = chance.randrange(1, STEPS_MAX)
        done = await asyncio.to_thread(run_and_kill, database_url, tmp_path, kill * 10**7, steps)
        opened |= done[0]
        recorded |= done[1]
    recorder = Recorder(pool, Settings(data_dir=tmp_path), Metrics())
    await recorder.start()
    async with asyncio.timeout(60):
        while len(list((tmp_path / "spool").iterdir())) > 1:
            await asyncio.sleep(0.02)
    assert await recorder.stop()
    rows = await pool.fetch("select id, outcome from usage_records")
    outcomes = {str(row["id"]): row["outcome"] for row in rows}
    assert len(rows) == len(outcomes)
    for number in recorded:
        assert outcomes[exchange_id(number)] == "success"
    for number in opened - recorded:
        # recorded, perhaps, and killed before it could say so
        assert outcomes[exchange_id(number)] in {"lost", "success"}
    unsaid = set(outcomes) - {exchange_id(number) for number in opened}
    assert len(unsaid) <= 2 * TOGETHER_MAX, "at most what each process had just written, and not said yet"
    lost = sum(outcome == "lost" for outcome in outcomes.values())
    sums = await pool.fetchrow(
        "select sum(requests)::int as requests, sum(total_tokens)::int as tokens, sum(cost_nanousd)::int as cost"
        " from usage_hourly"
    )
    good = len(rows) - lost
    assert tuple(sums) == (len(rows), 100 * good + 1_100 * lost, 500 * good + 7_000 * lost)
