"""Records out of export files, one at a time: JSON lines, a JSON array, CSV; gzipped or not.

Memory holds one record, whatever the size of the file.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal, cast

from assistant.errors import ItemError, SourceRefused

MAX_RECORD = 64 * 2**20
"""bytes; a longer record is a failure"""
SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")

Format = Literal["jsonl", "json", "csv"]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Position:
    """How far a file was read. Of a JSON array both count records."""

    offset: int = 0
    """bytes, of the unzipped content"""
    line: int = 0


START = Position()


@dataclass(frozen=True, slots=True)
class Record:
    """One record. `raw` is what the file says; `load()` parses it or raises `ItemError`."""

    place: str
    """such as "line 17": where a person finds it"""
    end: Position
    raw: bytes
    load: Callable[[], Row]


class Cut(Exception):
    """The file ends in the middle or is damaged from here on; what came before is good."""


def is_export(path: Path) -> bool:
    return path.name.lower().removesuffix(".gz").endswith(SUFFIXES)


def read_records(
    path: Path, format: Format | Literal["auto"], *, encoding: str, start: Position = START
) -> Iterator[Record]:
    """The records of `path` behind `start`.

    Raises `Cut` where the file is damaged, `SourceRefused` where it is no export, `OSError`.
    """
    with path.open("rb") as head:
        zipped = head.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rb") if zipped else path.open("rb") as stream:
        binary = cast("IO[bytes]", stream)
        try:
            kind = _guess(path, binary) if format == "auto" else format
            if kind == "csv":
                yield from _csv(binary, encoding, start)
            elif kind == "jsonl":
                yield from _lines(binary, encoding, start)
            else:
                yield from islice(_array(binary, encoding), start.line, None)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise Cut("its compressed data end early or are damaged") from None


def _guess(path: Path, stream: IO[bytes]) -> Format:
    name = path.name.lower().removesuffix(".gz")
    if name.endswith((".csv", ".tsv")):
        return "csv"
    if name.endswith((".jsonl", ".ndjson")):
        return "jsonl"
    head = stream.read(65536).removeprefix(codecs.BOM_UTF8).lstrip()
    stream.seek(0)
    if head.startswith(b"["):
        return "json"
    if head.startswith(b"{"):
        try:
            json.loads(head.partition(b"\n")[0])
        except ValueError:
            return "json"
        return "jsonl"
    raise SourceRefused(
        f"{path.name} is no export that can be told by its name or its start. Nothing was changed. "
        "Set `format` to jsonl, json or csv."
    )


class _Lines:
    """Lines with their place; one longer than MAX_RECORD comes cut, a little longer than that."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.position = START

    def go_to(self, position: Position) -> None:
        self._stream.seek(position.offset)
        self.position = position

    def next(self) -> bytes:
        """The next line, without a byte order mark; empty at the end."""
        line = self._stream.readline(MAX_RECORD + 1)
        size = len(line)
        if size > MAX_RECORD:
            while not line.endswith(b"\n") and (rest := self._stream.readline(MAX_RECORD)):
                size += len(rest)
                if rest.endswith(b"\n"):
                    break
        if not line:
            return b""
        first = self.position.offset == 0
        self.position = Position(self.position.offset + size, self.position.line + 1)
        return line.removeprefix(codecs.BOM_UTF8) if first else line


def _lines(stream: IO[bytes], encoding: str, start: Position) -> Iterator[Record]:
    lines = _Lines(stream)
    lines.go_to(start)
    while line := lines.next():
        if line.strip():
            yield Record(f"line {lines.position.line}", lines.position, line, _line_loader(line, encoding))


def _line_loader(line: bytes, encoding: str) -> Callable[[], Row]:
    def load() -> Row:
        if len(line) > MAX_RECORD:
            raise ItemError(f"it is longer than {MAX_RECORD // 2**20} MB")
        try:
            return _row(json.loads(line.decode(encoding)))
        except UnicodeDecodeError:
            raise ItemError(f"it is no {encoding} text; see the setting «encoding»") from None
        except json.JSONDecodeError as error:
            raise ItemError(f"it is no valid JSON (column {error.colno})") from None
        except (ValueError, RecursionError):
            raise ItemError("its JSON can't be read: a number too long or nesting too deep") from None

    return load


