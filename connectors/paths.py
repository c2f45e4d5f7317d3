"""Paths and globs, as settings give them and as ids of documents need them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator


def _absolute(path: Path) -> Path:
    path = path.expanduser()
    if not path.is_absolute():
        raise ValueError(f"write the whole path, such as {Path.cwd() / path}: workers run in another folder")
    return path


def _listed(value: object) -> object:
    if isinstance(value, str):
        return [piece.strip() for piece in value.split(",") if piece.strip()]
    return value


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
"""Settings type; `~` is expanded, a relative path refused."""

Globs = Annotated[tuple[str, ...], BeforeValidator(_listed)]
"""Settings type; a list, or text with commas."""


def file_id(path: str) -> str:
    """`path` as valid text: bytes that are no UTF-8 are spelt out, as in `caf\\xe9.txt`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def glob_pattern(glob: str) -> re.Pattern[str]:
    """The expression that matches relative POSIX paths as `glob` does.

    `*` and `?` stay within one name, `**` spans folders, and a glob without a
    slash matches a name at any depth, as in .gitignore.
    """
    text = glob.strip("/") if "/" in glob else f"**/{glob}"
    pieces: list[str] = []
    position = 0
    while position < len(text):
        rest = text[position:]
        if rest.startswith("**/"):
            pieces.append("(?:.*/)?")
            position += 3
        elif rest.startswith("**"):
            pieces.append(".*")
            position += 2
        elif (charset := re.match(r"\[(!?)([^\]/]+)\]", rest)) is not None:
            negated = "^" if charset[1] else ""
            members = charset[2].replace("\\", r"\\").replace("^", r"\^").replace("[", r"\[")
            pieces.append(f"[{negated}{members}]")
            position += charset.end()
        else:
            pieces.append({"*": "[^/]*", "?": "[^/]"}.get(text[position], re.escape(text[position])))
            position += 1
    return re.compile("".join(pieces), re.DOTALL)


def any_glob(globs: Iterable[str]) -> re.Pattern[str]:
    """The expression that matches what any of `globs` does."""
    patterns = [glob_pattern(glob).pattern for glob in globs]
    return re.compile("|".join(patterns) if patterns else "(?!)", re.DOTALL)
