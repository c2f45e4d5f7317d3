"""Words, sentences and cleaning: what citing, extracting and abstaining have in common.

Text of sources is data. `clean` makes it inert before a model or a reader sees it:
no markup that renders, nothing that looks like our own markers or delimiters.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, replace

from assistant.text.stem import stem

_STOPWORDS = """
    a about after all also am an and any are as at be because been before being but by can could did do
    does doing down else ever for from get got had has have having he help her here hers hi him his how
    i if in into is it its just like me more most my need of on once only or other our out over own
    please really same she should so some such than thank thanks that the their them then there these
    they this those through to too under until up us very want was way we well were what when where
    which while who whom why will with would you your yours hello im ive id dont
"""
STOPWORDS = frozenset(_STOPWORDS.split())
"""Words that say nothing about the topic. Negations are not among them: they change what is claimed."""

_CONTROL = re.compile(
    "[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]"
)
_BLOCKS = re.compile(r"<(script|style|iframe|object|svg)\b.*?(</\1\s*>|\Z)|<!--.*?(-->|\Z)", re.S | re.I)
_TAG = re.compile(
    r"</?(a|abbr|article|aside|b|blockquote|body|br|button|center|code|dd|del|details|div|dl|dt|em|embed|figure|"
    r"font|footer|form|h[1-6]|head|header|hr|html|i|img|input|ins|kbd|label|li|link|main|mark|meta|nav|ol|option|"
    r"p|pre|q|s|samp|section|select|small|span|strike|strong|sub|summary|sup|table|tbody|td|textarea|tfoot|th|"
    r"thead|tr|tt|u|ul|var|video|audio|source|script|style|iframe|object|svg|base)\b[^<>]*>",
    re.I,
)
_IMAGE = re.compile(r"!\[([^\]]*)\]\([^)]*\)")
_LINK = re.compile(r"\[([^\]]+)\]\((?:[^()]|\([^()]*\))*\)")
_SCHEME = re.compile(r"\b(javascript|vbscript|data|file|about|blob)\s*:(?=\S)", re.I)
_MARKER = re.compile(r"\[(\s*\d[\d\s,;-]*)\]")
_HEADING = re.compile(r"^\s{0,3}#{1,6}\s+", re.M)
_EMPHASIS = re.compile(r"(?<!\w)(\*{1,3})(?=\S)([^\n]+?)(?<=\S)\1(?!\w)")

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


def clean(text: str) -> str:
    """A source's text as inert plain text: no HTML, links, images, control characters or `[1]` of its own.

    Angle brackets that could open a tag become ‹ and ›, so that our delimiters cannot be forged.
    """
    text = html.unescape(html.unescape(text))
    text = _CONTROL.sub("", text.replace("\r\n", "\n"))
    text = _TAG.sub(" ", _BLOCKS.sub(" ", text))
    text = text.replace("<", "‹").replace(">", "›")
    text = _LINK.sub(r"\1", _IMAGE.sub(r"\1", text))
    text = _MARKER.sub(r"(\1)", text)
    text = _EMPHASIS.sub(r"\2", _EMPHASIS.sub(r"\2", _HEADING.sub("", text)))
    return _SCHEME.sub(r"\1 :", text)


def safe_url(url: str) -> str:
    """An http(s) address fit to be shown as a link, or nothing."""
    return url if re.fullmatch(r"https?://[^\s<>\"'`\[\]{}|\\^]+", url) else ""


def stems(text: str) -> list[str]:
    """The topical words of a text in order, lower case and stemmed."""
    words = (word.lower().replace("’", "'").removesuffix("'s") for word in WORD.findall(text))
    return [stem(word) for word in words if word.replace("'", "") not in STOPWORDS]


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence, heading, list item or table row of a text."""

    text: str
    start: int
    block: int
    """which paragraph, list or table it belongs to"""
    step: bool = False
    """a list item"""
    cells: tuple[str, ...] = ()
    """of a table row"""
    head: tuple[str, ...] = ()
    """the cells of its table's first row, when that is a header"""

    @property
    def readable(self) -> str:
        """On one line; a row names its columns: "Port: 7420; Protocol: tcp"."""
        if not self.cells:
            return " ".join(self.text.split())
        heads = (*self.head, *[""] * len(self.cells))
        line = "; ".join(f"{h}: {c}" if h else c for h, c in zip(heads, self.cells, strict=False) if c)
        return line[:1].upper() + line[1:]

    @property
    def end(self) -> int:
        return self.start + len(self.text)


