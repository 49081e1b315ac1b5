"""What pyproject.toml has compiled is what a request runs through."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tests.benchmarks import guarded
from tests.compiled import COMPILED

ROOT = Path(__file__).parents[1]
HOOK: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"][
    "targets"
]["wheel"]["hooks"]["mypyc"]
LISTED = {
    f"/{path.relative_to(ROOT).as_posix()}"
    for path in (ROOT / "proxy").rglob("*.py")
    if any(fnmatch(f"/{path.relative_to(ROOT).as_posix()}", each) for each in HOOK["include"])
}
LEFT_OUT = set(HOOK["exclude"])


def named(path: str) -> str:
    return path.rsplit("/", 1)[1]


def entered(work: Callable[[], None]) -> set[str]:
    """The modules of the pass of which a function is called, those that `dataclass` wrote included."""
    found = set()

    def look(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            found.add(frame.f_globals["__name__"])

    sys.setprofile(look)
    try:
        work()
    finally:
        sys.setprofile(None)
    return {name for name in found if name.startswith(("proxy.core.", "proxy.gateway."))}


@pytest.mark.skipif(COMPILED, reason="what is compiled can't be watched")
def test_every_module_that_a_request_runs_through_is_compiled(tmp_path: Path):
    works = guarded.workloads(guarded.build(tmp_path))

    def work() -> None:
        for each in works.values():
            each()

    work()  # prices are read when they are asked for first
    hot = {f"/{name.replace('.', '/')}.py" for name in entered(work)}
    assert "/proxy/gateway/front.py" in hot
    assert hot <= LISTED
    assert not {path for path in hot if named(path) in LEFT_OUT}


def test_every_module_that_is_left_out_is_there_and_there_once():
    names = [named(path) for path in LISTED]
    assert {each: names.count(each) for each in LEFT_OUT - {"__init__.py"}} == dict.fromkeys(
        LEFT_OUT - {"__init__.py"}, 1
    )


def test_a_build_that_does_not_ask_for_it_needs_no_compiler():
    assert HOOK["enable-by-default"] is False
