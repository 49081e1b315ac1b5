"""`openai-proxy users`: create, list, show, change, deactivate and import users."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from proxy.cli import show
from proxy.cli.api import AdminKey, AsJson, Server, on_api, part
from proxy.cli.failure import CommandError

users_app = typer.Typer(
    name="users", help="Users: create, list, change.", no_args_is_help=True, pretty_exceptions_enable=False
)
COLUMNS = ("id", "name", "email", "external_id", "group_name", "plan_name", "tags", "active", "created_at")
User = Annotated[str, typer.Argument(help="Id, external id or e-mail address.")]
Email = Annotated[str | None, typer.Option(help="E-mail address; '' removes it.")]
ExternalId = Annotated[str | None, typer.Option(help="The application's own id; '' removes it.")]
Group = Annotated[str | None, typer.Option(help="Id, external id or name of a group; '' removes it.")]
Plan = Annotated[str | None, typer.Option(help="Id or name of a plan; '' removes it.")]
Tag = Annotated[list[str] | None, typer.Option("--tag", help="NAME=VALUE; may be repeated.")]


@users_app.command("create")
def create(
    name: Annotated[
        str | None, typer.Argument(help="What the user is called; nobody needs to be told.")
    ] = None,
    email: Email = None,
    external_id: ExternalId = None,
    group: Group = None,
    plan: Plan = None,
    tag: Tag = None,
    server: Server = None,
    admin_key: AdminKey = None,
    as_json: AsJson = False,
) -> None:
    """Create a user."""
    body = show.given(
        name=name,
        email=email,
        external_id=external_id,
        group=group,
        plan=plan,
        tags=show.pairs(tag, "tag"),
    )
    made = on_api("users create", lambda api: api.ask("POST", "/admin/users", body), server, admin_key)
    _print(made, as_json)


@users_app.command("list")
def list_users(
    search: Annotated[str | None, typer.Argument(help="Words in name, e-mail or id.")] = None,
    group: Group = None,
    plan: Plan = None,
    active: Annotated[bool | None, typer.Option("--active/--inactive")] = None,
    page: Annotated[int, typer.Option(min=1)] = 1,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    server: Server = None,
    admin_key: AdminKey = None,
    as_json: AsJson = False,
) -> None:
    """List and search users."""
    query = {"search": search, "group": group, "plan": plan, "active": active, "page": page, "limit": limit}
    answer = on_api("users list", lambda api: api.get("/admin/users", query), server, admin_key)
    show.page(answer, COLUMNS, json=as_json)


@users_app.command("show")
def show_user(user: User, server: Server = None, admin_key: AdminKey = None, as_json: AsJson = False) -> None:
    """Show a user."""
    found = on_api("users show", lambda api: api.get(f"/admin/users/{part(user)}"), server, admin_key)
    _print(found, as_json)


@users_app.command("change")
def change(
    user: User,
    name: Annotated[str | None, typer.Option(help="A new name; '' removes it.")] = None,
    email: Email = None,
    external_id: ExternalId = None,
    group: Group = None,
    plan: Plan = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", help="NAME=VALUE; these become all of its tags.")
    ] = None,
    server: Server = None,
    admin_key: AdminKey = None,
    as_json: AsJson = False,
) -> None:
    """Change a user; what is not given stays."""
    body = show.given(
        name=name,
        email=email,
        external_id=external_id,
        group=group,
        plan=plan,
        tags=show.pairs(tag, "tag"),
    )
    if not body:
        raise CommandError("nothing to change: give at least one option")
    _change("users change", user, body, server, admin_key, as_json)


@users_app.command("deactivate")
def deactivate(
    user: User, server: Server = None, admin_key: AdminKey = None, as_json: AsJson = False
) -> None:
    """Stop a user's keys within a second; its usage stays."""
    _change("users deactivate", user, {"active": False}, server, admin_key, as_json)


@users_app.command("activate")
def activate(user: User, server: Server = None, admin_key: AdminKey = None, as_json: AsJson = False) -> None:
    """Let a deactivated user's keys work again."""
    _change("users activate", user, {"active": True}, server, admin_key, as_json)


@users_app.command("import")
def import_users(
    file: Annotated[
        Path, typer.Argument(help="CSV with a first line of name,email,external_id,group,plan,tag.X")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and create nothing.")] = False,
    server: Server = None,
    admin_key: AdminKey = None,
    as_json: AsJson = False,
) -> None:
    """Create users from a CSV file: all of them or, when one line is wrong, none."""
    try:
        text = file.read_bytes()
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}") from None
    answer = on_api(
        "users import",
        lambda api: api.ask("POST", "/admin/users/import", text, {"dry_run": dry_run}),
        server,
        admin_key,
    )
    if as_json:
        show.as_json(answer)
    elif answer["faults"]:
        show.table(answer["faults"], ("line", "field", "message"))
    else:
        typer.echo(
            f"{answer['rows']} users would be created" if dry_run else f"{answer['created']} users created"
        )
    if answer["faults"]:
        raise typer.Exit(1)


def _change(
    command: str, user: str, body: dict[str, Any], server: str | None, admin_key: str | None, as_json: bool
) -> None:
    path = f"/admin/users/{part(user)}"
    _print(on_api(command, lambda api: api.ask("PATCH", path, body), server, admin_key), as_json)


def _print(user: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show.as_json(user)
    else:
        show.one(user)
