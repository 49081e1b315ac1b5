"""The reference of the admin API in Markdown, made of its OpenAPI document.

`python -m proxy.admin.reference > docs/reference/admin-api.md`; a test holds the file to it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from proxy.admin.openapi import document
from proxy.admin.site import all_routes
from proxy.settings import Settings

HEAD = """# Admin API

<!-- Made by `python -m proxy.admin.reference`; change the routes and models instead. -->

Everything but `/v1/*`. The same as OpenAPI 3.1: `GET /openapi.json`.

- **Who**: `Authorization: Bearer …` with an admin key (`sk-admin-…`) or a JSON Web Token under `/admin`, with a proxy key
  (`sk-proxy-…`) under `/me`. Admin keys read or write, and may be confined to one group.
- **Form**: snake case; times in ISO 8601, UTC; money as decimal strings in US dollars; tokens as integers. Unknown fields and
  parameters are refused.
- **Errors**: `{"error": {"message", "type", "param", "code"}}`, as OpenAI writes them; `param` names the field.
- **Periods**: `start` and `end` are dates (a whole day, the end included) or times (half-open), or `days=N`, the last N days
  with today; `tz` says whose days. 30 days when nothing is said, 7 under `/me`.
- **Filters** take several values, repeated or separated by commas: any of them. Different filters must all hold.
- **Lists** have `page`, `limit`, `total` and `total_pages`; histories have `next_cursor`.
- **Creations** take an `Idempotency-Key`: asked again within a day they answer as the first time, secrets as null.
- **GET** answers have an `ETag`; send it as `If-None-Match` to hear 304 when nothing changed.
- **Audit**: every change and every read of personal data is in `GET /admin/audit`.
"""


def render(described: dict[str, Any]) -> str:
    """The whole page."""
    lines = [HEAD]
    tags = [tag["name"] for tag in described["tags"]]
    for tag in tags:
        lines.append(f"\n## {tag.replace('_', ' ').capitalize()}\n")
        for path, methods in described["paths"].items():
            for method, operation in methods.items():
                if operation["tags"] == [tag]:
                    lines.extend(_operation(path, method, operation))
    lines.append("\n## Objects\n")
    for name, schema in sorted(described["components"]["schemas"].items()):
        lines.extend(_schema(name, schema))
    return "\n".join(lines).rstrip() + "\n"


def _operation(path: str, method: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"### {method.upper()} {path}\n"
    yield operation["description"].replace("\n\n", " ") + "\n"
    parameters = [each for each in operation["parameters"] if each["in"] == "query"]
    if parameters:
        yield "| parameter | type | |\n|---|---|---|"
        for each in parameters:
            required = "required. " if each["required"] else ""
            yield f"| `{each['name']}` | {_type(each['schema'])} | {required}{each.get('description', '')} |"
        yield ""
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        example = content.get("example")
        yield f"Body ({media_type}): {_type(content['schema'])}, e.g.\n"
        text = example if isinstance(example, str) else json.dumps(example)
        yield f"```{'csv' if media_type == 'text/csv' else 'json'}\n{text.rstrip()}\n```\n"
    status = next(code for code in operation["responses"] if code.startswith("2"))
    answers = operation["responses"][status]["content"]
    told = ", ".join(
        f"{media_type}: {_type(content['schema'])}" if media_type == "application/json" else media_type
        for media_type, content in answers.items()
    )
    yield f"Answers {status} ({told}).\n"


def _schema(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f"### {name}\n"
    if schema.get("description"):
        yield schema["description"] + "\n"
    yield "| field | type | |\n|---|---|---|"
    required = schema.get("required", ())
    for field, described in schema.get("properties", {}).items():
        notes = [] if field in required or "default" in described else ["optional."]
        if described.get("default") not in (None, {}, [], ""):
            notes.append(f"Default: `{json.dumps(described['default'])}`.")
        if text := described.get("description"):
            notes.append(text.replace("\n", " "))
        yield f"| `{field}` | {_type(described)} | {' '.join(notes)} |"
    yield ""


def _type(schema: dict[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(each) for each in schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties'])}"
    if schema.get("format") in {"date-time", "date", "uuid"}:
        return str(schema["format"])
    return "null" if kind == "null" else str(kind)


def main() -> None:
    """Print it."""
    sys.stdout.write(render(document(all_routes(Settings()))))


if __name__ == "__main__":
    main()
