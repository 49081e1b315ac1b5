from __future__ import annotations

import importlib
from importlib.machinery import ExtensionFileLoader

import pytest

from proxy.build import HOT, build, is_compiled


def test_a_build_is_compiled_when_what_is_imported_is():
    loader = importlib.import_module(HOT).__loader__
    assert build() == ("compiled" if isinstance(loader, ExtensionFileLoader) else "interpreted")


def test_compiled_modules_are_told_from_others():
    assert is_compiled("orjson.orjson")
    assert not is_compiled("proxy.build")
    assert not is_compiled("sys")


def test_a_module_that_is_gone_is_neither():
    with pytest.raises(ModuleNotFoundError):
        is_compiled("proxy.gateway.gone")
