"""`openai-proxy groups`: teams, schools or tenants of users."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from proxy.cli import show
from proxy.cli.api import AdminKey, AsJson, Server, on_api, part
from proxy.cli.failure import CommandError
from proxy.cli.users import ExternalId, Plan, Tag

groups_app = typer.Typer(
    name="groups", help="Groups of users.", no_args_is_help=True, pretty_exceptions_enable=False
)
COLUMNS = ("id", "name", "external_id", "plan_name", "tags", "users", "active", "created_at")
Group = Annotated[str, typer.Argument(help="Id, external id or name.")]
Operations = Annotated[
    list[str] | None,
    typer.Option("--operation", help="Operations that are recorded by name; others become `other`."),
]
Models = Annotated[list[str] | None, typer.Option("--model", help="Models allowed, as patterns.")]


def _body(
    name: str | None,
    external_id: str | None,
    plan: str | None,
    tag: list[str] | None,
    operation: list[str] | None,
    model: list[str] | None,
) -> dict[str, Any]:
    rules = show.given(allowed_operations=operation or None, allowed_models=model or None)
    return show.given(
        name=name, external_id=external_id, plan=plan, tags=show.pairs(tag, "tag"), rules=rules or None
    )


@groups_app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What the group is called.")],
    external_id: ExternalId = None,
    plan: Plan = None,
    tag: Tag = None,
    operation: Operations = None,
    model: Models = None,
    server: Server = None,
    admin_key: AdminKey = None,
    as_json: AsJson = False,
) -> None:
    """Create a group."""
    body = _body(name, external_id, plan, tag, operation, model)
    made = on_api("groups create", lambda api: api.ask("POST", "/admin/groups", body), server, admin_key)
    _print(made, as_json)


@groups_app.command("list")
def list_groups(
    search: Annotated[str | None, typer.Argument(help="Words in name or id.")] = None,
    active: Annotated[bool | None, typer.Option("--active/--inactive")] = None,
    page: Annotated[int, typer.Option(min=1)] = 1,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    server: Server = None,
    admin_key: AdminKey = None,
    as_json: AsJson = False,
) -> None:
    """List and search groups."""
    query = {"search": search, "active": active, "page": page, "limit": limit}
    answer = on_api("groups list", lambda api: api.get("/admin/groups", query), server, admin_key)
    show.page(answer, COLUMNS, json=as_json)


@groups_app.command("show")
def show_group(
    group: Group, server: Server = None, admin_key: AdminKey = None, as_json: AsJson = False
) -> None:
    """Show a group."""
    found = on_api("groups show", lambda api: api.get(f"/admin/groups/{part(group)}"), server, admin_key)
    _print(found, as_json)


@groups_app.command("change")
def change(
    group: Group,
    name: Annotated[str | None, typer.Option(help="A new name.")] = None,
    external_id: ExternalId = None,
    plan: Plan = None,
    tag: Tag = None,
    operation: Operations = None,
    model: Models = None,
    server: Server = None,
    admin_key: AdminKey = None,
    as_json: AsJson = False,
) -> None:
    """Change a group; what is not given stays."""
    body = _body(name, external_id, plan, tag, operation, model)
    if not body:
        raise CommandError("nothing to change: give at least one option")
    _change("groups change", group, body, server, admin_key, as_json)


@groups_app.command("deactivate")
def deactivate(
    group: Group, server: Server = None, admin_key: AdminKey = None, as_json: AsJson = False
) -> None:
    """Stop the keys of all its users within a second."""
    _change("groups deactivate", group, {"active": False}, server, admin_key, as_json)


@groups_app.command("activate")
def activate(
    group: Group, server: Server = None, admin_key: AdminKey = None, as_json: AsJson = False
) -> None:
    """Let the keys of its users work again."""
    _change("groups activate", group, {"active": True}, server, admin_key, as_json)


def _change(
    command: str, group: str, body: dict[str, Any], server: str | None, admin_key: str | None, as_json: bool
) -> None:
    path = f"/admin/groups/{part(group)}"
    _print(on_api(command, lambda api: api.ask("PATCH", path, body), server, admin_key), as_json)


def _print(group: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show.as_json(group)
    else:
        show.one(group)
