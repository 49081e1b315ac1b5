"""Values whose defaults are mostly left are made by name as well, and no name is taken that they don't have."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from proxy.core.call import Call, read_call
from proxy.core.record import UsageRecord
from proxy.core.usage import Reading, Usage

CALL = read_call(method="GET", target=b"/v1/models", header={}.get, body=None, body_bytes=0)
MADE = (
    Usage(),
    Reading(),
    UsageRecord("id", 1, "key", "user", "openai", "/v1/x", "POST", "success"),
    Call("GET", "/v1/models", CALL.endpoint),
)


OTHERWISE = {"total_tokens": 7, "complete": True, "served_model": "m", "stream": True}


def names(made):
    return [field.name for field in fields(made)]


@pytest.mark.parametrize("made", MADE, ids=lambda made: type(made).__name__)
def test_every_field_has_a_value_from_the_start(made):
    assert [name for name in names(made) if not hasattr(made, name)] == []


@pytest.mark.parametrize("made", MADE, ids=lambda made: type(made).__name__)
def test_every_field_can_be_given_by_name(made):
    given = {name: OTHERWISE.get(name, getattr(made, name)) for name in names(made)}
    assert {name: getattr(replace(made, **given), name) for name in given} == given
    assert replace(made) == made


@pytest.mark.parametrize(
    ("of", "arguments"),
    [(type(made), [getattr(made, field.name) for field in fields(made)][:10]) for made in MADE],
    ids=lambda of: getattr(of, "__name__", ""),
)
def test_a_name_that_is_no_field_is_refused(of, arguments):
    taken = {Usage: 3, Reading: 5, UsageRecord: 10, Call: 5}[of]
    with pytest.raises(TypeError, match=f"{of.__name__} has no field 'colour'"):
        of(*arguments[:taken], colour="red")
