"""The page's files: complete, from here only, compressed, and kept for ever under a name that changes with them."""

from __future__ import annotations

import gzip
import re

import brotli
import pytest

from proxy.admin.dashboard.files import CHART, PREFIX, STATIC, Files, chart_library
from proxy.admin.dashboard.pages import POLICY

SCRIPTS = sorted(path for path in STATIC.rglob("*.js"))
IMPORT = re.compile(r'^(?:import|export)\b[^"]*?from "([^"]+)";$|^import "([^"]+)";$', re.MULTILINE)
LINE_CHARS_MAX = 160


def test_the_page_names_all_its_files_by_their_version():
    files = Files()
    page = files.page.content.decode()

    named = re.findall(r'(?:src|href)="([^"]+)"', page)

    assert len(named) > 20
    for name in named:
        assert name.startswith(f"{PREFIX}{files.version}/"), name
        assert files.find(files.version, name.removeprefix(f"{PREFIX}{files.version}/")) is not None, name
    assert "{base}" not in page
    assert "<!-- modules -->" not in page


def test_the_page_runs_no_inline_script_and_has_no_inline_style():
    page = (STATIC / "index.html").read_text()

    assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []
    assert "<style" not in page
    assert re.findall(r"\s(style|on[a-z]+)=", page) == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.relative_to(STATIC).as_posix())
def test_a_module_imports_only_modules_that_are_there(path):
    source = path.read_text()

    for found in IMPORT.finditer(source):
        target = found[1] or found[2]
        assert target.startswith("."), f"{target} would come from elsewhere"
        assert (path.parent / target).is_file(), target
    assert source.startswith("// "), "a module says what it is for"
    assert max(map(len, source.splitlines())) <= LINE_CHARS_MAX


@pytest.mark.parametrize(
    "path", sorted(STATIC.rglob("*.*")), ids=lambda path: path.relative_to(STATIC).as_posix()
)
def test_nothing_is_loaded_from_another_host_and_no_markup_is_made_of_text(path):
    source = path.read_text().replace("http://www.w3.org/2000/svg", "")

    assert not re.search(r"https?://", source)
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", source
    )


def test_the_chart_library_is_served_from_its_package():
    files = Files()

    assert files.find(files.version, CHART).content == chart_library().read_bytes()
    assert not any("Chart.js v" in path.read_text() for path in STATIC.rglob("*.js"))


def test_the_version_changes_with_any_file(tmp_path):
    (tmp_path / "index.html").write_text("<!doctype html>")
    (tmp_path / "a.js").write_text("// a")
    before = Files(tmp_path).version
    assert Files(tmp_path).version == before

    (tmp_path / "a.js").write_text("// b")

    assert Files(tmp_path).version != before


async def test_files_are_sent_compressed_as_the_browser_can():
    found = Files().find(Files().version, "js/main.js")

    body, encoding = await found.encoded("gzip, deflate, br")
    assert (encoding, brotli.decompress(body)) == ("br", found.content)
    body, encoding = await found.encoded("gzip;q=0.8")
    assert (encoding, gzip.decompress(body)) == ("gzip", found.content)
    assert await found.encoded("identity") == (found.content, None)
    assert await found.encoded("") == (found.content, None)


async def test_a_file_is_kept_for_ever_and_another_versions_is_not_found(serve):
    client, files = await serve(), Files()

    async with client.get(f"{PREFIX}{files.version}/js/main.js") as answer:
        assert answer.status == 200
        assert answer.content_type == "text/javascript"
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["x-content-type-options"] == "nosniff"
    for path in (
        f"{PREFIX}0000/js/main.js",
        f"{PREFIX}{files.version}/js/../index.html",
        f"{PREFIX}{files.version}/etc",
    ):
        async with client.get(path) as answer:
            assert answer.status == 404 or answer.content_type == "text/html", path


@pytest.mark.parametrize("path", ["/dashboard", "/dashboard/", "/dashboard/users/user_1?days=7"])
async def test_every_address_is_the_page_with_a_policy_that_allows_nothing_inline(serve, path):
    client = await serve()

    async with client.get(path) as answer:
        assert (answer.status, answer.content_type) == (200, "text/html")
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["x-frame-options"] == "DENY"
        tag = answer.headers["etag"]
    assert "unsafe" not in POLICY
    assert "default-src 'self'" in POLICY
    async with client.get(path, headers={"if-none-match": tag}) as answer:
        assert answer.status == 304


async def test_the_page_needs_no_database(serve):
    client = await serve(pool=None)

    async with client.get("/dashboard") as answer:
        assert answer.status == 200
    async with client.get("/dashboard/session") as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (503, "database_unavailable")
