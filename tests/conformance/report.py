"""Writes CONNECTORS.md: `python -m tests.conformance.report`.

What a connector needs and does is its module's docstring, its settings are its
`Settings`, and the table is what the conformance suite found last; without results of
it, the table that stands there is kept.
"""

from __future__ import annotations

import inspect
import json
import sys
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from assistant.app import split_secrets
from connectors.registry import CONNECTORS, connector_class
from tests.bench.output import RESULTS
from tests.conformance.connector import ConnectorConformance
from tests.paths import PROJECT

FILE = PROJECT / "CONNECTORS.md"
BEGIN, END = "<!-- conformance: begin -->", "<!-- conformance: end -->"
HEAD = """# Connectors

Made by `python -m tests.conformance.report` from the connectors themselves; don't edit
it by hand. Add a source with `deskhand source add NAME CONNECTOR`: it asks for the
settings without a default, tries the source, and says what it found.
"""


def behaviours() -> list[str]:
    return [name for name in vars(ConnectorConformance) if name.startswith("test_")]


def table(found: dict[str, dict[str, Any]]) -> str:
    names = sorted(found)
    lines = ["| behaviour | " + " | ".join(names) + " |", "|" + " --- |" * (len(names) + 1)]
    notes: list[str] = []
    for behaviour in behaviours():
        cells: list[str] = []
        for name in names:
            outcome, reason = found[name].get(behaviour, ("not run", ""))
            if outcome == "exempt" and reason not in notes:
                notes.append(reason)
            mark = {"passed": "✓", "failed": "**failed**"}.get(outcome, "–")
            cells.append(f"({notes.index(reason) + 1})" if outcome == "exempt" else mark)
        lines.append("| " + " | ".join([_words(behaviour), *cells]) + " |")
    lines += ["", *(f"({number}) {note}  " for number, note in enumerate(notes, 1))]
    return "\n".join(lines)


def section(name: str) -> str:
    cls = connector_class(name)
    guide = inspect.cleandoc(sys.modules[cls.__module__].__doc__ or "")
    rows = ["| setting | default | meaning |", "| --- | --- | --- |"]
    for field_name, field in cls.Settings.model_fields.items():
        _, hidden = split_secrets(name, {field_name: ""})
        default = "required" if field.is_required() else _default(field.default, field.default_factory)
        secret = " (kept encrypted)" if hidden else ""
        meaning = " ".join((field.description or "").split()).replace("|", "\\|")
        rows.append(f"| `{field_name}` | {default} | {meaning}{secret} |")
    return f"## `{name}`\n\n{guide}\n\n" + "\n".join(rows)


def document(conformance: str) -> str:
    parts = [HEAD.rstrip(), *(section(name) for name in CONNECTORS)]
    proof = (
        "## What each is tested for\n\nOne suite, against a real server that the tests start where there is one to be "
        "had, else against a server of our own that holds to the vendor's documented rules (Zendesk, Jira, GitHub: "
        "**never run against the vendor**). `make test` and `make test-servers` run it.\n\n"
        f"{BEGIN}\n{conformance}\n{END}"
    )
    return "\n\n".join([*parts, proof]) + "\n"


def present() -> str:
    """The table that stands in the document now."""
    text = FILE.read_text(encoding="utf-8") if FILE.exists() else f"{BEGIN}\n\n{END}"
    return text.partition(f"{BEGIN}\n")[2].partition(f"\n{END}")[0]


def main() -> None:
    results = RESULTS / "conformance.json"
    FILE.write_text(
        document(table(json.loads(results.read_text())) if results.exists() else present()), encoding="utf-8"
    )


def _words(name: str) -> str:
    return name.removeprefix("test_").replace("_", " ")


def _default(value: object, factory: object) -> str:
    if value is PydanticUndefined or value is None or value in ("", (), {}):
        return "–" if factory is None or value is not PydanticUndefined else "none"
    if isinstance(value, BaseModel):
        return "none"
    if isinstance(value, tuple):
        return ", ".join(f"`{item}`" for item in value)
    # In backticks a media type would read as a path of the project.
    return str(value) if "/" in str(value) else f"`{value}`"


if __name__ == "__main__":
    main()
