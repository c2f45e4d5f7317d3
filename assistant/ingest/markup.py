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
# Among the spaces: the paragraph separator, which PDFs put between words.
_SPACES = re.compile(r"(?<=\S)[^\S\n]{2,}|[\u00a0\u1680\u2029\u2000-\u200a\u202f\u205f]")
_LINE_END = re.compile("\r\n?|[\v\f\x85\u2028]")
_GAPS = re.compile(r"\n{3,}")


def clean(text: str) -> str:
    """Line ends as `\\n`, NFC, invisible characters gone, runs of blanks and empty lines collapsed."""
    text = _LINE_END.sub("\n", text)
    text = unicodedata.normalize("NFC", _INVISIBLE.sub("", text))
    lines = [line.rstrip() for line in _SPACES.sub(" ", text).split("\n")]
    return _GAPS.sub("\n\n", "\n".join(lines)).strip("\n")


# --- HTML ---------------------------------------------------------------------------------


# Menus of the site go. Not "aggressive": that also drops <span class="menu">, which is how
# a support article writes "select Save as…".
_HTML_OPTIONS: dict[str, object] = {
    "extract_metadata": False,
    "preprocessing": {
        "enabled": True,
        "preset": "standard",
        "remove_navigation": True,
        "remove_forms": False,
    },
}
_CONFIG = kreuzberg.ExtractionConfig(
    output_format="markdown",
    use_cache=False,
    enable_quality_processing=False,
    html_options=_HTML_OPTIONS,  # pyright: ignore[reportArgumentType] - typed too narrowly
)


def html_to_markdown(source: str) -> str:
    """Markdown of a fragment of HTML or a whole page.

    What the converter drops (it gives up on tags nested hundreds deep) comes back
    as bare text rather than not at all.
    """
    source = prepared(source)
    try:
        markdown = kreuzberg.extract_bytes_sync(
            source.encode("utf-8", "replace"), "text/html", _CONFIG
        ).content
    except Exception:  # the converter's exceptions share no base class
        markdown = ""
    return converted(markdown) if _LETTER.search(markdown) else bare_text(source)


def converted(markdown: str) -> str:
    """The parser's Markdown without what is for a renderer only."""
    if "<!-- MathML" in markdown:
        markdown = _cut(markdown, "<!-- mathml", "-->")
    markdown = _ESCAPED.sub(lambda m: m[0] if m[1] == "|" else m[1], markdown.replace("&#9;", " "))
    return tidy(_UNDERLINED.sub(r"\1", _RULE.sub("", _EMPTY_ROW.sub("", markdown))))


def prepared(source: str) -> str:
    """HTML fit for the converter.

    Its head (title, canonical link, meta tags) would come out as a block of front
    matter, and alternatives that a script shows one of would run into each other.
    """
    lower = source[:100_000].lower()
    start = lower.find("<head>")
    end = lower.find("</head>", start)
    source = source[:start] + source[end + 7 :] if 0 <= start < end else source
    source = _cut(source, "<footer", "</footer>")
    return source.replace('</span><span class="for"', '</span> / <span class="for"')


_LETTER = re.compile(r"\w")
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
    lines = [" ".join(line.split()) for line in text.split("\n")]
    joined = "\n".join(line for line in lines if line)
    return joined.replace(":\n", ": ")


# --- Markdown -----------------------------------------------------------------------------

FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_FRONT_MATTER = re.compile(r"\A---\n(?:(?!---\n).*\n){0,200}?---\n")
_TITLE_LINE = re.compile(r"^title: *(.+)$", re.MULTILINE)
_ESCAPED = re.compile(r"\\([!-/:-@\[-`{}~])")
_EMPTY_ROW = re.compile(r"^\|[ |]*\|\n(?!\| *-)", re.MULTILINE)
_RULE = re.compile(r"^-{3,}$", re.MULTILINE)
_UNDERLINED = re.compile(r"(?<!\w)__([^_\n]{1,200})__(?!\w)")
_ENTITY = re.compile(r"&#?\w{2,8};")
_IMAGE = re.compile(r"!\[([^\[\]\n]{0,300})\]\([^()\n]{0,4000}\)")
_DATA_URI = re.compile(r"data:[\w/+.-]{1,60};base64,[A-Za-z0-9+/=]+")
_LINK = re.compile(
    r"\[([^\[\]\n]{0,1000})\]"
    r"\(<? {0,3}([^()\s]{0,2000}(?:\([^()\s]{0,200}\)[^()\s]{0,500})?)>?(?: \"[^\"\n]{0,300}\")?\)"
)
_AUTOLINK = re.compile(r"<((?:https?://|mailto:)[^<>\s]{1,2000})>")
_CONTENTS_ITEM = re.compile(
    r"^[ \t]*(?:[-*+]|\d{1,3}[.)])[ \t]+\[[^\]\n]+\]\(#[^)\n]*\)[ \t]*\n", re.MULTILINE
)
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
    if "://" in text:
        text = _AUTOLINK.sub(r"\1", text)
    return text


def _link(match: re.Match[str]) -> str:
    words, target = match[1].strip(), match[2]
    if not _SAFE_LINK.match(target) or words in {target, target.removeprefix("mailto:")}:
        return words
    return f"[{words}]({target})" if words else target


def front_matter(text: str) -> str:
    """The block of fields between two lines of dashes that a Markdown file may start with, or nothing."""
    front = _FRONT_MATTER.match(text)
    return front[0] if front else ""


def markdown_file(text: str) -> str:
    """A Markdown file: front matter (but its title), inline HTML and pictures go; code stays as it is."""
    if front := front_matter(text):
        title = _TITLE_LINE.search(front)
        body = text[len(front) :]
        if title and not any(line.startswith("# ") for fenced, line in fenced_lines(body) if not fenced):
            body = "# " + title[1].strip(" \"'") + "\n\n" + body
        text = body
    parts: list[str] = []
    for fenced, lines in groupby(fenced_lines(text), key=lambda pair: pair[0]):
        block = "\n".join(line for _, line in lines)
        parts.append(block if fenced else tidy(_ESCAPED.sub(r"\1", without_tags(_GITBOOK.sub("", block)))))
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


def only_heading(text: str) -> str:
    """The heading of the first level that Markdown opens with, where it has no other one: its title."""
    first, *others = [
        line for fenced, line in fenced_lines(text.lstrip()) if not fenced and line[:2] == "# "
    ] or [""]
    return _heading_name(first[2:]) if first and not others and text.lstrip().startswith(first) else ""


_CONTENTS = re.compile(r"(?:table of )?contents", re.IGNORECASE)
_MARKS = re.compile(r"\*\*|__|`|\[([^\[\]]*)\]\([^()]*\)")


def _heading_name(text: str) -> str:
    return _MARKS.sub(r"\1", text.rstrip("# \t")).strip()


def sections(text: str) -> list[tuple[tuple[str, ...], str]]:
    """Markdown as (heading path, text below it), in order.

    A heading with nothing below it, not even other headings, is text of the one above.
    A level that skips one (`#`, `###`) nests below the nearest higher one.
    """
    found: list[tuple[tuple[str, ...], str]] = []
    path: list[tuple[int, str]] = []
    lines: list[str] = []

    def flush(next_level: int) -> None:
        body = clean("\n".join(lines))
        names = tuple(name for _, name in path)
        if body.strip(" \n-*_=|"):
            found.append((names, body))
        elif path and next_level <= path[-1][0] and not _CONTENTS.fullmatch(names[-1]):
            found.append((names[:-1], names[-1]))
        lines.clear()

    if "#" not in text:
        lines.append(text)
        flush(0)
        return found
    for fenced, line in fenced_lines(text):
        match = None if fenced else _HEADING.match(line)
        name = _heading_name(line[match.end() :]) if match else ""
        # A "heading" as long as a paragraph is one: office files style whole pages as headings.
        if match is None or not name or len(name) > 200:
            lines.append(name if match else line)
            continue
        level = len(match[1])
        flush(level)
        while path and path[-1][0] >= level:
            path.pop()
        path.append((level, clean(name)))
    flush(0)
    return found
