"""The audit log, newest first."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from proxy.admin.route import Ask, Route
from proxy.admin.shapes import Instant, PageQuery, PageView, Reference, View
from proxy.store import audit
from proxy.store.rows import Row


class AuditView(View):
    """Who did what to what, when and from where."""

    id: int
    at: datetime
    actor: str
    address: str | None
    action: str
    subject: str
    before: Any
    after: Any


class AuditPage(PageView):
    """A page of the audit log."""

    data: list[AuditView]


class AuditQuery(PageQuery):
    """Which entries."""

    actor: Reference | None = Field(default=None, examples=["admin_key:admin_01k3"])
    action: Reference | None = Field(
        default=None, description="E.g. `user.create`, or `user.` for all that was done to users."
    )
    subject: Reference | None = None
    start: Instant | None = None
    end: Instant | None = None


def audit_view(row: Row) -> AuditView:
    """A row of `audit_log` as the API shows it."""
    return AuditView(**{name: row[name] for name in AuditView.model_fields})


async def list_audit(ask: Ask) -> AuditPage:
    """Every change, and every read of personal data, newest first."""
    query = ask.query
    rows = await audit.list_audit(
        ask.connection,
        actor=query.actor,
        action=query.action,
        subject=query.subject,
        start=query.start,
        end=query.end,
        limit=query.limit,
        offset=query.offset,
    )
    return AuditPage.of(rows, query, audit_view)


ROUTES = (
    Route(
        method="GET",
        path="/admin/audit",
        handler=list_audit,
        summary="Read the audit log",
        access="read",
        everywhere=True,
        query=AuditQuery,
        answer=AuditPage,
        tag="audit",
    ),
)
