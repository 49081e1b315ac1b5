"""Where peers come from: each is installed into a directory of its own, with the version that `peers.py` names.

Nothing outside that directory changes. What is there already, of the same version and for the same Python, is used as it is;
anything else there is removed first. Installing is bounded in time, and a failure is told in one line.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

INSTALL_S = 300.0
REASON_MAX = 200
_MARK = "installed.json"
_ERROR = re.compile(r"(npm )?error\b|[\w.]+(Error|Exception): ", re.IGNORECASE)
_CLEANED = (
    (re.compile(r"\x1b\[[0-9;]*m"), ""),
    (re.compile(r"https?://\S+"), "…"),
    (re.compile(r"host='[^']*'"), "host=…"),
    (re.compile(r"(?<![\w.])/[\w.@-]+/[^\s:'\"]*/"), ""),
    (re.compile(r"[\s|]+"), " "),
)
"""Colours, addresses and directories of this machine do not belong into a report."""


class UnavailableError(Exception):
    """A peer can't be measured here; the message says why, in one line."""


@dataclass(frozen=True, slots=True)
class Venv:
    """Packages from PyPI in a virtual environment."""

    packages: tuple[str, ...]

    def commands(self, home: Path) -> list[list[str]]:
        """What is run, in order."""
        pip = [str(home / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        return [[sys.executable, "-m", "venv", "--clear", str(home)], [*pip, *self.packages]]


@dataclass(frozen=True, slots=True)
class Node:
    """Packages from npm, by version, without the scripts that packages would run. `instead` replaces what they depend on."""

    packages: tuple[tuple[str, str], ...]
    instead: tuple[tuple[str, str], ...] = ()

    def commands(self, home: Path) -> list[list[str]]:
        """What is run."""
        return [
            [
                "npm",
                "install",
                "--prefix",
                str(home),
                "--ignore-scripts",
                "--no-audit",
                "--no-fund",
                "--loglevel=error",
            ]
        ]

    def manifest(self) -> str:
        """`package.json`."""
        return json.dumps(
            {"private": True, "dependencies": dict(self.packages), "overrides": dict(self.instead)}
        )


def installed(home: Path, what: Venv | Node) -> None:
    """Install it into `home`, unless it is there. Raises UnavailableError."""
    if isinstance(what, Node) and not (shutil.which("node") and shutil.which("npm")):
        raise UnavailableError("node and npm are not installed")
    manifest = what.manifest() if isinstance(what, Node) else ""
    wanted = json.dumps([sys.executable, what.commands(Path()), manifest])
    mark = home / _MARK
    if mark.is_file() and mark.read_text() == wanted:
        return
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    if manifest:
        (home / "package.json").write_text(manifest)
    for command in what.commands(home):
        run(command, home)
    mark.write_text(wanted)


def run(command: list[str], home: Path, environment: Mapping[str, str] | None = None) -> None:
    """One step of an installation, in `home`. Raises UnavailableError with the last thing it said."""
    name = " ".join([Path(command[0]).name, *command[1:3]])
    try:
        ran = subprocess.run(
            command,
            cwd=home,
            env=os.environ | (environment or {}),
            check=False,
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
        )
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"`{name}` took more than {INSTALL_S:.0f} s") from None
    except OSError as failure:
        raise UnavailableError(f"`{name}`: {failure.strerror}") from None
    if ran.returncode:
        raise UnavailableError(f"`{name}` failed: {reason(ran.stdout + ran.stderr)}")


def reason(said: str) -> str:
    """The line that tells most of what a program said: its last error, else its last line; without what only this machine has."""
    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["it said nothing"]
    errors = [line for line in lines if _ERROR.match(line)]
    line = errors[-1] if errors else lines[-1]
    for pattern, instead in _CLEANED:
        line = pattern.sub(instead, line)
    return line[:REASON_MAX].strip()
