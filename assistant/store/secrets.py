"""Source secrets at rest: Fernet with a key from the environment or a 0600 key file."""

from __future__ import annotations

import json
import os
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from assistant.config import Settings
from assistant.errors import ConfigError

KEY_FILE = "secret.key"


def key(settings: Settings) -> bytes:
    """The installation's key; a key file is made where there is none. Raises `ConfigError`."""
    if settings.key is not None:
        return settings.key.get_secret_value().encode()
    path: Path = settings.state / KEY_FILE
    try:
        settings.state.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        pass
    except OSError as error:
        raise ConfigError(
            f"The key file {path} can't be made ({error.strerror}). Nothing was stored. "
            "Make the state folder writable or set DESKHAND_KEY."
        ) from error
    else:
        with os.fdopen(descriptor, "wb") as file:
            file.write(Fernet.generate_key())
    if path.stat().st_mode & 0o077:
        raise ConfigError(f"{path} is readable by others. Run `chmod 600 {path}`, then try again.")
    return path.read_bytes().strip()


def _fernet(settings: Settings) -> Fernet:
    try:
        return Fernet(key(settings))
    except ValueError as error:
        raise ConfigError(
            "DESKHAND_KEY is not a Fernet key (32 bytes, URL-safe base64). Nothing was changed."
        ) from error


def seal(settings: Settings, values: dict[str, str]) -> bytes | None:
    """`values` encrypted; None when there are none."""
    return _fernet(settings).encrypt(json.dumps(values).encode()) if values else None


def unseal(settings: Settings, sealed: bytes | None) -> dict[str, str]:
    """What `seal` was given. Raises `ConfigError` when the key is another one."""
    if not sealed:
        return {}
    try:
        return json.loads(_fernet(settings).decrypt(bytes(sealed)))
    except InvalidToken as error:
        raise ConfigError(
            "The secrets of a source can't be decrypted with this key. Nothing was lost: restore the key "
            f"they were stored with (DESKHAND_KEY or {settings.state / KEY_FILE}), or add the source anew."
        ) from error
