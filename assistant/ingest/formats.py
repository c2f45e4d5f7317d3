"""Which kind of file this is, and its text when it is text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath

from charset_normalizer import from_bytes


class Form(StrEnum):
    """How a document is opened."""

    TEXT = "text"
    MARKDOWN = "markdown"
    WIKI = "wiki"
    HTML = "html"
    XML = "xml"
    TABLE = "table"
    """decoded here, laid out by the parser"""
    OFFICE = "office"
    """the parser reads its bytes"""
    IMAGE = "image"
    ARCHIVE = "archive"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Format:
    form: Form
    mime: str = "text/plain"


_OPEN_XML = "application/vnd.openxmlformats-officedocument."
_OFFICE = {
    "pdf": "application/pdf",
    "doc": "application/msword",
    "docx": _OPEN_XML + "wordprocessingml.document",
    "docm": "application/vnd.ms-word.document.macroEnabled.12",
    "dotx": _OPEN_XML + "wordprocessingml.template",
    "xls": "application/vnd.ms-excel",
    "xlsx": _OPEN_XML + "spreadsheetml.sheet",
    "xlsm": "application/vnd.ms-excel.sheet.macroEnabled.12",
    "xlsb": "application/vnd.ms-excel.sheet.binary.macroEnabled.12",
    "ppt": "application/vnd.ms-powerpoint",
    "pptx": _OPEN_XML + "presentationml.presentation",
    "ppsx": _OPEN_XML + "presentationml.slideshow",
    "odt": "application/vnd.oasis.opendocument.text",
    "ods": "application/vnd.oasis.opendocument.spreadsheet",
    "rtf": "application/rtf",
    "eml": "message/rfc822",
    "msg": "application/vnd.ms-outlook",
    "epub": "application/epub+zip",
    "ipynb": "application/x-ipynb+json",
}
_BY_SUFFIX: dict[str, Format] = {
    **{suffix: Format(Form.OFFICE, mime) for suffix, mime in _OFFICE.items()},
    **dict.fromkeys(("md", "markdown", "mdx"), Format(Form.MARKDOWN, "text/markdown")),
    **dict.fromkeys(("wiki", "mediawiki"), Format(Form.WIKI, "text/x-wiki")),
    **dict.fromkeys(("html", "htm", "xhtml"), Format(Form.HTML, "text/html")),
    **dict.fromkeys(("xml", "plist", "admx", "adml", "resx", "xsd"), Format(Form.XML, "application/xml")),
    "csv": Format(Form.TABLE, "text/csv"),
    "tsv": Format(Form.TABLE, "text/tab-separated-values"),
    **dict.fromkeys(
        [
            "txt",
            "text",
            "log",
            "json",
            "jsonl",
            "yaml",
            "yml",
            "toml",
            "ini",
            "cfg",
            "conf",
            "properties",
            "reg",
        ],
        Format(Form.TEXT),
    ),
    **dict.fromkeys(
        [
            "rst",
            "adoc",
            "org",
            "tex",
            "py",
            "js",
            "ts",
            "sh",
            "bat",
            "ps1",
            "sql",
            "c",
            "h",
            "cpp",
            "java",
            "go",
            "rs",
            "rb",
            "php",
            "css",
        ],
        Format(Form.TEXT),
    ),
    **dict.fromkeys(
        ["png", "jpg", "jpeg", "gif", "bmp", "webp", "tif", "tiff", "heic", "ico", "svg", "psd"],
        Format(Form.IMAGE),
    ),
    **dict.fromkeys(
        ["vsd", "vsdx", "pub", "one", "mpp", "accdb", "mdb", "exe", "dll", "so", "bin"], Format(Form.UNKNOWN)
    ),
    **dict.fromkeys(
        ["zip", "tar", "gz", "tgz", "bz2", "xz", "7z", "rar", "zst", "iso", "dmg", "jar", "pst"],
        Format(Form.ARCHIVE),
    ),
}
_BY_MEDIA_TYPE: dict[str, Format] = {
    **{mime: Format(Form.OFFICE, mime) for mime in _OFFICE.values()},
    **{known.mime: known for known in _BY_SUFFIX.values() if known.mime != "text/plain"},
    "text/plain": Format(Form.TEXT),
    "text/rtf": _BY_SUFFIX["rtf"],
    "text/xml": _BY_SUFFIX["xml"],
    "text/mediawiki": _BY_SUFFIX["wiki"],
    "application/xhtml+xml": _BY_SUFFIX["html"],
    "application/json": Format(Form.TEXT),
    "application/yaml": Format(Form.TEXT),
    "application/zip": Format(Form.ARCHIVE),
}
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_MAGIC = (
    (b"%PDF-", _BY_SUFFIX["pdf"]),
    (b"{\\rtf", _BY_SUFFIX["rtf"]),
    (b"\x89PNG", Format(Form.IMAGE)),
    (b"\xff\xd8\xff", Format(Form.IMAGE)),
    (b"GIF8", Format(Form.IMAGE)),
    (b"\x1f\x8b", Format(Form.ARCHIVE)),
    (b"7z\xbc\xaf", Format(Form.ARCHIVE)),
    (b"Rar!", Format(Form.ARCHIVE)),
)
_ZIPPED = {
    b"word/document": _BY_SUFFIX["docx"],
    b"xl/workbook.bin": _BY_SUFFIX["xlsb"],
    b"xl/": _BY_SUFFIX["xlsx"],
    b"ppt/": _BY_SUFFIX["pptx"],
    b"oasis.opendocument.text": _BY_SUFFIX["odt"],
    b"application/epub+zip": _BY_SUFFIX["epub"],
}
_STREAMS = {
    "WordDocument": _BY_SUFFIX["doc"],
    "Workbook": _BY_SUFFIX["xls"],
    "PowerPoint Document": _BY_SUFFIX["ppt"],
    "__substg1.0_": _BY_SUFFIX["msg"],
}


def recognise(name: str, media_type: str, body: bytes) -> Format:
    """By the name's suffix, then the declared type, then the content; a clear signature overrules all three."""
    media_type = media_type.partition(";")[0].strip().lower()
    named = _BY_SUFFIX.get(PurePosixPath(name.replace("\\", "/")).suffix.lower().lstrip("."))
    guess = named or _BY_MEDIA_TYPE.get(media_type)
    for magic, found in _MAGIC:
        if body.startswith(magic):
            return found
    if guess is not None and guess.form not in {Form.OFFICE, Form.TEXT}:
        return guess
    if body.startswith(_OLE) and (guess is None or not guess.mime.startswith("application/vnd.ms-")):
        streams = (found for stream, found in _STREAMS.items() if stream.encode("utf-16-le") in body)
        return next(streams, guess or Format(Form.UNKNOWN))
    if body.startswith(b"PK\x03\x04") and guess is None:
        return next((found for part, found in _ZIPPED.items() if part in body), Format(Form.ARCHIVE))
    if guess is not None:
        return guess
    if media_type.startswith("image/"):
        return Format(Form.IMAGE)
    head = body[:4096]
    if b"\0" in head and not head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return Format(Form.UNKNOWN)
    if re.match(rb"\s*<(?:!doctype html|html)", head, re.IGNORECASE):
        return _BY_SUFFIX["html"]
    return Format(Form.TEXT)


def is_encrypted_office(body: bytes) -> bool:
    """A password-protected OOXML file is an OLE container with this one stream."""
    return body.startswith(_OLE) and "EncryptedPackage".encode("utf-16-le") in body


_BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_DECLARED = re.compile(rb"(?:charset|encoding)\s{0,3}=\s{0,3}[\"']?([\w.:-]{2,30})", re.IGNORECASE)
SAMPLE = 64 * 1024


def decode(body: bytes) -> str | None:
    """The text of `body`, or None when it is no text in any encoding.

    A byte-order mark first, then UTF-8, then what the file declares about
    itself, then what its letters look like.
    """
    for mark, encoding in _BOMS:
        if body.startswith(mark):
            return body.decode(encoding, "replace")
    if b"\0" in body[:SAMPLE]:
        return None
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        # One broken byte in a long file must not turn all its other letters into mojibake.
        if error.start > SAMPLE:
            return body.decode("utf-8", "replace")
    if declared := _DECLARED.search(body[:2048]):
        try:
            return body.decode(declared[1].decode("ascii"), "replace")
        except LookupError:
            pass
    best = from_bytes(body[:SAMPLE]).best()
    if best is None:
        return None
    # The sample may end within a character.
    return body.decode(best.encoding, "replace")
