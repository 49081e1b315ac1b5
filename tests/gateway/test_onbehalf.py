"""A service key's calls belong to the users it names: their records, their limits."""

from __future__ import annotations

import json

from tests.gateway.between import Between

BODY = json.dumps({"model": "gpt-4o-mini", "messages": [], "max_tokens": 100}).encode()


def call(key: str, name: bytes) -> bytes:
    lines = (
        b"POST /v1/chat/completions HTTP/1.1",
        b"Host: p",
        b"Authorization: Bearer " + key.encode(),
        b"Content-Type: application/json",
        b"X-Usage-User: " + name,
        b"Content-Length: %d" % len(BODY),
    )
    return b"\r\n".join(lines) + b"\r\n\r\n" + BODY


async def test_the_named_user_pays_however_it_is_named(between: Between) -> None:
    service = between.proxy.person("school app", service=True)
    pupil = between.proxy.admin(
        "POST", "/admin/users", {"name": "Ana", "email": "ana@school.example", "external_id": "pupil-7"}
    )
    async with between.client() as client:
        for name in (pupil["id"].encode(), b"pupil-7", b"ANA@school.example", b"pupil-7"):
            assert (await client.ask(call(service.key, name))).status == 200

    records = await between.proxy.records(4, user_id=pupil["id"])
    assert {record["key_id"] for record in records} == {service.key_id}


async def test_the_named_users_quota_binds_and_its_change_is_heard(between: Between) -> None:
    service = between.proxy.person("another app", service=True)
    pupil = between.proxy.admin("POST", "/admin/users", {"name": "Ben", "external_id": "pupil-8"})
    quotas = [{"unit": "requests", "window": "month", "limit": "1"}]
    async with between.client() as client:
        assert (await client.ask(call(service.key, b"pupil-8"))).status == 200
        between.proxy.admin("PUT", f"/admin/users/{pupil['id']}/quotas", quotas)
        statuses = []
        while not statuses or statuses[-1] == 200:
            assert len(statuses) < 500
            reply = await client.ask(call(service.key, b"pupil-8"))
            statuses.append(reply.status)

    assert statuses[-1] == 429
    assert reply.json()["error"]["code"] == "insufficient_quota"


async def test_a_name_nobody_has_is_a_404_unless_the_key_may_create(between: Between) -> None:
    strict = between.proxy.person("strict app", service=True)
    creating = between.proxy.person("creating app", service=True, creates_users=True)
    between.upstream.forget()
    async with between.client() as client:
        refused = await client.ask(call(strict.key, b"pupil-new"))
        assert between.upstream.requests == []
        created = await client.ask(call(creating.key, b"pupil-new"))
        known_now = await client.ask(call(strict.key, b"pupil-new"))

    assert (refused.status, created.status, known_now.status) == (404, 200, 200)
    assert refused.json()["error"]["param"] == "X-Usage-User"
    (user,) = await between.proxy.rows("select * from users where external_id = 'pupil-new'")
    await between.proxy.records(2, user_id=user["id"])
