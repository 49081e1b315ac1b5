"""The pages' code blocks do what the pages say: README, tutorial and how-tos, run against a proxy in demo mode.

- `console`: each line after `$ ` is run by bash. What is shown below it must come out, in that order; `…` stands for
  anything. Variables live until the end of the page.
- `python`: run as a program. `javascript`: run where the npm package `openai` is installed, else its syntax is checked.
- `toml`: must be valid settings. `json`: must be JSON.

The comment `<!-- not run: why -->` before a block leaves it out, `<!-- exits N -->` says how its last command ends.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from proxy.settings import load
from tests.cli.serving import ROOT, Serving
from tests.conftest import database_of

PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs" / "tutorial").glob("*.md")),
    *sorted((ROOT / "docs" / "how-to").glob("*.md")),
]
ADMIN_KEY = "sk-admin-of-the-pages-0123456789"
SHOWN_BASE = "127.0.0.1:8080"
SHOWN_KEY = "sk-proxy-..."
RUN = {"console", "python", "javascript", "toml", "json"}
SHOWN = {"text", "sql", "nginx", "ini", "mermaid", "yaml"}
"""Languages of blocks that nothing runs."""
DEADLINE_S = 120
SETTLES_S = 30
"""Usage reaches reports a moment after the answer. Only a page that is wrong waits that long."""
CHANGES = re.compile(r"-X |-d |--data|create|issue|rotate|revoke|import|change|erase| set ")
"""Commands that must not be repeated when they don't show at once what the page shows."""
PRELUDE = """
set -euo pipefail; set -a
[ -e "$VARIABLES" ] && . "$VARIABLES"
curl() { command curl --silent --show-error --fail-with-body --max-time 20 "$@"; }
openai-proxy() { "$PYTHON" -m proxy "$@"; }
trap 'export -p | grep -v READONLY > "$VARIABLES"' EXIT
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Block:
    """A fenced block; `line` is where it begins."""

    language: str
    text: str
    line: int
    not_run: str | None
    exits: int


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, with what the comment right above them says."""
    found = []
    text = page.read_text()
    pattern = r"(?:<!-- ([^>]+?) -->\n+)?^( *)```(\w+)\n(.*?)^ *```$"
    for match in re.finditer(pattern, text, re.MULTILINE | re.DOTALL):
        comment, indent, language, body = match.groups()
        note = re.fullmatch(r"not run: (.{8,})|exits (\d+)", comment or "")
        found.append(
            Block(
                language=language,
                text=re.sub(f"^{indent}", "", body, flags=re.MULTILINE),
                line=text.count("\n", 0, match.start(3)) + 1,
                not_run=note[1] if note else None,
                exits=int(note[2]) if note and note[2] else 0,
            )
        )
    return found


def commands(block: Block) -> list[tuple[str, list[str]]]:
    """(command, the lines shown below it)."""
    found: list[tuple[str, list[str]]] = []
    continued = False
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif continued:
            found[-1] = (f"{found[-1][0]}\n{line}", [])
        elif line.strip():
            assert found, f"line {block.line}: a console block begins with `$ `"
            found[-1][1].append(line)
        command, shown = found[-1] if found else ("", [])
        continued = not shown and (line.endswith("\\") or command.count("'") % 2 == 1)
    return found


def missing(shown: list[str], output: str) -> str | None:
    """The first part of what is shown that does not come out, in order; blanks don't count."""
    rest = "".join(output.split())
    for line in shown:
        for part in line.split("…"):
            wanted = "".join(part.split())
            if wanted not in rest:
                return line
            rest = rest[rest.index(wanted) + len(wanted) :]
    return None


@pytest.fixture(scope="module")
def served(
    postgres_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, dict[str, str]]]:
    """(host and port of a proxy in demo mode, the settings with which commands find its database)."""
    name = f"docs_{os.getpid()}"

    async def execute(statement: str) -> None:
        connection = await asyncpg.connect(postgres_server)
        await connection.execute(statement)
        await connection.close()

    asyncio.run(execute(f"create database {name} template proxy_template"))
    data = tmp_path_factory.mktemp("docs") / "data"
    url = database_of(postgres_server, name)
    with Serving.running(data, database_url=url, admin_key=ADMIN_KEY) as serving:
        settings = {"PROXY_DATABASE_URL": url, "PROXY_DATA_DIR": str(data)}
        yield serving.url.removeprefix("http://"), settings
    asyncio.run(execute(f"drop database {name} with (force)"))


