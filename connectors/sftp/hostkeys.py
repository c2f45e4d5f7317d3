"""Host keys of SSH servers, as settings name them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

_KEY = re.compile(r"SHA256:(?P<hash>[A-Za-z0-9+/]{43})\b|(?:ssh|ecdsa)-[\w-]+ +(?P<key>[A-Za-z0-9+/]+=*)")


def _lines(value: object) -> object:
    if isinstance(value, str):
        value = [line for line in value.splitlines() if line.strip() and not line.startswith("#")]
    return value


def _fingerprints(lines: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key for line in lines for key in _of(line)))


def _of(line: str) -> list[str]:
    """The fingerprints a line states, or those of the keys it states, as ssh-keyscan and known_hosts do."""
    found = list(_KEY.finditer(line))
    try:
        keys = [f"SHA256:{m['hash']}" if m["hash"] else fingerprint(_decoded(m["key"])) for m in found]
    except binascii.Error:
        keys = []
    if not keys:
        raise ValueError("is no host key: write SHA256:… or a line that ssh-keyscan prints")
    return keys


def _decoded(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def fingerprint(key: bytes) -> str:
    return f"SHA256:{base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip('=')}"


def _some(keys: tuple[str, ...]) -> tuple[str, ...]:
    if not keys:
        raise ValueError("is needed: without it anybody could pose as the server")
    return keys


HostKeys = Annotated[
    tuple[str, ...], BeforeValidator(_lines), AfterValidator(_fingerprints), AfterValidator(_some)
]
"""Settings type; fingerprints, whatever was written."""
