"""The parts that many requests and answers share: base models, pages, money, rules of what may be called."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from proxy.core.money import MoneyError, format_nano, parse_usd

PAGE_MAX = 100_000
LIMIT_MAX = 1000
TAGS_MAX = 16
BIGINT_MAX = 2**63 - 1


def _utc(value: datetime) -> datetime:
    # Years at the edge overflow when a zone is applied, and Postgres' own range is another.
    if not 1970 <= value.year <= 9000:
        raise ValueError("must be between the years 1970 and 9000")
    return value.astimezone(UTC)


def _network(text: str) -> str:
    return str(ipaddress.ip_network(text, strict=False))


def _dollars(text: str) -> str:
    return format_nano(nano(text))


def nano(text: str | int) -> int:
    """US dollars as nano-dollars; ValueError in words."""
    try:
        return parse_usd(text)
    except MoneyError as error:
        raise ValueError(str(error)) from None


Instant = Annotated[AwareDatetime, AfterValidator(_utc)]
"""A time with a zone; kept and shown in UTC."""
Name = Annotated[str, Field(min_length=1, max_length=200)]
Reference = Annotated[str, Field(min_length=1, max_length=320)]
"""An id, an external id, or what else finds one row."""
Pattern = Annotated[str, Field(min_length=1, max_length=200)]
TagName = Annotated[str, Field(min_length=1, max_length=128)]
TagValue = Annotated[str, Field(max_length=128)]
Tags = Annotated[dict[TagName, TagValue], Field(max_length=TAGS_MAX)]
Usd = Annotated[str, Field(pattern=r"^-?[0-9]+(\.[0-9]+)?$", examples=["12.345678901"])]
"""US dollars as a decimal string, exact to the nano-dollar."""


class Input(BaseModel):
    """What clients send. Unknown fields are refused, so that a typing error is not silence."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    def given(self) -> dict[str, Any]:
        """Only the fields that were sent: what a PATCH changes."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class View(BaseModel):
    """What we answer."""

    model_config = ConfigDict(frozen=True)


class PageQuery(Input):
    """Which page of a list."""

    page: int = Field(default=1, ge=1, le=PAGE_MAX)
    limit: int = Field(default=100, ge=1, le=LIMIT_MAX)

    @property
    def offset(self) -> int:
        """How many rows come before the page."""
        return (self.page - 1) * self.limit


class SearchQuery(PageQuery):
    """Which page of a list, of the rows that hold these words."""

    search: str | None = Field(default=None, max_length=200, description="Words to find in names and ids.")


class PageView(View):
    """One page; each list's own class adds its `data`."""

    page: int
    limit: int
    total: int
    total_pages: int

    @classmethod
    def of(cls, rows: tuple[list[Any], int], query: PageQuery, view: Callable[[Any], Any]) -> Self:
        """The page that `query` asked for."""
        data, total = rows
        return cls.model_validate(
            {
                "data": [view(row) for row in data],
                "page": query.page,
                "limit": query.limit,
                "total": total,
                "total_pages": math.ceil(total / query.limit),
            }
        )


class Rules(Input):
    """What a key, user or group may do, beside quotas. A key has the narrowest of its own, its user's and its group's."""

    allowed_models: list[Pattern] | None = Field(
        default=None, max_length=100, examples=[["gpt-5*"]], description="Shell patterns; null: all."
    )
    allowed_endpoints: list[Pattern] | None = Field(
        default=None, max_length=100, examples=[["/v1/chat/completions"]]
    )
    allowed_operations: list[Pattern] | None = Field(
        default=None, max_length=1000, description="Other operations are recorded as `other`."
    )
    allowed_addresses: list[Annotated[str, AfterValidator(_network)]] | None = Field(
        default=None, max_length=100, examples=[["203.0.113.0/24"]]
    )
    max_concurrent: int | None = Field(default=None, ge=1, le=1_000_000)
    max_request_tokens: int | None = Field(default=None, ge=1, le=BIGINT_MAX)
    max_request_cost_usd: Annotated[str, AfterValidator(_dollars)] | None = Field(
        default=None, examples=["0.50"]
    )

    def stored(self, before: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """As the column `settings` holds it and the keyring reads it: only what says something, money in nano-dollars.

        With the column as it was `before`, rules that were not sent stay, and those sent as null go.
        """
        column = dict(before or {})
        for name, value in self.given().items():
            stored_as = "max_request_cost_nanousd" if name == "max_request_cost_usd" else name
            if value is None:
                column.pop(stored_as, None)
            else:
                column[stored_as] = parse_usd(value) if stored_as != name else value
        return column

    @classmethod
    def shown(cls, column: Mapping[str, Any]) -> Self:
        """From the column `settings`."""
        values = {name: value for name, value in column.items() if name in cls.model_fields}
        if (cost := column.get("max_request_cost_nanousd")) is not None:
            values["max_request_cost_usd"] = format_nano(cost)
        return cls.model_validate(values)


def masked(row: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """A row as the audit log keeps it: JSON values, without digests."""
    kept = names or tuple(row.keys())
    return {
        name: value.isoformat() if isinstance(value := row[name], datetime) else value
        for name in kept
        if name != "digest"
    }
