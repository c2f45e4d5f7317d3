"""Host keys of SSH servers, as settings give them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator


def _key_list(value: object) -> object:
    if isinstance(value, str):
        value = [line for line in re.split(r"[\n,]", value) if line.strip() and not line.startswith("#")]
    return value


def _fingerprints(keys: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_fingerprint(key) for key in keys)


def _fingerprint(key: str) -> str:
    """`SHA256:…` of that, or of a line as ssh-keyscan prints it."""
    if found := re.search(r"SHA256:([A-Za-z0-9+/]{43})\b", key):
        return f"SHA256:{found[1]}"
    if found := re.search(r"(?:ssh|ecdsa)-[\w-]+ +([A-Za-z0-9+/]+=*)", key):
        try:
            return fingerprint(base64.b64decode(found[1], validate=True))
        except binascii.Error:
            pass
    raise ValueError("is no host key: write SHA256:… or a line that ssh-keyscan prints")


def fingerprint(key: bytes) -> str:
    return f"SHA256:{base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip('=')}"


def _some(keys: tuple[str, ...]) -> tuple[str, ...]:
    if not keys:
        raise ValueError("is needed: without it anybody could pose as the server")
    return keys


HostKeys = Annotated[
    tuple[str, ...], BeforeValidator(_key_list), AfterValidator(_fingerprints), AfterValidator(_some)
]
"""Settings type; fingerprints, whatever was written."""
