"""The reference of the admin API says what the API does."""

from __future__ import annotations

from pathlib import Path

from proxy.admin.openapi import document
from proxy.admin.reference import render
from proxy.admin.site import all_routes
from proxy.settings import Settings

FILE = Path(__file__).parents[2] / "docs" / "reference" / "admin-api.md"


def test_the_reference_is_made_of_the_routes():
    assert FILE.read_text() == render(document(all_routes(Settings()))), "run python -m proxy.admin.reference"


def test_every_route_and_every_object_is_in_it():
    text, described = FILE.read_text(), document(all_routes(Settings()))
    for path, methods in described["paths"].items():
        for method in methods:
            assert f"### {method.upper()} {path}\n" in text
    for name in described["components"]["schemas"]:
        assert f"### {name}\n" in text
