"""Markup in, plain Markdown out: HTML, MediaWiki and Markdown itself, and its sections.

Whatever comes in is untrusted. Every pattern here is linear in the length of its
input, nothing is fetched, scripts and styles are dropped, and only `http`,
`https` and `mailto` links survive as links.
"""

from __future__ import annotations

import html
import re
import unicodedata
from itertools import groupby

import kreuzberg

# --- text ---------------------------------------------------------------------------------

# Control characters, lone surrogates, soft hyphens, zero-width spaces and byte-order marks.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u200b\u2060\ufeff\ufffe\uffff\ud800-\udfff]"
)
_SPACES = re.compile(r"(?<=\S)[^\S\n]{2,}|[\u00a0\u1680\u2000-\u200a\u202f\u205f]")
_GAPS = re.compile(r"\n{3,}")


def clean(text: str) -> str:
    """Line ends as `\\n`, NFC, invisible characters gone, runs of blanks and empty lines collapsed."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n").replace("\u2028", "\n")
    text = unicodedata.normalize("NFC", _INVISIBLE.sub("", text))
    lines = [line.rstrip() for line in _SPACES.sub(" ", text).split("\n")]
    return _GAPS.sub("\n\n", "\n".join(lines)).strip("\n")


# --- HTML ---------------------------------------------------------------------------------


def _html_config(*, aggressive: bool) -> kreuzberg.ExtractionConfig:
    options: dict[str, object] = {"extract_metadata": False}
    if aggressive:
        options["preprocessing"] = {
            "enabled": True,
            "preset": "aggressive",
            "remove_navigation": True,
            "remove_forms": True,
        }
    return kreuzberg.ExtractionConfig(
        output_format="markdown",
        use_cache=False,
        enable_quality_processing=False,
        html_options=options,  # pyright: ignore[reportArgumentType]
    )


_FRAGMENT, _PAGE = _html_config(aggressive=False), _html_config(aggressive=True)


def html_to_markdown(source: str, *, page: bool = False) -> str:
    """Markdown of an HTML fragment, or of a whole `page`, whose menus and footers go.

    What the converter drops (it gives up on tags nested hundreds deep) comes back
    as bare text rather than not at all.
    """
    source = without_head(source)
    try:
        config = _PAGE if page else _FRAGMENT
        markdown = kreuzberg.extract_bytes_sync(
            source.encode("utf-8", "replace"), "text/html", config
        ).content
    except Exception:  # the converter's exceptions share no base class
        markdown = ""
    if not markdown.strip():
        return bare_text(source)
    return tidy(unescape(markdown))


def without_head(source: str) -> str:
    """Title, canonical link and meta tags would come out as a block of front matter."""
    lower = source[:100_000].lower()
    start = lower.find("<head>")
    end = lower.find("</head>", start)
    return source[:start] + source[end + 7 :] if 0 <= start < end else source


_BLOCK_TAG = re.compile(r"</?(?:p|div|br|li|tr|h[1-6]|table|blockquote|pre|section)\b[^<>]*>", re.IGNORECASE)
_ANY_TAG = re.compile(r"<[!?/]?[a-zA-Z][^<>]*>")


def bare_text(source: str) -> str:
    """The text of HTML or XML without any structure but line ends."""
    for opening, closing in _SILENT:
        source = _cut(source, opening, closing)
    return html.unescape(_ANY_TAG.sub("", _BLOCK_TAG.sub("\n", source))).strip()


_ATTRIBUTES = re.compile(
    r"<[a-zA-Z][\w:.-]{0,60}((?:\s+[\w:.-]{1,60}\s*=\s*(?:\"[^\"<]{0,2000}\"|'[^'<]{0,2000}'))+)\s*/?>"
)
_VALUE = re.compile(r"[\"']([^\"']*)[\"']")


def xml_text(source: str) -> str:
    """The words of an XML file (a policy template, a property list): attribute values and texts by line.

    Not parsed, so that neither entities nor depth matter.
    """
    source = _cut(_cut(source, "<!--", "-->"), "<?", "?>").replace("</key>", ":")

    def values(match: re.Match[str]) -> str:
        words = [value for value in _VALUE.findall(match[1]) if not value.startswith(("http://www.w3", "$("))]
        return " ".join(words) + (": " if words else "")

    text = html.unescape(_ANY_TAG.sub("", _ATTRIBUTES.sub(values, source)))
    lines = (" ".join(line.split()).removesuffix(":") for line in text.split("\n"))
    return re.sub(r":\n(?=\S)", ": ", "\n".join(line for line in lines if line))


# --- Markdown -----------------------------------------------------------------------------

FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_FRONT_MATTER = re.compile(r"\A---\n(?:(?!---\n).*\n){0,200}?---\n")
_TITLE_LINE = re.compile(r"^title: *(.+)$", re.MULTILINE)
_ESCAPED = re.compile(r"\\([!-/:-@\[-`{}~])")
_ENTITY = re.compile(r"&#?\w{2,8};")
_IMAGE = re.compile(r"!\[([^\[\]\n]{0,300})\]\([^()\n]{0,4000}\)")
_DATA_URI = re.compile(r"data:[\w/+.-]{1,60};base64,[A-Za-z0-9+/=]+")
_LINK = re.compile(
    r"\[([^\[\]\n]{0,1000})\]\(<?([^()\s]{0,2000}(?:\([^()\s]{0,200}\)[^()\s]{0,500})?)>?(?: \"[^\"\n]{0,300}\")?\)"
)
_CONTENTS_ITEM = re.compile(r"^\s*(?:[-*+]|\d+[.)])\s+\[[^\]\n]+\]\(#[^)\n]*\)\s*$\n?", re.MULTILINE)
_SAFE_LINK = re.compile(r"https?://|mailto:", re.IGNORECASE)
# Only tags of HTML: <account>, <your-domain> and the like are what the author wants to be read.
_TAG = re.compile(
    r"</?(?:a|abbr|b|big|blockquote|br|caption|center|cite|code|dd|del|details|div|dl|dt|em|embed|figcaption"
    r"|figure|font|form|h[1-6]|hr|i|iframe|img|input|ins|kbd|label|li|mark|nowiki|object|ol|p|picture|pre|q|s"
    r"|samp|section|small|source|span|strike|strong|sub|summary|sup|svg|table|tbody|td|th|thead|tr|tt|u|ul|var"
    r"|video|wbr)(?:\s[^<>]{0,2000})?/?>",
    re.IGNORECASE,
)
_BREAK = re.compile(r"<br ?/?>\n?|</?(?:p|div|li|tr|h[1-6])(?:\s[^<>]{0,500})?>", re.IGNORECASE)
_SILENT = (("<!--", "-->"), ("<script", "</script>"), ("<style", "</style>"))
_GITBOOK = re.compile(r"\{%[^%\n]{0,300}%\}")


def unescape(text: str) -> str:
    """Backslashes and entities are for a Markdown renderer, not for a reader or an index."""
    return _ESCAPED.sub(lambda m: m[0] if m[1] == "|" else m[1], text)


def without_tags(text: str) -> str:
    """Inline HTML out of text that is not HTML; comments, scripts and styles with what they hold."""
    if "<" in text:
        for opening, closing in _SILENT:
            text = _cut(text, opening, closing)
        text = _TAG.sub("", _BREAK.sub("\n", text))
    return html.unescape(text) if _ENTITY.search(text) else text


def _cut(text: str, opening: str, closing: str) -> str:
    """`text` without every stretch from `opening` to `closing`; an unclosed one stays."""
    lower = text.lower()
    if len(lower) != len(text) or opening not in lower:
        return text
    kept, at = list[str](), 0
    while (start := lower.find(opening, at)) >= 0 and (end := lower.find(closing, start)) >= 0:
        kept.append(text[at:start])
        at = end + len(closing)
    return "".join(kept) + text[at:]


def tidy(text: str) -> str:
    """Markdown without pictures, tables of contents and links that lead nowhere from here."""
    if "![" in text:
        text = _IMAGE.sub(lambda m: m[1] if m[1].count(" ") > 1 else "", text)
    if "base64," in text:
        text = _DATA_URI.sub("", text)
    if "](" in text:
        text = _LINK.sub(_link, _CONTENTS_ITEM.sub("", text))
    return text


def _link(match: re.Match[str]) -> str:
    words, target = match[1].strip(), match[2]
    if not _SAFE_LINK.match(target) or words in {target, target.removeprefix("mailto:")}:
        return words
    return f"[{words}]({target})" if words else target


def markdown_file(text: str) -> str:
    """A Markdown file: front matter (but its title), inline HTML and pictures go; code stays as it is."""
    if front := _FRONT_MATTER.match(text):
        title = _TITLE_LINE.search(front[0])
        body = text[front.end() :]
        if title and not re.search(r"^# ", body, re.MULTILINE):
            body = "# " + title[1].strip(" \"'") + "\n\n" + body
        text = body
    parts: list[str] = []
    for fenced, lines in groupby(fenced_lines(text), key=lambda pair: pair[0]):
        block = "\n".join(line for _, line in lines)
        parts.append(block if fenced else tidy(unescape(without_tags(_GITBOOK.sub("", block)))))
    return "\n".join(parts)


def fenced_lines(text: str) -> list[tuple[bool, str]]:
    """Each line and whether it belongs to a code fence (the fences themselves do)."""
    out: list[tuple[bool, str]] = []
    fence = ""
    for line in text.split("\n"):
        match = FENCE.match(line)
        if fence:
            out.append((True, line))
            if match and match[1].startswith(fence) and not line.strip(" `~"):
                fence = ""
        elif match:
            fence = match[1]
            out.append((True, line))
        else:
            out.append((False, line))
    return out


_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]")
_MARKS = re.compile(r"\*\*|__|`|\[([^\[\]]*)\]\([^()]*\)")


def sections(text: str) -> list[tuple[tuple[str, ...], str]]:
    """Markdown as (heading path, text below it), in order; headings without text of their own go.

    A level that skips one (`#`, `###`) nests below the nearest higher one.
    """
    found: list[tuple[tuple[str, ...], str]] = []
    path: list[tuple[int, str]] = []
    lines: list[str] = []

    def flush() -> None:
        body = clean("\n".join(lines))
        if body.strip(" \n-*_=|"):
            found.append((tuple(name for _, name in path), body))
        lines.clear()

    if "#" not in text:
        lines.append(text)
        flush()
        return found
    for fenced, line in fenced_lines(text):
        match = None if fenced else _HEADING.match(line)
        name = _MARKS.sub(r"\1", line[match.end() :].rstrip("# \t")).strip() if match else ""
        # A "heading" as long as a paragraph is one: office files style whole pages as headings.
        if match is None or not name or len(name) > 200:
            lines.append(name if match else line)
            continue
        flush()
        level = len(match[1])
        while path and path[-1][0] >= level:
            path.pop()
        path.append((level, clean(name)))
    flush()
    return found
