"""Generated requests, valid and not, against the whole OpenAPI document: answers are as documented and never a 5xx."""

from __future__ import annotations

import asyncio
import warnings

import hypothesis
import pytest
from hypothesis import HealthCheck

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    schemathesis = pytest.importorskip("schemathesis")
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

EXAMPLES = 6
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
LEFT_OUT = {
    "/admin/records/live",  # has no end
    "/readyz",  # answers 503 by design
}


def hammer(document: dict, url: str, key: str, user_key: str) -> int:
    """Ask every operation; returns how many requests were made."""
    asked = []
    schema = schemathesis.openapi.from_dict(document)
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path not in LEFT_OUT:
            credential = user_key if operation.path.startswith("/me") else key
            _ask(operation, url, {"authorization": f"Bearer {credential}"}, asked)
    return len(asked)


def _ask(operation, url: str, headers: dict[str, str], asked: list) -> None:
    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy())
    def one(case):
        asked.append(case)
        case.call_and_validate(base_url=url, headers=headers, checks=CHECKS)

    one()


@pytest.mark.filterwarnings("ignore")
async def test_whatever_is_asked_is_answered_as_documented(api, pool):
    from proxy.store import people

    user = await people.create_user(pool, name="Ana")
    _, user_key = await people.create_key(pool, user_id=user["id"])
    document = await api.get("/openapi.json")
    url = str(api.client.make_url("")).rstrip("/")
    asked = await asyncio.to_thread(hammer, document, url, api.key, user_key)

    assert asked > 100
