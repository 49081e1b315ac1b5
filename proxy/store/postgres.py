"""Postgres: the connection pool and the loader of named SQL statements.

A statement in `keys.sql` is headed by `-- name: fetch_live_keys` and a comment of purpose, and uses native `$1`
parameters. `statements("keys")` returns them as a mapping. Every statement is prepared against a migrated database by a test.
A part that several statements of a file share is named with a leading underscore; `-- include: _part` stands for its text,
`-- include: file._part` for that of another file's part; a comma or semicolon behind it stays behind the text.
Files whose statements are put together as a question needs them are read by templates.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import asyncpg
import orjson

Pool: TypeAlias = Any  # asyncpg carries no types: asyncpg.Pool
Connection: TypeAlias = Any  # asyncpg.Connection or a pool's proxy of one
PostgresError = asyncpg.PostgresError
# What a caller may retry: the connection is gone or can't be had. OSError and TimeoutError come from the socket.
UNAVAILABLE: tuple[type[BaseException], ...] = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.QueryCanceledError,
    asyncpg.LockNotAvailableError,
)
# A statement ran into its own timeout: waiting would not mend it. Also one of UNAVAILABLE, so ask for this first.
TOO_SLOW: type[BaseException] = asyncpg.QueryCanceledError
RETRYABLE: tuple[type[BaseException], ...] = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
# Others hold the lock for longer than we wait. Also one of UNAVAILABLE.
LOCKED: type[BaseException] = asyncpg.LockNotAvailableError
# The table or index is gone.
UNDEFINED: tuple[type[BaseException], ...] = (asyncpg.UndefinedTableError, asyncpg.UndefinedObjectError)
# The server became a standby: another connection may lead to the new primary.
READ_ONLY: type[BaseException] = asyncpg.ReadOnlySQLTransactionError
# Nothing that waiting would mend.
MISCONFIGURED: tuple[type[BaseException], ...] = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
)
_NAME = re.compile(r"^-- name: ([a-z0-9_]+)\s*$", re.MULTILINE)
_INCLUDE = re.compile(r"^-- include: (?:([a-z_]+)\.)?(_[a-z0-9_]+)([,;]*)\s*$", re.MULTILINE)


@cache
def parts(module: str) -> Mapping[str, str]:
    """All that proxy/store/<module>.sql names, as it stands there."""
    split = _NAME.split((Path(__file__).parent / f"{module}.sql").read_text())
    names, bodies = split[1::2], split[2::2]
    assert len(set(names)) == len(names), f"{module}.sql names a statement twice"
    return MappingProxyType({name: body.strip() for name, body in zip(names, bodies, strict=True)})


@cache
def statements(module: str) -> Mapping[str, str]:
    """The named statements of proxy/store/<module>.sql."""

    def whole(module: str, body: str) -> str:
        def included(found: re.Match[str]) -> str:
            of = found[1] or module
            return whole(of, parts(of)[found[2]]) + found[3]

        return _INCLUDE.sub(included, body)

    return MappingProxyType(
        {name: whole(module, body) for name, body in parts(module).items() if not name.startswith("_")}
    )


async def _prepare_connection(connection: Any) -> None:
    for kind in ("json", "jsonb"):
        await connection.set_type_codec(
            kind,
            encoder=lambda value: orjson.dumps(value).decode(),
            decoder=orjson.loads,
            schema="pg_catalog",
        )


async def open_pool(
    url: str,
    *,
    size_min: int = 1,
    size_max: int = 4,
    timeout_s: float = 30.0,
    statement_cache: bool = True,
    application: str = "openai-proxy",
) -> Pool:
    """Connect. Raises one of UNAVAILABLE when it can't be reached, one of MISCONFIGURED when it refuses us.

    With `size_min` 0 nothing connects before the first use, so a pool can be had while Postgres is away.
    """
    return await asyncpg.create_pool(
        url,
        min_size=size_min,
        max_size=size_max,
        timeout=min(timeout_s, 10.0),
        command_timeout=timeout_s,
        statement_cache_size=100 if statement_cache else 0,
        init=_prepare_connection,
        server_settings={"application_name": application, "timezone": "UTC"},
    )


async def connect(url: str, *, timeout_s: float = 10.0, application: str = "openai-proxy") -> Connection:
    """One connection of its own, e.g. for LISTEN. The caller closes it."""
    connection = await asyncpg.connect(
        url, timeout=timeout_s, server_settings={"application_name": application, "timezone": "UTC"}
    )
    await _prepare_connection(connection)
    return connection
