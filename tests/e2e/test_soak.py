"""`make soak`: mixed traffic at half of capacity for a long time. Memory and descriptors must be flat; a chart shows them.

SOAK_MINUTES (default 60) says how long, SOAK_CHART where the chart goes (default: soak.svg in the working directory).
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

import pytest

from tests.e2e import chaos
from tests.e2e.chaos import CLIENTS, Clients, Upstream
from tests.fake_upstream import FakeUpstream
from tests.proxy_process import ProxyProcess
from tests.stoppable_postgres import StoppablePostgres

MINUTES = float(os.environ.get("SOAK_MINUTES", "60"))
CHART = Path(os.environ.get("SOAK_CHART", "soak.svg"))
SAMPLES = 240
CAPACITY_S = 10.0
FAULTY = 0.05
WIDTH, HEIGHT, LEFT, BOTTOM = 720, 280, 60, 40


def chart(samples: list[tuple[float, int]], title: str) -> str:
    """Resident memory over time as an SVG: (seconds, bytes)."""
    end, top = samples[-1][0], max(size for _, size in samples) * 1.2
    points = " ".join(
        f"{LEFT + (WIDTH - LEFT - 10) * at / end:.1f},{(HEIGHT - BOTTOM) * (1 - size / top) + 10:.1f}"
        for at, size in samples
    )
    marks = "".join(
        f'<text x="{LEFT - 8}" y="{(HEIGHT - BOTTOM) * (1 - part) + 14:.0f}" text-anchor="end">{top * part / 2**20:.0f}</text>'
        for part in (0, 0.25, 0.5, 0.75, 1)
    ) + "".join(
        f'<text x="{LEFT + (WIDTH - LEFT - 10) * part:.0f}" y="{HEIGHT - 12}" text-anchor="middle">{end * part / 60:.1f}</text>'
        for part in (0, 0.25, 0.5, 0.75, 1)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT + 10}" font-family="sans-serif" font-size="11">'
        f'<rect width="100%" height="100%" fill="white"/><text x="{LEFT}" y="10" font-size="12">{title}</text>{marks}'
        f'<polyline points="{points}" fill="none" stroke="#2563eb" stroke-width="1.5"/>'
        f'<text x="{WIDTH - 10}" y="{HEIGHT + 4}" text-anchor="end">minutes; MiB resident, all processes of the proxy</text></svg>\n'
    )


@pytest.mark.soak
def test_memory_is_flat(tmp_path: Path) -> None:
    with (
        StoppablePostgres.running() as postgres,
        FakeUpstream.running(Upstream(1, FAULTY)) as upstream,
        ProxyProcess.running(
            upstream_url=upstream.url,
            database_url=postgres.url,
            directory=tmp_path,
            workers=2,
            clean=False,
            upstream_first_byte_timeout_s=2,
            upstream_idle_timeout_s=2,
            jsonl_log="true",
        ) as proxy,
    ):
        person = proxy.person(quotas=[{"unit": "tokens", "window": "month", "limit": "1000000000000"}])
        pause = 0.0
        samples: list[tuple[float, int]] = []
        descriptors = []
        clients = Clients(lambda: proxy.port, person.key, 1, lambda: pause)
        with clients.at_work():
            time.sleep(CAPACITY_S)
            capacity = clients.done / CAPACITY_S
            # as long a rest as a request takes when all are busy
            pause = CLIENTS / capacity
            began, before = time.monotonic(), clients.done
            while (at := time.monotonic() - began) < MINUTES * 60:
                resident, open_now = chaos.resources(proxy)
                samples.append((at, resident))
                descriptors.append(open_now)
                with upstream._lock:  # it keeps every request, which is not what is measured here
                    upstream.requests.clear()
                    upstream.connections.clear()
                    upstream.cut_requests.clear()
                time.sleep(MINUTES * 60 / SAMPLES)
            rate = (clients.done - before) / (time.monotonic() - began)
        title = (
            f"{MINUTES:.0f} minutes, {rate:.0f} requests/s of {capacity:.0f} possible, {clients.done} in all"
        )
        CHART.write_text(chart(samples, title))
        sizes = [size for _, size in samples]
        quarter = len(sizes) // 4
        early, late = statistics.median(sizes[quarter : 2 * quarter]), statistics.median(sizes[-quarter:])
        print(
            f"{title}; resident {early / 2**20:.0f} MiB in the second quarter, {late / 2**20:.0f} MiB in the last"
        )
        assert late <= 1.1 * early
        assert statistics.median(descriptors[-quarter:]) <= 1.2 * statistics.median(
            descriptors[quarter : 2 * quarter]
        )
        chaos.check_sums(proxy)
