"""The map of OpenAI's paths: which route template a request has, how its answer is metered, and whether it bills.

The table below is the whole map. What is not in it gets the template "/v1/{other}" and the generic meter, so a route
that OpenAI adds tomorrow is still counted where its answer carries a usage object. A path that tries to look like
another one (`//`, `%2F`, dot segments, a trailing slash) is matched as the path that a server would make of it.

Sources: the OpenAPI description of 2026-08-21 and the official Python SDK 3.54; see docs/reference/metering.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

from proxy.core.objects import NO_OBJECTS, ObjectRule, rule_of

SEGMENTS_MAX = 16


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One route of the API. `template` is what records and metrics carry."""

    template: str
    meter: str = "none"
    """Which reader understands its answers; see meter.py. "none": usage in them is never counted."""
    bills: bool = True
    """False for reads and replays, whose usage was billed when the object was made."""
    by_object: bool = False
    """Usage belongs to the object that the answer names and may show in several answers: it is billed once for each
    object id, when it first shows. True also where `bills` is False: such a read bills what nobody has seen yet."""
    splices: bool = False
    """Streams report usage only when asked with stream_options.include_usage; see splice.py."""
    websocket: bool = False
    """A GET that upgrades; metered by wsmeter.py."""
    content: bool = False
    """Its answers are what somebody stored, a file or a video. Whatever it looks like, it is no answer to be read."""
    objects: ObjectRule = NO_OBJECTS
    """Which objects it makes, names and lists."""


