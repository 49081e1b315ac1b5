"""Templates: statements whose text is put together of named parts as a question needs it.

A filter that isn't asked for, a source that has nothing to tell and a dimension that isn't grouped by cost nothing then, neither
when Postgres plans the statement nor for each row. Everything stays in a .sql file; what is put together are its parts, by name:

    -- include: _part_{word}    the part of that name
    -- each: word               the parts that the word lists, one after the other
    -- union: word              the same with "union all" between them
    {word}                      the word itself: the name of a table, never anything from outside
    :name                       a parameter

A word is a name, or a tuple of names of parts. `fill` gives the text with native parameters and their names in order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

from proxy.store.postgres import parts

Words: TypeAlias = Mapping[str, str | tuple[str, ...]]
_KEPT = 512
_DIRECTIVE = re.compile(r"^-- (include|each|union): (\S+)\s*$", re.MULTILINE)
_WORD = re.compile(r"\{([a-z_]+)\}")
_PARAMETER = re.compile(r"(?<!:):([a-z_]+)\b")
_COMMENT = re.compile(r"^\s*--.*\n", re.MULTILINE)
_SAFE = re.compile(r"[a-z_]*")


@dataclass(frozen=True, slots=True)
class Statement:
    """A text for Postgres and the names of its parameters, $1 first."""

    text: str
    parameters: tuple[str, ...]

    def arguments(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """The values in their order. Raises KeyError for one that is missing."""
        return tuple(values[name] for name in self.parameters)


def fill(module: str, name: str, words: Words) -> Statement:
    """The statement `name` of proxy/store/<module>.sql. Raises KeyError for a part or a word that is not there."""
    return _filled(module, name, tuple(sorted(words.items())))


@lru_cache(_KEPT)
def _filled(module: str, name: str, given: tuple[tuple[str, str | tuple[str, ...]], ...]) -> Statement:
    named, words = parts(module), dict(given)

    def word(found: re.Match[str]) -> str:
        value = words[found[1]]
        assert isinstance(value, str), f"{found[1]} is no name"
        assert _SAFE.fullmatch(value), f"{found[1]} is no name"
        return value

    def directive(found: re.Match[str]) -> str:
        kind, argument = found.groups()
        if kind == "include":
            return whole(_WORD.sub(word, argument))
        joint = "\nunion all\n" if kind == "union" else "\n"
        return joint.join(whole(each) for each in words[argument])

    def whole(part: str) -> str:
        return _WORD.sub(word, _DIRECTIVE.sub(directive, named[part]))

    numbers: dict[str, int] = {}

    def parameter(found: re.Match[str]) -> str:
        return f"${numbers.setdefault(found[1], len(numbers) + 1)}"

    text = _PARAMETER.sub(parameter, _COMMENT.sub("", whole(name) + "\n"))
    return Statement(text, tuple(numbers))
