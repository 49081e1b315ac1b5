"""The command line as such: finding commands, versions, mistakes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

import proxy
from proxy.cli.main import LazyGroup, app
from tests.cli.serving import ROOT, command

HEAVY = (
    "aiohttp",
    "asyncpg",
    "gunicorn",
    "uvloop",
    "genai_prices",
    "proxy.settings",
    "proxy.admin",
    "proxy.store",
)


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


@pytest.mark.parametrize(
    "words",
    ["", "--help", "--version", "users --help", "keys list --help", "quotas --help", "usage --help", "export --help",
     "erase --help", "serve --help", "usage --days x"],
)  # fmt: skip
def test_what_a_command_needs_is_imported_when_it_runs(words: str):
    program = (
        "import atexit, sys, proxy.cli.main\n"
        f"atexit.register(lambda: print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr))\n"
        f"sys.argv[1:] = {words.split()!r}\n"
        "proxy.cli.main.main()"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.stderr.splitlines()[-1] == "[]"


def test_lists_of_commands_say_what_each_says_itself():
    group = get_command(app)
    assert isinstance(group, LazyGroup)
    for name in group.list_commands(None):
        own = group.load(name).help.strip().splitlines()[0]
        assert group.get_command(None, name).help == own, name


def test_the_config_file_can_be_named_for_every_command(data: Path):
    config = data.with_name("config.toml")
    config.write_text("prot = 1\n")
    result = command("--config", str(config), "migrate", data=data)
    assert (result.returncode, result.stderr) == (2, f"openai-proxy: unknown setting prot in {config}\n")
