"""`openai-proxy keys`: issue, list, rotate and revoke proxy keys; issue admin keys."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from proxy.cli import show
from proxy.cli.api import AdminKey, AsJson, Server, on_api, part

keys_app = typer.Typer(
    name="keys",
    help="Proxy keys: issue, list, rotate, revoke.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
COLUMNS = (
    "id", "masked", "name", "user_id", "service", "expires_at", "revoked_at", "last_used_at", "created_at",
)  # fmt: skip
Key = Annotated[str, typer.Argument(help="The key's id, key_….")]
User = Annotated[str, typer.Argument(help="Id, external id or e-mail address.")]


@keys_app.command("issue")
def issue(
    user: User,
    name: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    expires: Annotated[str | None, typer.Option(help="A time such as 2027-01-01T00:00:00Z.")] = None,
    service: Annotated[bool, typer.Option("--service", help="May speak for other users.")] = False,
    creates_users: Annotated[
        bool, typer.Option("--creates-users", help="A service key that creates users on sight.")
    ] = False,
    operation: Annotated[str | None, typer.Option(help="Operation of calls that name none.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="NAME=VALUE for every call.")] = None,
    address: Annotated[
        list[str] | None, typer.Option("--address", help="Networks it may be used from.")
    ] = None,
    server: Server = None,
    admin_key: AdminKey = None,
    as_json: AsJson = False,
) -> None:
    """Issue a key. It is printed once and never again."""
    body = show.given(
        name=name,
        expires_at=expires,
        service=service or None,
        creates_users=creates_users or None,
        default_operation=operation,
        default_tags=show.pairs(tag, "tag"),
        rules={"allowed_addresses": address} if address else None,
    )
    path = f"/admin/users/{part(user)}/keys"
    _print_issued(on_api("keys issue", lambda api: api.ask("POST", path, body), server, admin_key), as_json)


@keys_app.command("list")
def list_keys(
    search: Annotated[str | None, typer.Argument(help="Words in name, id or masked key.")] = None,
    user: Annotated[str | None, typer.Option(help="Only this user's.")] = None,
    live: Annotated[bool | None, typer.Option("--live/--dead", help="Neither revoked nor expired.")] = None,
    page: Annotated[int, typer.Option(min=1)] = 1,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    server: Server = None,
    admin_key: AdminKey = None,
    as_json: AsJson = False,
) -> None:
    """List and search keys, masked."""
    query = {"search": search, "user": user, "live": live, "page": page, "limit": limit}
    answer = on_api("keys list", lambda api: api.get("/admin/keys", query), server, admin_key)
    show.page(answer, COLUMNS, json=as_json)


@keys_app.command("show")
def show_key(key: Key, server: Server = None, admin_key: AdminKey = None, as_json: AsJson = False) -> None:
    """Show a key, masked."""
    found = on_api("keys show", lambda api: api.get(f"/admin/keys/{part(key)}"), server, admin_key)
    _print(found, as_json)


@keys_app.command("rotate")
def rotate(
    key: Key,
    grace: Annotated[int, typer.Option(min=0, help="Seconds that the old key lives on.")] = 0,
    server: Server = None,
    admin_key: AdminKey = None,
    as_json: AsJson = False,
) -> None:
    """Issue a successor with the same rules, and end the key."""
    path, body = f"/admin/keys/{part(key)}/rotate", {"grace_s": grace}
    _print_issued(on_api("keys rotate", lambda api: api.ask("POST", path, body), server, admin_key), as_json)


@keys_app.command("revoke")
def revoke(key: Key, server: Server = None, admin_key: AdminKey = None, as_json: AsJson = False) -> None:
    """Revoke a key for good; every worker refuses it within a second."""
    path = f"/admin/keys/{part(key)}"
    _print(on_api("keys revoke", lambda api: api.ask("DELETE", path), server, admin_key), as_json)


@keys_app.command("issue-admin")
def issue_admin(
    name: Annotated[str, typer.Argument(help="Whose or what for.")],
    scope: Annotated[str, typer.Option(help="read or write.")] = "write",
    group: Annotated[str | None, typer.Option(help="Confine it to this group.")] = None,
    expires: Annotated[str | None, typer.Option(help="A time such as 2027-01-01T00:00:00Z.")] = None,
    server: Server = None,
    admin_key: AdminKey = None,
    as_json: AsJson = False,
) -> None:
    """Issue an admin key, also when the last one was lost. It is printed once and never again."""
    body = show.given(name=name, scope=scope, group=group, expires_at=expires)
    made = on_api(
        "keys issue-admin", lambda api: api.ask("POST", "/admin/admin_keys", body), server, admin_key
    )
    _print_issued(made, as_json)


@keys_app.command("list-admin")
def list_admin(
    page: Annotated[int, typer.Option(min=1)] = 1,
    server: Server = None,
    admin_key: AdminKey = None,
    as_json: AsJson = False,
) -> None:
    """List admin keys, masked."""
    answer = on_api(
        "keys list-admin", lambda api: api.get("/admin/admin_keys", {"page": page}), server, admin_key
    )
    columns = ("id", "masked", "name", "scope", "group", "expires_at", "revoked_at", "created_at")
    show.page(answer, columns, json=as_json)


@keys_app.command("revoke-admin")
def revoke_admin(
    key: Annotated[str, typer.Argument(help="The key's id, admin_….")],
    server: Server = None,
    admin_key: AdminKey = None,
    as_json: AsJson = False,
) -> None:
    """Revoke an admin key for good."""
    path = f"/admin/admin_keys/{part(key)}"
    _print(on_api("keys revoke-admin", lambda api: api.ask("DELETE", path), server, admin_key), as_json)


def _print_issued(row: dict[str, Any], as_json: bool) -> None:
    _print(row, as_json)
    if not as_json:
        typer.echo("Keep the key now: it is not stored and not shown again.", err=True)


def _print(row: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show.as_json(row)
    else:
        show.one(row)
