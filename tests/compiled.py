"""What tests must know of compiled code (docs/adr/0012)."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.build import build

COMPILED = build() == "compiled"
SOURCES = Path(__file__).resolve().parents[1]
"""Where a compiled tree has its tests from, and was copied from: the same proxy, interpreted."""

replaces = pytest.mark.skipif(
    COMPILED,
    reason="replaces a method, which compiled callers do not look up; runs where the code is interpreted",
)
"""A test that puts another method into a class of the pass."""