# method, template, meter, flags: b bills, o by object, s splices, w websocket. A method of * stands for every other method.
_TABLE = """
POST   /v1/chat/completions                                          chat           bs
GET    /v1/chat/completions                                          none           -
GET    /v1/chat/completions/{completion_id}                          none           -
POST   /v1/chat/completions/{completion_id}                          none           -
DELETE /v1/chat/completions/{completion_id}                          none           -
GET    /v1/chat/completions/{completion_id}/messages                 none           -
POST   /v1/completions                                               completions    bs
POST   /v1/embeddings                                                embeddings     b
POST   /v1/moderations                                               moderations    b
POST   /v1/decisions                                                 decisions      b
POST   /v1/responses                                                 responses      bo
GET    /v1/responses                                                 ws_responses   bw
POST   /v1/responses/compact                                         compact        b
POST   /v1/responses/input_tokens                                    none           -
GET    /v1/responses/{response_id}                                   responses      o
DELETE /v1/responses/{response_id}                                   none           -
POST   /v1/responses/{response_id}/cancel                            responses      o
GET    /v1/responses/{response_id}/input_items                       none           -
*      /v1/conversations                                             none           -
*      /v1/conversations/{conversation_id}                           none           -
*      /v1/conversations/{conversation_id}/items                     none           -
*      /v1/conversations/{conversation_id}/items/{item_id}           none           -
POST   /v1/images/generations                                        images         b
POST   /v1/images/edits                                              images         b
POST   /v1/images/variations                                         images         b
POST   /v1/audio/speech                                              speech         b
POST   /v1/audio/transcriptions                                      transcription  b
POST   /v1/audio/translations                                        translation    b
*      /v1/audio/voices                                              none           -
*      /v1/audio/voices/{voice_id}                                   none           -
*      /v1/audio/voice_consents                                      none           -
*      /v1/audio/voice_consents/{consent_id}                         none           -
*      /v1/assistants                                                none           -
*      /v1/assistants/{assistant_id}                                 none           -
*      /v1/threads                                                   none           -
*      /v1/threads/{thread_id}                                       none           -
*      /v1/threads/{thread_id}/messages                              none           -
*      /v1/threads/{thread_id}/messages/{message_id}                 none           -
POST   /v1/threads/runs                                              runs           bo
POST   /v1/threads/{thread_id}/runs                                  runs           bo
GET    /v1/threads/{thread_id}/runs                                  none           -
GET    /v1/threads/{thread_id}/runs/{run_id}                         runs           o
POST   /v1/threads/{thread_id}/runs/{run_id}                         runs           o
POST   /v1/threads/{thread_id}/runs/{run_id}/cancel                  runs           o
POST   /v1/threads/{thread_id}/runs/{run_id}/submit_tool_outputs     runs           bo
GET    /v1/threads/{thread_id}/runs/{run_id}/steps                   none           -
GET    /v1/threads/{thread_id}/runs/{run_id}/steps/{step_id}         none           -
POST   /v1/batches                                                   batches        bo
GET    /v1/batches                                                   none           -
GET    /v1/batches/{batch_id}                                        batches        o
POST   /v1/batches/{batch_id}/cancel                                 batches        o
*      /v1/evals                                                     none           -
*      /v1/evals/{eval_id}                                           none           -
POST   /v1/evals/{eval_id}/runs                                      evals          bo
GET    /v1/evals/{eval_id}/runs                                      none           -
GET    /v1/evals/{eval_id}/runs/{run_id}                             evals          o
POST   /v1/evals/{eval_id}/runs/{run_id}                             evals          o
POST   /v1/evals/{eval_id}/runs/{run_id}/cancel                      evals          o
DELETE /v1/evals/{eval_id}/runs/{run_id}                             none           -
GET    /v1/evals/{eval_id}/runs/{run_id}/output_items                none           -
GET    /v1/evals/{eval_id}/runs/{run_id}/output_items/{output_item_id} none         -
POST   /v1/fine_tuning/jobs                                          fine_tuning    bo
GET    /v1/fine_tuning/jobs                                          none           -
GET    /v1/fine_tuning/jobs/{fine_tuning_job_id}                     fine_tuning    o
POST   /v1/fine_tuning/jobs/{fine_tuning_job_id}/cancel              fine_tuning    o
POST   /v1/fine_tuning/jobs/{fine_tuning_job_id}/pause               fine_tuning    o
POST   /v1/fine_tuning/jobs/{fine_tuning_job_id}/resume              fine_tuning    o
GET    /v1/fine_tuning/jobs/{fine_tuning_job_id}/events              none           -
GET    /v1/fine_tuning/jobs/{fine_tuning_job_id}/checkpoints         none           -
*      /v1/fine_tuning/checkpoints/{checkpoint}/permissions          none           -
*      /v1/fine_tuning/checkpoints/{checkpoint}/permissions/{permission_id} none    -
POST   /v1/fine_tuning/alpha/graders/run                             graders        b
POST   /v1/fine_tuning/alpha/graders/validate                        none           -
POST   /v1/agents/sessions                                           agents         bo
GET    /v1/agents/sessions                                           none           -
GET    /v1/agents/sessions/{session_id}                              none           -
POST   /v1/agents/sessions/{session_id}                              none           -
DELETE /v1/agents/sessions/{session_id}                              none           -
GET    /v1/agents/sessions/{session_id}/events                       agents         o
POST   /v1/agents/sessions/{session_id}/events                       agents         bo
GET    /v1/agents/sessions/{session_id}/turns                        none           -
GET    /v1/agents/sessions/{session_id}/turns/{turn_id}              agents         o
GET    /v1/agents/sessions/{session_id}/turns/{turn_id}/items        none           -
GET    /v1/agents/sessions/{session_id}/subagents/{subagent_id}/turns none          -
GET    /v1/agents/sessions/{session_id}/subagents/{subagent_id}/turns/{turn_id} agents o
GET    /v1/agents/sessions/{session_id}/subagents/{subagent_id}/turns/{turn_id}/items none -
*      /v1/agents/sessions/{session_id}/subagents                    none           -
*      /v1/agents/sessions/{session_id}/subagents/{subagent_id}      none           -
*      /v1/agents/sessions/{session_id}/subagents/{subagent_id}/items none          -
*      /v1/agents/sessions/{session_id}/items                        none           -
*      /v1/agents/sessions/{session_id}/traces                       none           -
*      /v1/agents/sessions/{session_id}/artifacts                    none           -
*      /v1/agents/sessions/{session_id}/artifacts/{artifact_id}      none           -
*      /v1/agents/sessions/{session_id}/artifacts/{artifact_id}/content none        -
*      /v1/agents                                                    none           -
*      /v1/agents/{agent_id}                                         none           -
*      /v1/agents/automations                                        none           -
*      /v1/agents/automations/{automation_id}                        none           -
*      /v1/agents/automations/{automation_id}/pause                  none           -
*      /v1/agents/automations/{automation_id}/resume                 none           -
*      /v1/agents/automations/{automation_id}/invocations            none           -
*      /v1/agents/automations/{automation_id}/invocations/{invocation_id} none      -
*      /v1/agents/environments                                       none           -
*      /v1/agents/environments/{environment_id}                      none           -
*      /v1/agents/environments/{environment_id}/files                none           -
*      /v1/agents/environments/templates                             none           -
*      /v1/agents/environments/templates/{environment_template_id}   none           -
*      /v1/vaults                                                    none           -
*      /v1/vaults/{vault_id}                                         none           -
*      /v1/vaults/{vault_id}/credentials                             none           -
*      /v1/vaults/{vault_id}/credentials/{credential_id}             none           -
GET    /v1/realtime                                                  ws_realtime    bw
GET    /v1/realtime/translations                                     ws_translation bw
POST   /v1/realtime/client_secrets                                   none           -
POST   /v1/realtime/translations/client_secrets                      none           -
POST   /v1/realtime/sessions                                         none           -
POST   /v1/realtime/transcription_sessions                           none           -
POST   /v1/realtime/calls                                            media          b
POST   /v1/realtime/calls/{call_id}/accept                           media          b
POST   /v1/realtime/calls/{call_id}/hangup                           none           -
POST   /v1/realtime/calls/{call_id}/refer                            none           -
POST   /v1/realtime/calls/{call_id}/reject                           none           -
POST   /v1/live/sessions                                             media          b
GET    /v1/live/sessions                                             ws_live        bw
POST   /v1/live/sessions/{session_id}/accept                         media          b
POST   /v1/live/sessions/{session_id}/hangup                         none           -
POST   /v1/live/sessions/{session_id}/refer                          none           -
POST   /v1/live/sessions/{session_id}/reject                         none           -
POST   /v1/live/sessions/{session_id}/fork                           media          b
GET    /v1/live/sessions/{session_id}/fork                           ws_live        bw
GET    /v1/live/sessions/{session_id}/attach                         ws_attach      ow
GET    /v1/live/sessions/{session_id}/content                        none           -
POST   /v1/videos                                                    videos         bo
GET    /v1/videos                                                    none           -
POST   /v1/videos/edits                                              videos         bo
POST   /v1/videos/extensions                                         videos         bo
*      /v1/videos/characters                                         none           -
*      /v1/videos/characters/{character_id}                          none           -
GET    /v1/videos/{video_id}                                         videos         o
DELETE /v1/videos/{video_id}                                         none           -
GET    /v1/videos/{video_id}/content                                 none           -
POST   /v1/videos/{video_id}/remix                                   videos         bo
POST   /v1/containers                                                containers     bo
GET    /v1/containers                                                none           -
*      /v1/containers/{container_id}                                 none           -
*      /v1/containers/{container_id}/files                           none           -
*      /v1/containers/{container_id}/files/{file_id}                 none           -
*      /v1/containers/{container_id}/files/{file_id}/content         none           -
*      /v1/files                                                     none           -
*      /v1/files/{file_id}                                           none           -
*      /v1/files/{file_id}/content                                   none           -
*      /v1/uploads                                                   none           -
*      /v1/uploads/{upload_id}                                       none           -
*      /v1/uploads/{upload_id}/parts                                 none           -
*      /v1/uploads/{upload_id}/complete                              none           -
*      /v1/uploads/{upload_id}/cancel                                none           -
*      /v1/vector_stores                                             none           -
*      /v1/vector_stores/{vector_store_id}                           none           -
*      /v1/vector_stores/{vector_store_id}/files                     none           -
*      /v1/vector_stores/{vector_store_id}/files/{file_id}           none           -
*      /v1/vector_stores/{vector_store_id}/files/{file_id}/content   none           -
*      /v1/vector_stores/{vector_store_id}/file_batches              none           -
*      /v1/vector_stores/{vector_store_id}/file_batches/{batch_id}   none           -
*      /v1/vector_stores/{vector_store_id}/file_batches/{batch_id}/cancel none      -
*      /v1/vector_stores/{vector_store_id}/file_batches/{batch_id}/files none       -
POST   /v1/vector_stores/{vector_store_id}/search                    none           -
*      /v1/skills                                                    none           -
*      /v1/skills/{skill_id}                                         none           -
*      /v1/skills/{skill_id}/content                                 none           -
*      /v1/skills/{skill_id}/versions                                none           -
*      /v1/skills/{skill_id}/versions/{version}                      none           -
*      /v1/skills/{skill_id}/versions/{version}/content              none           -
*      /v1/chatkit/sessions                                          none           -
*      /v1/chatkit/sessions/{session_id}/cancel                      none           -
*      /v1/chatkit/threads                                           none           -
*      /v1/chatkit/threads/{thread_id}                               none           -
*      /v1/chatkit/threads/{thread_id}/items                         none           -
*      /v1/content_provenance_checks                                 none           -
*      /v1/safety/{rest+}                                            none           -
*      /v1/webhook_endpoints                                         none           -
*      /v1/webhook_endpoints/{webhook_endpoint_id}                   none           -
*      /v1/webhook_endpoints/{webhook_endpoint_id}/rotate_secret     none           -
*      /v1/webhook_endpoints/{webhook_endpoint_id}/test              none           -
*      /v1/webhook_event_types                                       none           -
GET    /v1/models                                                    none           -
GET    /v1/models/{model+}                                           none           -
DELETE /v1/models/{model+}                                           none           -
*      /v1/organization/{rest+}                                      none           -
*      /v1/projects                                                  none           -
*      /v1/projects/{rest+}                                          none           -
"""

