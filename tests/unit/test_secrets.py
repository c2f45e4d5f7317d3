"""Source secrets at rest."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from assistant.config import Settings
from assistant.errors import ConfigError
from assistant.store import secrets


def test_what_is_sealed_can_be_unsealed_and_not_read(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path / "state")
    sealed = secrets.seal(settings, {"token": "hunter2"})
    assert sealed is not None
    assert b"hunter2" not in sealed
    assert secrets.unseal(settings, sealed) == {"token": "hunter2"}
    assert (tmp_path / "state" / secrets.KEY_FILE).stat().st_mode & 0o777 == 0o600


def test_nothing_to_seal_makes_no_key(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path / "state")
    assert secrets.seal(settings, {}) is None
    assert secrets.unseal(settings, None) == {}
    assert not (tmp_path / "state").exists()


def test_another_key_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    sealed = secrets.seal(Settings(state=tmp_path / "a"), {"token": "x"})
    other = Settings(state=tmp_path / "b", key=SecretStr(Fernet.generate_key().decode()))
    with pytest.raises(ConfigError, match="restore the key"):
        secrets.unseal(other, sealed)


def test_a_key_others_can_read_is_refused(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path)
    secrets.seal(settings, {"token": "x"})
    (tmp_path / secrets.KEY_FILE).chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        secrets.seal(settings, {"token": "x"})


def test_a_key_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a Fernet key"):
        secrets.seal(Settings(state=tmp_path, key=SecretStr("short")), {"token": "x"})
