"""PriceSource: the price book that holds now, made of the catalogue, local prices of the config and of the database.

It works from its first moment on what needs no database; `reload` adds what the database knows, and builds the new book
off the event loop where a data file has to be read. Whatever goes wrong with a reload, the book at hand stays.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase
from fractions import Fraction
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from proxy.core.money import MoneyError, parse_decimal
from proxy.core.price import PriceBook
from proxy.core.rates import LocalPrice, StoredPrices, parse_rates
from proxy.pricing.catalogue import Catalogue, CatalogueError
from proxy.pricing.providers import provider_of
from proxy.pricing.sheet import Sheet, by_model
from proxy.settings import Settings, SettingsError, UpstreamSettings

log = logging.getLogger(__name__)
Fetch: TypeAlias = Callable[[Any, str], Awaitable[StoredPrices | None]]
"""(pool, version of the data that the caller has) -> what is stored; None when the database can't be reached."""
AUTOMATIC = "auto"


class PriceSource:
    """Holds the current PriceBook; one for each worker. `fetch` is proxy.store.prices.fetch_stored."""

    def __init__(
        self,
        *,
        configured: Sequence[LocalPrice] = (),
        uplift: Fraction | None = None,
        upstreams: Sequence[UpstreamSettings] = (),
        fetch: Fetch | None = None,
    ) -> None:
        self._configured = tuple(configured)
        self._uplift = uplift
        self._upstreams = tuple(upstreams)
        self._fetch = fetch
        self._bundled = self._catalogue = Catalogue.bundled()
        self._use(StoredPrices())

    @classmethod
    def from_settings(cls, settings: Settings, fetch: Fetch | None = None) -> PriceSource:
        """As configured. Raises SettingsError that names the price that is wrong."""
        uplift = None
        if settings.price_uplift != AUTOMATIC:
            try:
                uplift = parse_decimal(settings.price_uplift)
            except MoneyError as error:
                raise SettingsError(f'setting price_uplift: {error}, nor "{AUTOMATIC}"') from None
        return cls(
            configured=configured_prices(settings.prices),
            uplift=uplift,
            upstreams=settings.upstreams,
            fetch=fetch,
        )

    @property
    def sheet(self) -> Sheet:
        """What the book is compiled from, for people to read."""
        return self._sheet

    async def reload(self, pool: Any) -> bool:
        """Take in what the database says now; the book stays when that is what it said before.

        False when it can't be reached: then nothing changes.
        """
        if self._fetch is None:
            return False
        stored = await self._fetch(pool, self._catalogue.version)
        if stored is None:
            return False
        if (stored.local, stored.version) == self._seen:
            return True
        catalogue = self._bundled
        if stored.version == self._catalogue.version:
            catalogue = self._catalogue
        elif stored.version is not None and stored.data is not None:
            try:
                catalogue = await asyncio.to_thread(Catalogue.parse, stored.data, stored.version)
            except CatalogueError as error:
                # It was checked when it was stored; another version of the library may read it otherwise.
                log.exception(
                    "stored price data not used", extra={"version": stored.version, "error": str(error)}
                )
        self._catalogue = catalogue
        self._use(stored)
        return True

    def provider_for(self, model: str | None, upstream_host: str) -> str:
        """The id that prices go by (see providers.py) of a model at an upstream: "openai", "openai-eu", "openrouter" …"""
        for upstream in self._upstreams:
            host = urlsplit(upstream.url).hostname or ""
            if host == upstream_host and any(fnmatchcase(model or "", each) for each in upstream.models):
                return upstream.provider or provider_of(host, default=upstream.name)
        return provider_of(upstream_host)

    def _use(self, stored: StoredPrices) -> None:
        # The database is given last: of two prices with the same start its own counts.
        self._seen = (stored.local, stored.version)
        prices = [*self._configured, *stored.local]
        self._sheet = Sheet(self._catalogue, by_model(prices), self._uplift)
        self.book = PriceBook(self._sheet.quote)
        """Every price that holds now. Take it anew for each exchange: a reload replaces it."""


def configured_prices(written: Sequence[Mapping[str, Any]]) -> tuple[LocalPrice, ...]:
    """The `prices` setting. Raises SettingsError."""
    prices = []
    for number, entry in enumerate(written, 1):
        try:
            prices.append(local_price(f"config-{number}", entry))
        except MoneyError as error:
            raise SettingsError(f"setting prices, number {number}: {error}") from None
    return tuple(prices)


def local_price(price_id: str, written: Mapping[str, Any]) -> LocalPrice:
    """A local price as people write it: {"model", "rates", "provider", "tier", "starts_at"}; only the first two must be.

    Raises MoneyError with what is wrong.
    """
    unknown = set(written) - {"provider", "model", "tier", "starts_at", "rates"}
    if unknown:
        raise MoneyError(f"there is no {min(unknown)!r} in a price")
    texts = {"provider": "openai", "tier": "default"} | {
        name: written[name] for name in ("provider", "model", "tier") if name in written
    }
    for name in ("provider", "model", "tier"):
        text = texts.get(name)
        if not isinstance(text, str) or not 0 < len(text.strip()) <= 256:
            raise MoneyError(f"{name} is missing or no text")
    return LocalPrice(
        id=price_id,
        provider=texts["provider"].strip().lower(),
        model=texts["model"].strip().lower(),
        tier=texts["tier"].strip().lower(),
        starts_at=_moment(written.get("starts_at", "1970-01-01")),
        rates=parse_rates(written.get("rates")),
    )


def _moment(written: Any) -> float:
    """Unix seconds of a day or time, as text or TOML has it; without a zone it is UTC."""
    if isinstance(written, date) and not isinstance(written, datetime):
        written = datetime(written.year, written.month, written.day, tzinfo=UTC)
    if isinstance(written, str):
        try:
            written = datetime.fromisoformat(written.strip())
        except ValueError:
            raise MoneyError(f"starts_at: {written[:40]!r} is not a day such as 2026-01-01") from None
    if not isinstance(written, datetime):
        raise MoneyError("starts_at is a day such as 2026-01-01")
    return (written if written.tzinfo is not None else written.replace(tzinfo=UTC)).timestamp()
