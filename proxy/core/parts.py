"""Parts: what other models, or tools with a fee, used inside an answer. Each has a record of its own below the answer's.

So statistics and `reprice` see every model's use under its own name and price. A part is no request: it counts in no sum
of requests, and it settles the quotas of the call it is a part of, which are charged once for all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from proxy.core.objects import Ownership
from proxy.core.price import Cost
from proxy.core.quota import Charge
from proxy.core.record import UsageRecord
from proxy.core.usage import Part

_TOKENS, _COST = 1, 2


def part_record(
    parent: UsageRecord,
    part: Part,
    cost: Cost,
    *,
    record_id: str,
    tier: str | None,
    ownership: Ownership | None,
) -> UsageRecord:
    """The record of a part, without its charges. `tier`: the one it was priced in."""
    return replace(
        parent,
        id=record_id,
        parent_id=parent.id,
        part=part.kind,
        served_model=part.served_by,
        service_tier=tier,
        usage=part.usage,
        usage_source="reported",
        cost_nanousd=cost.nanousd,
        price_id=cost.price_id,
        cache_saved_nanousd=cost.cache_saved_nanousd,
        object_id=part.object_id,
        finish_reason=None,
        error_type=None,
        error_code=None,
        error_message=None,
        ttfb_ms=None,
        duration_ms=0,
        bytes_in=0,
        bytes_out=0,
        charges=(),
        ownership=ownership,
    )


def total_cost(costs: Sequence[int | None], reserved_nanousd: int) -> int | None:
    """What costs settle together. With an unknown one among them it is None, which settles as it was reserved, unless the
    known ones are more than that.
    """
    known = sum(cost or 0 for cost in costs)
    return None if None in costs and known <= reserved_nanousd else known


def divide(records: Sequence[UsageRecord], charges: Sequence[Charge]) -> None:
    """Give each record its share of what all of them settle together; the first one is the request.

    What was settled beyond the known costs, as it was reserved, goes to the first record whose cost is unknown.
    """
    divided: list[list[Charge]] = [[] for _ in records]
    for charge in charges:
        if charge.unit == _TOKENS:
            amounts = [record.usage.input_tokens + record.usage.output_tokens for record in records]
        elif charge.unit == _COST:
            amounts = [record.cost_nanousd or 0 for record in records]
            unknown = next((at for at, record in enumerate(records) if record.cost_nanousd is None), 0)
            amounts[unknown] += charge.amount - sum(amounts)
        else:
            amounts = [charge.amount, *[0] * (len(records) - 1)]
        held = charge.held
        for own, amount in zip(divided, amounts, strict=True):
            covered = min(held, amount)
            held -= covered
            if amount:
                own.append(
                    charge._replace(amount=amount, held=covered, share_id=charge.share_id if covered else 0)
                )
    for record, own in zip(records, divided, strict=True):
        record.charges = tuple(own)
