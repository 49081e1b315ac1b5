"""A newer price list: read from a file or an https URL, bounded in size and time, and named by its content.

The form is the JSON that `genai-prices` publishes and its own updater fetches. Nothing in it is executed; what makes no
sense is refused by Catalogue.parse before anybody uses it.
"""

from __future__ import annotations

import asyncio
import hashlib
from datetime import date
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import aiohttp

from proxy.pricing.catalogue import DATA_BYTES_MAX, CatalogueError

PUBLISHED_URL = (
    "https://raw.githubusercontent.com/pydantic/genai-prices/refs/heads/main/prices/new_data/v2/data.json"
)
"""Where genai-prices 0.2.3 looks for newer prices (its update_prices.py)."""
TIMEOUT_S = 60.0
REDIRECTS_MAX = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


async def read(source: str) -> bytes:
    """The bytes of a file or URL. Raises CatalogueError with what is wrong."""
    if "://" in source:
        return await _download(source)
    return await asyncio.to_thread(_read_file, Path(source))


def version_of(data: bytes, day: date) -> str:
    """E.g. genai-prices@2026-11-21-9f86d081: the day it was loaded and the beginning of its SHA-256."""
    return f"genai-prices@{day.isoformat()}-{hashlib.sha256(data).hexdigest()[:8]}"


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(DATA_BYTES_MAX + 1)
    except OSError as error:
        raise CatalogueError(f"{path}: {error.strerror}") from None
    if len(data) > DATA_BYTES_MAX:
        raise CatalogueError(f"{path}: larger than {DATA_BYTES_MAX // 2**20} MiB")
    return data


async def _download(url: str) -> bytes:
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as session:
            for _ in range(REDIRECTS_MAX + 1):
                _require_https(url)
                async with session.get(url, allow_redirects=False) as response:
                    if response.status not in _REDIRECTS:
                        return await _body(url, response)
                    url = urljoin(url, response.headers.get("location", ""))
            raise CatalogueError(f"{url}: redirected more than {REDIRECTS_MAX} times")
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise CatalogueError(f"{url}: {str(error) or type(error).__name__}") from None


async def _body(url: str, response: aiohttp.ClientResponse) -> bytes:
    if response.status != 200:
        raise CatalogueError(f"{url}: status {response.status}")
    data = bytearray()
    async for chunk in response.content.iter_chunked(2**16):
        data += chunk
        if len(data) > DATA_BYTES_MAX:
            raise CatalogueError(f"{url}: larger than {DATA_BYTES_MAX // 2**20} MiB")
    return bytes(data)


def _require_https(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise CatalogueError(f"{url}: prices are only read from https URLs and files")
