"""As much of JQL as a connector may use, strict about what Atlassian documents.

Dates in quotes are in the time zone of whoever asks, bare numbers are milliseconds, `-5m` is
relative; all are cut to the minute. `id` and `key` only order within a project, so comparing
them is refused here. A query without a restriction is refused, as the server does.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo


class BadQuery(ValueError):
    """What the server answers with status 400."""


@dataclass(frozen=True)
class Row:
    """What the search knows of an issue."""

    id: int
    project: int
    key: tuple[str, int]
    created: dt.datetime
    updated: dt.datetime
    attachments: bool
    fields: dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """Who asks, and when."""

    now: dt.datetime
    zone: ZoneInfo
    projects: dict[str, int]
    """ids by key and by id, of those who asks may browse"""


Test = Callable[[Row], bool]
_TOKEN = re.compile(r"""\s*(?:("(?:[^"\\]|\\.)*"|'[^']*')|(>=|<=|!=|=|>|<|\(|\)|,)|([^\s"'()=<>!,]+))""")


def parse(jql: str, setting: Setting) -> tuple[Test, list[tuple[str, bool]]]:
    """The test of a query and its order: names and whether they fall."""
    where, _, order = re.split(r"\s*(\border\s+by\b)", jql, maxsplit=1, flags=re.IGNORECASE) + ["", ""] * (
        not re.search(r"\border\s+by\b", jql, re.IGNORECASE)
    )
    if not where.strip():
        raise BadQuery(
            "Unbounded JQL queries are not allowed here. Please add a search restriction to your query."
        )
    return _Parser(where, setting).whole(), _order(order)


def _order(text: str) -> list[tuple[str, bool]]:
    found: list[tuple[str, bool]] = []
    for piece in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, direction = piece.partition(" ")
        if name.lower() not in ("updated", "created", "key") or direction.upper() not in ("", "ASC", "DESC"):
            raise BadQuery(f"Not able to sort using field '{piece}'.")
        found.append((name.lower(), direction.upper() == "DESC"))
    return found


class _Parser:
    def __init__(self, text: str, setting: Setting) -> None:
        self.setting = setting
        self.tokens: list[str] = []
        at = 0
        while at < len(text.rstrip()):
            match = _TOKEN.match(text, at)
            if match is None:
                raise BadQuery(f"Error in the JQL Query: {text[at:]!r}")
            self.tokens.append(match[1] or match[2] or match[3])
            at = match.end()

    def whole(self) -> Test:
        test = self.any()
        if self.tokens:
            raise BadQuery(f"Error in the JQL Query: expecting the end, got {self.tokens[0]!r}")
        return test

    def any(self) -> Test:
        tests = [self.every()]
        while self.word("or"):
            tests.append(self.every())
        return lambda row: any(test(row) for test in tests)

    def every(self) -> Test:
        tests = [self.one()]
        while self.word("and"):
            tests.append(self.one())
        return lambda row: all(test(row) for test in tests)

    def one(self) -> Test:
        if self.word("("):
            test = self.any()
            self.expect(")")
            return test
        if self.word("not"):
            negated = self.one()
            return lambda row: not negated(row)
        name, operator = self.take().lower(), self.take().lower()
        if operator == "not" and self.word("in"):
            operator = "not in"
        if operator == "is":
            negative = self.word("not")
            self.expect("empty")
            return self.empty(name, negative=negative)
        return self.compare(name, operator)

    def empty(self, name: str, *, negative: bool) -> Test:
        if name == "attachments":
            return lambda row: row.attachments is negative
        return lambda row: bool(row.fields.get(name)) is negative

    def compare(self, name: str, operator: str) -> Test:
        if operator in ("in", "not in"):
            self.expect("(")
            values = [self.take()]
            while self.word(","):
                values.append(self.take())
            self.expect(")")
        else:
            values = [self.take()]
        if name == "project" and operator in ("in", "="):
            numbers = {self.project(value) for value in values}
            return lambda row: row.project in numbers
        if name in ("updated", "created") and operator in (">=", ">", "<", "<="):
            return self.moment(name, operator, values[0])
        if name in ("labels", "issuetype", "status") and operator in ("=", "!="):
            wanted = values[0].strip("\"'").lower()
            same = operator == "="
            return lambda row: (wanted in _words(row.fields.get(name))) is same
        raise BadQuery(f"The operator '{operator}' is not supported by the '{name}' field here.")

    def project(self, value: str) -> int:
        number = self.setting.projects.get(value.strip("\"'"))
        if number is None:
            raise BadQuery(f"The value '{value}' does not exist for the field 'project'.")
        return number

    def moment(self, name: str, operator: str, value: str) -> Test:
        limit = self.date(value).replace(second=0, microsecond=0)
        if operator == ">=":
            return lambda row: getattr(row, name) >= limit
        if operator == "<":
            return lambda row: getattr(row, name) < limit
        return lambda row: (getattr(row, name) > limit) is (operator == ">")

    def date(self, value: str) -> dt.datetime:
        if relative := re.fullmatch(r"[\"']?-(\d+)([mhd])[\"']?", value):
            unit = {"m": "minutes", "h": "hours", "d": "days"}[relative[2]]
            return self.setting.now - dt.timedelta(**{unit: int(relative[1])})
        if re.fullmatch(r"\d+", value):
            return dt.datetime.fromtimestamp(int(value) / 1000, dt.UTC)
        for pattern in ("%Y/%m/%d %H:%M", "%Y-%m-%d %H:%M", "%Y/%m/%d", "%Y-%m-%d"):
            try:
                local = dt.datetime.strptime(value.strip("\"'"), pattern)
            except ValueError:
                continue
            return local.replace(tzinfo=self.setting.zone).astimezone(dt.UTC)
        raise BadQuery(f"Date value '{value}' is invalid.")

    def take(self) -> str:
        if not self.tokens:
            raise BadQuery("Error in the JQL Query: unexpected end.")
        return self.tokens.pop(0)

    def word(self, wanted: str) -> bool:
        if self.tokens and self.tokens[0].lower() == wanted:
            self.tokens.pop(0)
            return True
        return False

    def expect(self, wanted: str) -> None:
        if not self.word(wanted):
            raise BadQuery(f"Error in the JQL Query: expecting '{wanted}'.")


def _words(value: Any) -> list[str]:
    if isinstance(value, list):
        return [str(item).lower() for item in value]
    return [str(value).lower()]