OTHER = Endpoint("/v1/{other}", "generic")
OTHER_READ = Endpoint("/v1/{other}", "generic", bills=False)


class _Node:
    """One segment of the routes. Built once at import and never changed afterwards."""

    __slots__ = ("endpoints", "fixed", "parameter", "rest")

    def __init__(self) -> None:
        self.fixed: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.rest: _Node | None = None
        self.endpoints: dict[str, Endpoint] = {}


def _build() -> tuple[_Node, dict[tuple[str, str], Endpoint], tuple[tuple[str, Endpoint], ...]]:
    root, static, routes = _Node(), {}, []
    for line in _TABLE.strip().splitlines():
        method, template, meter, flags = line.split()
        endpoint = Endpoint(
            template.replace("+}", "}"),
            meter,
            bills="b" in flags,
            by_object="o" in flags,
            splices="s" in flags,
            websocket="w" in flags,
            content=template.endswith("/content"),
            objects=rule_of(template.replace("+}", "}"), meter=meter, websocket="w" in flags),
        )
        routes.append((method, endpoint))
        node = root
        for segment in template.split("/")[2:]:
            if segment.endswith("+}"):
                node.rest = node.rest or _Node()
                node = node.rest
            elif segment.startswith("{"):
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.fixed.setdefault(segment, _Node())
        node.endpoints[method] = endpoint
        if "{" not in template:
            for each in (method,) if method != "*" else ("GET", "POST", "DELETE"):
                static[each, template] = endpoint
    return root, static, tuple(routes)


