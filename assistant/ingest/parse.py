"""A document of any format to sections of Markdown and what it says of itself, or an `ItemError` with the reason.

Parts that are text already are converted here. Files go through a child
process (`parse_worker.py`), because a parser fed with other people's files
will one day crash, hang or eat all memory.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import structlog

from assistant.config import Settings
from assistant.errors import ItemError
from assistant.ingest import formats, markup, wiki
from assistant.ingest.formats import Form
from assistant.ingest.stated import Said, Stated, of_html, of_markdown, of_yaml, stated
from assistant.model import Part, Section, SourceDocument

log = structlog.get_logger()

INLINE_HTML = 256 * 1024
"""characters of an HTML part above which it is converted in the child process, where a limit applies"""
MAX_TEXT = 32_000_000
"""characters of one document"""
PAGES_AHEAD = 20
"""how far a paragraph is looked for: text that is on no page (a rebuilt table) must not cost a search of all"""
RECYCLE_AFTER = 500
"""files after which a child is replaced, whatever its parser's allocator has kept"""


@dataclass(frozen=True, slots=True)
class Parsed:
    """A document's text, and what a file says of itself; of parts, the source has said it."""

    sections: list[Section]
    stated: Stated = field(default_factory=Stated)


class Parser:
    """Turns documents into sections. Not thread-safe: one for each worker process.

    Its child process starts with the first file, serves all that follow, and is
    started anew when one kills it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._child: _Child | None = None

    def __enter__(self) -> Parser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None

    def parse(self, document: SourceDocument) -> Parsed:
        """Sections in reading order, none of them blank.

        Raises `ItemError` with the reason and the remedy when there is no text to be had.
        """
        if isinstance(document.body, bytes):
            parsed = self._file(document, document.body)
        else:
            parsed = Parsed([section for part in document.body for section in self._part(part)])
        if not parsed.sections:
            raise ItemError(_EMPTY)
        return parsed

    def _part(self, part: Part) -> Iterator[Section]:
        media_type = part.media_type.partition(";")[0].strip().lower()
        if media_type in {"text/html", "application/xhtml+xml"}:
            convert = markup.html_to_markdown if len(part.text) <= INLINE_HTML else self._html
            text = convert(part.text)
        elif media_type == "text/markdown":
            text = markup.markdown_file(part.text)
        elif media_type in {"text/x-wiki", "text/mediawiki"} or wiki.looks_like_wiki(part.text):
            text = wiki.wiki_to_markdown(part.text)
        else:
            # `#` starts a comment or names a channel in plain text, not a heading.
            yield from _sections([((), markup.clean(part.text))], part)
            return
        yield from _sections(markup.sections(text), part)

    def _file(self, document: SourceDocument, body: bytes) -> Parsed:
        if not body:
            raise ItemError(
                "The file is empty (0 bytes); nothing was indexed. Save its content and sync again."
            )
        if len(body) > self._settings.max_file_mb * 1024 * 1024:
            raise ItemError(
                f"The file has {len(body) / 2**20:.0f} MB, more than the {self._settings.max_file_mb} MB allowed "
                "(setting max_file_mb); it was not read. Split it, or raise the setting, and sync again."
            )
        name = str(document.metadata.get("path") or document.title)
        found = formats.recognise(name, document.media_type, body)
        if found.form in _NO_TEXT:
            raise ItemError(_NO_TEXT[found.form])
        part = Part(text="", audience=document.audience)
        if found.form is Form.OFFICE:
            read = self._extract(body, found.mime)
            text = markup.converted(read.text)
            sections = _sections(markup.sections(text), part)
            if read.pages:
                sections = _paged(sections, read.pages)
            # A PDF has no headings, only large letters: of a page's header, or of a line of code.
            guessed = found.mime == "application/pdf"
            return Parsed(list(sections), stated(read.said, text, headings=not guessed))
        source = _decoded(body)
        form = Form.WIKI if found.form is Form.TEXT and wiki.looks_like_wiki(source) else found.form
        if form is Form.TEXT:
            text = markup.clean(markup.without_tags(source))
            said = of_yaml(source) if name.lower().endswith((".yml", ".yaml")) else Said()
            return Parsed(list(_sections([((), text)], part)), stated(said, text, headings=False))
        text = self._converted(source, form, found.mime)
        said = (
            of_html(source) if form is Form.HTML else of_markdown(source) if form is Form.MARKDOWN else Said()
        )
        written_as_such = form in {Form.HTML, Form.MARKDOWN, Form.WIKI}
        return Parsed(
            list(_sections(markup.sections(text), part)), stated(said, text, headings=written_as_such)
        )

    def _converted(self, source: str, form: Form, mime: str) -> str:
        match form:
            case Form.HTML:
                return self._html(source)
            case Form.MARKDOWN:
                return markup.markdown_file(source)
            case Form.WIKI:
                return wiki.wiki_to_markdown(source)
            case Form.XML:
                return markup.xml_text(source)
            case _:
                return markup.converted(self._extract(source.encode("utf-8", "replace"), mime).text)

    def _html(self, source: str) -> str:
        source = markup.prepared(source)
        text = self._extract(source.encode("utf-8", "replace"), "text/html").text
        return markup.converted(text) if re.search(r"\w", text) else markup.bare_text(source)

    def _extract(self, body: bytes, mime: str) -> _Read:
        if self._child is not None and not self._child.usable():
            self.close()
        if self._child is None:
            self._child = _Child(self._settings)
        try:
            reply = self._child.ask(body, mime)
        except _ChildLost as lost:
            self.close()
            log.warning("parser_stopped", reason=lost.kind, bytes=len(body), mime=mime)
            permanent = lost.kind not in {"time", "crash"}
            raise ItemError(_failure(lost.kind, "", settings=self._settings), permanent=permanent) from None
        if "error" in reply:
            detail = str(reply["detail"])
            if formats.is_encrypted_office(body):
                detail = "encrypted"
            raise ItemError(_failure(reply["error"], detail, settings=self._settings))
        pages = [(int(number), text) for number, text in reply["pages"]]
        return _Read(reply["text"], pages, Said((reply["title"],), tuple(reply["dates"])))


@dataclass(frozen=True, slots=True)
class _Read:
    """The child's answer."""

    text: str
    """Markdown"""
    pages: list[tuple[int, str]]
    """number and bare text of each"""
    said: Said


