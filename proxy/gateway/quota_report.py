"""What is said about quotas once in a while: use beyond reservations as a metric, soft limits that were passed as a warning."""

from __future__ import annotations

import logging

from proxy.core.holdings import Holdings
from proxy.core.shares import UNIT_INDEX
from proxy.metrics import Metrics

log = logging.getLogger(__name__)


class Report:
    """Reads the holdings of one worker, and says what is new since the last time."""

    def __init__(self, shares: Holdings, metrics: Metrics) -> None:
        self._shares = shares
        self._metrics = metrics
        self._overage = shares.overage.copy()

    def tell(self) -> None:
        """A window of a soft quota is warned of once by each worker that uses it."""
        for index, unit in enumerate(UNIT_INDEX):
            if more := self._shares.overage[index] - self._overage[index]:
                self._metrics.quota_overage.inc((unit,), more)
        self._overage = self._shares.overage.copy()
        for share in self._shares.held.values():
            if share.quota.soft and share.opened and not share.warned and share.remaining <= 0:
                share.warned = True
                self._metrics.quota_soft_passed.inc((share.quota.unit,))
                quota_id, subject, _ = share.key
                said = {"quota": quota_id, "subject": subject, "limit": share.limit, "unit": share.quota.unit}
                log.warning("soft quota passed", extra=said)
