import orjson
import pytest

from proxy.core.endpoints import match, routes
from proxy.core.objects import NO_OBJECTS, not_found


@pytest.mark.parametrize(
    ("method", "path", "names", "makes"),
    [
        ("POST", "/v1/responses", None, "response"),
        ("GET", "/v1/responses/resp_1", "response", None),
        ("POST", "/v1/responses/resp_1/cancel", "response", None),
        ("POST", "/v1/threads/runs", None, "run"),
        ("POST", "/v1/threads/thread_1/runs", "thread", "run"),
        ("GET", "/v1/threads/thread_1/runs/run_1", "thread", None),
        ("POST", "/v1/videos/video_1/remix", "video", "video"),
        ("GET", "/v1/vector_stores/vs_1/files/file-1", "vector_store", None),
        ("POST", "/v1/fine_tuning/jobs", None, "fine_tuning.job"),
        ("POST", "/v1/realtime/calls", None, "realtime.call"),
        ("GET", "/v1/containers/cntr_1/files/cfile_1/content", "container", None),
    ],
)
def test_a_route_names_and_makes_objects(
    method: str, path: str, names: str | None, makes: str | None
) -> None:
    rule = match(method, path)[0].objects
    assert (rule.names, rule.makes) == (names, makes)


@pytest.mark.parametrize(
    "path", ["/v1/embeddings", "/v1/moderations", "/v1/audio/speech", "/v1/completions", "/v1/decisions"]
)
def test_calls_that_have_nothing_to_do_with_objects_say_so(path: str) -> None:
    assert match("POST", path)[0].objects is NO_OBJECTS


def test_a_model_or_a_project_is_nobodys_object() -> None:
    for path in (
        "/v1/models/gpt-5",
        "/v1/organization/costs",
        "/v1/fine_tuning/checkpoints/ft:x/permissions",
    ):
        assert match("GET", path)[0].objects.names is None


def test_every_route_with_usage_by_object_says_which_object() -> None:
    for method, endpoint in routes():
        if endpoint.by_object:
            assert endpoint.objects is not NO_OBJECTS, (method, endpoint.template)


def test_only_collections_are_lists() -> None:
    listed = {endpoint.template for _, endpoint in routes() if endpoint.objects.lists}
    assert {
        "/v1/files",
        "/v1/batches",
        "/v1/vector_stores",
        "/v1/fine_tuning/jobs",
        "/v1/assistants",
    } <= listed
    assert {"/v1/videos", "/v1/containers", "/v1/chat/completions", "/v1/conversations"} <= listed
    assert not any("{" in template for template in listed)


def test_a_foreign_object_is_answered_as_one_that_does_not_exist() -> None:
    error = orjson.loads(not_found("file-1", "file").body())["error"]
    assert error == {
        "message": "No such File object: file-1",
        "type": "invalid_request_error",
        "param": "id",
        "code": None,
    }
    refusal = not_found("resp_1", "response", "previous_response_id")
    assert (refusal.status, refusal.code) == (404, "previous_response_not_found")
