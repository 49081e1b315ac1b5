"""JSON in and out: bodies and queries become models, models become answers, faults become errors in OpenAI's shape."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from typing import Any
from uuid import UUID

import orjson
from aiohttp import web
from multidict import MultiMapping
from pydantic import BaseModel, TypeAdapter, ValidationError

from proxy.admin.route import bad_request
from proxy.core.refusal import Refusal

BODY_BYTES_MAX = 4 * 2**20
COMPRESS_FROM_BYTES = 2048
TAG_PREFIX = "tag."
SIMULATED = "openai-proxy-simulated"


async def read_body(request: web.Request, kind: Any) -> Any:
    """The body as `kind`. Raises a 400 that names the field, or 413."""
    raw = await request.content.read(BODY_BYTES_MAX + 1)
    while len(raw) <= BODY_BYTES_MAX and (more := await request.content.read(BODY_BYTES_MAX + 1 - len(raw))):
        raw += more
    if len(raw) > BODY_BYTES_MAX:
        raise Refusal(
            413, "body_too_large", f"The body is larger than {BODY_BYTES_MAX} bytes.", reason="invalid"
        )
    if kind is bytes:
        return raw
    try:
        parsed = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise bad_request(None, f"The body is not valid JSON: {error}", "invalid_json") from None
    refuse_nul(parsed)
    return validated(_adapter(kind), parsed)


def read_query(query: MultiMapping[str], kind: type[BaseModel] | None) -> Any:
    """The query string as `kind`: repeated names are lists, `tag.NAME=value` collects in the field `tag`."""
    fields = kind.model_fields if kind is not None else {}
    given: dict[str, Any] = {}
    for name in dict.fromkeys(query.keys()):
        values = query.getall(name)
        if name.startswith(TAG_PREFIX) and "tag" in fields:
            given.setdefault("tag", {})[name.removeprefix(TAG_PREFIX)] = values[-1]
        elif name == "tag" or name not in fields:
            raise bad_request(name, f"Unknown query parameter {name!r}.", "unknown_parameter")
        elif _is_list(kind, name):
            given[name] = [each for value in values for each in value.split(",")]
        elif len(values) > 1:
            raise bad_request(name, f"{name} is given {len(values)} times.")
        else:
            given[name] = values[0]
    refuse_nul(given)
    return validated(_adapter(kind), given) if kind is not None else None


def validated(adapter: TypeAdapter[Any], value: Any) -> Any:
    """The value as the adapter's type, or a 400 that names the first field that is wrong."""
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        param = field_name(first["loc"])
        code = "unknown_field" if first["type"] == "extra_forbidden" else "invalid_value"
        message = {
            "extra_forbidden": f"Unknown field {param!r}.",
            "missing": f"{param} is required.",
        }.get(first["type"], f"{param or 'The body'}: {first['msg'].removeprefix('Value error, ')}.")
        raise bad_request(param, message.replace("..", "."), code) from None


def field_name(location: tuple[int | str, ...]) -> str | None:
    """`("quotas", 2, "limit")` is "quotas[2].limit"."""
    name = ""
    for part in location:
        name += f"[{part}]" if isinstance(part, int) else f".{part}"
    return name.lstrip(".") or None


def refuse_nul(value: Any, name: str | None = None) -> None:
    """Postgres' text can't hold the character U+0000."""
    if isinstance(value, str):
        if "\x00" in value:
            raise bad_request(name, f"{name or 'A text'} holds the character U+0000.")
    elif isinstance(value, Mapping):
        for key, each in value.items():
            refuse_nul(key, name)
            refuse_nul(each, str(key))
    elif isinstance(value, list):
        for each in value:
            refuse_nul(each, name)


def json_answer(
    request: web.Request,
    body: Any,
    status: int,
    headers: Mapping[str, str],
) -> web.Response:
    """A model, or JSON-ready value, as a response: with an ETag where a GET may be asked again, compressed where it pays."""
    text = dump(body)
    response = web.Response(body=text, status=status, headers=headers, content_type="application/json")
    response.headers.setdefault("cache-control", "private, no-cache")
    if request.method == "GET" and status == 200:
        tag = f'W/"{hashlib.blake2b(text, digest_size=12).hexdigest()}"'
        response.headers["etag"] = tag
        if tag in request.headers.get("if-none-match", ""):
            unchanged = {"etag": tag, "cache-control": response.headers["cache-control"]}
            return web.Response(status=304, headers=unchanged)
    if len(text) >= COMPRESS_FROM_BYTES:
        response.headers["vary"] = "accept-encoding"
        response.enable_compression()
    return response


def error_answer(refusal: Refusal) -> web.Response:
    """{"error": {…}} as OpenAI writes it, so that its SDKs raise the matching exception."""
    response = web.Response(
        body=refusal.body(), status=refusal.status, content_type="application/json", headers=refusal.headers
    )
    response.headers.setdefault("cache-control", "no-store")
    return response


def dump(body: Any) -> bytes:
    """A model, a list of models, or a JSON-ready value as JSON; times as ISO 8601 in UTC."""
    return orjson.dumps(body, default=_plain, option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, UUID):  # asyncpg's own class, which orjson doesn't know
        return str(value)
    raise TypeError(type(value).__name__)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


@cache
def _is_list(kind: type[BaseModel], name: str) -> bool:
    annotation = kind.model_fields[name].annotation
    return "list[" in str(annotation) or "tuple[" in str(annotation)