def _decoded(body: bytes) -> str:
    text = formats.decode(body)
    if text is None:
        raise ItemError(_NO_TEXT[Form.UNKNOWN])
    if len(text) > MAX_TEXT:
        raise ItemError(_failure("long", ""))
    return text


def _sections(found: list[tuple[tuple[str, ...], str]], part: Part) -> Iterator[Section]:
    for headings, text in found:
        if text.strip():
            yield Section(
                text=text,
                headings=headings,
                audience=part.audience,
                author=part.author,
                role=part.role,
                created_at=part.created_at,
                is_solution=part.is_solution,
                access=part.access,
            )


_NOT_WORD = re.compile(r"[\W_]+")


def _paged(sections: Iterable[Section], pages: list[tuple[int, str]]) -> Iterator[Section]:
    """Sections cut where their text goes on to another page.

    The parser's Markdown knows headings and tables, its page texts know the pages:
    each paragraph is looked up by its first letters, from the current page onwards.
    """
    squeezed = [(number, _NOT_WORD.sub("", text)) for number, text in pages]
    at = 0
    current: int | None = None
    for section in sections:
        blocks: list[str] = []
        for block in section.text.split("\n\n"):
            probe = _NOT_WORD.sub("", block)[:40]
            ahead = range(at, min(at + PAGES_AHEAD, len(squeezed))) if len(probe) > 3 else ()
            at = next((i for i in ahead if probe in squeezed[i][1]), at)
            if blocks and squeezed[at][0] != current:
                yield replace(section, text="\n\n".join(blocks), page=current)
                blocks = []
            current = squeezed[at][0]
            blocks.append(block)
        yield replace(section, text="\n\n".join(blocks), page=current)


# --- the child process --------------------------------------------------------------------


