"""The house's own rules, where no linter has them: sizes, names, a test for each module, migrations in order, the wheel."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from proxy.store import migrate

ROOT = Path(__file__).parents[1]
FILE_LINES_MAX = 350
FUNCTION_LINES_MAX = 60
BANNED = {
    "util",
    "utils",
    "helper",
    "helpers",
    "common",
    "manager",
    "managers",
    "service",
    "services",
    "misc",
    "base",
}
MODULES = sorted((ROOT / "proxy").rglob("*.py"))
TRACKED = subprocess.run(
    ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False, text=True
).stdout.split("\0")

# Modules that hold no rule of their own, or whose behaviour shows only through another's tests. Name the test that does.
TESTED_ELSEWHERE = {
    "proxy/__main__.py": "tests/cli/test_serve.py",
    "proxy/app.py": "tests/e2e/test_openai_sdk.py",
    "proxy/cli/commands.py": "tests/cli/test_serve.py",
    "proxy/cli/datadir.py": "tests/cli/test_serve.py",
    "proxy/cli/failure.py": "tests/cli/test_serve.py",
    "proxy/cli/simulated.py": "tests/cli/test_serve.py",
    "proxy/cli/supervisor.py": "tests/cli/test_serve.py",
    "proxy/cli/worker.py": "tests/cli/test_serve.py",
    "proxy/simulator/__main__.py": "tests/simulator/test_process.py",
    "proxy/simulator/chat.py": "tests/simulator/test_server.py",
    "proxy/simulator/embeddings.py": "tests/simulator/test_server.py",
    "proxy/simulator/models.py": "tests/simulator/test_words.py",
    "proxy/simulator/problems.py": "tests/simulator/test_words.py",
    "proxy/simulator/responses.py": "tests/simulator/test_server.py",
    "proxy/store/listen.py": "tests/gateway/test_keyring.py",
}


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_a_module_is_short_says_what_it_is_for_and_so_do_its_functions(path: Path):
    source = path.read_text()
    lines = source.count("\n")
    assert lines <= FILE_LINES_MAX, f"{lines} lines"
    assert path.stem not in BANNED, f"{path.stem} says nothing"
    tree = ast.parse(source)
    assert ast.get_docstring(tree), "no docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= FUNCTION_LINES_MAX, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_nothing_mutable_lives_in_a_module(path: Path):
    """A constant is written in capitals or with an underscore, and never bound anew by a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        assert not isinstance(node, ast.Global), f"line {node.lineno}: global"


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports, those behind `from` included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_each_module_has_its_test():
    """A test file of its own name in the same place of tests/, or a test that calls it; or it is a part of a module of its
    folder that has one.
    """
    dotted = {path: named(path).removesuffix(".py").replace("/", ".") for path in MODULES}
    by_tests = set().union(*(imports(path) for path in (ROOT / "tests").rglob("*.py")))
    tested = {
        path
        for path, name in dotted.items()
        if name in by_tests
        or (ROOT / "tests" / path.relative_to(ROOT / "proxy").parent / f"test_{path.stem}.py").exists()
    }
    uses = {path: imports(path) for path in MODULES}
    while parts := {
        part
        for part in set(MODULES) - tested
        if any(user.parent == part.parent and dotted[part] in uses[user] for user in tested)
    }:
        tested |= parts
    missing = [
        named(path)
        for path in MODULES
        if path.name != "__init__.py" and path not in tested and named(path) not in TESTED_ELSEWHERE
    ]
    assert not missing, "\n".join(missing)


def test_the_exceptions_to_that_are_true():
    for module, test in TESTED_ELSEWHERE.items():
        assert (ROOT / module).is_file(), f"{module} is gone"
        assert (ROOT / test).is_file(), f"{test} is gone"


def test_migrations_are_numbered_without_gaps():
    numbers = [migration.number for migration in migrate.load(ROOT / "migrations")]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) == len(list((ROOT / "migrations").iterdir()))


def test_nothing_is_left_to_be_done_and_nothing_of_a_machine_is_left_behind():
    marks = re.compile("FIX" + "ME|TO" + "DO|XX" + "X|/wo" + "rk/|file" + ":///opt")
    for name in TRACKED:
        path = ROOT / name
        if (
            not name
            or path.suffix in {".png", ".gz", ".br", ".zst", ".bin", ".ico", ".woff2"}
            or not path.is_file()
        ):
            continue
        found = marks.search(path.read_text(errors="replace"))
        assert found is None, f"{name}: {found and found[0]}"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built as a release is, without its own copy of the build tool being fetched where it is installed already."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = out.glob("*.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


def test_the_wheel_has_everything_that_is_read_at_run_time(wheel: zipfile.ZipFile):
    inside = set(wheel.namelist())
    for path in (ROOT / "migrations").glob("*.sql"):
        assert f"proxy/_migrations/{path.name}" in inside
    read = [
        path for path in (ROOT / "proxy").rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ]
    assert {named(path) for path in read} <= inside
    assert not {name for name in inside if name.startswith("tests/") or "__pycache__" in name}


def test_the_wheel_has_its_command_and_licence(wheel: zipfile.ZipFile):
    texts = {name.rsplit("/", 1)[1]: name for name in wheel.namelist() if ".dist-info/" in name}
    assert "openai-proxy = proxy.__main__:main" in wheel.read(texts["entry_points.txt"]).decode()
    assert "LICENSE" in texts


def test_a_source_distribution_can_be_built_from(tmp_path: Path):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(path) as opened:
        names = {name.split("/", 1)[1] for name in opened.getnames()}
    assert {
        "pyproject.toml",
        "README.md",
        "Makefile",
        "migrations/0001_schema.sql",
        "proxy/__init__.py",
    } <= names
