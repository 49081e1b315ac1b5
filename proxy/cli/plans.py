"""`openai-proxy plans`: named sets of quotas."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from proxy.cli import show
from proxy.cli.api import AdminKey, AsJson, Server, on_api, part
from proxy.cli.failure import CommandError
from proxy.cli.quotas import Rules, rules

plans_app = typer.Typer(
    name="plans", help="Plans: named sets of quotas.", no_args_is_help=True, pretty_exceptions_enable=False
)
Plan = Annotated[str, typer.Argument(help="Id or name.")]


@plans_app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What the plan is called.")],
    rule: Rules = None,
    server: Server = None,
    admin_key: AdminKey = None,
    as_json: AsJson = False,
) -> None:
    """Create a plan: `plans create basic cost/month=5.00 requests/minute=60`."""
    body = {"name": name, "quotas": rules(rule)}
    made = on_api("plans create", lambda api: api.ask("POST", "/admin/plans", body), server, admin_key)
    _print([made], as_json)


@plans_app.command("list")
def list_plans(
    search: Annotated[str | None, typer.Argument(help="Words in name or id.")] = None,
    server: Server = None,
    admin_key: AdminKey = None,
    as_json: AsJson = False,
) -> None:
    """List plans, their quotas and how many are on them."""
    query = {"search": search, "limit": 1000}
    answer = on_api("plans list", lambda api: api.get("/admin/plans", query), server, admin_key)
    if as_json:
        show.as_json(answer)
    else:
        _print(answer["data"], as_json)


@plans_app.command("show")
def show_plan(plan: Plan, server: Server = None, admin_key: AdminKey = None, as_json: AsJson = False) -> None:
    """Show a plan."""
    found = on_api("plans show", lambda api: api.get(f"/admin/plans/{part(plan)}"), server, admin_key)
    _print([found], as_json)


@plans_app.command("change")
def change(
    plan: Plan,
    rule: Rules = None,
    name: Annotated[str | None, typer.Option(help="A new name.")] = None,
    server: Server = None,
    admin_key: AdminKey = None,
    as_json: AsJson = False,
) -> None:
    """Change a plan's name or its whole set of quotas. What everybody has used is kept."""
    body = show.given(name=name, quotas=rules(rule) or None)
    if not body:
        raise CommandError("nothing to change: give quotas or --name")
    path = f"/admin/plans/{part(plan)}"
    _print([on_api("plans change", lambda api: api.ask("PATCH", path, body), server, admin_key)], as_json)


@plans_app.command("remove")
def remove(plan: Plan, server: Server = None, admin_key: AdminKey = None, as_json: AsJson = False) -> None:
    """Remove a plan that nobody is on."""
    path = f"/admin/plans/{part(plan)}"
    _print([on_api("plans remove", lambda api: api.ask("DELETE", path), server, admin_key)], as_json)


def _print(found: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        show.as_json(found[0])
        return
    rows = [
        each | {"quotas": " ".join(f"{q['unit']}/{q['window']}={q['limit']}" for q in each["quotas"])}
        for each in found
    ]
    show.table(rows, ("id", "name", "quotas", "users", "groups"))
