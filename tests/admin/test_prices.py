"""Local prices over the admin API, what models cost, and the upstreams."""

from __future__ import annotations

from proxy.store import people
from tests.admin.conftest import Api


async def test_a_price_is_set_replaced_and_removed(api):
    body = {
        "model": "GPT-5.1",
        "starts_at": "2026-01-01",
        "rates": {"input_tokens": "1.25", "output_tokens": {"0": "10", "200000": "15"}},
    }
    status, price = await api.ask("POST", "/admin/prices", body)

    assert status == 201
    assert (price["model"], price["provider"], price["starts_at"]) == (
        "gpt-5.1",
        "openai",
        "2026-01-01T00:00:00Z",
    )
    assert price["rates"] == {"input_tokens": "1.25", "output_tokens": {"0": "10", "200000": "15"}}
    status, again = await api.ask("POST", "/admin/prices", body | {"rates": {"input_tokens": "2"}})
    assert (status, again["id"], again["rates"]) == (200, price["id"], {"input_tokens": "2"})
    assert (await api.get("/admin/prices?model=gpt*"))["total"] == 1
    assert (await api.ask("DELETE", f"/admin/prices/{price['id']}"))[0] == 200
    assert (await api.refused("GET", f"/admin/prices/{price['id']}"))[:2] == (404, "not_found")
    assert [entry["action"] for entry in (await api.get("/admin/audit"))["data"]] == [
        "price.remove",
        "price.put",
        "price.put",
    ]


async def test_wrong_prices_are_refused_in_words(api):
    for body in (
        {"model": "m", "rates": {}},
        {"model": "m", "rates": {"input_tokens": "-1"}},
        {"model": "m", "rates": {"inptu_tokens": "1"}},
        {"model": "m", "rates": {"input_tokens": "1"}, "starts_at": "soon"},
        {"rates": {"input_tokens": "1"}},
    ):
        assert (await api.refused("POST", "/admin/prices", body))[0] == 400, body


async def test_what_models_cost_now(api):
    models = (await api.get("/admin/models?model=gpt-4o-mini"))["data"]

    assert [model["model"] for model in models] == ["gpt-4o-mini"]
    assert models[0]["rates"]["input_tokens"] == "0.15"


async def test_upstreams_are_shown_without_their_keys(serve, pool):
    _, key = await people.create_admin_key(pool, name="a")
    upstream = {"name": "local", "url": "http://10.0.0.5:8000", "key": "sk-very-secret", "models": ["llama*"]}
    api = Api(await serve(upstreams=[upstream]), key, pool)

    answer = await api.get("/admin/upstreams")

    assert [(each["name"], each["url"]) for each in answer["data"]] == [
        ("local", "http://10.0.0.5:8000"),
        ("default", "https://api.openai.com"),
    ]
    assert "secret" not in str(answer)
