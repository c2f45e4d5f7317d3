"""Titles and dates out of files: the sample company's, whose sources say what is right, and odd ones."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest

from assistant.config import Settings
from assistant.ingest.parse import Parser
from assistant.ingest.stated import Said, Stated, moment, stated
from assistant.model import Access, Kind, SourceDocument
from tests.paths import SAMPLE

RENDERED = sorted((SAMPLE / "source").rglob("*.*.md"))
PARAGRAPH = "\n\nSome words.\n"


def utc(*values: int) -> dt.datetime:
    return dt.datetime(*values, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def parser() -> Iterator[Parser]:
    with Parser(Settings()) as parser:
        yield parser


def of(parser: Parser, body: bytes | str, name: str) -> Stated:
    document = SourceDocument(
        external_id=name,
        kind=Kind.DOCUMENT,
        title=Path(name).stem,
        body=body.encode() if isinstance(body, str) else body,
        revision="1",
        access=Access.public(),
        metadata={"path": name},
    )
    return parser.parse(document).stated


@pytest.mark.parametrize("source", RENDERED, ids=lambda path: path.stem)
def test_office_files_pdfs_and_pages(parser: Parser, source: Path) -> None:
    """The PDFs' properties say the year 2000, as a writer for repeatable builds leaves it; their text knows better."""
    head = source.read_text(encoding="utf-8").split("---\n")[1]
    meta = dict(line.split(": ", 1) for line in head.splitlines() if line)
    file = SAMPLE / "files" / source.relative_to(SAMPLE / "source").with_suffix("")
    found = of(parser, file.read_bytes(), file.name)
    assert found == Stated(meta["title"], dt.datetime.fromisoformat(meta["date"]).replace(tzinfo=dt.UTC))


def test_a_mail(parser: Parser) -> None:
    file = SAMPLE / "files/mail/2025-12-02-customer-feedback-mobile.eml"
    assert of(parser, file.read_bytes(), file.name) == Stated(
        "Feedback on the Android app", utc(2025, 12, 2, 16, 41)
    )


def test_a_pdf_is_as_old_as_its_last_change(parser: Parser) -> None:
    file = SAMPLE / "files/kb/backup-and-restore.pdf"
    body = file.read_bytes()
    # Of equal length, so that the offsets in the file stay right.
    changed = body.replace(b"/ModDate (D:20000101000000", b"/ModDate (D:20260703010203")
    assert of(parser, changed, file.name).written == utc(2026, 7, 3, 1, 2, 3)
    changed = body + b"%<xmp:ModifyDate>2026-07-03T02:00:00+02:00</xmp:ModifyDate>"
    assert of(parser, changed, file.name).written == utc(2026, 7, 3)


@pytest.mark.parametrize(
    ("head", "date"),
    [
        ('<meta name="last-modified" content="2025-08-26">', utc(2025, 8, 26)),
        ('<meta http-equiv="Last-Modified" content="Sat, 01 Mar 2025 09:00:00 GMT">', utc(2025, 3, 1, 9)),
        ("<META CONTENT='2025-08-26' NAME='DCTERMS.modified'>", utc(2025, 8, 26)),
        ('<meta name="date" content="2025-08-26T10:00:00+02:00">', utc(2025, 8, 26, 8)),
        ('<meta property="article:modified_time" content="2025-08-26T10:00Z">', utc(2025, 8, 26, 10)),
        ('<meta itemprop="dateModified" content="2025-08-26">', utc(2025, 8, 26)),
        (
            '<meta name="date" content="2025-08-26"><meta name="DC.date" content="2024-01-01">',
            utc(2025, 8, 26),
        ),
        ('<meta name="date" content="2999-08-26"><meta name="dc.date" content="1970-01-01">', None),
        ('<meta name="update-check" content="2025-08-26"><meta name="date" content="soon">', None),
    ],
)
def test_dates_of_a_page(parser: Parser, head: str, date: dt.datetime | None) -> None:
    page = f"<html><head>{head}<title>T &amp; t</title></head><body><p>Words.</p></body></html>"
    assert of(parser, page, "page.html") == Stated("T & t", date)


def test_the_heading_of_a_page_and_its_time_elements(parser: Parser) -> None:
    page = (
        '<html><head><title>Ports | Help</title></head><body><h1>Ports</h1><p>As of <time class="x" '
        'datetime="2025-03-04">then</time>.</p><p>Words.</p></body></html>'
    )
    assert of(parser, page, "page.html") == Stated("Ports", utc(2025, 3, 4))


@pytest.mark.parametrize(
    ("text", "name", "found"),
    [
        ("---\ntitle: 'Keys'\ndate: 2024-05-06\nupdated: 2025-05-06\n---\nWords.", "a.md", ("Keys", utc(2025, 5, 6))),
        ("---\ntitle: Keys\nlastmod: 2025-05-06T07:00:00Z\n---\n# Key *ring*\n", "a.md", ("Key *ring*", utc(2025, 5, 6, 7))),  # noqa: E501 - a file on one line
        ("# Keys\n\nLast updated: 2025-05-06. All plans.\n\n## More\n\nWords.", "a.md", ("Keys", utc(2025, 5, 6))),
        ("# First\n\nWords.\n\n# Second\n\nWords.", "a.md", ("", None)),
        ("Words before.\n\n# Late", "a.md", ("", None)),
        ("```\n# a comment\n```\nWords.", "a.md", ("", None)),
        ("# README\n\nWords.", "a.md", ("", None)),
        ("# no heading\nkey = 1", "a.conf", ("", None)),
        ("release:\n  release_date: '2023-07-20'\n  text: x\n", "1.0.yml", ("", utc(2023, 7, 20))),
        ("Version 5 was last updated on 2025-05-06.", "a.txt", ("", utc(2025, 5, 6))),
        ("The firmware was updated in 2025-05.", "a.txt", ("", None)),
    ],
)  # fmt: skip
def test_text_files(parser: Parser, text: str, name: str, found: tuple[str, dt.datetime | None]) -> None:
    assert of(parser, text + PARAGRAPH, name) == Stated(*found)


@pytest.mark.parametrize(
    "title",
    ["", " ", "Microsoft Word - x.doc", "Untitled", "untitled document 3", "PowerPoint Presentation",
     "PowerPoint-Präsentation", "Document1", "Mappe1", "Sheet 1", "report_final.DOCX", "(anonymous)", "...",
     "Title", "x" * 300],
)  # fmt: skip
def test_titles_worse_than_a_file_name(title: str) -> None:
    assert stated(Said((title, "Second best")), "", headings=False).title == "Second best"


def test_titles_are_one_clean_line() -> None:
    assert stated(Said(("  A\x00\n title\u200b ",)), "", headings=False).title == "A title"


@pytest.mark.parametrize(
    "date", ["", "yesterday", "2025-13-01", "0001-01-01T00:00+14:00", "D:2025", "Mon, 99 Foo"]
)
def test_dates_that_are_none(date: str) -> None:
    assert moment(date) is None


def test_the_last_date_that_can_be_true_counts() -> None:
    tomorrow = (dt.datetime.now(dt.UTC) + dt.timedelta(days=1)).isoformat()
    said = Said(dates=("1601-01-01T00:00:00Z", "2024-02-03", "2025-02-03T12:00:00+01:00", tomorrow))
    assert stated(said, "", headings=False).written == utc(2025, 2, 3, 11)
