"""A call is attributed by what it says, then by its key's defaults, within what its group allows."""

from __future__ import annotations

from proxy.core.attribution import attribute
from proxy.core.call import Call
from proxy.core.caller import Caller
from proxy.core.endpoints import Endpoint

ENDPOINT = Endpoint("/v1/chat/completions")


def call(**said) -> Call:
    return Call(method="POST", path="/v1/chat/completions", endpoint=ENDPOINT, **said)


def test_a_call_that_nothing_applies_to_stays_the_same_object():
    plain = call(operation="rag_answer")

    assert attribute(plain, Caller("key_1", "user_1")) is plain


def test_defaults_fill_what_the_request_left_out():
    caller = Caller(
        "key_1", "user_1", default_operation="chat", default_tags=(("app", "web"), ("grade", "9"))
    )

    attributed = attribute(call(tags={"grade": "10"}), caller)

    assert attributed.operation == "chat"
    assert attributed.tags == {"app": "web", "grade": "10"}


def test_an_operation_that_the_group_does_not_list_is_other():
    caller = Caller("key_1", "user_1", allowed_operations=frozenset({"rag_answer"}))

    assert attribute(call(operation="rag_answer"), caller).operation == "rag_answer"
    assert attribute(call(operation="mining"), caller).operation == "other"
    assert attribute(call(), caller).operation is None
