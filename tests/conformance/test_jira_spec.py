"""The connector's requests and the test server's answers against Atlassian's OpenAPI description.

The description is no part of this project; where it is absent these tests skip.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from openapi_schema_validator import OAS30Validator

from tests.conformance.connector import Replica
from tests.conformance.test_jira import connect, new_site
from tests.paths import DATA
from tests.servers.jira import Call, JiraServer
from tests.servers.jira_data import holder

SPEC = DATA.parent / "specs" / "jira-cloud-v3.json"

pytestmark = pytest.mark.skipif(not SPEC.exists(), reason="Atlassian's OpenAPI description is not here")


@cache
def spec() -> dict[str, Any]:
    return json.loads(SPEC.read_text(encoding="utf-8"))


@cache
def paths() -> list[tuple[re.Pattern[str], dict[str, Any]]]:
    """With those that have no placeholders first, as a server chooses."""
    found = sorted(spec()["paths"].items(), key=lambda item: item[0].count("{"))
    return [(re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), item) for path, item in found]


def operation(call: Call) -> dict[str, Any]:
    for pattern, item in paths():
        if pattern.fullmatch(call.path):
            return item[call.method.lower()]
    raise AssertionError(f"{call.path} is not described")


def errors(schema: dict[str, Any], value: object) -> list[str]:
    validator = OAS30Validator({"allOf": [schema], "components": spec()["components"]})
    return [f"{'/'.join(map(str, e.absolute_path))}: {e.message[:200]}" for e in validator.iter_errors(value)]


def request_errors(call: Call) -> Iterator[str]:
    described = {p["name"]: p["schema"] for p in operation(call).get("parameters", []) if p["in"] == "query"}
    for name, values in call.query.items():
        if name not in described:
            yield f"unknown parameter {name}"
            continue
        schema = described[name]
        for value in values:
            yield from errors(schema.get("items", schema), typed(schema.get("items", schema), value))
    for parameter in operation(call).get("parameters", []):
        if parameter["in"] == "query" and parameter.get("required") and parameter["name"] not in call.query:
            yield f"{parameter['name']} is missing"
    body = operation(call).get("requestBody")
    if body is not None:
        yield from errors(body["content"]["application/json"]["schema"], call.body)
    elif call.body is not None:
        yield "a body nobody expects"


def typed(schema: dict[str, Any], value: str) -> object:
    match schema.get("type"):
        case "integer":
            return int(value)
        case "boolean":
            return {"true": True, "false": False}[value]
        case _:
            return value


def answer_errors(call: Call) -> Iterator[str]:
    responses = operation(call)["responses"]
    if call.status >= 500:
        return
    if str(call.status) not in responses:
        yield f"status {call.status} is not described"
        return
    schema = responses[str(call.status)].get("content", {}).get("application/json", {}).get("schema")
    if schema is not None and not isinstance(call.answer, bytes):
        yield from errors(schema, call.answer)


@pytest.fixture(scope="module")
def calls() -> list[Call]:
    """All that the connector asks of a site which has some of everything."""
    site = new_site()
    server = JiraServer(site, page_cap=2, id_cap=3, field_cap=3)
    project = next(iter(site.projects))
    site.security[project] = {7: [holder("user", "acc-bot"), holder("group", "gid-support")]}
    site.grants[project].append({"permission": "BROWSE_PROJECTS", "holder": holder("reporter")})
    for number in range(5):
        issue = site.create(
            project, f"issue {number}", "text", reporter="acc-cal", level=7 if number else None
        )
        site.attach(issue, "acc-ann", "file.txt", b"content")
        site.edit(issue, status="Done")
    for number in range(23):
        site.comment(issue, "acc-ann", f"comment {number}", public=number % 2 == 0)
    site.comment(
        issue, "acc-bot", "agents", visibility={"type": "role", "value": "Agents", "identifier": "1"}
    )
    site.link(issue, min(site.issues), "Blocks", "is blocked by", "blocks")
    site.broken.add(site.create(project, "broken"))
    replica = Replica()
    replica.sync(connect(server))
    site.broken.clear()
    connector = connect(server)
    connector.check()
    list(connector.memberships())
    list(connector.inventory())
    list(connector.read([str(number) for number in site.issues]))
    connector.close()
    server.close()
    assert len(replica.documents) == 10
    return server.calls


def test_requests_are_as_described(calls: list[Call]) -> None:
    described = [call for call in calls if not call.path.startswith("/rest/servicedeskapi/")]
    wrong = [f"{call.method} {call.path}: {error}" for call in described for error in request_errors(call)]
    assert wrong == []
    assert len({re.sub(r"\d+", "1", f"{call.method} {call.path}") for call in described}) >= 18


def test_the_test_server_answers_as_described(calls: list[Call]) -> None:
    described = [call for call in calls if not call.path.startswith("/rest/servicedeskapi/")]
    wrong = {f"{call.method} {call.path}: {error}" for call in described for error in answer_errors(call)}
    assert wrong == set()
