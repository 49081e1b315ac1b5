"""The OpenAPI 3.1 document, made of the routes and of the pydantic models that validate their requests."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

import proxy
from proxy.admin.route import Route
from proxy.admin.shapes import View

REF = "#/components/schemas/{model}"
_PART = re.compile(r"\{([a-z_]+)\}")
_ACCESS = {
    "anyone": "Needs no credential.",
    "user": "Needs a proxy key; shows its own user only.",
    "read": "Needs an admin key or token that may read.",
    "write": "Needs an admin key or token that may write.",
}
_PARTS = {
    "user": "Id, external id or e-mail address.",
    "group": "Id, external id or unique name.",
    "plan": "Id or name.",
    "tag": "Name of the tag.",
    "request": "The `x-proxy-request-id` of the answer.",
    "record": "The `x-proxy-request-id` of the answer.",
}
_REASONS = {
    400: "A parameter or field is wrong; `param` names it.",
    401: "No credential, or a wrong one.",
    403: "The credential does not reach this far.",
    404: "There is no such thing.",
    409: "It exists already, or is still in use.",
    413: "The body is too large.",
    429: "Too many requests; see `retry-after`.",
    503: "The database can't be reached, or the report took too long.",
}


class ErrorDetail(View):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorView(View):
    """An error as OpenAI writes it."""

    error: ErrorDetail


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """The document as a JSON-ready value."""
    listed = list(routes)
    schemas = _schemas(listed)
    paths: dict[str, dict[str, Any]] = {}
    for route in listed:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "openai-usage-proxy: admin API",
            "version": proxy.__version__,
            "description": "Users, keys, quotas, statistics and exports of the proxy. Amounts of money are decimal "
            "strings in US dollars, times are ISO 8601 in UTC, errors are in OpenAI's shape.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": tag} for tag in sorted({route.tag for route in listed if route.tag})],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "admin": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An admin key, or a JSON Web Token.",
                },
                "proxy_key": {"type": "http", "scheme": "bearer", "description": "A user's proxy key."},
            },
        },
    }


def _schemas(routes: list[Route]) -> dict[str, Any]:
    wanted: list[tuple[Any, Any]] = [(ErrorView, "serialization")]
    for route in routes:
        if isinstance(route.body, type) and issubclass(route.body, BaseModel):
            wanted.append((route.body, "validation"))
        elif route.body not in {None, bytes}:
            wanted.extend((model, "validation") for model in _models_in(route.body))
        if route.answer is not None:
            wanted.append((route.answer, "serialization"))
    _, definitions = models_json_schema(list(dict.fromkeys(wanted)), ref_template=REF)
    schemas: dict[str, Any] = definitions["$defs"]
    return schemas


def _models_in(kind: Any) -> Iterator[type[BaseModel]]:
    """The models that a type such as Annotated[list[Model], …] is made of."""
    for part in getattr(kind, "__args__", ()):
        if isinstance(part, type) and issubclass(part, BaseModel):
            yield part
        else:
            yield from _models_in(part)


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.operation_id,
        "summary": route.summary,
        "description": f"{route.handler.__doc__ or route.summary}\n\n{_ACCESS[route.access]}"
        + (" Not for administrators of one group." if route.everywhere and route.access != "anyone" else ""),
        "tags": [route.tag],
        "parameters": [*_path_parameters(route), *_query_parameters(route), *_header_parameters(route)],
        "responses": _responses(route),
        "security": {"anyone": [], "user": [{"proxy_key": []}]}.get(route.access, [{"admin": []}]),
    }
    if route.body is not None:
        operation["requestBody"] = _request_body(route)
    return operation


def _request_body(route: Route) -> dict[str, Any]:
    if route.body is bytes:
        content: dict[str, Any] = {"text/csv": {"schema": {"type": "string"}}}
    else:
        schema = TypeAdapter(route.body).json_schema(ref_template=REF)
        schema.pop("$defs", None)
        if isinstance(route.body, type):
            schema = {"$ref": REF.format(model=route.body.__name__)}
        content = {"application/json": {"schema": schema}}
    if route.example is not None:
        next(iter(content.values()))["example"] = route.example
    return {"required": True, "content": content}


def _path_parameters(route: Route) -> Iterator[dict[str, Any]]:
    for name in _PART.findall(route.path):
        yield {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PARTS.get(name, "Id."),
            "schema": {"type": "string", "minLength": 1},
        }


def _query_parameters(route: Route) -> Iterator[dict[str, Any]]:
    if route.query is None:
        return
    schema = route.query.model_json_schema(ref_template=REF)
    for name, given in schema.get("properties", {}).items():
        described = dict(given)
        parameter: dict[str, Any] = {
            "name": "tag.NAME" if name == "tag" else name,
            "in": "query",
            "required": name in schema.get("required", ()),
        }
        if description := described.pop("description", None):
            parameter["description"] = description
        if name == "tag":
            parameter["description"] = (
                "Only what has the tag NAME with this value; any name may stand for NAME."
            )
            described = {"type": "string", "maxLength": 128}
        parameter["schema"] = _without_null(described)
        if parameter["schema"].get("type") == "array":
            parameter |= {"style": "form", "explode": False}
        yield parameter


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A query string can leave a parameter out, but can't say null."""
    options = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
    rest = {name: value for name, value in schema.items() if name not in {"anyOf", "title"}}
    if rest.get("default", ...) is None:
        del rest["default"]
    return (options[0] | rest) if len(options) == 1 else ({"anyOf": options} | rest if options else rest)


def _header_parameters(route: Route) -> Iterator[dict[str, Any]]:
    if route.creates:
        yield {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "Asked again with the same key within a day, it answers as the first time and makes nothing "
            "new; secrets are null then.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
        }


def _responses(route: Route) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for media_type in route.media_types:
        if media_type == "application/json" and route.answer is not None:
            content[media_type] = {"schema": {"$ref": REF.format(model=route.answer.__name__)}}
        elif media_type == "application/json" and not route.transaction:  # an export, as one array of rows
            content[media_type] = {"schema": {"type": "array", "items": {"type": "object"}}}
        else:
            content[media_type] = {"schema": {"type": "string"}}
    found: dict[str, Any] = {str(route.status): {"description": "Done.", "content": content}}
    if route.creates:
        found["200"] = {"description": "The answer to the first request with this key.", "content": content}
    if route.path == "/readyz":
        found["503"] = {"description": "Not ready.", "content": content}
    for status in _statuses(route):
        error = {"application/json": {"schema": {"$ref": REF.format(model="ErrorView")}}}
        found.setdefault(str(status), {"description": _REASONS[status], "content": error})
    return found


def _statuses(route: Route) -> Iterator[int]:
    yield 400
    if route.access == "anyone":
        return
    yield from (401, 403, 404, 429, 503)
    if route.body is not None:
        yield 413
    if route.method != "GET":
        yield 409
