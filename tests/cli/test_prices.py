"""`openai-proxy prices` and `reprice`, as a person types them, on a real database."""

from __future__ import annotations

import asyncio
import json

import pytest
import typer
from typer.testing import CliRunner

from proxy.cli.failure import CommandError
from proxy.cli.prices import prices_app
from proxy.cli.reprice import reprice
from proxy.core.spoolformat import encode_record
from proxy.store import postgres, records
from tests.exchanges import make_record
from tests.pricing.test_catalogue import data

reprice_app = typer.Typer()
reprice_app.command()(reprice)


@pytest.fixture
def run(database_url, monkeypatch):
    """Types a command; returns what it printed, as JSON with --json. A CommandError comes through."""
    monkeypatch.setenv("PROXY_DATABASE_URL", database_url)
    monkeypatch.setenv("COLUMNS", "250")

    def typed(*words, app=prices_app):
        result = CliRunner().invoke(app, list(words))
        if result.exception is not None:
            raise result.exception
        return json.loads(result.stdout) if "--json" in words else result.stdout

    return typed


def on_database(url, statement):
    async def fetch():
        connection = await postgres.connect(url)
        try:
            return await connection.fetch(statement)
        finally:
            await connection.close()

    return asyncio.run(fetch())


def test_models_and_their_rates_are_listed(run):
    found = {each["model"]: each for each in run("list", "gpt-4o*", "--json")}

    assert found["gpt-4o-mini"]["rates"]["input_tokens"] == "0.15"
    assert "gpt-5" not in found
    table = run("list", "gpt-5.4-nano")
    assert "gpt-5.4-nano" in table
    assert "1.25" in table


def test_a_model_is_shown_with_its_source_and_span(run):
    shown = run("show", "gpt-6.1-terra", "--tier", "flex", "--at", "2026-11-01", "--json")

    assert shown["price_id"] == "genai-prices@0.2.3/openai/gpt-6.1-terra/flex"
    assert (shown["from"], shown["until"]) == (None, None)
    assert shown["rates"]["input_tokens"] == {"0": "0.5", "272000": "1"}
    assert "input_tokens (per million)" in run("show", "gpt-6.1-terra")
    assert "1 above 272,000" in run("show", "gpt-6.1-terra", "--tier", "flex")


def test_a_call_is_quoted_in_dollars_and_the_configured_currencies(run, tmp_path, monkeypatch):
    config = tmp_path / "config.toml"
    config.write_text('[currencies.BRL]\n"2026-01-01" = "5.43"\n')
    monkeypatch.setenv("PROXY_CONFIG", str(config))
    usage = ("input_tokens=1000", "cached_input_tokens=400", "output_tokens=200", "web_searches=1")

    quoted = run("quote", "gpt-4o-mini", *usage, "--at", "2026-11-01", "--json")

    # 600 * 150 + 400 * 75 + 200 * 600 + 10_000_000 nano-dollars
    assert quoted["cost"] == {"USD": "0.01024", "BRL": "0.0556032"}
    assert run("quote", "gpt-4o-mini", *usage, "--at", "2025-11-01").startswith("0.01024 USD  ? BRL\n")


def test_a_price_is_set_listed_used_and_removed(run, database_url):
    made = run("set", "My-Model", "input_tokens=1.5", "web_searches=0.02", "--from", "2026-02-01", "--json")
    quoted = run("quote", "my-model", "input_tokens=1000", "web_searches=1", "--json")

    assert made["rates"] == {"input_tokens": "1.5", "web_searches": "0.02"}
    assert quoted["cost"]["USD"] == "0.0215"
    assert quoted["price_id"] == f"openai-proxy/openai/my-model/default/2026-02-01+local:{made['id']}"
    assert run("list", "--local", "--json") == [made]
    assert made["id"] in run("list", "--local")
    assert made["id"] in run("remove", made["id"])
    assert run("list", "--local", "--json") == []
    log = on_database(database_url, "select action, subject, before, after from audit_log order by id")
    assert [tuple(entry) for entry in log] == [
        ("price.set", made["id"], None, made),
        ("price.remove", made["id"], made, None),
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("show", "nobody-knows"), "nobody knows the price of nobody-knows at openai in tier default"),
        (("quote", "nobody-knows", "input_tokens=1"), "nobody knows what this costs"),
        (("quote", "gpt-4o", "input_tokens"), "write NAME=VALUE"),
        (("quote", "gpt-4o", "input_tokens=1.5"), "a count is a whole number"),
        (("quote", "gpt-4o", "input_tokens=1", "--at", "soon"), "'soon' is not a day"),
        (("set", "gpt-4o", "input_tokens=cheap"), "input_tokens: 'cheap' is not a decimal number"),
        (("set", "gpt-4o", "input_tokens=1", "--from", "soon"), "'soon' is not a day"),
        (("remove", "price_none"), "there is no price 'price_none'"),
        (("update", "/no/such/file"), "No such file"),
    ],
)
def test_what_can_not_be_done_is_said_in_one_line(run, words, message):
    with pytest.raises(CommandError, match=message):
        run(*words)


