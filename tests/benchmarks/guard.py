"""`make bench-guard`: instructions that the pass takes per request and per chunk, held against a budget.

    python -m tests.benchmarks.guard            # compare with budget.json; exit code 1 when a budget is exceeded
    python -m tests.benchmarks.guard --write    # what is measured now becomes the budget

valgrind's callgrind counts instructions, which do not depend on how busy the machine is. What is held against the budget is
their ratio to a reference that never changes, counted in the same run: so another build of Python or another compiler moves
both alike. Budgets are kept by Python's version, because its interpreters differ more than that, and for the compiled pass apart.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from proxy.build import build
from tests.benchmarks.guarded import CHUNKS_FEW, CHUNKS_MANY, REQUESTS, STREAMS, WORKLOADS

BUDGET = Path(__file__).with_name("budget.json")
TOLERANCE = 0.03
"""By how much a budget may be exceeded: what other versions of libraries make of it, and small changes that are worth it."""
TIMEOUT_S = 900
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}" + (
    " compiled" if build() == "compiled" else ""
)
_COUNTED = re.compile(r"^(?:totals|summary): (\d+)", re.MULTILINE)


def counted() -> dict[str, int]:
    """Instructions of each workload. Raises RuntimeError when valgrind fails."""
    with TemporaryDirectory() as directory:
        out = Path(directory, "out")
        command = (
            "valgrind",
            "--tool=callgrind",
            "--dump-before=getppid",
            "--dump-line=no",
            f"--callgrind-out-file={out}",
        )
        run = subprocess.run(
            (*command, sys.executable, "-m", "tests.benchmarks.guarded"),
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": "0"},
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
            text=True,
        )
        if run.returncode:
            raise RuntimeError(run.stderr)
        # Two dumps for each workload: what came before it, and itself.
        return {name: instructions(Path(f"{out}.{2 * at + 2}")) for at, name in enumerate(WORKLOADS)}


def instructions(dump: Path) -> int:
    """What callgrind counted up to a dump since the one before."""
    found = _COUNTED.search(dump.read_text())
    assert found is not None, f"{dump} is no dump of callgrind"
    return int(found[1])


def parts(count: Mapping[str, int]) -> dict[str, float]:
    """Instructions of the parts that have a budget."""

    def chunk(kind: str) -> float:
        more = count[f"many chunks{kind}"] - count[f"few chunks{kind}"]
        return more / STREAMS / (CHUNKS_MANY - CHUNKS_FEW)

    return {
        "request": count["requests"] / REQUESTS,
        "chunk": chunk(""),
        "chunk, spliced": chunk(", spliced"),
    }


def report(found: Mapping[str, float], reference: int, budget: Mapping[str, float]) -> tuple[list[str], bool]:
    """Lines for people, and whether every part is within its budget. Ratios are per thousand of the reference."""
    lines = [f"{'':16}{'instructions':>14}{'ratio':>10}{'budget':>10}"]
    within = True
    for name, amount in found.items():
        ratio, allowed = ratio_of(amount, reference), budget[name]
        exceeded = ratio > allowed * (1 + TOLERANCE)
        within = within and not exceeded
        verdict = f"  exceeded by {ratio / allowed - 1:.1%}" if exceeded else ""
        lines.append(f"{name:16}{amount:14,.0f}{ratio:10.2f}{allowed:10.2f}{verdict}")
    return lines, within


def ratio_of(amount: float, reference: int) -> float:
    """Thousandths of the reference."""
    return round(amount / reference * 1000, 2)


def main() -> int:
    """Count, compare, and say so."""
    arguments = argparse.ArgumentParser(prog="bench-guard", description=__doc__.partition("\n")[0])
    arguments.add_argument("--write", action="store_true", help="make what is measured now the budget")
    write = arguments.parse_args().write
    budgets = json.loads(BUDGET.read_text()) if BUDGET.exists() else {}
    if not write and VERSION not in budgets:
        print(f"there is no budget for Python {VERSION}; write one with --write")
        return 2
    if shutil.which("valgrind") is None:
        print("valgrind is not installed (apt-get install valgrind)")
        return 2
    count = counted()
    found, reference = parts(count), count["reference"]
    now = {name: ratio_of(amount, reference) for name, amount in found.items()}
    lines, within = report(found, reference, now if write else budgets[VERSION])
    print("\n".join(lines))
    if write:
        BUDGET.write_text(json.dumps(dict(sorted({**budgets, VERSION: now}.items())), indent=2) + "\n")
    elif not within:
        print(
            "The pass became slower. Take out what need not be there, or raise the budget with --write and say why."
        )
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
