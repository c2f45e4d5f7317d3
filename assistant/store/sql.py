"""The statements of `queries.sql` by name: `SQL["claim_pending"]`."""

from __future__ import annotations

import re
from importlib.resources import files


def _load() -> dict[str, bytes]:
    text = (files("assistant.store") / "queries.sql").read_text(encoding="utf-8")
    parts = re.split(r"^-- name: (\w+)$", text, flags=re.MULTILINE)
    names, bodies = parts[1::2], parts[2::2]
    if len(set(names)) != len(names):
        raise ValueError("queries.sql names a statement twice")
    return {name: body.strip().encode() for name, body in zip(names, bodies, strict=True)}


SQL: dict[str, bytes] = _load()
