"""Keeps what the conformance suite found, connector by behaviour, for the table in CONNECTORS.md.

The hooks belong to tests/conftest.py: with several processes, the one that writes collects no
tests, so it never sees the conftest beside this file.
"""

from __future__ import annotations

import json
from typing import cast

import pytest

from tests.bench.output import RESULTS

FILE = RESULTS / "conformance.json"
NOTE = "conformance"
"""name of the property of a report: connector, behaviour, outcome, reason"""
_ORDER = ("passed", "exempt", "failed")
_found: dict[str, dict[str, tuple[str, str]]] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A behaviour holds when every variant of its test passed or was exempt, and one at least passed."""
    for name, note in report.user_properties:
        if name != NOTE:
            continue
        connector, behaviour, outcome, reason = cast("list[str]", note)
        row = _found.setdefault(connector, {})
        before = row.get(behaviour, (outcome, reason))
        worst = "failed" if "failed" in (before[0], outcome) else min(before[0], outcome, key=_ORDER.index)
        row[behaviour] = (worst, reason if worst == "exempt" else "")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not _found or hasattr(session.config, "workerinput"):
        return
    RESULTS.mkdir(exist_ok=True)
    known = json.loads(FILE.read_text()) if FILE.exists() else {}
    FILE.write_text(json.dumps({**known, **_found}, indent=1, sort_keys=True) + "\n")