class _ChildLost(Exception):
    """`kind`: time, memory or crash."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class _Child:
    _WORKER = Path(__file__).with_name("parse_worker.py")

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        ours, theirs = socket.socketpair()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        # No environment: what parses strangers' files has no business with database passwords.
        self._process = subprocess.Popen(
            [sys.executable, "-I", self._WORKER, str(theirs.fileno()), str(settings.parse_memory_mb)],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            env={"PATH": os.defpath, "MALLOC_ARENA_MAX": "2", "TESSDATA_PREFIX": os.devnull},
        )
        theirs.close()
        self._pipe = Connection(ours.detach())
        self._watch = psutil.Process(self._process.pid)
        self._owner = os.getpid()
        self._served = 0

    def usable(self) -> bool:
        """False after a fork (two processes would read one pipe), a death or long service."""
        alive = self._owner == os.getpid() and self._process.poll() is None
        return alive and self._served < RECYCLE_AFTER

    def ask(self, body: bytes, mime: str) -> dict[str, Any]:
        """Send one file and wait for its text; raises `_ChildLost` when the child is no more."""
        self._served += 1
        seconds = self._settings.parse_seconds
        deadline = time.monotonic() + seconds
        try:
            self._pipe.send_bytes(json.dumps({"mime": mime, "seconds": seconds}).encode())
            self._pipe.send_bytes(body)
            wait = 0.02
            while not self._pipe.poll(wait):
                self._check(deadline)
                wait = min(wait * 1.5, 0.1)
            return json.loads(self._pipe.recv_bytes())
        except (EOFError, OSError, psutil.NoSuchProcess):
            self._process.wait(timeout=10)
            raise _ChildLost("memory" if self._ran_out_of_memory() else "crash") from None

    def _check(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise _ChildLost("time")
        if self._watch.memory_info().rss > self._settings.parse_memory_mb * 1024 * 1024:
            raise _ChildLost("memory")

    def _ran_out_of_memory(self) -> bool:
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - 4096))
        return b"memory allocation" in self._errors.read()

    def close(self) -> None:
        self._pipe.close()
        self._errors.close()
        if self._owner == os.getpid():
            self._process.kill()
            self._process.wait(timeout=10)


# --- why not ------------------------------------------------------------------------------

_EMPTY = (
    "There is no text in it, only blank pages or pictures; nothing was indexed. "
    "If it is a scan, save it with recognised text (OCR) and sync again."
)
_NO_TEXT = {
    Form.IMAGE: "It is a picture and holds no text; nothing was indexed. "
    "Put what it shows into a document if people should find it.",
    Form.ARCHIVE: "It is an archive, and archives are not opened; nothing was indexed. "
    "Unpack it beside itself and sync again.",
    Form.UNKNOWN: "Its format is unknown and it holds no text that could be read; nothing was indexed. "
    "Save it as PDF, DOCX, HTML, Markdown or plain text and sync again.",
}
_ENCRYPTED = re.compile(r"password|encrypt|decrypt", re.IGNORECASE)
_OUTDATED = re.compile(r"magic number|signature|unrecognized sheet", re.IGNORECASE)


def _failure(kind: str, detail: str, *, settings: Settings | None = None) -> str:
    """The one place where a parser's complaint becomes a sentence for a person."""
    seconds, megabytes = (settings.parse_seconds, settings.parse_memory_mb) if settings else (0, 0)
    if _ENCRYPTED.search(detail):
        return "The file is encrypted with a password; save it without one and sync again."
    match kind:
        case "time":
            return (
                f"Reading the file took longer than {seconds} seconds and was stopped; nothing was indexed. "
                "Split it, or raise the setting parse_seconds, and sync again."
            )
        case "memory":
            return (
                f"Reading the file needed more than {megabytes} MB of memory and was stopped; nothing was "
                "indexed. Split it, or raise the setting parse_memory_mb, and sync again."
            )
        case "long":
            return (
                f"It holds more than {MAX_TEXT // 1_000_000} million characters, more than anyone reads; "
                "nothing was indexed. Split it and sync again."
            )
        case "crash":
            return (
                "The parser crashed on this file; nothing else was affected. "
                "The file is probably damaged: open it, save it anew and sync again."
            )
        case "ValidationError" | "UnsupportedFormat":
            return _NO_TEXT[Form.UNKNOWN]
        case _ if _OUTDATED.search(detail):
            return (
                "The file is of an Office version before 97 or not what its name says; nothing was indexed. "
                "Save it in a current format (DOCX, XLSX, PDF) and sync again."
            )
        case _:
            return (
                "The file is damaged or cut off and could not be read; nothing was indexed. "
                "Open it, save it anew and sync again."
            )
