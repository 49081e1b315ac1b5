"""A report in sections, of which some were measured anew: the others stay as they stand in the document."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

HEADING = re.compile(r"^### (.+)$", re.MULTILINE)


def sections_of(text: str) -> dict[str, str]:
    """What stands below each heading."""
    parts = HEADING.split(text)[1:]
    return {title: below.strip() for title, below in zip(parts[::2], parts[1::2], strict=True)}


def merged(old: str, measured: Mapping[str, str], order: Iterable[str]) -> str:
    """The sections of `old` with what was measured in place of theirs, in this order; unknown ones go."""
    found = sections_of(old) | measured
    return "".join(f"### {title}\n\n{found[title].strip()}\n\n" for title in order if title in found)
