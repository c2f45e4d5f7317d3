"""The API's description: `/api/openapi.json` for programs, and a page for people that asks no other server."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse

from assistant.surfaces.api.access import COOKIE, CSRF, Caller, Role, needs

router = APIRouter(prefix="/api", include_in_schema=False)
Reader = Annotated[Caller, Depends(needs(Role.AGENT))]

INTRODUCTION = (
    f"Scripts send a token as «Authorization: Bearer dh_…» (make one on your account's page). A browser has a "
    f"session and sends its CSRF token as {CSRF} with whatever changes something. Errors are JSON: "
    "{“detail”: a sentence}. Times are ISO 8601 in UTC."
)
METHODS = ("get", "post", "put", "patch", "delete")


@router.get("/openapi.json")
def schema(request: Request, _: Reader) -> dict[str, Any]:
    return described(request.app.openapi())


@router.get("/docs")
def page(request: Request, _: Reader) -> HTMLResponse:
    return HTMLResponse("".join(_document(described(request.app.openapi()))))


@router.get("/docs.css")
def style(_: Reader) -> Response:
    return Response(
        (files("assistant.surfaces.api") / "docs.css").read_text(encoding="utf-8"), media_type="text/css"
    )


def described(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with how to sign in, and what every operation may answer."""
    schemes = {
        "token": {"type": "http", "scheme": "bearer"},
        "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
    }
    schema.setdefault("components", {})["securitySchemes"] = schemes
    schema["security"] = [{"token": []}, {"session": []}]
    return schema


def _document(schema: Mapping[str, Any]) -> Iterator[str]:
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Deskhand API</title>'
    yield '<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/api/docs.css"></head>'
    yield f"<body><main><h1>Deskhand API</h1><p>{_text(INTRODUCTION)}</p>"
    yield '<p>As a file for programs: <a href="/api/openapi.json">openapi.json</a></p>'
    for tag, operations in _by_tag(schema).items():
        yield f"<section><h2>{_text(tag)}</h2>"
        for path, method, operation in operations:
            yield from _operation(path, method, operation)
        yield "</section>"
    yield "<section><h2>Shapes</h2>"
    for name, shape in sorted(schema["components"].get("schemas", {}).items()):
        yield from _shape(name, shape)
    yield "</section></main></body></html>"


def _by_tag(schema: Mapping[str, Any]) -> dict[str, list[tuple[str, str, Mapping[str, Any]]]]:
    found: dict[str, list[tuple[str, str, Mapping[str, Any]]]] = {}
    for path, item in schema["paths"].items():
        for method in METHODS:
            if method in item:
                tag = (item[method].get("tags") or ["other"])[0]
                found.setdefault(tag, []).append((path, method, item[method]))
    return found


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"<article><h3><code>{method.upper()} {_text(path)}</code></h3>"
    yield f"<p>{_text(operation.get('description') or operation.get('summary', ''))}</p><dl>"
    for parameter in operation.get("parameters", ()):
        needed = "" if parameter.get("required") else ", optional"
        yield f"<dt><code>{_text(parameter['name'])}</code></dt><dd>in the {_text(parameter['in'])}{needed}: "
        yield f"{_kind(parameter['schema'])}</dd>"
    for content in operation.get("requestBody", {}).get("content", {}).values():
        yield f"<dt>body</dt><dd>{_kind(content['schema'])}</dd>"
    for status, response in operation.get("responses", {}).items():
        if status.startswith("2"):
            shapes = [
                _kind(content["schema"])
                for content in response.get("content", {}).values()
                if "schema" in content
            ]
            yield f"<dt>{_text(status)}</dt><dd>{', '.join(shapes) or 'nothing'}</dd>"
    yield "</dl></article>"


def _shape(name: str, shape: Mapping[str, Any]) -> Iterator[str]:
    yield f'<article id="{_text(name)}"><h3>{_text(name)}</h3><p>{_text(shape.get("description", ""))}</p><dl>'
    for key, value in shape.get("properties", {}).items():
        needed = "" if key in shape.get("required", ()) else ", optional"
        yield f"<dt><code>{_text(key)}</code></dt><dd>{_kind(value)}{needed} {_text(value.get('description', ''))}</dd>"
    yield "</dl></article>"


def _kind(schema: Mapping[str, Any]) -> str:
    """A schema in a few words, with links to the shapes it names."""
    if "$ref" in schema:
        name = _text(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if alternatives := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(_kind(one) for one in alternatives)
    if "enum" in schema:
        return " | ".join(_text(str(value)) for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    return _text(schema.get("format") or schema.get("type", "anything"))


def _text(value: str) -> str:
    return html.escape(value)
