"""Instruments: counters, gauges and histograms as plain Python numbers, because the pass updates several per request.

An update is one dictionary update (0.1-0.3 µs, no lock: a worker is one thread). Labels are bounded: past LABEL_SETS_MAX label
sets of an instrument, labels that clients can choose become "other". What they are all called is in metrics.py.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

PREFIX = "openai_proxy_"
LABEL_SETS_MAX = 500
LABEL_CHARS_MAX = 100
OTHER = "other"
OPEN_LABELS = frozenset({"model", "endpoint"})
"""Labels whose values come from outside, and give way to "other" when there are too many."""

Labels: TypeAlias = tuple[str, ...]
Merge = Literal["sum", "max", "min"]
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


class _Instrument:
    """What all kinds share: a name, and label sets that stay within a bound."""

    kind: Literal["counter", "gauge", "histogram"]
    __slots__ = ("_open", "help", "label_sets_max", "labels", "name")

    def __init__(
        self, name: str, text: str, labels: Labels = (), label_sets_max: int = LABEL_SETS_MAX
    ) -> None:
        self.name = PREFIX + name
        self.help = text
        self.labels = labels
        self.label_sets_max = label_sets_max
        self._open = tuple(label in OPEN_LABELS for label in labels)

    def _bounded(self, labels: Labels, known: Iterable[Labels], count: int) -> Labels:
        """The label set to count under: printable, short, and "other" where there are too many."""
        assert len(labels) == len(self.labels), f"{self.name} takes the labels {self.labels}"
        cleaned = tuple(_UNPRINTABLE.sub("?", str(value))[:LABEL_CHARS_MAX] for value in labels)
        if cleaned in known or count < self.label_sets_max:
            return cleaned
        others = tuple(OTHER if o else v for o, v in zip(self._open, cleaned, strict=True))
        if others in known or count < 2 * self.label_sets_max:
            return others
        return (OTHER,) * len(labels)

    def dump(self) -> list[Any]:
        """Rows of [labels, value] for the snapshot."""
        raise NotImplementedError


class Counter(_Instrument):
    """A number that only grows. `scale` turns counted units into exported ones, e.g. nano-dollars into dollars."""

    kind = "counter"
    __slots__ = ("scale", "values")

    def __init__(self, name: str, text: str, labels: Labels = (), *, scale: float = 1) -> None:
        super().__init__(name, text, labels)
        self.scale = scale
        self.values: dict[Labels, float] = {} if labels else {(): 0}

    def inc(self, labels: Labels = (), n: float = 1) -> None:
        """Hot path. Add `n` >= 0 to the series with these label values."""
        try:
            self.values[labels] += n
        except KeyError:
            key = self._bounded(labels, self.values, len(self.values))
            self.values[key] = self.values.get(key, 0) + n

    def dump(self) -> list[Any]:
        """Rows of [labels, value]."""
        return list(self.values.items())


class Gauge(_Instrument):
    """A number that goes up and down. `merge` says what workers' numbers make together."""

    kind = "gauge"
    __slots__ = ("merge", "values")

    def __init__(self, name: str, text: str, labels: Labels = (), *, merge: Merge = "sum") -> None:
        super().__init__(name, text, labels)
        self.merge = merge
        self.values: dict[Labels, float] = {}

    def set(self, labels: Labels, value: float) -> None:
        """Hot path. The series with these label values is now `value`."""
        if labels not in self.values:
            labels = self._bounded(labels, self.values, len(self.values))
        self.values[labels] = value

    def add(self, labels: Labels = (), n: float = 1) -> None:
        """Hot path. Move the series with these label values by `n`, which may be negative."""
        try:
            self.values[labels] += n
        except KeyError:
            key = self._bounded(labels, self.values, len(self.values))
            self.values[key] = self.values.get(key, 0) + n

    def dump(self) -> list[Any]:
        """Rows of [labels, value]."""
        return list(self.values.items())


class Histogram(_Instrument):
    """Counts in fixed buckets. A cell is one list: the count of each bucket, of what lies above, then the sum."""

    kind = "histogram"
    __slots__ = ("bounds", "cells")

    def __init__(self, name: str, text: str, labels: Labels = (), *, bounds: tuple[float, ...]) -> None:
        super().__init__(name, text, labels, label_sets_max=LABEL_SETS_MAX // 5)
        self.bounds = bounds
        self.cells: dict[Labels, list[float]] = {}

    def observe(self, labels: Labels, value: float) -> None:
        """Hot path. Count one observation; `value` in the unit of the name, mostly seconds."""
        cell = self.cells.get(labels) or self.cell(labels)
        cell[bisect_left(self.bounds, value)] += 1
        cell[-1] += value

    def cell(self, labels: Labels) -> list[float]:
        """The cell that observations with these label values go to, for who has many."""
        key = self._bounded(labels, self.cells, len(self.cells))
        return self.cells.setdefault(key, [0] * (len(self.bounds) + 2))

    def dump(self) -> list[Any]:
        """Rows of [labels, cell]."""
        return list(self.cells.items())


def merged(each: Counter | Gauge | Histogram, sources: Iterable[Iterable[Any]]) -> dict[Labels, Any]:
    """What several processes' rows of one instrument make together, by label set."""
    merge = each.merge if isinstance(each, Gauge) else "sum"
    result: dict[Labels, Any] = {}
    for rows in sources:
        for row_labels, value in rows:
            labels = tuple(row_labels)
            held = result.get(labels)
            if held is None or merge != "sum":
                result[labels] = value if held is None else {"max": max, "min": min}[merge](held, value)
            elif isinstance(value, list):
                result[labels] = [a + b for a, b in zip(held, value, strict=True)]
            else:
                result[labels] = held + value
    return result
