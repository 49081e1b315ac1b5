"""The command line as such: finding commands, versions, mistakes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import proxy
from tests.cli.serving import ROOT, command

HEAVY = ("aiohttp", "asyncpg", "gunicorn", "pydantic", "uvloop", "genai_prices", "rich.table")


def test_the_version(data: Path):
    assert command("--version", data=data).stdout == f"openai-proxy {proxy.__version__}\n"


def test_help_lists_the_commands(data: Path):
    shown = command("--help", data=data).stdout
    for name in ("serve", "reload", "migrate", "doctor"):
        assert f"│ {name}" in shown


def test_without_a_command_help_is_shown(data: Path):
    assert "Usage:" in command(data=data).stdout


def test_an_unknown_command_is_a_mistake(data: Path):
    result = command("sevre", data=data)
    assert result.returncode == 2
    assert "sevre" in result.stderr


def test_nothing_is_imported_before_a_command_is_chosen():
    program = f"import sys, proxy.cli.main; print([name for name in {HEAVY!r} if name in sys.modules])"
    shown = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert shown == "[]\n"


def test_the_config_file_can_be_named_for_every_command(data: Path):
    config = data.with_name("config.toml")
    config.write_text("prot = 1\n")
    result = command("--config", str(config), "migrate", data=data)
    assert (result.returncode, result.stderr) == (2, f"openai-proxy: unknown setting prot in {config}\n")
