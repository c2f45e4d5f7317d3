"""The child process that opens files nobody can vouch for.

Started by `parse.py` as a script, without Deskhand's environment: it imports
nothing of Deskhand, holds no secret, and may be killed at any moment. It
answers requests of two messages (a JSON header with `mime` and `seconds`, then
the file's bytes) with one: `{"text", "pages", "title", "dates"}` or `{"error", "detail"}`.

    python -I parse_worker.py FILE_DESCRIPTOR MEMORY_MB
"""

from __future__ import annotations

import codecs
import email
import email.message
import email.policy
import json
import os
import re
import resource
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import kreuzberg

MAX_TEXT = 32_000_000
"""characters; a file with more is data, not something to read"""

# Beware of "aggressive": it also drops <span class="menu">, which is how a support
# article writes "select Save as…".
_HTML: Any = {
    "extract_metadata": False,
    "preprocessing": {
        "enabled": True,
        "preset": "standard",
        "remove_navigation": True,
        "remove_forms": False,
    },
}


def _config(*, furniture: bool = False) -> kreuzberg.ExtractionConfig:
    return kreuzberg.ExtractionConfig(
        output_format="markdown",
        use_cache=False,
        pages=kreuzberg.PageConfig(extract_pages=True),
        concurrency=kreuzberg.ConcurrencyConfig(max_threads=1),
        html_options=_HTML,
        # Running headers and footers stay out, unless they are all there is.
        content_filter=kreuzberg.ContentFilterConfig(include_headers=furniture, include_footers=furniture),
    )


def extract(body: bytes, mime: str) -> dict[str, Any]:
    """Markdown of the whole file, where the format has pages the bare text of each, and its own title and dates."""
    if mime == "message/rfc822":
        message = email.message_from_bytes(body, policy=email.policy.default)
        dates = [str(message["Date"])] if message["Date"] else []
        return {"text": _mail(message), "pages": [], "title": str(message["Subject"] or ""), "dates": dates}
    result = kreuzberg.extract_bytes_sync(body, mime, _config())
    if not result.content.strip():
        result = kreuzberg.extract_bytes_sync(body, mime, _config(furniture=True))
    text = result.content
    if not text.strip() and mime == "application/vnd.ms-powerpoint":
        text = _slide_texts(body)
    if len(text) > MAX_TEXT:
        return {"error": "long", "detail": str(len(text))}
    pages = [(page["page_number"], page["content"]) for page in result.pages or []]
    said: dict[str, Any] = dict(result.metadata)
    title = said.get("title") or (said.get("subject") if said.get("format_type") == "email" else "")
    dates = [str(said[key]) for key in ("created_at", "modified_at") if said.get(key)]
    if mime == "application/pdf":
        dates += _modified(body)
    return {"text": text, "pages": pages, "title": str(title or ""), "dates": dates}


# In a PDF's properties and its XMP, where neither is compressed. The library tells when a
# PDF was made, not when it was changed.
_MOD_DATE = re.compile(rb"/ModDate\s{0,3}\(D:(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)")
_XMP_DATE = re.compile(rb"xmp:ModifyDate(?:>|=[\"'])([\d:TZ+-]{10,25})")


def _modified(body: bytes) -> list[str]:
    dates = [b"%s-%s-%sT%s:%s:%s" % found for found in _MOD_DATE.findall(body)]
    return [date.decode("ascii") for date in dates + _XMP_DATE.findall(body)]


def _mail(message: email.message.EmailMessage) -> str:
    """Subject, people, date and the readable body of a message and of those it forwards.

    The library's own reading of plain-text bodies runs their lines together.
    """
    texts: list[str] = []
    for part in message.walk():
        heads = [f"**{name}**: {part[name]}" for name in ("Subject", "From", "To", "Date") if part[name]]
        if heads:
            texts.append("\n".join(heads))
        if part.get_content_maintype() == "multipart" and isinstance(payload := part.get_payload(), str):
            texts.append(payload)  # it says it has parts, but none is marked
        if part.get_content_maintype() != "text" or part.get_content_disposition() == "attachment":
            continue
        raw = part.get_payload(decode=True)
        text = raw.decode(_charset(part), "replace") if isinstance(raw, bytes) else ""
        if part.get_content_subtype() == "html":
            # Both ways of saying the same: the plain one was first.
            if any(not text.startswith("**") for text in texts):
                continue
            text = kreuzberg.extract_bytes_sync(
                text.encode("utf-8", "replace"), "text/html", _config()
            ).content
        texts.append(text.strip())
    return "\n\n".join(text for text in texts if text)


def _charset(part: email.message.Message) -> str:
    try:
        return codecs.lookup(part.get_content_charset() or "utf-8").name
    except LookupError:
        return "utf-8"


def _slide_texts(body: bytes) -> str:
    """Texts of an old PowerPoint file, in stored order, where its slides refer to none of them.

    TextCharsAtom (0x0FA0, UTF-16) and TextBytesAtom (0x0FA8, one byte a
    character): section 2.9.42 and 2.9.43 of Microsoft's [MS-PPT].
    """
    texts: list[str] = []
    for atom in re.finditer(rb"\x00\x00([\xa0\xa8])\x0f(..)\x00\x00", body, re.DOTALL):
        raw = body[atom.end() : atom.end() + int.from_bytes(atom[2], "little")]
        text = (
            raw.decode("utf-16-le" if atom[1] == b"\xa0" else "cp1252", "replace").replace("\r", "\n").strip()
        )
        if len(text) > 1 and not text.startswith("Click to edit Master"):
            texts.append(text)
    return "\n\n".join(texts)


def _limit_memory(megabytes: int) -> None:
    """No more than `megabytes` above what the libraries have reserved by now (Linux only).

    Where the kernel does not say how much that is, the parent's watch over the
    resident size has to do.
    """
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:
        return
    limit = pages * resource.getpagesize() + megabytes * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> None:
    descriptor, megabytes = int(sys.argv[1]), int(sys.argv[2])
    # Whatever a library prints must not get between the messages.
    os.dup2(2, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    extract(b"<p>warm</p>", "text/html")
    _limit_memory(megabytes)
    with Connection(descriptor) as pipe:
        while True:
            try:
                header: dict[str, Any] = json.loads(pipe.recv_bytes())
                body = pipe.recv_bytes()
            except EOFError:
                return
            # Should the parent die meanwhile, nobody else would end a parser that never returns.
            signal.alarm(int(header["seconds"]) + 10)
            try:
                reply = extract(body, header["mime"])
            except MemoryError:
                reply = {"error": "memory", "detail": ""}
            except Exception as error:
                reply = {"error": type(error).__name__, "detail": str(error)[:500]}
            signal.alarm(0)
            pipe.send_bytes(json.dumps(reply).encode())


if __name__ == "__main__":
    main()
