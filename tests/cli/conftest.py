"""A data directory for each test, and no Postgres of it left behind."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.store.embedded import EmbeddedPostgres
from tests.scratch import scratch_directory


@pytest.fixture
def data() -> Iterator[Path]:
    """A path for PROXY_DATA_DIR that doesn't exist yet, short enough for a socket and open to Postgres' own user."""
    directory = scratch_directory("proxy-cli-")
    if os.geteuid() == 0:
        directory.chmod(0o711)
    yield directory / "data"
    EmbeddedPostgres(directory / "data").stop()
    shutil.rmtree(directory, ignore_errors=True)
