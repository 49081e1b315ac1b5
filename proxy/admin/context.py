"""What the control plane is given by whoever builds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from proxy.admin.actor import Actor
from proxy.core.currency import Currencies
from proxy.metrics import Metrics
from proxy.pricing.live import PriceSource
from proxy.settings import Settings
from proxy.store.postgres import Pool


def utc_now() -> datetime:
    """The clock, unless a test brings its own."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminContext:
    """One per worker. `pool` is asked at each request: Postgres may be away, and then it returns None."""

    settings: Settings
    metrics: Metrics
    pool: Callable[[], Pool | None]
    ready: Mapping[str, Callable[[], str | None]] = field(default_factory=dict)
    """What must be well for /readyz: a name, and a check that says in words why it is not (None: it is)."""
    now: Callable[[], datetime] = utc_now
    prices: PriceSource | None = None
    """What models cost now; None where nobody needs it."""
    local: Actor | None = None
    """Who asks when nobody needs a credential: the command line, on a socket that only it can reach."""
    exports: Callable[[], Pool | None] | None = None
    """Connections for exports, one for each that may run at once; None: they use those of `pool`."""

    currencies: Currencies = field(init=False)
    """As the settings say, read once: there may be thousands of rates."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "currencies", Currencies.parse(self.settings.currencies))

    def export_pool(self) -> Pool | None:
        """Where an export reads."""
        return (self.exports or self.pool)()
