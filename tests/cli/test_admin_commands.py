"""users, groups, keys, quotas, plans, usage and export, as a person types them: on the database, and on a server."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import typer
from aiohttp import web
from typer.testing import CliRunner

from proxy.admin.context import AdminContext
from proxy.admin.site import build_app
from proxy.cli.export import export
from proxy.cli.failure import CommandError
from proxy.cli.groups import groups_app
from proxy.cli.keys import keys_app
from proxy.cli.plans import plans_app
from proxy.cli.quotas import quotas_app
from proxy.cli.usage import bar, usage
from proxy.cli.users import users_app
from proxy.core.key import ADMIN_PREFIX, is_well_formed
from proxy.metrics import Metrics
from proxy.settings import Settings
from proxy.store import people, postgres, records
from tests.admin.conftest import payload, record
from tests.loop_thread import loop_thread

usage_app, export_app = typer.Typer(), typer.Typer()
usage_app.command()(usage)
export_app.command()(export)
APPS = {
    "users": users_app,
    "groups": groups_app,
    "keys": keys_app,
    "quotas": quotas_app,
    "plans": plans_app,
    "usage": usage_app,
    "export": export_app,
}


def type_(*words, more=()):
    """Types a command; returns what it printed, as JSON with --json. A CommandError comes through."""
    result = CliRunner().invoke(APPS[words[0]], [*words[1:], *more])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in (0, 1), result.output
    return json.loads(result.stdout) if "--json" in words else result.stdout


@pytest.fixture
def run(database_url, monkeypatch):
    """Commands on the database at hand."""
    monkeypatch.setenv("PROXY_DATABASE_URL", database_url)
    monkeypatch.setenv("COLUMNS", "250")
    return type_


@pytest.fixture
def run_on_server(database_url, monkeypatch):
    """Commands on a server by URL and admin key, without a database of their own."""
    monkeypatch.setenv("COLUMNS", "250")

    async def start():
        pool = await postgres.open_pool(database_url)
        _, key = await people.create_admin_key(pool, name="cli")
        context = AdminContext(settings=Settings(), metrics=Metrics(), pool=lambda: pool)
        runner = web.AppRunner(build_app(context))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return pool, runner, key, runner.addresses[0][1]

    with loop_thread("admin") as on_loop:
        pool, runner, key, port = on_loop(start())
        yield lambda *words: type_(*words, more=("--server", f"http://127.0.0.1:{port}", "--admin-key", key))
        on_loop(runner.cleanup())
        on_loop(pool.close())


def on_pool(database_url, work):
    async def go():
        pool = await postgres.open_pool(database_url)
        try:
            return await work(pool)
        finally:
            await pool.close()

    return asyncio.run(go())


def store(database_url, *lines):
    on_pool(database_url, lambda pool: records.store(pool, list(map(payload, lines))))


def test_a_user_is_made_found_changed_and_deactivated(run, database_url):
    run("groups", "create", "5A", "--operation", "rag_answer")
    made = run(
        "users",
        "create",
        "Ana",
        "--email",
        "ana@school.example",
        "--group",
        "5A",
        "--tag",
        "grade=9",
        "--json",
    )

    assert (made["name"], made["group_name"], made["tags"]) == ("Ana", "5A", {"grade": "9"})
    assert "ana@school.example" in run("users", "list", "ana")
    assert run("users", "show", "ana@school.example", "--json")["id"] == made["id"]
    assert run("users", "change", made["id"], "--email", "", "--json")["email"] is None
    assert run("users", "deactivate", made["id"], "--json")["active"] is False
    assert run("users", "activate", made["id"], "--json")["active"] is True
    actors = on_pool(database_url, lambda pool: pool.fetch("select distinct actor from audit_log"))
    assert [row["actor"].partition(":")[0] for row in actors] == ["cli"]


def test_what_a_person_can_mend_is_said_in_one_line(run):
    with pytest.raises(CommandError, match="There is no user 'nobody'"):
        run("users", "show", "nobody")
    with pytest.raises(CommandError, match="There is no group '5A'"):
        run("users", "create", "Ana", "--group", "5A")
    with pytest.raises(CommandError, match="tag 'grade' is not NAME=VALUE"):
        run("users", "create", "Ana", "--tag", "grade")
    with pytest.raises(CommandError, match="nothing to change"):
        run("users", "change", "x")
    with pytest.raises(CommandError, match="is not UNIT/WINDOW=LIMIT"):
        run("quotas", "set", "x", "cost=5")
    with pytest.raises(CommandError, match="an admin key is needed"):
        run("users", "list", "--server", "http://127.0.0.1:9")
    with pytest.raises(CommandError, match=r"http://127.0.0.1:9: "):
        run("users", "list", "--server", "http://127.0.0.1:9", "--admin-key", "x")


def test_keys_are_issued_rotated_and_revoked(run):
    user = run("users", "create", "Ana", "--json")
    made = run("keys", "issue", user["id"], "--name", "laptop", "--address", "10.0.0.0/8", "--json")

    assert is_well_formed(made["key"])
    assert made["rules"]["allowed_addresses"] == ["10.0.0.0/8"]
    assert made["key"] not in run("keys", "list")
    rotated = run("keys", "rotate", made["id"], "--grace", "60", "--json")
    assert run("keys", "revoke", rotated["id"], "--json")["revoked_at"] is not None
    assert run("keys", "list", "--live", "--json")["total"] == 1
    assert is_well_formed(
        run("keys", "issue-admin", "finance", "--scope", "read", "--json")["key"], ADMIN_PREFIX
    )
    assert "finance" in run("keys", "list-admin")


def test_quotas_and_plans(run):
    run("plans", "create", "basic", "tokens/day=1000")
    user = run("users", "create", "Ana", "--plan", "basic", "--json")
    put = run("quotas", "set", user["id"], "cost/month=5.00", "requests/minute=60", "--json")["data"]

    assert [(quota["unit"], quota["limit"]) for quota in put] == [("cost", "5"), ("requests", "60")]
    bound = run("quotas", "show", user["id"], "--json")["data"]
    assert {(quota["unit"], quota["remaining"]) for quota in bound} == {
        ("cost", "5"),
        ("requests", "60"),
        ("tokens", "1000"),
    }
    changed = run("quotas", "change", put[0]["id"], "--limit", "8", "--json")["data"]
    assert changed[0]["limit"] == "8"
    run("quotas", "remove", put[1]["id"])
    run("quotas", "set", "-", "cost/month=100", "--scope", "everyone")
    assert [quota["scope"] for quota in run("quotas", "list", "--json")["data"]] == ["user", "everyone"]
    assert "tokens/day=1000" in run("plans", "list")
    assert run("plans", "change", "basic", "tokens/day=2000", "--json")["quotas"][0]["limit"] == "2000"


def test_users_are_imported_after_a_dry_run(run, tmp_path):
    file = tmp_path / "users.csv"
    file.write_text("name,email\nAna,ana@school.example\nEva,nonsense\n")
    assert "email" in run("users", "import", str(file), "--dry-run")
    file.write_text("name,email\nAna,ana@school.example\nEva,\n")

    assert run("users", "import", str(file), "--dry-run") == "2 users would be created\n"
    assert run("users", "import", str(file)) == "2 users created\n"
    assert run("users", "list", "--json")["total"] == 2


def test_a_user_without_a_name_is_shown_by_its_id(run, database_url):
    nobody = run("users", "create", "--external-id", "42", "--json")
    line = record(datetime.now(UTC), user_id=nobody["id"])
    store(database_url, line)

    assert nobody["name"] is None
    assert nobody["id"] in run("users", "list")
    assert nobody["id"] in run("usage", "--group-by", "user")
    assert run("users", "change", "42", "--name", "Ana", "--json")["name"] == "Ana"
    assert run("users", "change", "42", "--name", "", "--json")["name"] is None


def usage_of(database_url):
    now = datetime.now(UTC)
    made = [
        record(now - timedelta(minutes=number), served_model=model, cost_nanousd=cost, tags={"grade": "9"})
        for number, (model, cost) in enumerate([("big", 3 * 10**9), ("big", 10**9), ("small", 10**9)], 1)
    ]
    store(database_url, *made)
    return made


def test_usage_is_a_table_with_bars(run, database_url):
    usage_of(database_url)

    overview = run("usage", "--days", "2")
    by_model = run("usage", "--days", "2", "--group-by", "model")

    assert "360" in overview and "cost usd" in overview
    lines = [line.split() for line in by_model.splitlines()]
    assert lines[1][0] == "big" and lines[1][-1] == "█" * 20
    assert lines[2][0] == "small" and lines[2][-1] == "█" * 5


def test_usage_as_json_and_csv(run, database_url):
    usage_of(database_url)

    rows = run("usage", "--days", "2", "--group-by", "model,tag.grade", "--model", "big", "--json")["data"]
    text = run("usage", "--days", "2", "--group-by", "model", "--csv")

    assert [(row["key"], row["second_key"], row["cost_usd"]) for row in rows] == [("big", "9", "4")]
    table = list(csv.DictReader(io.StringIO(text)))
    assert [(row["key"], row["requests"]) for row in table] == [("big", "2"), ("small", "1")]
    with pytest.raises(CommandError, match="group_by"):
        run("usage", "--group-by", "colour")


def test_an_export_goes_to_stdout_or_a_file(run, database_url, tmp_path):
    made = usage_of(database_url)
    file = tmp_path / "out.csv"

    assert run("export", "records", "--days", "2", "--columns", "id", "--format", "jsonl").count("\n") == 3
    run("export", "records", "--days", "2", "--columns", "id,cost_usd", "--output", str(file))

    rows = list(csv.reader(io.StringIO(file.read_text())))
    assert rows[0] == ["id", "cost_usd"]
    assert {row[0] for row in rows[1:]} == {line["id"] for line in made}
    with pytest.raises(CommandError, match="'cats' is none of"):
        run("export", "cats")


def test_the_same_commands_work_on_a_server(run_on_server):
    made = run_on_server("users", "create", "Ana Ölm", "--external-id", "a/b c", "--json")

    assert run_on_server("users", "show", "a/b c", "--json") == made
    assert run_on_server("usage", "--group-by", "user", "--json")["data"] == []
    assert run_on_server("export", "users").startswith("user_id,")
    with pytest.raises(CommandError, match="There is no user"):
        run_on_server("keys", "issue", "nobody")


def test_a_bar_is_as_long_as_its_part_of_the_largest():
    assert bar(Decimal(0), Decimal(0)) == ""
    assert bar(Decimal(5), Decimal(5)) == "█" * 20
    assert bar(Decimal(1), Decimal(160)) == "▏"
    assert bar(Decimal(0), Decimal(5)) == ""
