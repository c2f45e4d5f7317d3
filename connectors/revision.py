"""One way to say what state a document is in."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from typing import cast

from assistant.model import SourceDocument


def revision(document: SourceDocument) -> str:
    """A digest of all there is in it, but not of a body that is fetched later: that needs an id of its own."""
    plain = asdict(replace(document, revision="", fetch=None))
    return hashlib.blake2b(
        json.dumps(plain, sort_keys=True, default=_plain).encode(), digest_size=16
    ).hexdigest()


def _plain(value: object) -> object:
    if isinstance(value, frozenset):
        return sorted(cast("frozenset[str]", value))
    return value.hex() if isinstance(value, bytes) else str(value)
