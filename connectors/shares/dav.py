"""The answers of a WebDAV server (RFC 4918), as far as files are concerned."""

from __future__ import annotations

import datetime as dt
import email.utils
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from assistant.errors import SourceBusy

PROPFIND = (
    b'<?xml version="1.0" encoding="utf-8"?>'
    b'<propfind xmlns="DAV:" xmlns:oc="http://owncloud.org/ns"><prop><resourcetype/><getetag/>'
    b"<getlastmodified/><getcontentlength/><oc:fileid/><oc:permissions/><oc:checksums/></prop></propfind>"
)
_DAV, _OC = "{DAV:}", "{http://owncloud.org/ns}"


@dataclass(frozen=True, slots=True)
class Props:
    """`fileid`, `permissions` and `checksums` are Nextcloud's and ownCloud's, empty on other servers."""

    collection: bool = False
    etag: str = ""
    modified: dt.datetime | None = None
    size: int = 0
    fileid: str = ""
    permissions: str = ""
    checksums: str = ""


@dataclass(frozen=True, slots=True)
class Resource:
    href: str
    status: int
    props: Props


def parse(content: bytes) -> list[Resource]:
    """The resources of a multistatus answer; raises `SourceBusy` when it is none."""
    root = parse_xml(content)
    if root is None or root.tag != f"{_DAV}multistatus":
        raise SourceBusy(
            "The server's listing can't be understood, as when it was cut off. Nothing was changed or deleted; "
            "it is tried again later. Is the address right, and no login page in front of it?"
        )
    return [
        Resource(
            href=(element.findtext(f"{_DAV}href") or "").strip(),
            status=_status(element.findtext(f"{_DAV}status")),
            props=_props(element),
        )
        for element in root.iter(f"{_DAV}response")
    ]


def parse_xml(content: bytes) -> ElementTree.Element | None:
    """The root element; None for what is no XML, or has a DOCTYPE, which no listing needs."""
    parser = ElementTree.XMLParser(target=_NoDoctype())  # noqa: S314 - without a DOCTYPE there are no entities
    try:
        parser.feed(content)
        return parser.close()
    except (ElementTree.ParseError, _DoctypeFound, ValueError):
        return None


class _DoctypeFound(Exception):
    pass


class _NoDoctype(ElementTree.TreeBuilder):
    def doctype(self, name: str, pubid: str, system: str) -> None:
        raise _DoctypeFound


def _props(response: ElementTree.Element) -> Props:
    found: dict[str, Any] = {element.tag: element for element in _present(response)}

    def text(tag: str) -> str:
        return "".join(found[tag].itertext()).strip() if tag in found else ""

    length = text(f"{_DAV}getcontentlength")
    kind = found.get(f"{_DAV}resourcetype")
    return Props(
        collection=kind is not None and kind.find(f"{_DAV}collection") is not None,
        etag=text(f"{_DAV}getetag"),
        modified=_moment(text(f"{_DAV}getlastmodified")),
        size=int(length) if length.isdecimal() else 0,
        fileid=text(f"{_OC}fileid"),
        permissions=text(f"{_OC}permissions"),
        checksums=" ".join(element.text or "" for element in response.iter(f"{_OC}checksum")),
    )


def _present(response: ElementTree.Element) -> Iterator[ElementTree.Element]:
    """The properties this resource has; others stand in a propstat of 404."""
    for propstat in response.iterfind(f"{_DAV}propstat"):
        if _status(propstat.findtext(f"{_DAV}status")) == 200:
            for prop in propstat.iterfind(f"{_DAV}prop"):
                yield from prop


def _status(line: str | None) -> int:
    """Of `HTTP/1.1 200 OK`; 200 where there is none."""
    number = re.match(r"HTTP/[\d.]+ (\d{3})", (line or "").strip())
    return int(number[1]) if number else 200


def _moment(text: str) -> dt.datetime | None:
    try:
        return email.utils.parsedate_to_datetime(text).astimezone(dt.UTC) if text else None
    except ValueError:
        return None
