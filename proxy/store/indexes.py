"""Indexes on large tables, built while others write.

`create index` stops writers for as long as it takes, minutes on years of records; `create index concurrently` doesn't, but
Postgres has none for partitioned tables. So the index is made on the partitioned table alone, which takes a moment, then
concurrently on each partition, and each of these is attached to it. When the last one is, it is valid. Partitions that are
made meanwhile get the index by themselves.

Whatever is cut in the middle is found again: a part that was not finished is dropped and built anew, one that was is attached.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import Self

from proxy.store.locks import Patience, patiently
from proxy.store.postgres import UNDEFINED, Connection, statements

log = logging.getLogger(__name__)
NAME_BYTES_MAX = 63
ROUNDS_MAX = 100
_SQL = statements("migrate")
_CREATE = re.compile(
    r"create index (?:if not exists )?([a-z0-9_]+)\s+on ([a-z0-9_]+)\s+(.+)", re.DOTALL | re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Index:
    """What `create index NAME on TABLE DEFINITION` says."""

    name: str
    table: str
    definition: str

    @classmethod
    def read(cls, statement: str) -> Self | None:
        """The index that a statement makes; None for any other statement."""
        found = _CREATE.fullmatch(statement.strip())
        return cls(found[1], found[2], found[3]) if found is not None else None

    def part_of(self, partition: str) -> str:
        """The name of its part on a partition."""
        rest = self.name.removeprefix(f"{self.table}_")
        name = f"{partition}_{rest}"
        assert len(name) <= NAME_BYTES_MAX, f"{name} is too long for Postgres"
        return name


async def build(connection: Connection, index: Index, patience: Patience) -> None:
    """Make the index, or what is missing of it. Not inside a transaction. Raises what Postgres raises."""
    if not await connection.fetchval(_SQL["is_partitioned"], index.table):
        await _concurrently(connection, index, index.name, index.table)
        return
    alone = f"create index if not exists {index.name} on only {index.table} {index.definition}"
    await patiently(connection, patience, index.name, lambda: connection.execute(alone))
    for _ in range(ROUNDS_MAX):
        missing = await connection.fetch(_SQL["partitions_without"], index.name, index.table)
        if not missing:
            return
        for row in missing:
            try:
                await _on_partition(connection, index, row["name"], patience)
            except UNDEFINED:  # retention has dropped it
                continue
    raise AssertionError(f"{index.name}: partitions come faster than they are indexed")


async def _on_partition(connection: Connection, index: Index, partition: str, patience: Patience) -> None:
    part = index.part_of(partition)
    await _concurrently(connection, index, part, partition)
    attach = f"alter index {index.name} attach partition {part}"
    await patiently(connection, patience, part, lambda: connection.execute(attach))
    log.info("index built", extra={"index": part})


async def _concurrently(connection: Connection, index: Index, name: str, table: str) -> None:
    whole = await connection.fetchval(_SQL["index_state"], name)
    if whole is False:
        log.warning("an index whose build was cut is built anew", extra={"index": name})
        await connection.execute(f"drop index concurrently {name}")
    if not whole:
        await connection.execute(f"create index concurrently {name} on {table} {index.definition}")
