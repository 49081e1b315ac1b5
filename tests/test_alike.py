"""Compiled or interpreted, the pass makes the same of the same bytes, and no bytes make it fail."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.compiled import COMPILED

CASES = 3_000


def digests(*command: str) -> tuple[str, list[str]]:
    """Where the code came from, and a line for each case."""
    run = subprocess.run(
        [sys.executable, "-m", *command, "1", str(CASES)], capture_output=True, text=True, check=True
    )
    source, *lines = run.stdout.splitlines()
    return source, lines


def test_no_bytes_make_the_pass_fail() -> None:
    _, lines = digests("tests.alike")
    assert len(lines) == CASES
    assert [line for line in lines if not line.endswith(" 0")] == []


@pytest.mark.skipif(not COMPILED, reason="nothing is compiled here; `make test-compiled` compares")
def test_compiled_and_interpreted_make_the_same_of_the_same_bytes() -> None:
    compiled, found = digests("tests.alike")
    interpreted, expected = digests("tests.interpreted", "tests.alike")
    assert (compiled.endswith(".so"), interpreted.endswith(".py")) == (True, True)
    assert [line for line in found if line not in set(expected)] == []
    assert len(found) == len(expected) == CASES