def _row(value: object) -> Row:
    if not isinstance(value, dict):
        raise ItemError("it is no JSON object")
    return cast(Row, value)


def _csv(stream: IO[bytes], encoding: str, start: Position) -> Iterator[Record]:
    csv.field_size_limit(MAX_RECORD)
    lines = _Lines(stream)
    taken: list[bytes] = []

    def texts() -> Iterator[str]:
        while line := lines.next():
            taken.append(line)
            yield line.decode(encoding, "surrogateescape")

    first = next(texts(), "")
    delimiter = max(",;\t|", key=first.count)
    lines.go_to(START)
    header = [name.strip() for name in next(csv.reader(texts(), delimiter=delimiter), [])]
    if start != START:
        lines.go_to(start)
        taken.clear()  # else the first row's `raw` includes the header, which decides what a row says
    rows = csv.reader(texts(), delimiter=delimiter)
    while True:
        place = f"line {lines.position.line + 1}"
        row: list[str] = []
        problem = ""
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            problem = f"it is no valid CSV ({error})"
        raw = b"".join(taken)
        taken.clear()
        if row or problem:
            yield Record(place, lines.position, raw, _row_loader(header, row, problem, encoding))


def _row_loader(header: list[str], row: list[str], problem: str, encoding: str) -> Callable[[], Row]:
    def load() -> Row:
        if problem:
            raise ItemError(problem)
        if len(row) != len(header):
            raise ItemError(f"it has {len(row)} columns where the header has {len(header)}")
        if any("\udc80" <= char <= "\udcff" for cell in row for char in cell):
            raise ItemError(f"it is no {encoding} text; see the setting «encoding»")
        return dict(zip(header, row, strict=True))

    return load


def _array(stream: IO[bytes], encoding: str) -> Iterator[Record]:
    """Objects of the first array found: the file itself, or a value of its outermost object."""
    reader = _JsonText(codecs.getreader("utf-8-sig" if encoding == "utf-8" else encoding)(stream))
    opening = reader.peek()
    if opening == "{":
        reader.take()
        while reader.peek() == '"':
            reader.value()
            if reader.take() != ":":
                raise Cut("its JSON is damaged")
            if reader.peek() == "[":
                break
            reader.value()
            if reader.peek() == ",":
                reader.take()
    if reader.peek() != "[":
        raise Cut("it holds no list of records")
    reader.take()
    number = 0
    while (following := reader.peek()) != "]":
        if following == "":
            raise Cut("it ends in the middle of its list")
        number += 1
        value = reader.value()
        canonical = json.dumps(value, sort_keys=True).encode()
        yield Record(f"record {number}", Position(number, number), canonical, partial(_row, value))
        if reader.peek() == ",":
            reader.take()


class _JsonText:
    """A window on a JSON text that takes one value after the other."""

    def __init__(self, stream: IO[str] | codecs.StreamReader) -> None:
        self._stream = stream
        self._decoder = json.JSONDecoder()
        self._window = ""
        self._position = 0

    def _more(self, size: int) -> bool:
        try:
            piece = self._stream.read(size)
        except UnicodeDecodeError:
            raise Cut("it is no valid text in its encoding; see the setting «encoding»") from None
        self._window = self._window[self._position :] + piece
        self._position = 0
        return bool(piece)

    def peek(self) -> str:
        """The next character that is no blank, or nothing at the end."""
        while True:
            while self._position < len(self._window):
                if not self._window[self._position].isspace():
                    return self._window[self._position]
                self._position += 1
            if not self._more(2**16):
                return ""

    def take(self) -> str:
        character = self.peek()
        self._position += 1
        return character

    def value(self) -> Any:
        """The next value; the window doubles until it holds it whole."""
        self.peek()
        size = 2**16
        while True:
            try:
                value, end = self._decoder.raw_decode(self._window, self._position)
            except (ValueError, RecursionError):
                end = None
                value = None
            # A number at the window's edge may go on behind it.
            if end is not None and end < len(self._window):
                self._position = end
                return value
            if not self._more(size):
                if end is None:
                    raise Cut("its JSON is damaged or ends early")
                self._position = len(self._window)
                return value
            if len(self._window) > MAX_RECORD:
                raise Cut(f"a record is longer than {MAX_RECORD // 2**20} MB or damaged")
            size *= 2
