"""Fields of values that the hot path makes and whose defaults it mostly leaves.

Such a class has an `__init__` of its own. The one that `dataclass` writes stays interpreted where all else is compiled: for a
record's 36 fields it took 10,000 of 224,000 instructions that a request takes (docs/adr/0012).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def set_given(value: Any, given: Mapping[str, Any]) -> None:
    """Set the fields of a dataclass that were given by name. Raises TypeError for a name that is none."""
    for name, content in given.items():
        if name not in value.__dataclass_fields__:
            raise TypeError(f"{type(value).__name__} has no field {name!r}")
        setattr(value, name, content)
