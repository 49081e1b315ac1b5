"""Health, readiness, metrics, the simulated header, CORS, and answers to what is no route."""

from __future__ import annotations

import asyncpg

from proxy.store import people
from tests.admin.conftest import Api


async def test_health_needs_nobody(serve):
    api = Api(await serve(pool=None), None, None)

    assert await api.get("/healthz") == {"status": "ok"}


async def test_readiness_says_what_is_missing(serve, pool):
    why = {"keys": None, "recorder": "the spool is full"}
    api = Api(await serve(ready={name: (lambda name=name: why[name]) for name in why}), None, pool)

    assert await api.ask("GET", "/readyz") == (
        503,
        {"ready": False, "not_ready": {"recorder": "the spool is full"}},
    )
    why["recorder"] = None
    assert await api.ask("GET", "/readyz") == (200, {"ready": True, "not_ready": {}})


async def test_without_a_database_admin_is_503_and_readiness_says_so(serve):
    api = Api(await serve(pool=None), "sk-admin-x", None)

    assert (await api.refused("GET", "/admin/stats"))[:2] == (503, "database_unavailable")
    assert (await api.ask("GET", "/readyz"))[1]["not_ready"] == {"database": "not connected"}


async def test_a_database_that_went_away_is_503(serve, database_url):
    gone = await asyncpg.create_pool(database_url, min_size=0)
    await gone.close()
    api = Api(await serve(pool=gone), "sk-admin-x", gone)

    assert (await api.refused("GET", "/admin/stats"))[:2] == (503, "database_unavailable")
    assert (await api.ask("GET", "/readyz"))[1]["not_ready"] == {"database": "does not answer"}


async def test_metrics_are_open_unless_the_setting_asks_for_a_key(serve, pool):
    _, key = await people.create_admin_key(pool, name="prometheus", scope="read")
    status, text = await Api(await serve(), None, pool).ask("GET", "/metrics")
    assert status == 200
    assert "openai_proxy_build_info" in text
    closed = Api(await serve(metrics_require_key=True), None, pool)
    assert (await closed.refused("GET", "/metrics"))[0] == 401
    assert (await closed.as_(key).ask("GET", "/metrics"))[0] == 200


async def test_every_answer_of_a_demo_says_that_it_is_simulated(serve, pool):
    demo, real = await serve(demo=True), await serve()
    for path in ("/healthz", "/admin/users", "/admin/none", "/openapi.json"):
        async with demo.get(path) as response:
            assert response.headers["openai-proxy-simulated"] == "true", path
        async with real.get(path) as response:
            assert "openai-proxy-simulated" not in response.headers


async def test_what_is_no_route_is_404_or_405_in_openais_shape(api):
    assert (await api.refused("GET", "/admin/none"))[:2] == (404, "unknown_url")
    assert (await api.refused("GET", "/me/none"))[:2] == (404, "unknown_url")
    assert (await api.refused("PUT", "/admin/users", {}))[:2] == (405, "method_not_allowed")
    async with api.client.put("/admin/users") as response:
        assert response.headers["allow"] == "GET, POST"


async def test_browsers_of_allowed_origins_may_read_the_answers(serve, pool):
    client = await serve(admin_cors_origins=("https://console.example",))
    headers = {"origin": "https://console.example", "access-control-request-method": "PATCH"}

    async with client.options("/admin/users/user_1", headers=headers) as response:
        assert response.status == 204
        assert response.headers["access-control-allow-origin"] == "https://console.example"
        assert "PATCH" in response.headers["access-control-allow-methods"]
    async with client.get("/admin/users", headers={"origin": "https://console.example"}) as response:
        assert response.headers["access-control-allow-origin"] == "https://console.example"
    async with client.get("/admin/users", headers={"origin": "https://elsewhere.example"}) as response:
        assert "access-control-allow-origin" not in response.headers


async def test_head_is_answered_like_get_without_a_body(api):
    async with api.client.head("/healthz") as response:
        assert (response.status, await response.read()) == (200, b"")


async def test_large_answers_are_compressed(api):
    for number in range(20):
        await api.post("/admin/users", {"name": f"user {number}"})
    async with api.client.get(
        "/admin/users", headers={"authorization": f"Bearer {api.key}", "accept-encoding": "gzip"}
    ) as response:
        assert response.headers["content-encoding"] == "gzip"
        assert len((await response.json())["data"]) == 20
