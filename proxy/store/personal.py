"""Everything that is known about one user, for the user."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from proxy.store.postgres import Connection, statements

_SQL = statements("personal")
KINDS = ("user", "keys", "quotas", "quota_windows", "objects", "sign_ins", "records", "audit")
"""In this order."""
BATCH = 500


async def everything(connection: Connection, user_id: str) -> AsyncIterator[list[dict[str, Any]]]:
    """JSON objects, each with its `kind`, in batches, within the caller's transaction. Secrets and digests are not in it."""
    for kind in KINDS:
        cursor = await connection.cursor(_SQL[kind], user_id)
        while rows := await cursor.fetch(BATCH):
            yield [row["line"] for row in rows]
