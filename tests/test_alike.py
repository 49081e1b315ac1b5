"""Compiled or interpreted, the pass makes the same of the same bytes, and no bytes make it fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.compiled import COMPILED, SOURCES

ROOT = Path(__file__).parents[1]
CASES = 3_000


def digests(tree: Path) -> tuple[str, list[str]]:
    """Where the code of a tree came from, and a line for each case."""
    command = [sys.executable, "-m", "tests.alike", "1", str(CASES)]
    run = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=True)
    source, *lines = run.stdout.splitlines()
    return source, lines


def test_no_bytes_make_the_pass_fail() -> None:
    _, lines = digests(ROOT)
    assert len(lines) == CASES
    assert [line for line in lines if not line.endswith(" 0")] == []


@pytest.mark.skipif(not COMPILED, reason="nothing is compiled here; `make test-compiled` compares")
def test_compiled_and_interpreted_make_the_same_of_the_same_bytes() -> None:
    compiled, found = digests(ROOT)
    interpreted, expected = digests(SOURCES)
    assert (compiled.endswith(".so"), interpreted.endswith(".py")) == (True, True)
    assert [line for line in found if line not in set(expected)] == []
    assert len(found) == len(expected) == CASES
