"""A process that records exchanges until it is killed; says on stdout what it has done, one line for each step.

    python -m tests.gateway.recording_process DATABASE_URL DATA_DIR FIRST_NUMBER

`o 17` is written when exchange 17 was opened and it may be forwarded, `r 17` when it was recorded and the answer may end; every third is left open for a while.
"""

from __future__ import annotations

import asyncio
import os
import sys
from functools import partial
from pathlib import Path

from proxy.core.refusal import Refusal
from proxy.gateway.recorder import Recorder
from proxy.metrics import Metrics
from proxy.settings import Settings
from proxy.store import postgres
from tests.exchanges import make_open, make_record

BURST = 50
NUMBERS_MAX = 1_000_000


def _say(step: str, number: int) -> None:
    os.write(1, f"{step} {number}\n".encode())


async def _main(url: str, data_dir: Path, first: int) -> None:
    pool = await postgres.open_pool(url)
    settings = Settings(data_dir=data_dir, flush_interval_s=0.001, spool_max_bytes=2**20)
    recorder = Recorder(pool, settings, Metrics())
    await recorder.start()
    waiting: list[int] = []
    for number in range(first, first + NUMBERS_MAX):
        while True:
            try:
                recorder.open(make_open(number))
            except Refusal:  # the spool is small, so that segments come and go
                await asyncio.sleep(0.01)
            else:
                break
        recorder.then(partial(_say, "o", number))
        if number % 3:
            recorder.record(make_record(number))
            recorder.then(partial(_say, "r", number))
        else:
            waiting.append(number)
        if len(waiting) > BURST:
            late = waiting.pop(0)
            recorder.record(make_record(late))
            recorder.then(partial(_say, "r", late))
        if number % BURST == 0:
            await asyncio.sleep(0.001)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
