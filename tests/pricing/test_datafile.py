"""Reading newer price data: files and URLs, bounded, and only from where it can't be tampered with."""

from __future__ import annotations

from datetime import date

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from proxy.pricing import datafile
from proxy.pricing.catalogue import DATA_BYTES_MAX, CatalogueError


async def test_a_file_is_read(tmp_path):
    path = tmp_path / "data.json"
    path.write_bytes(b"[1]")

    assert await datafile.read(str(path)) == b"[1]"


async def test_a_file_that_is_missing_or_too_large_is_refused(tmp_path):
    with pytest.raises(CatalogueError, match="No such file"):
        await datafile.read(str(tmp_path / "none"))
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(DATA_BYTES_MAX + 1)
    with pytest.raises(CatalogueError, match="larger than 16 MiB"):
        await datafile.read(str(large))


@pytest.fixture
async def server():
    async def good(request):
        return web.Response(body=b"[1]")

    async def large(request):
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            for _ in range(DATA_BYTES_MAX // 2**20 + 2):
                await response.write(bytes(2**20))
        except ConnectionError:
            pass  # the reader had enough
        return response

    async def away(request):
        raise web.HTTPFound("http://example.invalid/data.json")

    async def round_and_round(request):
        raise web.HTTPFound("/loop")

    async def moved(request):
        raise web.HTTPMovedPermanently("/good")

    app = web.Application()
    app.router.add_get("/loop", round_and_round)
    app.router.add_get("/moved", moved)
    app.router.add_get("/good", good)
    app.router.add_get("/large", large)
    app.router.add_get("/away", away)
    async with TestServer(app) as started:
        yield started


async def test_a_url_is_read(server):
    assert await datafile.read(str(server.make_url("/good"))) == b"[1]"
    assert await datafile.read(str(server.make_url("/moved"))) == b"[1]"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/none", "status 404"),
        ("/large", "larger than 16 MiB"),
        ("/away", "http://example.invalid/data.json: prices are only read from https"),
        ("/loop", "more than 5 times"),
    ],
)
async def test_a_url_that_has_no_data_too_much_or_leads_away_is_refused(server, path, message):
    with pytest.raises(CatalogueError, match=message):
        await datafile.read(str(server.make_url(path)))


@pytest.mark.parametrize("url", ["http://example.com/data.json", "ftp://example.com/x", "file:///etc/passwd"])
async def test_prices_are_not_read_from_where_they_could_be_changed_on_the_way(url):
    with pytest.raises(CatalogueError, match="only read from https"):
        await datafile.read(url)


def test_data_is_named_by_its_day_and_content():
    assert datafile.version_of(b"[1]", date(2026, 11, 21)) == "genai-prices@2026-11-21-080a9ed4"
