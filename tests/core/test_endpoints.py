import re
from pathlib import Path

import openai
import pytest

from proxy.core.endpoints import OTHER, OTHER_READ, match, routes

_CALLS = re.compile(
    r"self\._(get|post|delete|get_api_list)\(\s*(?:path_template\(\s*)?f?\"(/[^\"?]*)", re.DOTALL
)
_VERBS = {"get": "GET", "get_api_list": "GET", "post": "POST", "delete": "DELETE"}


def operations_of_the_sdk() -> set[tuple[str, str]]:
    """Method and path template of each call in the official SDK's source."""
    resources = Path(openai.__file__).parent / "resources"
    found = set()
    for source in resources.rglob("*.py"):
        for verb, path in _CALLS.findall(source.read_text()):
            method = "POST" if verb == "get_api_list" and "search" in path else _VERBS[verb]
            found.add((method, re.sub(r"\{[^}]*\}", "some_id", path)))
    return found


def test_every_operation_of_the_sdk_has_a_route() -> None:
    operations = operations_of_the_sdk()
    assert len(operations) > 200
    unknown = {
        (method, path) for method, path in operations if match(method, f"/v1{path}")[0] in {OTHER, OTHER_READ}
    }
    assert unknown == set()


@pytest.mark.parametrize(
    ("method", "path", "template", "object_id"),
    [
        ("POST", "/v1/chat/completions", "/v1/chat/completions", None),
        ("GET", "/v1/chat/completions", "/v1/chat/completions", None),
        ("GET", "/v1/responses/resp_1", "/v1/responses/{response_id}", "resp_1"),
        ("POST", "/v1/responses/resp_1/cancel", "/v1/responses/{response_id}/cancel", "resp_1"),
        ("POST", "/v1/responses/compact", "/v1/responses/compact", None),
        ("GET", "/v1/threads/t/runs/r/steps/s", "/v1/threads/{thread_id}/runs/{run_id}/steps/{step_id}", "t"),
        ("POST", "/v1/threads/runs", "/v1/threads/runs", None),
        ("GET", "/v1/models/openai/gpt-5", "/v1/models/{model}", "openai/gpt-5"),
        ("GET", "/v1/organization/costs", "/v1/organization/{rest}", "costs"),
        ("HEAD", "/v1/models/gpt-5", "/v1/models/{model}", "gpt-5"),
        ("POST", "/v1/agents/sessions", "/v1/agents/sessions", None),
        ("POST", "/v1/agents/agent_1", "/v1/agents/{agent_id}", "agent_1"),
    ],
)
def test_a_path_has_its_template_and_first_id(
    method: str, path: str, template: str, object_id: str | None
) -> None:
    endpoint, found = match(method, path)
    assert (endpoint.template, found) == (template, object_id)


@pytest.mark.parametrize(
    "path",
    [
        "/v1//chat/completions",
        "/v1/chat/completions/",
        "//v1/chat//completions//",
        "/v1/chat%2Fcompletions",
        "/v1%2fchat%2fcompletions",
        "/v1/./chat/./completions",
        "/v1/models/../chat/completions",
        "/v1/models%2F..%2Fchat/completions",
        "/%761/ch%61t/completions",
        "/v1/responses/..%2f..%2fv1/chat/completions",
    ],
)
def test_a_path_that_hides_what_it_is_is_metered_all_the_same(path: str) -> None:
    assert match("POST", path)[0].template == "/v1/chat/completions"


@pytest.mark.parametrize(
    "path", ["/v1/newer/thing", "/v1/chat", "/v1", "/", "", "/v2/chat/completions", "/v1/" + "a/" * 40, "*"]
)
def test_an_unknown_path_has_one_template_and_is_metered_generically(path: str) -> None:
    assert match("POST", path) == (OTHER, None)
    assert match("GET", path) == (OTHER_READ, None)
    assert OTHER.meter == OTHER_READ.meter == "generic"
    assert OTHER.bills
    assert not OTHER_READ.bills


def test_an_unknown_method_on_a_known_path_is_metered_generically() -> None:
    assert match("BREW", "/v1/chat/completions") == (OTHER, None)
    assert match("PUT", "/v1/files/file_1")[0].template == "/v1/files/{file_id}"


def test_reads_never_bill_by_themselves() -> None:
    for method, endpoint in routes():
        if method == "DELETE" or (method == "GET" and not endpoint.websocket):
            assert not endpoint.bills, endpoint
        if endpoint.splices:
            assert endpoint.meter in {"chat", "completions"}
        if endpoint.meter == "none":
            assert not endpoint.bills, endpoint
        if endpoint.by_object:
            assert endpoint.meter != "none", endpoint


def test_every_endpoint_that_is_metered_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reference" / "metering.md").read_text()
    for method, endpoint in routes():
        if endpoint.meter != "none":
            assert f"`{method} {endpoint.template}`" in text, (method, endpoint.template)
