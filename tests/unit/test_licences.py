"""What ships may be used under its licences: nothing that `pip install deskhand` brings is GPL or AGPL.

LGPL libraries (psycopg) are used as the unmodified packages they are, and can be
replaced by whoever runs Deskhand: that is what the LGPL asks for.
"""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parents[2]
FORBIDDEN = re.compile(
    r"(?<!l)(?<!lesser )(?:\bA?GPL|GNU (?:Affero )?General Public|Affero|SSPL|BUSL)", re.IGNORECASE
)


def shipped() -> dict[str, Distribution]:
    """Every distribution the base install needs on this platform, by canonical name."""
    pyproject = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    waiting = [Requirement(line) for line in pyproject["project"]["dependencies"]]
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        found.setdefault(name, distribution(name))
        for extra in ("", *requirement.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            lines = [Requirement(line) for line in found[name].requires or []]
            waiting += [r for r in lines if r.marker is None or r.marker.evaluate({"extra": extra})]
    return found


def licence(found: Distribution) -> str:
    """All that its metadata say about its licence; the classifiers only where nothing better is said."""
    meta = found.metadata
    short = (meta["License"] or "").strip()
    said = [meta["License-Expression"] or "", short.splitlines()[0] if short else ""]
    classifiers = [c for c in meta.get_all("Classifier") or [] if c.startswith("License ::")]
    return " ".join(filter(None, said)) or " ".join(classifiers)


def test_nothing_that_ships_is_gpl() -> None:
    packages = shipped()
    assert len(packages) > 40, "the walk through the requirements found too little"
    assert "psycopg" in packages
    bad = {name: licence(d) for name, d in packages.items() if FORBIDDEN.search(licence(d))}
    assert not bad, f"may not be shipped: {bad}"


def test_every_licence_is_known() -> None:
    unknown = [name for name, found in shipped().items() if not licence(found)]
    assert not unknown, f"look up the licences of {unknown} and, if they may be shipped, list them here"


def test_torch_and_what_needs_it_do_not_ship() -> None:
    heavy = {"torch", "transformers", "sentence-transformers", "peft", "trl", "optimum"}
    assert not heavy & set(shipped())


def test_the_rule_tells_gpl_from_lgpl() -> None:
    assert not FORBIDDEN.search("LGPL-3.0-only")
    assert not FORBIDDEN.search("GNU Lesser General Public License v3")
    for name in (
        "GPL-3.0-only",
        "AGPL-3.0",
        "GNU General Public License v2",
        "GNU Affero General Public License",
    ):
        assert FORBIDDEN.search(name), name


def test_the_project_itself_is_apache_2() -> None:
    text = (PROJECT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "Copyright The Deskhand authors" in text
