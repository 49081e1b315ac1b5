"""`openai-proxy quotas`: what binds a user, and setting, raising and removing limits."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from proxy.cli import show
from proxy.cli.api import AdminKey, AsJson, Server, on_api, part
from proxy.cli.failure import CommandError

quotas_app = typer.Typer(
    name="quotas", help="Quotas: show, set, raise.", no_args_is_help=True, pretty_exceptions_enable=False
)
COLUMNS = (
    "id", "scope", "scope_id", "unit", "window", "limit", "model", "operation", "tag", "soft", "raised_limit",
    "raised_until",
)  # fmt: skip
STATUS_COLUMNS = (
    "id", "scope", "unit", "window", "limit", "used", "remaining", "resets_at", "model", "operation", "tag", "soft",
)  # fmt: skip
Quota = Annotated[str, typer.Argument(help="The quota's id, quota_….")]
Rules = Annotated[
    list[str] | None,
    typer.Argument(
        help="UNIT/WINDOW=LIMIT, e.g. cost/month=5.00 or tokens/day=200000 or requests/minute=60."
    ),
]
_SUBJECTS = {"user": "users", "group": "groups", "key": "keys"}


def rules(texts: list[str] | None) -> list[dict[str, str]]:
    """`cost/month=5.00` as the API's quota. Raises CommandError."""
    found = []
    for text in texts or []:
        name, equals, limit = text.partition("=")
        unit, slash, window = name.partition("/")
        if not (equals and slash and limit):
            raise CommandError(f"{text!r} is not UNIT/WINDOW=LIMIT, such as cost/month=5.00")
        found.append({"unit": unit, "window": window, "limit": limit})
    return found


@quotas_app.command("list")
def list_quotas(
    scope: Annotated[str | None, typer.Option(help="key, user, end_user, group or everyone.")] = None,
    page: Annotated[int, typer.Option(min=1)] = 1,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    server: Server = None,
    admin_key: AdminKey = None,
    as_json: AsJson = False,
) -> None:
    """List quotas of all subjects."""
    query = {"scope": scope, "page": page, "limit": limit}
    answer = on_api("quotas list", lambda api: api.get("/admin/quotas", query), server, admin_key)
    show.page(answer, COLUMNS, json=as_json)


@quotas_app.command("show")
def show_quotas(
    user: Annotated[str, typer.Argument(help="Id, external id or e-mail address.")],
    server: Server = None,
    admin_key: AdminKey = None,
    as_json: AsJson = False,
) -> None:
    """Everything that binds a user, with what is used and what remains."""
    path = f"/admin/users/{part(user)}/quotas"
    _print(on_api("quotas show", lambda api: api.get(path), server, admin_key), STATUS_COLUMNS, as_json)


@quotas_app.command("set")
def set_quotas(
    subject: Annotated[str, typer.Argument(help="A user, or with --scope a group or key; '-' for everyone.")],
    rule: Rules = None,
    scope: Annotated[str, typer.Option(help="user, group, key or everyone.")] = "user",
    model: Annotated[str | None, typer.Option(help="Only models like this pattern.")] = None,
    operation: Annotated[str | None, typer.Option(help="Only operations like this.")] = None,
    soft: Annotated[bool, typer.Option("--soft", help="Report it, refuse nothing.")] = False,
    server: Server = None,
    admin_key: AdminKey = None,
    as_json: AsJson = False,
) -> None:
    """Make these the subject's whole list; with none, it has no quotas of its own any more."""
    more = show.given(model=model, operation=operation, soft=soft or None)
    body: list[dict[str, Any]] = [each | more for each in rules(rule)]
    if scope == "everyone":
        answer = _for_everyone(body, server, admin_key)
    elif scope in _SUBJECTS:
        path = f"/admin/{_SUBJECTS[scope]}/{part(subject)}/quotas"
        answer = on_api("quotas set", lambda api: api.ask("PUT", path, body), server, admin_key)
    else:
        raise CommandError(f"scope {scope!r} is none of user, group, key, everyone")
    _print(answer, COLUMNS, as_json)


def _for_everyone(body: list[dict[str, Any]], server: str | None, admin_key: str | None) -> Any:
    async def make(api: Any) -> dict[str, Any]:
        made = [await api.ask("POST", "/admin/quotas", {"scope": "everyone"} | each) for each in body]
        return {"data": made}

    if not body:
        raise CommandError("give a rule; `quotas remove ID` removes one that binds everyone")
    return on_api("quotas set", make, server, admin_key)


@quotas_app.command("change")
def change(
    quota: Quota,
    limit: Annotated[str | None, typer.Option(help="The limit from now on.")] = None,
    soft: Annotated[bool | None, typer.Option("--soft/--hard")] = None,
    raised_limit: Annotated[str | None, typer.Option(help="Another limit for a while; '' ends it.")] = None,
    until: Annotated[
        str | None, typer.Option(help="Until when it is raised, e.g. 2027-01-01T00:00:00Z.")
    ] = None,
    server: Server = None,
    admin_key: AdminKey = None,
    as_json: AsJson = False,
) -> None:
    """Change or raise a limit. What was used is kept."""
    body = show.given(limit=limit, soft=soft, raised_limit=raised_limit, raised_until=until)
    if not body:
        raise CommandError("nothing to change: give at least one option")
    path = f"/admin/quotas/{part(quota)}"
    answer = on_api("quotas change", lambda api: api.ask("PATCH", path, body), server, admin_key)
    _print({"data": [answer]}, COLUMNS, as_json)


@quotas_app.command("remove")
def remove(quota: Quota, server: Server = None, admin_key: AdminKey = None, as_json: AsJson = False) -> None:
    """Remove a quota; usage stays."""
    path = f"/admin/quotas/{part(quota)}"
    answer = on_api("quotas remove", lambda api: api.ask("DELETE", path), server, admin_key)
    _print({"data": [answer]}, COLUMNS, as_json)


def _print(answer: dict[str, Any], columns: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        show.as_json(answer)
    else:
        show.table(answer["data"], columns)
