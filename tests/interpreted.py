"""Run a module with the source of the proxy where compiled modules lie beside it: `python -m tests.interpreted MODULE ARGUMENT...`."""

from __future__ import annotations

import runpy
import sys
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader
from pathlib import Path

SOURCES = str(Path(__file__).parents[1] / "proxy")


def finder(path: str) -> FileFinder:
    """One that finds sources and nothing else. Raises ImportError for other directories than ours."""
    if not path.startswith(SOURCES):
        raise ImportError(path)
    return FileFinder(path, (SourceFileLoader, SOURCE_SUFFIXES))


def main() -> None:
    """As `python -m` would, but for the finder."""
    sys.path_hooks.insert(0, finder)
    sys.path_importer_cache.clear()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