def test_newer_prices_are_checked_loaded_and_dropped(run, tmp_path):
    path = tmp_path / "data.json"
    path.write_text(json.dumps(data(input_mtok=3)))

    checked = run("update", str(path), "--check", "--json")
    assert checked == {"version": checked["version"], "providers": 1, "models": 1, "stored": False}
    with pytest.raises(CommandError, match="nobody knows"):
        run("show", "gpt-new")
    assert run("update", str(path), "--json")["stored"]
    assert run("show", "gpt-new", "--json")["price_id"] == f"{checked['version']}/openai/gpt-new/default"
    assert run("update", "--bundled", "--json") == {
        "version": "genai-prices@0.2.3",
        "before": checked["version"],
    }
    with pytest.raises(CommandError, match="nobody knows"):
        run("show", "gpt-new")


def test_data_that_makes_no_sense_is_not_loaded(run, tmp_path):
    path = tmp_path / "data.json"
    path.write_text("[]")

    with pytest.raises(CommandError, match="not a list of providers"):
        run("update", str(path))
    assert run("show", "gpt-4o-mini", "--json")["price_id"].startswith("genai-prices@0.2.3/")


def test_a_database_that_is_away_is_said_in_one_line(run, monkeypatch):
    monkeypatch.setenv("PROXY_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")

    with pytest.raises(CommandError, match="database"):
        run("list")


# -- reprice

WHEN = ("--from", "2025-10-01", "--to", "2025-11-01")


@pytest.fixture
def spent(database_url):
    """Two records of gpt-5 that should have cost 90 * 1,250 + 10 * 10,000 nano-dollars; one has no cost yet."""

    async def store():
        pool = await postgres.open_pool(database_url)
        made = [make_record(1), make_record(2, cost_nanousd=None)]
        await records.store(pool, [encode_record(record) for record in made])
        await pool.close()

    asyncio.run(store())


def costs(database_url):
    rows = on_database(database_url, "select cost_nanousd from usage_records order by id")
    return [row["cost_nanousd"] for row in rows]


def test_reprice_shows_the_difference_and_changes_nothing_unless_told_to(run, database_url, spent):
    shown = run(*WHEN, "--dry-run", app=reprice_app)
    told = run(*WHEN, "--json", app=reprice_app)
    with pytest.raises(CommandError, match="nothing was changed: say --yes"):
        run(*WHEN, app=reprice_app)

    assert "gpt-5-2025-08-07" in shown
    assert "+0.0004245" in shown
    assert told["applied"] is False
    assert told["total"] == {
        "records": 2,
        "changed": 2,
        "unpriced_before": 1,
        "unpriced_after": 0,
        "before_usd": "0.0000005",
        "after_usd": "0.000425",
    }
    assert costs(database_url) == [500, None]


def test_reprice_changes_them_when_told_to(run, database_url, spent):
    assert run(*WHEN, "--yes", "--json", app=reprice_app)["applied"] is True
    assert costs(database_url) == [212_500, 212_500]
    assert "0 records changed" not in run(*WHEN, "--yes", app=reprice_app)


def test_reprice_may_be_narrowed(run, database_url, spent):
    run(*WHEN, "--unpriced", "--yes", app=reprice_app)

    assert costs(database_url) == [500, 212_500]


def test_reprice_is_of_this_month_when_not_told_otherwise(run, database_url, spent):
    run("--yes", app=reprice_app)

    assert costs(database_url) == [500, None]


def test_a_period_that_makes_no_sense_is_refused(run):
    with pytest.raises(CommandError, match="ends before it begins"):
        run("--from", "2025-10-02", "--to", "2025-10-02", app=reprice_app)
    with pytest.raises(CommandError, match="is not a day"):
        run("--from", "monday", app=reprice_app)
