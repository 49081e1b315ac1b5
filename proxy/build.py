"""Which build this is: the pass compiled to C, as releases have it, or interpreted from the same source, as a checkout has it.

It behaves the same; it costs less CPU when it is compiled. See docs/adr/0012-the-pass-is-compiled.md.
"""

from __future__ import annotations

from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from typing import Literal

HOT = "proxy.gateway.front"
"""A module of the pass. It is looked for, not imported: who asks may be a command that never needs it."""


def build() -> Literal["compiled", "interpreted"]:
    """How the pass runs when it is imported from here."""
    return "compiled" if is_compiled(HOT) else "interpreted"


def is_compiled(module: str) -> bool:
    """Whether Python would load a module as machine code. Raises ModuleNotFoundError where there is no such module."""
    spec = find_spec(module)
    if spec is None:
        raise ModuleNotFoundError(module)
    return (spec.origin or "").endswith(tuple(EXTENSION_SUFFIXES))
