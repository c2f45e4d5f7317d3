"""What a file says of itself: its title, and when what it holds was written.

A question as of a day must not see what was written later. So of all dates that a
file states (created, modified, "Last updated: …") the last one counts; a date that
can't be true counts for nothing. A file that states none is as old as its source says,
which for a share is the time of the last change: never too early, though a copy that
didn't keep the times looks younger than its text.
"""

from __future__ import annotations

import datetime as dt
import html
import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from itertools import chain

from assistant.ingest import markup

EARLIEST = dt.datetime(1990, 1, 1, tzinfo=dt.UTC)
"""Before this a date is a clock that was never set, or a default such as 1601 or 1970."""
MAX_TITLE = 200
TOP = 1_500
"""characters of the text among which "Last updated: …" is looked for: further down others are spoken of"""
HEAD = 100_000


@dataclass(frozen=True, slots=True)
class Said:
    """Titles, the best first, and dates, as they stand in a file."""

    titles: tuple[str, ...] = ()
    dates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stated:
    title: str = ""
    """empty: none, or none better than a file name"""
    written: dt.datetime | None = None


def stated(said: Said, text: str, *, headings: bool) -> Stated:
    """From `said` and the file's Markdown; `headings`: those in it are the author's, not guessed."""
    # What a reader sees comes first: properties are inherited from templates and get a site's name added.
    titles = chain([markup.only_heading(text)] if headings else [], said.titles)
    dates = [moment(date) for date in chain(said.dates, _UPDATED.findall(text[:TOP]))]
    now = dt.datetime.now(dt.UTC)
    return Stated(
        title=next((title for raw in titles if (title := _useful(raw))), ""),
        written=max((date for date in dates if date and EARLIEST <= date <= now), default=None),
    )


def of_html(source: str) -> Said:
    """The title and the dates of a page's head, and of its <time> elements."""
    head = source[:HEAD]
    title = _TITLE.search(head)
    dates = [value for tag in _META.findall(head) if (value := _dated(tag))]
    return Said((html.unescape(title[1]),) if title else (), (*dates, *_TIME.findall(head)))


def of_markdown(source: str) -> Said:
    """The title and the dates of the front matter."""
    fields = _FIELD.findall(markup.front_matter(source))
    titles = [value for key, value in fields if key.lower() == "title"]
    return Said(tuple(titles), tuple(value for key, value in fields if _DATE_NAME.fullmatch(key)))


def of_yaml(source: str) -> Said:
    """The dates among the first fields: further down are those of list entries."""
    fields = _FIELD.findall("\n".join(source[:TOP].split("\n")[:12]))
    return Said(dates=tuple(value for key, value in fields if _DATE_NAME.fullmatch(key)))


def moment(text: str) -> dt.datetime | None:
    """An ISO 8601 or RFC 5322 date in UTC, where it names no zone as UTC's; None for anything else."""
    text = text.strip(" \"'")
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        try:
            found = parsedate_to_datetime(text)
        except (ValueError, IndexError):
            return None
    try:
        return found.astimezone(dt.UTC) if found.tzinfo else found.replace(tzinfo=dt.UTC)
    except OverflowError:
        return None


# Names of <meta> elements and of front matter: date, updated, last-modified, dcterms.modified,
# DC.date.issued, article:modified_time, datePublished, lastmod, release_date, …
_DATE_NAME = re.compile(
    r"(?:(?:dc|dcterms|article|og)[.:])?(?:(?:last|release)[-_ ]?)?"
    r"(?:date|updated?|modified|lastmod|created|issued|published|revised)"
    r"(?:[-._ ]?(?:date|time|at|on|created|modified|issued|published|updated))?",
    re.IGNORECASE,
)
_FIELD = re.compile(r"^ {0,2}([\w.-]{1,40}): *(.{1,300})$", re.MULTILINE)
_UPDATED = re.compile(
    r"\b(?:last (?:updated|modified|changed|revised|edited|reviewed)|zuletzt (?:geändert|aktualisiert))"
    r"(?: on| am)?:?[ *]{0,4}(\d{4}-\d\d-\d\d)\b",
    re.IGNORECASE,
)
_TITLE = re.compile(r"<title[^<>]{0,200}>([^<]{1,1000})</title", re.IGNORECASE)
_META = re.compile(r"<meta\s[^<>]{1,2000}>", re.IGNORECASE)
_TIME = re.compile(r"<time\s[^<>]{0,500}?datetime\s?=\s?[\"']([^\"'<>]{4,40})[\"']", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"([\w-]{1,30})\s?=\s?(?:\"([^\"]*)\"|'([^']*)')")
_USELESS = re.compile(
    r"microsoft (?:word|excel|powerpoint)\b.*|power ?point[ -](?:presentation|präsentation)|\W*"
    r"|(?:untitled|unbenannt|unnamed)\b.*|no title|ohne titel|title|titel|\((?:unspecified|anonymous)\)"
    r"|(?:document|dokument|doc|book|workbook|mappe|sheet|tabelle|slide|folie|presentation|präsentation|page"
    r"|seite|layout|template|vorlage)[ _-]?\d*"
    r"|read ?me|index|home|(?:table of )?contents|inhalt(?:sverzeichnis)?|introduction|einleitung"
    r"|.*\.(?:docx?|docm|dotx?|xlsx?|pptx?|pdf|rtf|od[tsp]|html?|txt|md|indd|qxd|pages|tmp)",
    re.IGNORECASE | re.DOTALL,
)


def _useful(raw: str) -> str:
    title = " ".join(markup.clean(raw.strip(" \"'")).split())
    return "" if len(title) > MAX_TITLE or _USELESS.fullmatch(title) else title


def _dated(tag: str) -> str:
    """The content of a <meta> element that names a date."""
    values = {name.lower(): double or single for name, double, single in _ATTRIBUTE.findall(tag)}
    name = next((values[key] for key in ("name", "property", "http-equiv", "itemprop") if key in values), "")
    return values.get("content", "") if _DATE_NAME.fullmatch(name) else ""
