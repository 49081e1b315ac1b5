"""The worker's own choices for its process."""

from __future__ import annotations

import json
import subprocess
import sys

COLLECTIONS = """
import gc, json
from proxy.cli.worker import COLLECT_AFTER, spare_the_collector

def collections():
    return sum(each["collections"] for each in gc.get_stats())

def made(make, count):
    before = collections()
    kept = [make() for _ in range(count)]
    return collections() - before

def cycle():
    each = []
    each.append(each)

spare_the_collector()
under_way = made(dict, COLLECT_AFTER[0] // 2)
leaked = made(cycle, 20 * COLLECT_AFTER[0])
gc.collect(0)
print(json.dumps([under_way, leaked, len(gc.get_objects())]))
"""


def test_what_is_under_way_is_not_looked_through_for_cycles_and_cycles_are_found():
    """In a process of its own: the collector is everybody's."""
    ran = subprocess.run([sys.executable, "-c", COLLECTIONS], capture_output=True, text=True, check=True)
    under_way, leaked, alive = json.loads(ran.stdout)

    assert under_way == 0
    assert 10 <= leaked <= 25
    assert alive < 10_000, "two million were made"