def asked(base: str, path: str, body: object) -> dict[str, str]:
    """A POST to the admin API."""
    headers = {"Authorization": f"Bearer {ADMIN_KEY}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"http://{base}{path}", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
        found: dict[str, str] = json.load(answer)
    return found


class Reader:
    """Somebody who does what a page says, with a user of their own."""

    def __init__(self, served: tuple[str, dict[str, str]], page: Path, directory: Path) -> None:
        self.base, settings = served
        self._directory = directory
        user = asked(self.base, "/admin/users", {"name": f"reader of {page.stem}"})
        key = asked(self.base, f"/admin/users/{user['id']}/keys", {"name": page.stem})
        self._key = key["key"]
        given = {
            "PYTHON": sys.executable,
            "PYTHONPATH": str(ROOT),
            "VARIABLES": str(directory / "variables"),
            "COLUMNS": "200",
            "NO_PROXY": "127.0.0.1",
            "ADMIN_KEY": ADMIN_KEY,
            "USER_ID": user["id"],
            "KEY_ID": key["id"],
            "PROXY_KEY": self._key,
            "OPENAI_BASE_URL": f"http://{self.base}/v1",
            "OPENAI_API_KEY": self._key,
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PROXY_")}
        self._environment = kept | settings | given

    def meant(self, text: str) -> str:
        """A block's text with the address and key that it stands for."""
        return text.replace(SHOWN_BASE, self.base).replace(SHOWN_KEY, self._key)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words,
            env=self._environment,
            cwd=self._directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )

    def known(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run, again while the key is so new that the worker hasn't heard of it, which leaves no record."""
        end = time.monotonic() + SETTLES_S
        while True:
            result = self.run(*words)
            if "Incorrect API key provided" not in result.stdout or time.monotonic() > end:
                return result
            time.sleep(0.1)

    def console(self, block: Block) -> None:
        found = commands(block)
        for number, (command, shown) in enumerate(found, 1):
            exits = block.exits if number == len(found) else 0
            end = time.monotonic() + SETTLES_S
            while True:
                result = self.known("bash", "-c", PRELUDE + self.meant(command))
                if exits and result.returncode == 0 and time.monotonic() < end:
                    time.sleep(
                        0.2
                    )  # the limit that is to refuse it reaches every worker a moment after it was set
                    continue
                told = f"line {block.line}: {command}\nexit code {result.returncode}\n{result.stdout}"
                assert result.returncode == exits, told
                lacking = missing([self.meant(line) for line in shown], result.stdout)
                if lacking is None or CHANGES.search(command) or time.monotonic() > end:
                    break
                time.sleep(0.2)
            assert lacking is None, f"{told}\nlacks: {lacking}"

    def python(self, block: Block) -> None:
        (self._directory / "block.py").write_text(self.meant(block.text))
        result = self.known("bash", "-c", PRELUDE + '"$PYTHON" block.py')
        assert result.returncode == block.exits, f"line {block.line}\n{result.stdout}"

    def javascript(self, block: Block) -> None:
        node = shutil.which("node")
        if node is None:
            return
        program = self._directory / "block.mjs"
        program.write_text(self.meant(block.text))
        has_package = self.run(node, "-e", "require.resolve('openai')").returncode == 0
        result = self.run(node, *([] if has_package else ["--check"]), str(program))
        assert result.returncode == 0, f"line {block.line}\n{result.stdout}"

    def toml(self, block: Block) -> None:
        tomllib.loads(block.text)
        path = self._directory / "config.toml"
        path.write_text(block.text)
        load(config=path)

    def json(self, block: Block) -> None:
        json.loads(block.text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_pages_blocks_do_what_it_says(page: Path, served: tuple[str, dict[str, str]], tmp_path: Path):
    reader = Reader(served, page, tmp_path)
    for block in blocks(page):
        if block.not_run is None and block.language in RUN:
            getattr(reader, block.language)(block)


def test_no_block_is_left_out_without_a_word():
    """A command in a `sh` block would be."""
    for page in PAGES:
        languages = {block.language for block in blocks(page)}
        assert languages <= RUN | SHOWN, page.name
        assert page.read_text().count("\n```") + page.read_text().count("\n  ```") == 2 * len(blocks(page)), (
            page.name
        )


def test_what_is_shown_must_come_out_in_order():
    assert missing(["a … c", "d"], "a b\n  c d") is None
    assert missing(["c", "a"], "a c") == "a"
    assert missing(['{"x": 1}'], '{"x":1}') is None
