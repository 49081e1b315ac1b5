"""Claims: of all records that show the usage of one object, one bills it. What a record looks like that won, or lost.

Who wins is decided where records are stored, in order of storing, across all workers and servers: the first claim of an
object. An exchange that makes an object is not forestalled by another that made one of the same id (a server that numbers
badly made two objects), only by a read of this object, which can't have begun before it was made.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from proxy.core.objects import Made, Owner, Ownership
from proxy.core.quota import Charge
from proxy.core.usage import COUNTS

_REQUESTS = 0
_USED = (*COUNTS, "units", "price_id")


def made_wins(billed_at_us: int, billed_by_maker: bool, started_at_us: int) -> bool:
    """Whether a maker's claim stands though the object is billed: by a maker as well, or by a read of an older object."""
    return billed_by_maker or billed_at_us < started_at_us


def encode_ownership(ownership: Ownership, charges: tuple[Charge, ...]) -> dict[str, Any]:
    """As it is spooled: nothing where nothing is said. `charges` are the record's own; losing takes some of them back."""
    fields: dict[str, Any] = {}
    if ownership.claims:
        fields["claims"] = [
            {"id": claim.object_id, "made": claim.made} | ({"by_parent": True} if claim.by_parent else {})
            for claim in ownership.claims
        ]
        if charges:
            fields["units"] = [charge.unit for charge in charges]
    if ownership.made:
        fields["objects"] = [_made_fields(made) for made in ownership.made]
    if ownership.ended is not None:
        fields["ended"] = ownership.ended
    if ownership.maker is not None:
        fields["maker"] = ownership.maker.columns()
    if ownership.maker_charges:
        fields["maker_charges"] = [charge[:6] for charge in ownership.maker_charges]
    return fields


def _made_fields(made: Made) -> dict[str, Any]:
    fields: dict[str, Any] = {"id": made.object_id, "kind": made.kind, "again": made.again}
    if made.follow is not None:
        fields["follow"] = dict(made.follow)
    if made.expires_at is not None:
        fields["expires_at"] = made.expires_at
    if made.upstream:
        fields["upstream"] = made.upstream
    owner = made.owner
    if owner is not None:
        fields |= owner.columns() | {"model": owner.model, "upstream": owner.upstream}
    return fields


def object_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The objects whose maker a record's payload tells, as rows."""
    upstream_and_model = {"upstream": "", "model": record.get("requested_model")}
    maker = {
        name: record.get(name) for name in ("key_id", "user_id", "group_id", "operation", "tags", "end_user")
    }
    owned = {"record_id": record["id"], "started_at_us": record["started_at_us"]}
    return [maker | upstream_and_model | made | owned for made in record["ownership"].get("objects", ())]


def settled(record: Mapping[str, Any], lost: Collection[str]) -> dict[str, Any]:
    """The payload's fields once it is known which of the objects it claims are billed by another record."""
    fields = dict(record)
    ownership = fields.pop("ownership")
    claims = ownership.get("claims", ())
    if claims and all(claim["id"] in lost for claim in claims):
        return _lost(fields, ownership)
    if claims and ("maker" in ownership or "maker_charges" in ownership):
        fields |= ownership.get("maker", {})
        fields["charges"] = [*(fields.get("charges") or ()), *ownership.get("maker_charges", ())]
    return fields


def _lost(fields: dict[str, Any], ownership: Mapping[str, Any]) -> dict[str, Any]:
    """Nothing was used by this exchange; it still counts as the request that it was."""
    for name in _USED:
        fields[name] = None
    fields["usage_source"] = "none"
    fields["cost_nanousd"] = 0
    fields["cache_saved_nanousd"] = 0
    if fields.get("charges"):
        units = ownership.get("units", ())
        fields["charges"] = [
            charge if unit == _REQUESTS else [*charge[:3], 0, *charge[4:]]
            for charge, unit in zip(fields["charges"], units, strict=True)
            if unit == _REQUESTS or charge[5]  # what a share holds must be given back
        ]
    return fields


def owner_of_row(row: Mapping[str, Any]) -> Owner:
    """An owner from a row of the store's `fetch_owners`."""
    return Owner(
        user_id=row["user_id"],
        key_id=row["key_id"],
        group_id=row["group_id"],
        operation=row["operation"],
        tags=row["tags"] or {},
        end_user=row["end_user"],
        kind=row["kind"],
        model=row["model"],
        upstream=row["upstream"] or "",
        key_digest=row["digest"],
        expires_at=row["expires_at"],
    )