_ITEM = re.compile(r"\s*(?:[-*•‣]|\d{1,2}[.)])\s+")
_RULE = re.compile(r"\s*\|[\s:|-]*-[\s:|-]*$")
"""the line of dashes under a table's header"""
_BAR = re.compile(r"(?<!\\)\|")
_BROKEN = re.compile(r"^(?!\s*(?:\||[-*•‣]\s|\d{1,2}[.)]\s)).{40,}[\w,]$", re.S)
"""prose without an end"""
ENDING = re.compile(r"[.!?…\n]")
"""Where none of these is, no sentence ends."""
_END = re.compile(r"(?<=[.!?…])[\"'”’)\]]*(?:\s*\[\d+\])*\s+(?=[\"'“‘(]?[A-Z0-9À-Þ#*`])")
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|vs|cf|Mr|Mrs|Ms|Dr|St|No|Nr|approx|Inc|Ltd|Fig|ca|resp|Bros|Jr|Sr|Corp)\.|\b[A-Z]\.|^\d+\.)$"
)


def sentences(text: str) -> list[Sentence]:
    """Split text into sentences; a list item or table row is one, a line break in a paragraph is no end.

    Offsets are into `text`.
    """
    found: list[Sentence] = []
    block, was_step, after_gap = 0, False, True
    for start, line, joined in _lines(text):
        if not line.strip():
            after_gap = True
            continue
        if line.lstrip().startswith("|"):
            _add_row(found, line, start, new=after_gap)
            block, was_step, after_gap = found[-1].block if found else 0, False, False
            continue
        step = bool(_ITEM.match(line))
        if (after_gap and not (step and was_step)) or step != was_step or not (step or joined):
            block += 1
        for offset, piece in _pieces(line) if not step else [(0, line)]:
            lead = len(piece) - len(piece.lstrip())
            if stripped := piece.strip():
                found.append(Sentence(stripped, start + offset + lead, block, step))
        was_step, after_gap = step, False
    return found


def _add_row(found: list[Sentence], line: str, start: int, *, new: bool) -> None:
    """A line of a table; the line of dashes makes a header of the row before it."""
    before = found[-1] if found else None
    if _RULE.match(line):
        if before and before.cells:
            found[-1] = replace(before, head=before.cells)
        return
    cells = tuple(" ".join(cell.split()) for cell in _BAR.split(line.strip().strip("|")))
    if any(cells):
        goes_on = before is not None and bool(before.cells) and not new
        block = before.block + (not goes_on) if before else 1
        lead = len(line) - len(line.lstrip())
        head = before.head if before and goes_on else ()
        found.append(Sentence(line.strip(), start + lead, block, False, cells, head))


def without_bullet(line: str) -> str:
    """A list item without its bullet or number."""
    return _ITEM.sub("", line, count=1) if _ITEM.match(line) else line


def _lines(text: str) -> list[tuple[int, str, bool]]:
    """Lines with their offsets. A line that goes on in lower case belongs to the one before."""
    lines: list[tuple[int, str, bool]] = []
    position = 0
    for line in text.split("\n"):
        last = lines[-1][1].strip() if lines else ""
        if not last and len(lines) > 1 and _BROKEN.search(lines[-2][1]) and re.match(r"[a-zß-ÿ]", line):
            # A sentence that the end of a line on paper cut in two.
            position += len(line) + 1
            start, before, joined = lines[-2]
            lines[-2:] = [(start, before + "\n\n" + line, joined)]
            continue
        goes_on = last and not last.startswith("|") and bool(re.match(r"\s*[a-zß-ÿ(]", line))
        if goes_on and not _ITEM.match(line):
            start, before, _ = lines.pop()
            lines.append((start, before + "\n" + line, True))
        else:
            lines.append((position, line, False))
        position += len(line) + 1
    return lines


def _pieces(line: str) -> list[tuple[int, str]]:
    pieces: list[tuple[int, str]] = []
    start = 0
    for end in _END.finditer(line):
        if not _ABBREVIATION.search(line[start : end.start()]):
            pieces.append((start, line[start : end.end()]))
            start = end.end()
    pieces.append((start, line[start:]))
    return pieces
