"""The command line: `openai-proxy COMMAND`. Each command's module is imported when it is the one that was asked for.

A command raises CommandError (or lets a SettingsError or EmbeddedError through) for what a person can mend: one line on
stderr, exit code 2. Anything else is a fault of ours and shows its traceback.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

import proxy
from proxy.cli.failure import EXIT_MISUSE, CommandError

_COMMANDS = {
    "serve": "proxy.cli.commands",
    "reload": "proxy.cli.commands",
    "migrate": "proxy.cli.migrate",
    "doctor": "proxy.cli.doctor",
    "users": "proxy.cli.users",
    "groups": "proxy.cli.groups",
    "keys": "proxy.cli.keys",
    "quotas": "proxy.cli.quotas",
    "plans": "proxy.cli.plans",
    "prices": "proxy.cli.prices",
    "usage": "proxy.cli.usage",
    "export": "proxy.cli.export",
    "import": "proxy.cli.archive",
    "reprice": "proxy.cli.reprice",
    "retain": "proxy.cli.retain",
    "erase": "proxy.cli.erase",
    "demo-data": "proxy.cli.demo_data",
}
"""Command -> module. Its attribute is a function of that name, or a typer application `<name>_app` for a group."""


class LazyGroup(TyperGroup):
    """Finds a command in _COMMANDS and imports only it; --help imports them all."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The commands whose modules this installation has, in the order of _COMMANDS."""
        del ctx
        return [name for name, module in _COMMANDS.items() if importlib.util.find_spec(module)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, or None."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module, attribute = importlib.import_module(_COMMANDS[cmd_name]), cmd_name.replace("-", "_")
        found = getattr(module, f"{attribute}_app", None) or getattr(module, attribute)
        if not isinstance(found, typer.Typer):
            single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            single.command(cmd_name)(found)
            found = single
        command = get_command(found)
        command.name = cmd_name
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
