"""Every statement of every .sql file fits the schema: Postgres prepares it."""

from __future__ import annotations

from pathlib import Path

import pytest

import proxy.store
from proxy.store.postgres import statements

MODULES = sorted(path.stem for path in Path(proxy.store.__file__).parent.glob("*.sql"))

TEMPLATES = {"stats"}
"""Put together as they are needed: see test_templates.py."""


def test_there_is_a_module_beside_each_sql_file():
    directory = Path(proxy.store.__file__).parent
    users = "\n".join(path.read_text() for path in directory.glob("*.py"))

    for module in MODULES:
        reader = "fill" if module in TEMPLATES else "statements"
        assert f'{reader}("{module}"' in users, f"nobody reads {module}.sql"


@pytest.mark.parametrize("module", sorted(set(MODULES) - TEMPLATES))
async def test_every_statement_can_be_prepared(pool, module):
    assert statements(module)
    async with pool.acquire() as connection:
        for name, text in statements(module).items():
            try:
                await connection.prepare(text)
            except Exception as error:
                raise AssertionError(f"{module}.{name}: {error}") from error
