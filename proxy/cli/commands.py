"""The command-line faces of serve and reload; what they do is in serve.py, imported when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def serve(
    config: Annotated[Path | None, typer.Option(help="A config.toml; also PROXY_CONFIG.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; also PROXY_HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Port, 0 for a free one; also PROXY_PORT.")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes; also PROXY_WORKERS.")] = None,
) -> None:
    """Run the server: proxy, admin API, dashboard and metrics on one port."""
    from proxy.cli.serve import serve as run

    raise typer.Exit(run(config, host=host, port=port, workers=workers))


def reload() -> None:
    """Let the running server read its settings again; requests under way finish under the old ones."""
    from proxy.cli.serve import reload as run
    from proxy.settings import load

    typer.echo(f"server {run(load())} reloads its settings")
