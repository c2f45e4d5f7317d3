"""Settings are refused by name when they are unknown or ill-formed; variables win over the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.config import load
from assistant.errors import ConfigError


def test_variables_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "deskhand.toml"
    file.write_text('generator = "echo"\nthreads = 2\n')
    settings = load({"DESKHAND_THREADS": "3", "DESKHAND_STATE": str(tmp_path), "PATH": "/bin"}, file)
    assert (settings.generator, settings.threads, settings.state) == ("echo", 3, tmp_path)


def test_another_file_can_be_named(tmp_path: Path) -> None:
    file = tmp_path / "other.toml"
    file.write_text("threads = 4\n")
    assert load({"DESKHAND_CONFIG": str(file)}).threads == 4


def test_unknown_and_ill_formed_settings_are_named_with_their_place(tmp_path: Path) -> None:
    file = tmp_path / "deskhand.toml"
    file.write_text("thredas = 2\n")
    with pytest.raises(ConfigError) as raised:
        load({"DESKHAND_PARSE_SECONDS": "soon", "DESKHAND_KEY": "secret"}, file)
    message = str(raised.value)
    assert f"thredas ({file}): no such setting" in message
    assert "parse_seconds (environment variable DESKHAND_PARSE_SECONDS)" in message
    assert "secret" not in message


@pytest.mark.parametrize("said", ["surely", "0", "100", "90 percent", "-5", ""])
def test_how_sure_to_be_is_a_word_or_per_cent(said: str) -> None:
    if not said:
        assert load({"DESKHAND_ANSWER_WHEN": said}).answer_when == "likely"
        return
    with pytest.raises(ConfigError, match="say likely, sure, very_sure, or per cent"):
        load({"DESKHAND_ANSWER_WHEN": said})


def test_a_broken_file_says_so(tmp_path: Path) -> None:
    file = tmp_path / "deskhand.toml"
    file.write_text("threads = = 2")
    with pytest.raises(ConfigError, match="could not be read"):
        load({}, file)


def test_secrets_are_not_shown() -> None:
    settings = load(
        {"DESKHAND_DATABASE_URL": "postgresql://u:hunter2@h/d", "DESKHAND_KEY": "hunter2"}, Path("/none")
    )
    assert "hunter2" not in repr(settings)


def test_variables_of_the_test_suite_are_left_alone() -> None:
    assert load({"DESKHAND_TEST_DATA": "/data"}, Path("/none")).threads == 0
