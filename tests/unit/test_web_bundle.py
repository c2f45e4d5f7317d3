"""The committed web app: light, complete, and with nothing that its Content-Security-Policy would refuse."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

from tests.paths import PROJECT

STATIC = PROJECT / "assistant" / "surfaces" / "web" / "static"
WEIGHT = 250 * 1024
"""bytes, compressed, of what the first page loads"""


def _index() -> str:
    return (STATIC / "index.html").read_text(encoding="utf-8")


def _loaded() -> list[Path]:
    """What the first page names, in its own folder."""
    return [STATIC / name for name in re.findall(r'(?:src|href)="/([^"]+)"', _index())]


def test_the_first_page_is_light() -> None:
    files = [STATIC / "index.html", *_loaded()]
    assert len(files) >= 4
    assert sum(len(gzip.compress(file.read_bytes())) for file in files) <= WEIGHT


def test_nothing_is_inline_and_nothing_comes_from_elsewhere() -> None:
    page = _index()
    assert not re.search(r"<script(?![^>]*\bsrc=)", page)
    assert not re.search(r"<style|\bstyle=|\bon\w+=", page)
    assert not re.search(r'(?:src|href)="(?!/)', page)
    for sheet in STATIC.glob("assets/*.css"):
        assert not re.search(r"url\((?!/assets/)|@import", sheet.read_text(encoding="utf-8"))


def test_every_asset_is_named_for_its_content() -> None:
    assert all(re.fullmatch(r"[\w-]+-[\w-]{8}\.(js|css)", file.name) for file in STATIC.glob("assets/*"))
