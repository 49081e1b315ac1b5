"""`openai-proxy usage --live`: requests as they end, and what they come to. On a terminal a picture that renews itself;
elsewhere a line for each request, to be read by another program or kept in a file. Ctrl-C ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from decimal import Decimal
from typing import Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from proxy.cli import show
from proxy.cli.api import Api
from proxy.cli.failure import CommandError
from proxy.core.record import NO_ERRORS

COLUMNS = (
    "started_at", "user", "operation", "served_model", "status", "total_tokens", "cost_usd", "duration_ms",
)  # fmt: skip
ROWS_MAX, ROWS_MIN = 40, 5
_AROUND = 8
"""Lines of the picture that are no rows."""
REFRESHES_PER_S = 4
RECONNECT_S, RECONNECT_PAUSE_S = 30.0, 1.0
_RIGHT = frozenset({"status", "total_tokens", "cost_usd", "duration_ms"})


class Totals:
    """What the requests shown so far come to."""

    def __init__(self, now: float) -> None:
        self._began = now
        self.requests = 0
        self.errors = 0
        self.tokens = 0
        self.cost_usd = Decimal(0)
        self.unpriced = 0

    def add(self, record: Mapping[str, Any]) -> None:
        """One more record. A part of an answer is no request of its own; its tokens and cost count."""
        if record["part"] is None:
            self.requests += 1
            self.errors += _failed(record)
        self.tokens += record["total_tokens"]
        self.unpriced += record["cost_usd"] is None
        self.cost_usd += Decimal(record["cost_usd"] or 0)

    def line(self, now: float) -> str:
        """In words."""
        seconds = max(now - self._began, 1.0)
        unpriced = f" ({self.unpriced:,} without a price)" if self.unpriced else ""
        return (
            f"{self.requests:,} requests, {self.errors:,} errors, {self.tokens:,} tokens, {self.cost_usd:f} USD{unpriced}"
            f" in {seconds // 60:.0f}:{seconds % 60:02.0f}; {self.requests * 60 / seconds:,.1f} requests a minute"
        )


class View(Protocol):
    """Where records are shown."""

    def opened(self) -> None:
        """The server is ready to tell of new records."""
        ...

    def add(self, record: Mapping[str, Any]) -> None:
        """Show one."""
        ...


class JsonLines:
    """Every field, one object a line."""

    def opened(self) -> None:
        """Nothing stands above the objects."""

    def add(self, record: Mapping[str, Any]) -> None:
        """Show one."""
        sys.stdout.write(json.dumps(record) + "\n")
        sys.stdout.flush()


class Lines:
    """One line for each record, below a head."""

    def __init__(self) -> None:
        self._headed = False

    def opened(self) -> None:
        """The head, once."""
        if not self._headed:
            print("  ".join(name.replace("_", " ") for name in COLUMNS), flush=True)
        self._headed = True

    def add(self, record: Mapping[str, Any]) -> None:
        """Show one."""
        print("  ".join(each or "-" for each in cells(record)), flush=True)


class Picture:
    """The newest records above their totals, drawn again as they change."""

    def __init__(self, console: Console, totals: Totals, clock: Callable[[], float]) -> None:
        self._console = console
        self._totals = totals
        self._clock = clock
        self._rows: deque[tuple[tuple[str, ...], str]] = deque(maxlen=ROWS_MAX)
        self._state = "connecting …"

    def opened(self) -> None:
        """From now on it waits for requests."""
        self._state = "waiting for requests …"

    def add(self, record: Mapping[str, Any]) -> None:
        """Show one."""
        self._rows.append((cells(record), "red" if _failed(record) else ""))

    def __rich__(self) -> Group:
        rows = list(self._rows)[-max(self._console.height - _AROUND, ROWS_MIN) :]
        table = Table(box=None, pad_edge=False)
        for name in COLUMNS:
            table.add_column(
                name.replace("_", " "), justify="right" if name in _RIGHT else "left", no_wrap=True
            )
        for row, style in rows:
            table.add_row(*(Text(each, style=style) for each in row))
        below = Text(self._totals.line(self._clock()), style="bold")
        return Group(
            table, Text("" if rows else self._state, style="dim"), below, Text("Ctrl-C ends", style="dim")
        )


def cells(record: Mapping[str, Any]) -> tuple[str, ...]:
    """A record's cells; a user without a name is shown by its id."""
    named = {**record, "user": record["user_name"] or record["user_email"] or record["user_id"]}
    return tuple(show.cell(named[name]) for name in COLUMNS)


def _failed(record: Mapping[str, Any]) -> bool:
    return record["outcome"] not in NO_ERRORS


def watch(
    on_server: Callable[[Callable[[Api], Any]], None],
    query: Mapping[str, Any],
    *,
    as_json: bool,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Show new records until Ctrl-C. `on_server(work)` runs `work(api)`. Raises CommandError when the server is gone."""
    totals, console = Totals(clock()), Console()
    picture = Picture(console, totals, clock) if console.is_terminal and not as_json else None
    view: View = picture or (JsonLines() if as_json else Lines())
    drawing = Live(picture, console=console, refresh_per_second=REFRESHES_PER_S) if picture else None

    async def work(api: Api) -> None:
        async for record in new_records(api, query, view.opened):
            totals.add(record)
            view.add(record)

    with contextlib.suppress(KeyboardInterrupt), drawing or contextlib.nullcontext():
        on_server(work)
    if picture is None and not as_json:
        print(totals.line(clock()))


async def new_records(
    api: Api, query: Mapping[str, Any], opened: Callable[[], None]
) -> AsyncIterator[dict[str, Any]]:
    """Records as they are stored. A server that ends the stream is asked again; one that stays away is an error."""
    loop = asyncio.get_running_loop()
    was_there = 0.0
    while True:
        try:
            async with api.open("GET", "/admin/records/live", query) as response:
                async for line in response.content:
                    if line.startswith(b"retry:"):
                        opened()
                    elif line.startswith(b"data: "):
                        yield _record(line[6:])
                    was_there = loop.time()
        except CommandError:
            if not was_there or loop.time() > was_there + RECONNECT_S:
                raise
        await asyncio.sleep(RECONNECT_PAUSE_S)


def _record(text: bytes) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(text)
    except ValueError:
        raise CommandError("the server sent something that is no record") from None
    return record
