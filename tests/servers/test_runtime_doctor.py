"""The doctor on an installation that runs, and on ones that lack something."""

from __future__ import annotations

import time
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from assistant import weights
from assistant.app import Assistant
from assistant.config import Settings
from assistant.errors import ModelUnavailable
from assistant.runtime.doctor import Check, diagnose
from assistant.runtime.up import running, standard_processes
from assistant.store.secrets import KEY_FILE


def report(settings: Settings) -> dict[str, Check]:
    assistant = Assistant(settings)
    checks = {check.name: check for check in diagnose(assistant)}
    assistant.close()
    assert all(bool(check.remedy) is not check.ok for check in checks.values()), "a failure needs a remedy"
    return checks


@pytest.mark.timeout(300)
def test_everything_up_is_everything_well(folder: Path, embedded: Settings) -> None:
    settings = Settings(state=folder / "whole", models=embedded.models, generator="echo", worker_processes=1)
    try:
        weights.path(settings.embedder, settings)
    except ModelUnavailable as error:
        pytest.skip(str(error))

    def migrate(_url: str) -> None:
        assistant = Assistant(settings)
        assistant.migrate()
        assistant.close()

    with running(settings, migrate=migrate, processes=standard_processes(settings), fast=True):
        deadline = time.monotonic() + 150
        checks = report(settings)
        while failed := [check for check in checks.values() if not check.ok]:
            assert time.monotonic() < deadline, failed
            time.sleep(1)
            checks = report(settings)
    assert {"sync", "ingest", "beat"} <= set(checks["processes"].detail.replace(",", "").split())


def test_nothing_up(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path / "state", models=tmp_path / "none")
    checks = report(settings)
    failed = {name for name, check in checks.items() if not check.ok}
    assert {"database", "schema", "broker", "processes", "workers", "models", "embedder"} <= failed
    assert "deskhand up" in checks["database"].detail
    assert "deskhand models pull minilm-l6-v2-int8 smollm2-135m-instruct" in checks["models"].remedy
    assert not settings.state.exists(), "looking must change nothing"


def test_an_unmigrated_database_and_a_loose_key(settings: Settings, empty_database_url: str) -> None:
    settings = settings.model_copy(update={"database_url": SecretStr(empty_database_url)})
    settings.state.mkdir()
    key = settings.state / KEY_FILE
    key.write_text("k" * 44)
    key.chmod(0o644)
    checks = report(settings)
    assert "deskhand migrate" in checks["schema"].remedy
    assert f"chmod 600 {key}" in checks["key"].remedy
    assert checks["pgvector"].ok
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute("select to_regclass('deskhand.alembic_version')").fetchone() == (None,)
