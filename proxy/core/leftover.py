"""Leftover: what a dead process's spool still has to say, worked out line by line in the order they were written."""

from __future__ import annotations

from collections.abc import Iterable

from proxy.core.spoolformat import OPEN, RECORD, lost_record, payload_id


class Leftover:
    """Feed it the lines of all segments in order. An exchange is lost when it was opened and no record of it was read."""

    def __init__(self) -> None:
        self._opened: dict[str, bytes] = {}
        self._recorded: set[str] = set()

    def records(self, lines: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
        """The records among (kind, payload) lines, as they are."""
        found = []
        for kind, payload in lines:
            if kind == RECORD:
                found.append(payload)
                exchange = payload_id(payload)
                if self._opened.pop(exchange, None) is None:
                    self._recorded.add(
                        exchange
                    )  # its open line may come yet: carried over, in segments half synced
            elif kind == OPEN and (exchange := payload_id(payload)) not in self._recorded:
                self._opened[exchange] = payload
        return found

    def lost(self) -> list[bytes]:
        """Record payloads of the exchanges whose record was never read."""
        return [lost_record(payload) for payload in self._opened.values()]