_ROOT, _STATIC, _ROUTES = _build()


def routes() -> tuple[tuple[str, Endpoint], ...]:
    """Every route of the table as (method, endpoint); method "*" is every method that has no line of its own."""
    return _ROUTES


def match(method: str, path: str) -> tuple[Endpoint, str | None]:
    """The endpoint of a request and the first id in its path (its parent: the thread of a run, the store of a file).

    `path` is as it came, without the query. Never fails: what the table doesn't hold is OTHER (OTHER_READ for GET, HEAD
    and OPTIONS). Hot path: one dictionary look-up for a static path.
    """
    found = _STATIC.get((method, path))
    if found is not None:
        return found, None
    segments = _segments(path)
    if segments is None:
        return _other(method), None
    return _walk(method, segments)


def _other(method: str) -> Endpoint:
    return OTHER_READ if method in {"GET", "HEAD", "OPTIONS"} else OTHER


def _segments(path: str) -> list[str] | None:
    """The segments after /v1 as a server would understand them; None when the path leaves /v1 or is absurdly deep."""
    if "%" in path:
        path = unquote(path, errors="replace")
    kept: list[str] = []
    for segment in path.split("/"):
        if segment in {"", "."}:
            continue
        if segment == "..":
            if kept:
                kept.pop()
            continue
        kept.append(segment)
    if len(kept) < 2 or kept[0] != "v1" or len(kept) > SEGMENTS_MAX:
        return None
    return kept[1:]


def _walk(method: str, segments: list[str]) -> tuple[Endpoint, str | None]:
    node, first_id = _ROOT, None
    for position, segment in enumerate(segments):
        following = node.fixed.get(segment)
        if following is None:
            following = node.parameter
            if following is None:
                if node.rest is None:
                    return _other(method), None
                node, first_id = node.rest, first_id or "/".join(segments[position:])
                break
            first_id = first_id or segment
        node = following
    found = node.endpoints.get(method) or node.endpoints.get("*")
    if found is None and method == "HEAD":
        found = node.endpoints.get("GET")
    if found is None:
        return _other(method), None
    return found, first_id
