"""What a call would cost, newer price lists and repricing, over the admin API."""

from __future__ import annotations

from tests.admin.conftest import Api, record
from tests.pricing.test_catalogue import data

AUGUST = {"start": "2026-08-01T00:00:00Z", "end": "2026-09-01T00:00:00Z"}
LIST = data(input_mtok=1.5, output_mtok=6)


async def test_a_call_is_quoted_in_dollars_and_every_currency(serve, pool, api):
    usage = {"input_tokens": 1000, "cached_input_tokens": 400, "output_tokens": 500, "web_searches": 1}
    answer = await api.post("/admin/prices/quote", {"model": "gpt-4o-mini", "usage": usage})

    # 600 at $0.15, 400 at $0.075, 500 at $0.60 a million, and a search at $10 a thousand
    assert answer["cost_usd"] == "0.01042"
    assert answer["price_id"].startswith("genai-prices@")
    rates = {"BRL": {"2026-01-01": "5"}}
    other = Api(await serve(currencies=rates), api.key, pool)
    assert (await other.post("/admin/prices/quote", {"model": "gpt-4o-mini", "usage": usage}))[
        "currencies"
    ] == {"BRL": "0.0521"}
    unknown = await api.post("/admin/prices/quote", {"model": "nobody-s", "usage": usage})
    assert (unknown["cost_usd"], unknown["price_id"]) == (None, None)
    for wrong in (
        {"usage": {}},
        {"usage": {"input_tokens": -1}},
        {"usage": {"input_tokens": 10**16}},
        {"tier": ""},
    ):
        body = {"model": "gpt-4o-mini", "usage": usage} | wrong
        assert (await api.refused("POST", "/admin/prices/quote", body))[0] == 400, wrong


async def test_a_newer_price_list_is_checked_loaded_and_dropped(api, pool):
    bundled = await api.get("/admin/price-list")
    assert bundled["bundled"]
    assert bundled["models"] > 100

    status, checked = await api.ask("PUT", "/admin/price-list", {"data": LIST, "check": True})
    assert (status, checked["models"], checked["bundled"]) == (200, 1, False)
    assert await pool.fetchval("select count(*) from price_data") == 0
    status, loaded = await api.ask("PUT", "/admin/price-list", {"data": LIST})
    assert (status, loaded["version"]) == (200, checked["version"])
    assert await pool.fetchval("select version from price_data") == loaded["version"]
    status, dropped = await api.ask("DELETE", "/admin/price-list")
    assert (status, dropped) == (200, bundled)
    assert await pool.fetchval("select count(*) from price_data") == 0
    audited = [entry["action"] for entry in (await api.get("/admin/audit"))["data"]]
    assert audited == ["prices.update", "prices.update"]


async def test_what_is_no_price_list_is_refused(api, pool):
    for body in (
        {"data": []},
        {"data": [{"id": "openai"}]},
        {"url": "http://prices.example/data.json"},
        {"url": "/etc/passwd"},
        {"url": "https://x.example", "data": LIST},
    ):
        assert (await api.refused("PUT", "/admin/price-list", body))[0] == 400, body
    assert await pool.fetchval("select count(*) from price_data") == 0


async def test_repricing_shows_the_difference_and_changes_nothing_unless_told_to(api, pool, store):
    await store(
        record(served_model="gpt-4o-mini", cost_nanousd=None, usage_source="reported"),
        record(served_model="gpt-4o-mini", cost_nanousd=5),
    )
    cost = 100 * 150 + 20 * 600
    expected = {
        "records": 2,
        "changed": 2,
        "before_usd": "0.000000005",
        "after_usd": "0.000054",
        "unpriced_before": 1,
        "unpriced_after": 0,
    }

    shown = await api.post("/admin/reprice", AUGUST)
    assert shown == {"applied": False, "total": expected, "models": {"gpt-4o-mini": expected}}
    assert await pool.fetchval("select count(*) from usage_records where cost_nanousd = $1", cost) == 0
    only = await api.post("/admin/reprice", AUGUST | {"unpriced_only": True})
    assert only["total"]["records"] == 1

    done = await api.post("/admin/reprice", AUGUST | {"apply": True})
    assert (done["applied"], done["total"]) == (True, expected)
    assert await pool.fetchval("select count(*) from usage_records where cost_nanousd = $1", cost) == 2
    again = await api.post("/admin/reprice", AUGUST | {"apply": True})
    assert (again["applied"], again["total"]["changed"]) == (False, 0)
    audited = [entry["action"] for entry in (await api.get("/admin/audit"))["data"]]
    assert audited == ["usage.reprice", "usage.reprice.begin"]


async def test_a_period_that_makes_no_sense_is_refused(api):
    for body in (
        {"start": AUGUST["end"], "end": AUGUST["start"]},
        {"start": "2026-08-01T00:00:00", "end": "2026-09-01T00:00:00"},
        {"start": AUGUST["start"]},
    ):
        assert (await api.refused("POST", "/admin/reprice", body))[0] == 400, body
