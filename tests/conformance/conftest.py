"""Keeps what the conformance suite found, connector by behaviour, for the table in CONNECTORS.md."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from typing import Any, cast

import pytest

from tests.bench.output import RESULTS
from tests.conformance.connector import ConnectorConformance
from tests.servers import request_tracker as request_tracker_server


@pytest.fixture(scope="session")
def request_tracker() -> Iterator[request_tracker_server.RequestTracker]:
    with request_tracker_server.running() as started:
        yield started


FILE = RESULTS / "conformance.json"
_NOTE = "conformance"
_ORDER = ("passed", "exempt", "failed")
_found: dict[str, dict[str, tuple[str, str]]] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note in the report which connector's behaviour it is of; reports of other processes come together."""
    report = yield
    cls = getattr(item, "cls", None)
    if cls is None or not issubclass(cls, ConnectorConformance):
        return report
    behaviour = getattr(item, "originalname", item.name)
    if behaviour not in vars(ConnectorConformance) or not (
        report.when == "call" or report.outcome != "passed"
    ):
        return report
    outcome = "exempt" if report.skipped else report.outcome
    reason = ""
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = str(report.longrepr[2]).removeprefix("Skipped: ")
    connector = getattr(cls, "connector_name", item.module.__name__.rpartition("test_")[2].replace("_", "-"))
    report.user_properties.append((_NOTE, [connector, behaviour, outcome, reason]))
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A behaviour holds when every variant of its test passed or was exempt, and one at least passed."""
    for name, note in report.user_properties:
        if name != _NOTE:
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
