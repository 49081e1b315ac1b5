"""The OpenAPI document is valid, complete and true: what it says who may do is what happens."""

from __future__ import annotations

import re

import pytest
from openapi_spec_validator import validate
from pydantic import TypeAdapter

from proxy.admin.site import all_routes
from proxy.pricing.live import local_price
from proxy.settings import Settings
from proxy.store import people, plans, prices, quotas
from proxy.store.quotas import Rule
from tests.admin.conftest import NOW, record

UNANSWERED = {"/admin/records/live"}
"""Streams without an end."""
READS = {"/admin/stats/bulk", "/admin/prices/quote"}
"""Asked with a body, and change nothing."""


async def test_the_document_is_valid_and_names_every_route(api):
    document = await api.get("/openapi.json")

    validate(document)
    assert document["openapi"] == "3.1.0"
    listed = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert listed == {(route.method, route.path) for route in all_routes(Settings())}
    ids = [
        operation["operationId"] for methods in document["paths"].values() for operation in methods.values()
    ]
    assert len(ids) == len(set(ids))


def test_every_example_is_valid():
    for route in all_routes(Settings()):
        if route.body is not None and route.body is not bytes:
            assert route.example is not None, route.path
            TypeAdapter(route.body).validate_python(route.example)


def test_every_changing_route_needs_the_right_to_write():
    for route in all_routes(Settings()):
        if route.path.startswith("/admin") and route.method != "GET" and route.path not in READS:
            assert route.access == "write", route.path


@pytest.fixture
async def world(pool, store):
    """One of everything, in a group; and who may ask."""
    group = await people.create_group(pool, name="mine")
    other = await people.create_group(pool, name="theirs")
    user = await people.create_user(pool, name="Ana", group_id=group["id"])
    key, text = await people.create_key(pool, user_id=user["id"])
    quota = await quotas.create_quota(pool, "user", user["id"], Rule("cost", "month", 5))
    plan = await plans.create_plan(pool, name="basic")
    _, read = await people.create_admin_key(pool, name="read", scope="read")
    _, write = await people.create_admin_key(pool, name="write")
    _, mine = await people.create_admin_key(pool, name="head of mine", group_id=group["id"])
    _, theirs = await people.create_admin_key(pool, name="head of theirs", group_id=other["id"])
    admin, _ = await people.create_admin_key(pool, name="to be revoked")
    _, price = await prices.put_price(
        pool, local_price("new", {"model": "m", "rates": {"input_tokens": "1"}})
    )
    line = record(NOW, user_id=user["id"], key_id=key["id"], group_id=group["id"])
    await store(line)
    parts = {
        "user": user["id"],
        "group": group["id"],
        "key": key["id"],
        "quota": quota["id"],
        "plan": plan["id"],
        "price": price["id"],
        "admin_key": admin["id"],
        "record": line["id"],
        "request": line["id"],
        "tag": "session",
        "erasure": "1",
    }
    return parts, {"nobody": None, "user": text, "read": read, "write": write, "mine": mine, "theirs": theirs}


def allowed(route, actor: str) -> bool:
    """What the document promises."""
    if route.access == "anyone":
        return True
    if route.access == "user" or actor in {"nobody", "user"}:
        return route.access == actor
    if route.everywhere and actor in {"mine", "theirs"}:
        return False
    return route.access == "read" or actor != "read"


@pytest.mark.parametrize("actor", ["nobody", "user", "read", "theirs", "mine", "write"])
async def test_each_route_opens_to_whom_the_document_says(api, world, actor):
    parts, credentials = world
    asking = api.as_(credentials[actor])
    removing = [route for route in all_routes(Settings()) if route.method == "DELETE"]
    others = [route for route in all_routes(Settings()) if route.method != "DELETE"]
    for route in [*others, *removing]:
        if route.path in UNANSWERED:
            continue
        path = re.sub(r"\{([a-z_]+)\}", lambda found: parts[found[1]], route.path)
        if route.path == "/admin/stats/by" or route.path == "/me/usage/by":
            path += "?group_by=model"
        status, answer = await asking.ask(route.method, path, route.example)
        named = f"{actor}: {route.method} {route.path}: {status} {answer}"
        if not allowed(route, actor):
            assert status == (401 if actor == "nobody" else 403), named
        elif actor == "theirs" and "{" in route.path and route.path.startswith("/admin"):
            seen = {"/admin/stats/tags/{tag}", "/admin/plans/{plan}", "/admin/prices/{price}"}
            assert status == (200 if route.path in seen else 404), named
        else:
            assert status not in (401, 403), named
            assert status < 500 or route.path == "/readyz", named
