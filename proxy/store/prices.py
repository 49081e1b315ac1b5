"""Local prices and loaded price data: what operators say about prices, beside what the installed library says.

Writers take a connection in a transaction and write the audit entry themselves; every worker hears of it at once.
"""

from __future__ import annotations

import asyncio
import logging
import zlib

from proxy.core.money import MoneyError
from proxy.core.rates import LocalPrice, StoredPrices, format_rates, parse_rates
from proxy.store.ids import new_id
from proxy.store.postgres import UNAVAILABLE, Connection, Pool, statements
from proxy.store.rows import Row, found

log = logging.getLogger(__name__)
_SQL = statements("prices")
PRICES_MAX = 100_000
DATA_BYTES_MAX = 32 * 2**20
"""Of a data file once it is decompressed."""


async def fetch_stored(pool: Pool, known_version: str) -> StoredPrices | None:
    """Everything; the data file only when its version is another one. None: the database can't be reached."""
    try:
        async with pool.acquire() as connection, connection.transaction(readonly=True):
            rows = await connection.fetch(_SQL["fetch_all"], PRICES_MAX)
            version = await connection.fetchval(_SQL["version"])
            packed = None
            if version is not None and version != known_version:
                packed = await connection.fetchval(_SQL["data"], version)
    except UNAVAILABLE as error:
        log.warning("prices not read: the database can't be reached", extra={"error": repr(error)})
        return None
    data = None
    if packed is not None:
        try:
            data = await asyncio.to_thread(_unpack, packed)
        except (zlib.error, ValueError):
            log.exception("stored price data not used", extra={"version": version})
    return StoredPrices(tuple(price for row in rows if (price := _read(row)) is not None), version, data)


async def list_prices(
    connection: Connection,
    *,
    provider: str | None = None,
    model: str | None = None,
    limit: int = 100,
    offset: int = 0,
) -> tuple[list[Row], int]:
    """A page of local prices, and how many there are; `model` may hold `*`. `rates` are as parse_rates reads them."""
    pattern = None
    if model is not None:
        pattern = model.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").replace("*", "%")
    rows = await connection.fetch(_SQL["list"], provider, pattern, limit, offset)
    return rows, await connection.fetchval(_SQL["count"], provider, pattern)


async def fetch_price(connection: Connection, price_id: str) -> Row:
    """One local price. Raises MissingError."""
    return found(await connection.fetchrow(_SQL["fetch"], price_id), "price", price_id)


async def put_price(connection: Connection, price: LocalPrice) -> tuple[Row | None, Row]:
    """Set a price from its start on; one with the same provider, model, tier and start gets the new rates.

    Returns what was there before, and the row. The given id is not used.
    """
    same = (price.provider, price.model, price.tier, price.starts_at)
    before = await connection.fetchrow(_SQL["fetch_same"], *same)
    row = await connection.fetchrow(_SQL["put"], new_id("price"), *same, format_rates(price.rates))
    return before, row


async def remove_price(connection: Connection, price_id: str) -> Row:
    """Remove a local price; what went by it goes by the next source again. Raises MissingError."""
    return found(await connection.fetchrow(_SQL["remove"], price_id), "price", price_id)


async def put_data(connection: Connection, version: str, data: bytes) -> None:
    """Make a checked data file the one that every worker reads."""
    await connection.execute(_SQL["drop_other_data"], version)
    await connection.execute(_SQL["put_data"], version, zlib.compress(data, 9))


async def drop_data(connection: Connection) -> str | None:
    """Go back to the installed library's own data; returns the version that was loaded."""
    version: str | None = await connection.fetchval(_SQL["drop_data"])
    return version


def _read(row: Row) -> LocalPrice | None:
    try:
        rates = parse_rates(row["rates"])
    except MoneyError as error:
        log.warning("local price not used", extra={"price": row["id"], "error": str(error)})
        return None
    return LocalPrice(
        id=row["id"],
        provider=row["provider"],
        model=row["model"],
        tier=row["tier"],
        starts_at=row["starts_at"],
        rates=rates,
    )


def _unpack(packed: bytes) -> bytes:
    stream = zlib.decompressobj()
    data = stream.decompress(packed, DATA_BYTES_MAX)
    if not stream.eof:
        raise ValueError(f"more than {DATA_BYTES_MAX // 2**20} MiB, or cut off")
    return data
