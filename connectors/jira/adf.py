"""Atlassian Document Format, as descriptions and comments come in, to Markdown.

Total: whatever arrives gives text. A node nobody knows yet keeps the text below it, and
what is nested beyond all sense is flattened, so that a new editor's feature loses no words.
Shapes as in https://developer.atlassian.com/cloud/jira/platform/apis/document/structure/
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

DEPTH = 60
"""nesting that is laid out; what lies deeper is one line of text"""

Node = Mapping[str, Any]

_SPECIAL = str.maketrans({"&": "&amp;", "<": "&lt;"})
_LEADING = re.compile(r"^(\s*)(#{1,6}\s|```|~~~|---|>)", re.MULTILINE)


def to_markdown(document: object) -> str:
    """`document` as Markdown; a plain string is taken as text, None as nothing."""
    if isinstance(document, str):
        return _escaped(document).strip()
    if not isinstance(document, dict):
        return ""
    return _block(cast(Node, document), 0).strip()


def _children(node: Node) -> list[Node]:
    content = node.get("content")
    if not isinstance(content, list):
        return []
    return [cast(Node, child) for child in cast("list[Any]", content) if isinstance(child, dict)]


def _attribute(node: Node, *names: str) -> str:
    """The first of the attributes that has a value, as text."""
    attributes = node.get("attrs")
    if not isinstance(attributes, dict):
        return ""
    for name in names:
        value = cast("dict[str, Any]", attributes).get(name)
        if isinstance(value, str | int | float) and not isinstance(value, bool) and str(value).strip():
            return str(value).strip()
    return ""


def _kind(node: Node) -> str:
    return str(node.get("type") or "")


def _escaped(text: str) -> str:
    """Text that Markdown and HTML leave alone."""
    return _LEADING.sub(r"\1\\\2", text.translate(_SPECIAL))


def _flat(node: Node) -> str:
    """All text below `node`, without recursion."""
    words: list[str] = []
    stack = [node]
    while stack:
        current = stack.pop()
        text = current.get("text")
        if isinstance(text, str):
            words.append(_escaped(text))
        stack += reversed(_children(current))
    return " ".join(words)


# ── blocks ───────────────────────────────────────────────────────────────────


def _block(node: Node, depth: int) -> str:
    if depth > DEPTH:
        return _flat(node)
    return _BLOCKS.get(_kind(node), _container)(node, depth)


def _container(node: Node, depth: int) -> str:
    """Blocks one below the other; runs of inline nodes between them are paragraphs.

    Also what becomes of a block of an unknown type.
    """
    pieces: list[str] = []
    line: list[str] = []
    for child in [*_children(node), None]:
        if child is not None and _is_inline(child):
            line.append(_inline(child, depth + 1))
            continue
        if line:
            pieces.append("".join(line).strip())
            line = []
        if child is not None:
            pieces.append(_block(child, depth + 1))
    own = node.get("text") if _kind(node) != "text" else None
    title = _attribute(node, "title") if _kind(node) in ("expand", "nestedExpand") else ""
    head = [f"**{_escaped(title)}**"] if title else []
    if isinstance(own, str):
        head.append(_escaped(own))
    return "\n\n".join(filter(None, [*head, *pieces]))


def _paragraph(node: Node, depth: int) -> str:
    if not all(_is_inline(child) for child in _children(node)):
        return _container(node, depth)
    return "".join(_inline(child, depth + 1) for child in _children(node)).strip()


def _heading(node: Node, depth: int) -> str:
    text = " ".join(_paragraph(node, depth).split())
    level = _attribute(node, "level")
    return f"{'#' * min(max(int(level), 1), 6) if level.isdigit() else '##'} {text}" if text else ""


def _code(node: Node, depth: int) -> str:
    raw = "".join(_raw(child) for child in _children(node))
    runs = re.findall(r"^\s*(`{3,})", raw, re.MULTILINE)
    fence = "`" * max([3, *(len(run) + 1 for run in runs)])
    language = re.sub(r"[^\w+#.-]", "", _attribute(node, "language"))
    return f"{fence}{language}\n{raw}\n{fence}"


def _raw(node: Node) -> str:
    text = node.get("text")
    return text if isinstance(text, str) else "\n" if _kind(node) == "hardBreak" else ""


def _quote(node: Node, depth: int) -> str:
    return "\n".join(f"> {line}".rstrip() for line in _container(node, depth).split("\n"))


def _panel(node: Node, depth: int) -> str:
    name = _attribute(node, "panelType")
    text = _container(node, depth)
    label = {"note": "Note", "warning": "Warning", "error": "Error", "success": "Success", "tip": "Tip"}
    return f"**{label[name]}:** {text}" if name in label and text else text


def _items(node: Node, depth: int, mark: Callable[[int, Node], str]) -> str:
    lines: list[str] = []
    for number, item in enumerate(_children(node)):
        if _kind(item) == _kind(node):  # a list within a list, as task lists are
            lines += [f"  {line}" for line in _block(item, depth + 1).split("\n")]
            continue
        text = re.sub(r"\n\n(?=\s*(?:[-*]|\d+\.)\s)", "\n", _container(item, depth + 1))
        first, *rest = text.split("\n")
        lead = mark(number, item)
        lines.append(f"{lead}{first}".rstrip())
        lines += [f"{' ' * len(lead)}{line}".rstrip() for line in rest]
    return "\n".join(lines)


def _bullets(node: Node, depth: int) -> str:
    return _items(node, depth, lambda _number, _item: "- ")


def _numbers(node: Node, depth: int) -> str:
    start = _attribute(node, "order")
    first = int(start) if start.isdigit() else 1
    return _items(node, depth, lambda number, _item: f"{first + number}. ")


def _tasks(node: Node, depth: int) -> str:
    return _items(
        node, depth, lambda _number, item: "- [x] " if _attribute(item, "state") == "DONE" else "- [ ] "
    )


def _table(node: Node, depth: int) -> str:
    rows = [
        [_cell(cell, depth + 2) for cell in _children(row)]
        for row in _children(node)
        if _kind(row) == "tableRow"
    ]
    if not rows:
        return _flat(node)
    width = max(map(len, rows))
    if not width:
        return ""
    lines = ["| " + " | ".join([*row, *[""] * (width - len(row))]) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * width, *lines[1:]])


def _cell(cell: Node, depth: int) -> str:
    return " ".join(_block(cell, depth).replace("|", "\\|").split())


def _media(node: Node, depth: int) -> str:
    captions = [_container(child, depth) for child in _children(node) if _kind(child) == "caption"]
    files = [_inline(child, depth) for child in _children(node) if _kind(child) != "caption"]
    return "\n".join(filter(None, [*files, *captions]))


def _rule(_node: Node, _depth: int) -> str:
    return "* * *"


_BLOCKS: dict[str, Callable[[Node, int], str]] = {
    "paragraph": _paragraph,
    "heading": _heading,
    "codeBlock": _code,
    "blockquote": _quote,
    "panel": _panel,
    "bulletList": _bullets,
    "decisionList": _bullets,
    "orderedList": _numbers,
    "taskList": _tasks,
    "table": _table,
    "mediaSingle": _media,
    "mediaGroup": _media,
    "rule": _rule,
}


# ── inline ───────────────────────────────────────────────────────────────────


def _is_inline(node: Node) -> bool:
    return _kind(node) in _INLINES


def _inline(node: Node, depth: int) -> str:
    if _kind(node) not in _INLINES:
        return _flat(node) if depth > DEPTH else _container(node, depth)
    return _INLINES[_kind(node)](node)


def _text(node: Node) -> str:
    text = node.get("text")
    if not isinstance(text, str):
        return ""
    marks = {_kind(mark): mark for mark in _marks(node)}
    if "code" in marks and "`" not in text:
        return f"`{text}`"
    shown = _escaped(text)
    core = shown.strip()
    if not core:
        return shown
    before, after = shown[: len(shown) - len(shown.lstrip())], shown[len(shown.rstrip()) :]
    if "strong" in marks:
        core = f"**{core}**"
    if "em" in marks:
        core = f"*{core}*"
    if "strike" in marks:
        core = f"~~{core}~~"
    target = _attribute(marks["link"], "href") if "link" in marks else ""
    if target and target.removeprefix("mailto:") != text.strip():
        core = f"[{core}]({_address(target)})"
    return f"{before}{core}{after}"


def _marks(node: Node) -> Iterator[Node]:
    marks = node.get("marks")
    if isinstance(marks, list):
        yield from (cast(Node, mark) for mark in cast("list[Any]", marks) if isinstance(mark, dict))


def _address(target: str) -> str:
    return target.replace(" ", "%20").replace("(", "%28").replace(")", "%29")


def _mention(node: Node) -> str:
    name = _attribute(node, "text")
    return "@" + _escaped(name.removeprefix("@")) if name else "@someone"


def _file(node: Node) -> str:
    name = _attribute(node, "alt", "url", "fileName")
    return f"[attachment: {_escaped(name)}]" if name else "[attachment]"


def _date(node: Node) -> str:
    stamp = _attribute(node, "timestamp")
    try:
        return dt.datetime.fromtimestamp(float(stamp) / 1000, dt.UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return _escaped(stamp)


def _card(node: Node) -> str:
    return _attribute(node, "url")


def _words(node: Node) -> str:
    return _escaped(_attribute(node, "text", "shortName"))


def _line_break(_node: Node) -> str:
    return "\n"


_INLINES: dict[str, Callable[[Node], str]] = {
    "text": _text,
    "hardBreak": _line_break,
    "mention": _mention,
    "emoji": _words,
    "status": _words,
    "placeholder": _words,
    "date": _date,
    "inlineCard": _card,
    "blockCard": _card,
    "embedCard": _card,
    "media": _file,
    "mediaInline": _file,
}
