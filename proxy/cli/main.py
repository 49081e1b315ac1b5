"""The command line: `openai-proxy COMMAND`. Each command's module is imported when it is the one that was asked for.

A command raises CommandError (or lets a SettingsError or EmbeddedError through) for what a person can mend: one line on
stderr, exit code 2. Anything else is a fault of ours and shows its traceback.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

import proxy
from proxy.cli.failure import EXIT_MISUSE, CommandError

_COMMANDS = {
    "serve": ("commands", "Run the server: proxy, admin API, dashboard and metrics on one port."),
    "reload": ("commands", "Let the running server read its settings again; requests under way finish under the old ones."),
    "migrate": ("migrate", "Apply the migrations that the database doesn't have yet."),
    "doctor": ("doctor", "Check settings, database, upstream, clock, disk and the age of prices."),
    "users": ("users", "Users: create, list, change."),
    "groups": ("groups", "Groups of users."),
    "keys": ("keys", "Proxy keys: issue, list, rotate, revoke."),
    "quotas": ("quotas", "Quotas: show, set, raise."),
    "plans": ("plans", "Plans: named sets of quotas."),
    "prices": ("prices", "Prices: show, set, quote and update them."),
    "usage": ("usage", "Show usage: requests, tokens and cost of a period, whole or by dimension."),
    "export": ("export", "Export usage records, the summary of users, the audit log, all about one user, or everything."),
    "import": ("archive", "Bring an export of everything into an empty database."),
    "reprice": ("reprice", "Compute the costs of an open period anew, by the prices that hold now."),
    "retain": ("retain", "Remove records and daily logs that are past their retention."),
    "erase": ("erase", "Erase a user: keys, quotas, name, tags, and their name on everything they used. It can't be undone."),
    "demo-data": ("demo_data", "Fill an empty database with make-believe usage, to try the dashboard."),
}  # fmt: skip
"""Command -> its module in proxy.cli, and the first line of its help, which --help shows without importing it.

The module's attribute is a function of the command's name, or a typer application `<name>_app` for a group.
"""


class LazyGroup(TyperGroup):
    """Imports the module of a command when that is the one to run, and of no other."""

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order of _COMMANDS."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command as lists of commands show it, or None."""
        del ctx
        return TyperCommand(cmd_name, help=_COMMANDS[cmd_name][1]) if cmd_name in _COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The name, the command itself, and what is left for it."""
        name, shown, rest = super().resolve_command(ctx, args)
        return name, self.load(name) if name and shown is not None else shown, rest

    def load(self, name: str) -> Any:
        """The command itself."""
        module, attribute = importlib.import_module(f"proxy.cli.{_COMMANDS[name][0]}"), name.replace("-", "_")
        found = getattr(module, f"{attribute}_app", None) or getattr(module, attribute)
        if not isinstance(found, typer.Typer):
            single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            single.command(name)(found)
            found = single
        command = get_command(found)
        command.name = name
        return command


app = typer.Typer(
    cls=LazyGroup,
    name="openai-proxy",
    help="A transparent, metering reverse proxy for the OpenAI API.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"openai-proxy {proxy.__version__}")
        raise typer.Exit


@app.callback()
def root(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="A config.toml; also PROXY_CONFIG.")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Serve, administrate and examine the proxy."""
    del version
    if config is not None:
        os.environ["PROXY_CONFIG"] = str(config)  # where every command's settings look


def main() -> None:
    """The entry point of `openai-proxy` and `python -m proxy`."""
    try:
        app()
    except CommandError as error:
        _complain(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        from proxy.settings import SettingsError
        from proxy.store.embedded import EmbeddedError

        if not isinstance(error, SettingsError | EmbeddedError):
            raise
        _complain(str(error))


def _complain(line: str) -> None:
    print(f"openai-proxy: {line}", file=sys.stderr)
    sys.exit(EXIT_MISUSE)
