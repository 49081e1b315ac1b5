"""The reference says everything: each setting with its default, each metric, each command."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from pydantic import SecretStr
from typer.main import get_command

from proxy.cli.main import LazyGroup, app
from proxy.instruments import Counter
from proxy.metrics import Metrics
from proxy.settings import SECRETS, Settings

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"


def rows(page: str) -> dict[str, list[str]]:
    """First cell, without its marks -> the other cells of each row of the page's tables."""
    found: dict[str, list[str]] = {}
    for line in (REFERENCE / page).read_text().splitlines():
        if line.startswith("| `"):
            name, *cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            named = re.match(r"`([^`]+)`", name)[1]
            assert named not in found, f"{page} names {named} twice"
            found[named] = [name, *cells]
    return found


def shown_default(name: str) -> str:
    value = Settings.model_fields[name].get_default(call_default_factory=True)
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value in (None, "", (), {}):
        return "—"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{json.dumps(list(value))}`" if isinstance(value, tuple) else f"`{value}`"


def test_every_setting_is_in_the_reference_with_its_default():
    documented = rows("settings.md")
    assert set(documented) == set(Settings.model_fields)
    for name, (shown, default, meaning) in documented.items():
        assert default == shown_default(name), name
        assert ("◆" in shown) == (name in SECRETS), name
        assert len(meaning) > 10, name


def test_every_metric_is_in_the_reference():
    documented = rows("metrics.md")
    instruments = Metrics().instruments
    names = {
        f"{name}_total" if isinstance(each, Counter) else name: each for name, each in instruments.items()
    }
    assert set(documented) == set(names)
    for name, (_, kind, labels, _) in documented.items():
        assert kind == names[name].kind, name
        assert tuple(re.findall(r"`(\w+)`", labels)) == names[name].labels, name


def test_every_command_is_in_the_reference():
    group = get_command(app)
    assert isinstance(group, LazyGroup)
    assert set(rows("commands.md")) == set(group.list_commands(None)), "see docs/reference/commands.md"


@pytest.mark.parametrize("page", sorted(REFERENCE.parent.rglob("*.md")), ids=lambda path: path.stem)
def test_links_between_pages_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page} links to {target}"


PAGES = sorted(REFERENCE.parent.rglob("*.md"))
ROOT = REFERENCE.parents[1]


def routes() -> dict[str, set[str]]:
    """Path as documented -> its methods."""
    found: dict[str, set[str]] = {}
    for line in (REFERENCE / "admin-api.md").read_text().splitlines():
        if heading := re.fullmatch(r"### (GET|POST|PUT|PATCH|DELETE) (/\S+)", line):
            found.setdefault(heading[2], set()).add(heading[1])
    return found


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != "admin-api.md"], ids=lambda page: page.stem
)
def test_calls_and_commands_that_pages_name_exist(page: Path):
    known = routes()
    group = get_command(app)
    text = page.read_text()
    for method, path in re.findall(r"`(GET|POST|PUT|PATCH|DELETE) (/(?:admin|me)[^\s`?]*)", text):
        choice = re.search(r"\{([a-z]+,[a-z,]+)\}", path)
        for each in choice[1].split(",") if choice else [""]:
            meant = path.replace(choice[0], each) if choice else path
            assert method in known.get(meant, set()), f"{page.name}: {method} {meant}"
    for name in re.findall(r"openai-proxy ([a-z][a-z-]+)\b", text):
        assert name in group.list_commands(None), f"{page.name}: openai-proxy {name}"


def understood(words: list[str]) -> None:
    """Raises click's UsageError where the command line would not understand these words after `openai-proxy`."""
    command, context = get_command(app), None
    while True:
        context = command.make_context(command.name, words, parent=context, allow_extra_args=True)
        if not hasattr(command, "resolve_command"):
            assert not context.args, context.args
            return
        _, command, words = command.resolve_command(context, [*context._protected_args, *context.args])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_in_the_text_are_understood(page: Path):
    for command in re.findall(r"`openai-proxy ([a-z][^`]*)`", page.read_text()):
        words = [word for word in shlex.split(command) if word not in {"…", "COMMAND"}]
        if len(words) > 2 or words[-1].startswith("-"):  # else it names the command, not a call of it
            understood(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_that_pages_name_exist(page: Path):
    for path in re.findall(r"`((?:proxy|tests|docs|migrations)/[\w./-]+\.\w+)`", page.read_text()):
        assert (ROOT / path).exists(), f"{page.name}: {path}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_to_a_heading_find_it(page: Path):
    for target, heading in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text()):
        other = (page.parent / target).read_text() if target else page.read_text()
        found = {
            re.sub(r"[^\w\s-]", "", line.lstrip("#").strip().lower()).replace(" ", "-")
            for line in other.splitlines()
            if line.startswith("#")
        }
        assert heading in found, f"{page.name}: {target}#{heading}"


def test_the_index_names_every_page():
    index = (REFERENCE.parent / "README.md").read_text()
    decisions = (REFERENCE.parent / "adr" / "README.md").read_text()
    for page in PAGES:
        if page.name != "README.md":
            listing, name = (
                (decisions, page.name)
                if page.parent.name == "adr"
                else (index, page.relative_to(REFERENCE.parent).as_posix())
            )
            assert f"({name})" in listing, name


def test_decisions_are_numbered_without_gaps():
    numbers = [int(page.name[:4]) for page in PAGES if page.parent.name == "adr" and page.name != "README.md"]
    assert numbers == list(range(1, len(numbers) + 1))
