"""MediaWiki markup, with the dialect of Mozilla's knowledge base, to Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator

from assistant.ingest.markup import without_tags

MAX_COLUMNS = 50

_HEADING = re.compile(r"^(={1,6})[^=\n]{1,300}\1[ \t]{0,9}$", re.MULTILINE)
_LOOKS_WIKI = re.compile(r"__TOC__|^\{\||\[\[(?:image|file|template|category):", re.IGNORECASE | re.MULTILINE)
# Wordings for two systems side by side: "Open {for win}Options{/for}{for mac}Preferences{/for}".
_ALTERNATIVE = re.compile(r"(?<=[^\s{}])\{/for\}\{for [^{}\n]{1,200}\}(?=\S)")
_SWITCH = re.compile(r"\{/?(?:for|note|warning|tip)\b[^{}\n]{0,200}\}")
_SPAN = re.compile(r"\{(?:menu|button|key|filepath|pref|tooltip|dl|ui)[ :]([^{}]{1,300})\}")
_TEMPLATE = re.compile(r"\{\{[^{}]{0,2000}\}\}")
_MAGIC = re.compile(r"__[A-Z]{3,20}__")
_EMBED = re.compile(
    r"\[\[(?:image|file|video|media|t|template|include|category|ui)\s*:[^\[\]]{0,1000}\]\]", re.IGNORECASE
)
_NAMED = re.compile(r"\[\[[^\[\]|]{0,300}\|([^\[\]]{1,500})\]\]")
_PLAIN = re.compile(r"\[\[(?:[^\[\]#]{0,300}#)?([^\[\]]{1,300})\]\]")
_EXTERNAL = re.compile(r"\[(https?://[^\s\[\]]{1,1000})(?: +([^\[\]\n]{1,500}))?\]")
_REF = re.compile(r"<ref[^<>]{0,300}/>|<ref[^<>]{0,300}>[^<]{0,2000}</ref>", re.IGNORECASE)
_CODE = re.compile(r"<(?:code|tt|kbd)>([^<\n]{1,500})</(?:code|tt|kbd)>", re.IGNORECASE)
_BLOCK_CODE = re.compile(r"<(pre|syntaxhighlight|source)(?:\s[^<>]{0,200})?>", re.IGNORECASE)
_LIST = re.compile(r"^([*#:;]{1,8})[ \t]*")
_CELL_ATTRIBUTES = re.compile(
    r"^(?:\s*[a-z-]{2,20}\s*=\s*(?:\"[^\"]{0,300}\"|[^\s|\"]{1,100}))+\s*\|(?!\|)", re.IGNORECASE
)


def looks_like_wiki(text: str) -> bool:
    """Whether a text nobody declared as a wiki page is one."""
    if "[[" not in text and "'''" not in text and "{|" not in text:
        return False
    return bool(_LOOKS_WIKI.search(text)) or (bool(_HEADING.search(text)) and ("[[" in text or "'''" in text))


def wiki_to_markdown(text: str) -> str:
    """Markdown with the same headings, lists, tables, code and outward links; the rest of the markup goes."""
    text = _REF.sub("", text.replace("\r\n", "\n"))
    text = _CODE.sub(r"`\1`", text)
    text = _fences(text)
    out: list[str] = []
    fenced = False
    prose: list[str] = []
    for line in text.split("\n"):
        if line == "```":
            out.append(_prose("\n".join(prose)))
            prose = []
            fenced = not fenced
            out.append(line)
        else:
            (out if fenced else prose).append(line)
    out.append(_prose("\n".join(prose)))
    return "\n".join(out)


def _fences(text: str) -> str:
    text = _BLOCK_CODE.sub("\n```\n", text)
    return re.sub(r"</(?:pre|syntaxhighlight|source)>", "\n```\n", text, flags=re.IGNORECASE)


def _prose(text: str) -> str:
    text = _MAGIC.sub("", without_tags(text))
    for _ in range(4):  # templates hold templates; four deep is more than authors nest
        text, changed = _TEMPLATE.subn("", text)
        if not changed:
            break
    text = _SPAN.sub(lambda m: m[1].strip(), _SWITCH.sub("", _ALTERNATIVE.sub(" / ", text)))
    text = _SPAN.sub(lambda m: m[1].strip(), text)  # {filepath …{pref …}…}
    text = _NAMED.sub(r"\1", _EMBED.sub("", text))
    text = _PLAIN.sub(r"\1", text)
    text = _EXTERNAL.sub(lambda m: f"[{m[2]}]({m[1]})" if m[2] else m[1], text)
    # Lists before headings: their `#` and a Markdown heading's are the same sign.
    text = _HEADING.sub(_heading, "\n".join(_lists(_tables(text.split("\n")))))
    # After the lists, whose second level is `**` as well.
    return text.replace("'''''", "**").replace("'''", "**").replace("''", "")


def _heading(match: re.Match[str]) -> str:
    name = match[0].strip("= \t")
    return f"\n{'#' * len(match[1])} {name}\n"


def _lists(lines: list[str]) -> Iterator[str]:
    """Items with Markdown's signs, indented by depth and numbered."""
    numbers: dict[int, int] = {}
    for line in lines:
        match = _LIST.match(line)
        marks, rest = (match[1], line[match.end() :]) if match else ("", line)
        # Deeper numbers start anew; any line that is no item ends the list.
        numbers = {depth: n for depth, n in numbers.items() if depth <= len(marks)}
        if match and rest.strip():
            depth = len(marks)
            if marks[-1] == "#":
                numbers[depth] = numbers.get(depth, 0) + 1
            mark = {"*": "- ", "#": f"{numbers.get(depth, 1)}. "}.get(marks[-1], "")
            yield "  " * (depth - 1) + mark + rest
        elif not match:
            yield line


def _tables(lines: list[str]) -> list[str]:
    """`{| … |}` as Markdown tables; the first row is the header."""
    out: list[str] = []
    rows: list[list[str]] | None = None
    for line in lines:
        bare = line.strip()
        if rows is None:
            if bare.startswith("{|"):
                rows = [[]]
            else:
                out.append(line)
        elif bare.startswith("|}"):
            out += _markdown_table(rows)
            rows = None
        elif bare.startswith("|-"):
            rows.append([])
        elif bare.startswith("|+"):
            out += [bare[2:].strip(), ""]
        elif bare[:1] in {"|", "!"}:
            cells = re.split(r"\|\||!!" if bare[0] == "!" else r"\|\|", bare[1:])
            rows[-1] += [_CELL_ATTRIBUTES.sub("", cell).strip() for cell in cells]
        elif bare and rows[-1]:
            rows[-1][-1] = f"{rows[-1][-1]} {bare}".strip()
    return out + (_markdown_table(rows) if rows else [])


def _markdown_table(rows: list[list[str]]) -> list[str]:
    # Padding a million rows to the width of one would fill the memory.
    rows = [[*row[:MAX_COLUMNS], *filter(None, [" ".join(row[MAX_COLUMNS:])])] for row in rows if any(row)]
    if not rows:
        return []
    width = max(map(len, rows))
    table = [
        "| " + " | ".join(c.replace("|", "\\|") for c in row + [""] * (width - len(row))) + " |"
        for row in rows
    ]
    return ["", table[0], "|" + " --- |" * width, *table[1:], ""]
