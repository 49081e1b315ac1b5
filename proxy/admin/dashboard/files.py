"""The page's files: read once, named by what they hold, sent compressed and kept by browsers for ever.

Every file lies under /dashboard/static/<version>/, where the version is a hash over all of them: modules that import each
other by relative paths always belong together, and a new release is a new address. The chart library comes from the
installed package `chartkick` and is served from there.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import brotli

STATIC = Path(__file__).parent / "static"
PAGE = "index.html"
CHART_PACKAGE = "chartkick"
CHART_FILE = "django/static/chartkick/Chart.bundle.js"
CHART = "vendor/chart.js"
PREFIX = "/dashboard/static/"
VERSION_CHARS = 16
COMPRESS_FROM_BYTES = 512
BROTLI_QUALITY = 9
_KINDS = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".html": "text/html; charset=utf-8",
}


@dataclass(slots=True)
class File:
    """One file. Compressed forms are made when first asked for, off the event loop."""

    name: str
    content: bytes
    _encoded: dict[str, bytes] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The content-type."""
        return _KINDS[Path(self.name).suffix]

    async def encoded(self, accepted: str) -> tuple[bytes, str | None]:
        """The body and its content-encoding, for an accept-encoding header."""
        offered = {part.partition(";")[0].strip() for part in accepted.lower().split(",")}
        encoding = next((each for each in ("br", "gzip") if each in offered), None)
        if encoding is None or len(self.content) < COMPRESS_FROM_BYTES:
            return self.content, None
        if encoding not in self._encoded:
            self._encoded[encoding] = await asyncio.to_thread(_compress, encoding, self.content)
        return self._encoded[encoding], encoding


class Files:
    """All files of the dashboard. One per worker, read at its start."""

    def __init__(self, directory: Path = STATIC) -> None:
        names = sorted(path for path in directory.rglob("*") if path.suffix in _KINDS)
        self._page = (directory / PAGE).read_text()
        found = {
            path.relative_to(directory).as_posix(): path.read_bytes() for path in names if path.name != PAGE
        }
        found[CHART] = chart_library().read_bytes()
        self._files: Mapping[str, File] = {name: File(name, content) for name, content in found.items()}

    @cached_property
    def version(self) -> str:
        """A hash over every file."""
        digest = hashlib.blake2b(self._page.encode())
        for name, each in self._files.items():
            digest.update(name.encode() + b"\0" + each.content)
        return digest.hexdigest()[:VERSION_CHARS]

    @cached_property
    def page(self) -> File:
        """The page, which names its files by their version, and all modules so that they load at once."""
        modules = [name for name in self._files if name.endswith(".js") and name != CHART]
        preloads = "\n".join(
            f'    <link rel="modulepreload" href="{PREFIX}{self.version}/{name}">' for name in modules
        )
        text = self._page.replace("    <!-- modules -->", preloads).replace("{base}", PREFIX + self.version)
        return File(PAGE, text.encode())

    def find(self, version: str, name: str) -> File | None:
        """A file of this version; None for another version's, which would not fit the page that asks."""
        return self._files.get(name) if version == self.version else None


def chart_library() -> Path:
    """Chart.js with its colour and date parts, as the package `chartkick` brings it."""
    spec = importlib.util.find_spec(CHART_PACKAGE)
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / CHART_FILE


def _compress(encoding: str, content: bytes) -> bytes:
    if encoding == "br":
        return bytes(brotli.compress(content, quality=BROTLI_QUALITY))
    return gzip.compress(content, mtime=0)
