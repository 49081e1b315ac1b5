"""What went wrong, as the answer that says so: broken constraints, Postgres away, reports that take too long."""

from __future__ import annotations

from proxy.admin.auth import database_away
from proxy.admin.route import Route, bad_request
from proxy.core.refusal import Refusal
from proxy.store.conflicts import MissingError, TakenError
from proxy.store.idempotency import ReusedError
from proxy.store.postgres import TOO_SLOW, UNAVAILABLE

EXPECTED: tuple[type[BaseException], ...] = (
    Refusal,
    MissingError,
    TakenError,
    ReusedError,
    TOO_SLOW,
    *UNAVAILABLE,
)
"""Everything that refusal_of can put into words; the rest is a fault of ours."""


def refusal_of(error: BaseException, route: Route) -> Refusal:
    """The answer to one of EXPECTED. What is missing is a 404 where the path or a filter named it, else a 400."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, MissingError):
        if f"{{{error.field}}}" in route.path or route.method == "GET":
            return Refusal(404, "not_found", _sentence(error), param=error.field, reason="not_found")
        return bad_request(error.field, _sentence(error), "not_found")
    if isinstance(error, TakenError):
        return Refusal(409, "already_exists", _sentence(error), param=error.field)
    if isinstance(error, ReusedError):
        return Refusal(
            409,
            "idempotency_key_reused",
            "This Idempotency-Key was used for a different request.",
            param="Idempotency-Key",
        )
    if isinstance(error, TOO_SLOW):
        return Refusal(
            503,
            "report_too_slow",
            "The report took too long. Ask for a shorter time or fewer filters.",
            "server_error",
        )
    return database_away()


def our_fault() -> Refusal:
    """500, which says nothing: the log says it."""
    return Refusal(500, "internal_error", "The proxy failed to answer; its log says why.", "server_error")


def _sentence(error: Exception) -> str:
    text = f"{error}."
    return text[:1].upper() + text[1:]
