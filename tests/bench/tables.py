"""Markdown tables of results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def cell(of: dict[str, Any], measure: str) -> str:
    one = of[measure]
    return f"{one['value']:.2f} ±{(one['high'] - one['low']) / 2:.2f}" if one else "–"
