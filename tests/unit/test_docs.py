"""What the documentation says must be so: its settings, commands, paths and links are compared with the code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
import typer.main

from assistant.config import PREFIX, TESTS, Settings
from assistant.surfaces.cli import app
from connectors.registry import CONNECTORS

PROJECT = Path(__file__).parents[2]
DOCS = [*sorted(PROJECT.glob("*.md")), *sorted((PROJECT / "docs").rglob("*.md"))]
README = PROJECT / "README.md"
IDS = [path.relative_to(PROJECT).as_posix() for path in DOCS]
each_document = pytest.mark.parametrize("document", DOCS, ids=IDS)

NOT_SETTINGS = {"DESKHAND_CONFIG", "DESKHAND_TEST_DATA"}
"""where the settings' file is, and where tests find public data sets"""
MADE_LATER = (".deskhand", "build/", "dist/", "tuned/")
"""folders that an installation makes"""
REGISTRIES = re.compile(
    r"pypi\.org|pythonhosted\.org|npmjs\.(?:org|com)|yarnpkg\.com|proxy\.golang\.org|crates\.io"
)
MACHINES = re.compile(r"(?<![\w.])/(?:root|home|Users|mnt|workspace)/\w")


@cache
def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def prose() -> str:
    return "\n".join(text(path) for path in DOCS)


def without_code(document: str) -> str:
    return re.sub(r"^```.*?^```$", "", document, flags=re.MULTILINE | re.DOTALL)


def commands(command: Any, name: str = "deskhand") -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, with its full name."""
    if hasattr(command, "list_commands"):
        for word in command.list_commands(None):
            yield from commands(command.get_command(None, word), f"{name} {word}")
    else:
        yield name, command


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md"])
def test_it_is_there(name: str) -> None:
    assert len((PROJECT / name).read_text(encoding="utf-8")) > 1000


# ── settings ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_setting_is_documented(name: str) -> None:
    assert f"`{PREFIX}{name.upper()}`" in prose()


def test_documented_settings_exist() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields} | NOT_SETTINGS
    named = {name for name in re.findall(r"DESKHAND_[A-Z_]*[A-Z]", prose()) if not name.startswith(TESTS)}
    assert named - known == set()


def test_documented_defaults_are_right() -> None:
    """In the table of settings: `NAME` | default | meaning."""
    rows = re.findall(r"^\| `DESKHAND_(\w+)` \| ([^|]*) \|", text(README), flags=re.MULTILINE)
    assert rows, "the README has a table of settings"
    for name, documented in rows:
        default = Settings.model_fields[name.lower()].default
        if default not in (None, ""):
            assert documented.strip(" `").replace(",", "") == str(default), name


# ── commands ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_documented(name: str) -> None:
    assert re.search(rf"{name}(?![\w-])", prose()) or f"make {name.split()[-1]}" in prose()


def written() -> Iterator[tuple[str, str]]:
    """Document and text of every `deskhand …` in code."""
    for path in DOCS:
        lines = re.findall(r"^deskhand .*|(?<=`)deskhand [^`]*(?=`)", text(path), flags=re.MULTILINE)
        yield from ((path.name, re.sub(r"\s+#.*", "", line)) for line in lines)


def test_documented_commands_exist_with_their_options() -> None:
    wrong: list[str] = []
    for document, line in written():
        words = re.sub(r"""'[^']*'|"[^"]*\"""", "TEXT", line).split()
        name = next((" ".join(words[:n]) for n in (3, 2) if " ".join(words[:n]) in COMMANDS), "")
        if not name:
            # the name of a group alone, as in «the new `deskhand eval`», is no command line
            wrong += (
                [] if any(known.startswith(f"{line} ") for known in COMMANDS) else [f"{document}: {line}"]
            )
            continue
        options = {
            option
            for parameter in COMMANDS[name].params
            for option in [*parameter.opts, *parameter.secondary_opts]
        }
        used = {word.partition("=")[0] for word in words if word.startswith("--")}
        wrong += [f"{document}: {name} has no {option}" for option in sorted(used - options - {"--help"})]
    assert not wrong


def test_make_targets_exist() -> None:
    targets = set(
        re.findall(r"^(\w[\w-]*):", (PROJECT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    )
    assert set(re.findall(r"(?:^|`)make (\w[\w-]*)", prose(), flags=re.MULTILINE)) - targets == set()


# ── connectors ───────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", CONNECTORS)
def test_a_connector_is_documented(name: str) -> None:
    assert f"`{name}`" in prose()


# ── paths, links, places ─────────────────────────────────────────────────────


def exists(path: str) -> bool:
    """Whether a path named in the documentation is one of the project's, from its root or from `assistant`."""
    return any((base / path).exists() for base in (PROJECT, PROJECT / "assistant"))


@cache
def file_names() -> frozenset[str]:
    folders = ("assistant", "connectors", "workers", "migrations", "tests", "docker", "bench", ".ci")
    below = {path.name for folder in folders for path in (PROJECT / folder).rglob("*.*")}
    return frozenset(below | {path.name for path in PROJECT.iterdir()})


@each_document
def test_named_paths_exist(document: Path) -> None:
    wrong: list[str] = []
    for span in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", without_code(text(document))):
        is_path = re.fullmatch(r"[\w.][\w./-]*/[\w./-]*", span) and not span.startswith(MADE_LATER)
        is_file = re.fullmatch(r"[\w-]+\.(?:py|sql|md|yml|toml|sh|jsonl?)", span) and span != "deskhand.toml"
        if (is_path and not exists(span)) or (is_file and span not in file_names()):
            wrong.append(span)
    assert not wrong


def slug(heading: str) -> str:
    """The anchor a heading gets where Markdown is shown."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@each_document
def test_links_resolve(document: Path) -> None:
    wrong: list[str] = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(text(document))):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        found = file.is_relative_to(PROJECT) and file.exists()
        if not found or (anchor and anchor not in map(slug, re.findall(r"(?m)^#+ (.*)", text(file)))):
            wrong.append(target)
    assert not wrong


def test_no_machine_and_no_registry_is_named() -> None:
    """Neither in the documentation nor in what builds and runs the project."""
    files = [*DOCS, PROJECT / "Makefile", PROJECT / "pyproject.toml"]
    files += [
        path for folder in ("docker", ".ci") for path in (PROJECT / folder).rglob("*") if path.is_file()
    ]
    wrong = [
        f"{path.relative_to(PROJECT)}:{number}"
        for path in files
        if not {"secrets", "__pycache__"} & set(path.parts)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if MACHINES.search(line) or REGISTRIES.search(line) or f"{PROJECT}/" in line
    ]
    assert not wrong


def test_the_page_of_connectors_is_what_the_connectors_say() -> None:
    from tests.conformance import report

    expected = report.document(report.present())
    assert text(PROJECT / "CONNECTORS.md") == expected, "run: python -m tests.conformance.report"


def test_the_table_of_connectors_has_no_failure() -> None:
    from tests.conformance import report

    assert "**failed**" not in report.present()
    for behaviour in report.behaviours():
        assert report._words(behaviour) in report.present(), "run the suite, then the report"
