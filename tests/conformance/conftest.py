"""Servers that several suites share, and what each test of the suite says of its connector."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import pytest

from tests.conformance.connector import ConnectorConformance
from tests.conformance.results import NOTE
from tests.servers import request_tracker as request_tracker_server


@pytest.fixture(scope="session")
def request_tracker() -> Iterator[request_tracker_server.RequestTracker]:
    with request_tracker_server.running() as started:
        yield started


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
    report.user_properties.append((NOTE, [connector, behaviour, outcome, reason]))
    return report
