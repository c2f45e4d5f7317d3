"""Build the sample company: rendered documents, tickets, questions.

Needs (only this script does): python-docx (MIT), openpyxl (MIT),
python-pptx (MIT), reportlab (BSD).

Plain-text documents (.md, .csv, .eml) are written in place under files/.
Every source/<path>.<ext>.md is rendered to files/<path>.<ext>, for ext one of
html, docx, pdf, xlsx, pptx. Output is byte-for-byte repeatable, so that a
rebuild without a change of the sources leaves git clean.

    python assistant/sample/build.py            everything
    python assistant/sample/build.py tickets    only the JSON files (standard library)
"""

# pyright: reportMissingImports=false, reportMissingModuleSource=false
# (whoever only runs Deskhand has none of the libraries that render the formats)

from __future__ import annotations

import html
import io
import re
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import expand

HERE = Path(__file__).parent
INLINE = re.compile(r"\*\*(?P<bold>.+?)\*\*|`(?P<code>[^`]+)`|\[(?P<text>[^\]]+)\]\((?P<url>[^)]+)\)")


@dataclass(frozen=True)
class Block:
    """One element of a document; `kind` says which of the fields is set."""

    kind: str  # heading | para | ul | ol | table | code | quote
    text: str = ""
    level: int = 0
    items: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)


@dataclass(frozen=True)
class Document:
    meta: dict[str, str]
    blocks: list[Block]

    @property
    def title(self) -> str:
        return self.meta["title"]

    @property
    def date(self) -> datetime:
        return datetime.fromisoformat(self.meta["date"])

    @property
    def byline(self) -> str:
        return f"{self.meta.get('author', 'Fernhill Software')} · Last updated: {self.meta['date']}"


def read(path: Path) -> Document:
    _, head, body = path.read_text(encoding="utf-8").split("---\n", 2)
    meta = dict(line.split(": ", 1) for line in head.splitlines() if line)
    return Document(meta, list(parse(body)))


def parse(text: str) -> Iterator[Block]:
    """The small part of Markdown that the sources use."""
    lines = text.splitlines()
    position = 0

    def take(matches: Callable[[str], object]) -> list[str]:
        nonlocal position
        start = position
        while position < len(lines) and matches(lines[position]):
            position += 1
        return lines[start:position]

    while position < len(lines):
        line = lines[position]
        if not line.strip():
            position += 1
        elif line.startswith("#"):
            marks, title = line.split(" ", 1)
            position += 1
            yield Block("heading", title, len(marks))
        elif line.startswith("```"):
            position += 1
            code = take(lambda text: not text.startswith("```"))
            position += 1
            yield Block("code", "\n".join(code))
        elif line.startswith("|"):
            rows = [
                [c.strip() for c in row.strip("|").split("|")] for row in take(lambda t: t.startswith("|"))
            ]
            yield Block("table", rows=[rows[0], *rows[2:]])
        elif line.startswith("- "):
            yield Block("ul", items=[item[2:] for item in take(lambda t: t.startswith("- "))])
        elif re.match(r"\d+\. ", line):
            numbered = take(lambda t: re.match(r"\d+\. ", t))
            yield Block("ol", items=[item.split(". ", 1)[1] for item in numbered])
        elif line.startswith("> "):
            yield Block("quote", " ".join(item[2:] for item in take(lambda t: t.startswith("> "))))
        else:
            words = take(lambda t: t.strip() and not re.match(r"#|```|\||- |\d+\. |> ", t))
            yield Block("para", " ".join(words))


def plain(text: str) -> str:
    return INLINE.sub(lambda m: m["bold"] or m["code"] or f"{m['text']} ({m['url']})", text)


def markup(text: str, bold: str, code: str, link: str) -> str:
    """Escaped text with the inline marks turned into the given templates."""

    def one(match: re.Match[str]) -> str:
        if match["bold"]:
            return bold.format(match["bold"])
        if match["code"]:
            return code.format(match["code"])
        return link.format(match["text"], match["url"])

    return INLINE.sub(one, html.escape(text, quote=False))


# --- one function a format: Document -> bytes -------------------------------------


def to_html(doc: Document) -> bytes:
    def inline(text: str) -> str:
        return markup(text, "<strong>{}</strong>", "<code>{}</code>", '<a href="{1}">{0}</a>')

    def row(cells: list[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{inline(cell)}</{tag}>" for cell in cells) + "</tr>"

    out = []
    for block in doc.blocks:
        if block.kind == "heading":
            anchor = re.sub(r"[^a-z0-9]+", "-", block.text.lower()).strip("-")
            out.append(f'<h{block.level} id="{anchor}">{inline(block.text)}</h{block.level}>')
        elif block.kind in ("ul", "ol"):
            items = "\n".join(f"<li>{inline(item)}</li>" for item in block.items)
            out.append(f"<{block.kind}>\n{items}\n</{block.kind}>")
        elif block.kind == "table":
            body = "\n".join(row(cells, "td") for cells in block.rows[1:])
            out.append(
                f"<table>\n<thead>{row(block.rows[0], 'th')}</thead>\n<tbody>\n{body}\n</tbody>\n</table>"
            )
        elif block.kind == "code":
            out.append(f"<pre><code>{html.escape(block.text, quote=False)}</code></pre>")
        else:
            tag = {"para": "p", "quote": "blockquote"}[block.kind]
            out.append(f"<{tag}>{inline(block.text)}</{tag}>")
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{html.escape(doc.title)}</title>\n"
        f'<meta name="last-modified" content="{doc.meta["date"]}">\n</head>\n<body>\n'
        '<nav><a href="/">Fernhill Help</a> / <a href="/sync">Fernhill Sync</a></nav>\n<main>\n'
        f'<h1>{html.escape(doc.title)}</h1>\n<p class="byline">{html.escape(doc.byline)}</p>\n'
        + "\n".join(out)
        + "\n</main>\n<footer>© Fernhill Software · Was this page helpful?</footer>\n</body>\n</html>\n"
    )
    return page.encode()


def to_docx(doc: Document) -> bytes:
    import docx

    out = docx.Document()
    stamp(out.core_properties, doc)

    def runs(paragraph: Any, text: str) -> None:
        at = 0
        for match in INLINE.finditer(text):
            paragraph.add_run(text[at : match.start()])
            run = paragraph.add_run(match["bold"] or match["code"] or match["text"])
            run.bold = bool(match["bold"]) or None
            if match["code"]:
                run.font.name = "Courier New"
            at = match.end()
        paragraph.add_run(text[at:])

    out.add_heading(doc.title, 0)
    out.add_paragraph(doc.byline)
    styles = {"para": None, "quote": "Intense Quote", "ul": "List Bullet", "ol": "List Number"}
    for block in doc.blocks:
        if block.kind == "heading":
            out.add_heading(block.text, block.level - 1)
        elif block.kind == "code":
            out.add_paragraph().add_run(block.text).font.name = "Courier New"
        elif block.kind == "table":
            table = out.add_table(len(block.rows), len(block.rows[0]), style="Light Grid Accent 1")
            for cells, row in zip(table.rows, block.rows, strict=True):
                for cell, text in zip(cells.cells, row, strict=True):
                    runs(cell.paragraphs[0], text)
        else:
            for text in block.items or [block.text]:
                runs(out.add_paragraph(style=styles[block.kind]), text)
    return repeatable_zip(out.save)


def to_pdf(doc: Document) -> bytes:
    from reportlab.lib import colors
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.styles import getSampleStyleSheet
    from reportlab.platypus import ListFlowable, Paragraph, Preformatted, SimpleDocTemplate, Spacer, Table

    styles = getSampleStyleSheet()

    def paragraph(text: str, style: str = "BodyText") -> Any:
        marked = markup(text, "<b>{}</b>", '<font face="Courier">{}</font>', '<a href="{1}">{0}</a>')
        return Paragraph(marked, styles[style])

    story = [paragraph(doc.title, "Title"), paragraph(doc.byline)]
    for block in doc.blocks:
        if block.kind == "heading":
            story.append(paragraph(block.text, f"Heading{min(block.level, 4)}"))
        elif block.kind == "code":
            story.append(Preformatted(block.text, styles["Code"]))
        elif block.kind == "table":
            cells = [[paragraph(cell) for cell in row] for row in block.rows]
            lines = [("GRID", (0, 0), (-1, -1), 0.4, colors.grey), ("VALIGN", (0, 0), (-1, -1), "TOP")]
            story.append(Table(cells, style=lines, repeatRows=1))
        elif block.kind in ("ul", "ol"):
            bullet = "bullet" if block.kind == "ul" else "1"
            story.append(ListFlowable([paragraph(item) for item in block.items], bulletType=bullet))
        else:
            story.append(paragraph(block.text, "Italic" if block.kind == "quote" else "BodyText"))
        story.append(Spacer(1, 4))
    out = io.BytesIO()

    def footer(canvas: Any, _: Any) -> None:
        canvas.setFont("Helvetica", 8)
        canvas.drawString(72, 40, f"{doc.title} - {doc.meta['date']} - page {canvas.getPageNumber()}")

    template = SimpleDocTemplate(
        out, pagesize=A4, title=doc.title, author=doc.meta.get("author", "Fernhill Software"), invariant=1
    )
    template.build(story, onFirstPage=footer, onLaterPages=footer)
    return out.getvalue()


def to_xlsx(doc: Document) -> bytes:
    import openpyxl
    from openpyxl.styles import Font
    from openpyxl.utils import get_column_letter

    book = openpyxl.Workbook()
    del book[book.sheetnames[0]]
    stamp(book.properties, doc)
    sheet: Any = None
    for block in doc.blocks:
        if block.kind == "heading":
            sheet = book.create_sheet(block.text)
        elif block.kind == "table":
            for number, row in enumerate(block.rows):
                sheet.append([value(plain(cell)) for cell in row])
                if number == 0:
                    for cell in sheet[sheet.max_row]:
                        cell.font = Font(bold=True)
            for column in range(1, len(block.rows[0]) + 1):
                sheet.column_dimensions[get_column_letter(column)].width = 24
        else:
            for text in block.items or [block.text]:
                sheet.append([plain(text)])
    return repeatable_zip(book.save, doc.date)


def to_pptx(doc: Document) -> bytes:
    import pptx
    from pptx.util import Inches

    deck = pptx.Presentation()
    stamp(deck.core_properties, doc)
    slide = deck.slides.add_slide(deck.slide_layouts[0])
    slide.shapes.title.text = doc.title
    slide.placeholders[1].text = doc.byline
    body: Any = None
    for block in doc.blocks:
        if block.kind == "heading":
            slide = deck.slides.add_slide(deck.slide_layouts[1])
            slide.shapes.title.text = block.text
            body = slide.placeholders[1].text_frame
        elif block.kind == "quote":
            slide.notes_slide.notes_text_frame.text = plain(block.text)
        elif block.kind == "table":
            rows, columns = len(block.rows), len(block.rows[0])
            shape = slide.shapes.add_table(
                rows, columns, Inches(0.6), Inches(3.6), Inches(8.8), Inches(0.4 * rows)
            )
            for row, texts in zip(shape.table.rows, block.rows, strict=True):
                for cell, text in zip(row.cells, texts, strict=True):
                    cell.text = plain(text)
        else:
            for text in block.items or [block.text]:
                paragraph = body.paragraphs[0] if not body.text else body.add_paragraph()
                paragraph.text = plain(text)
    return repeatable_zip(deck.save)


def value(text: str) -> str | int | float:
    """Numbers become numbers in a sheet, so that the file looks like a real one."""
    if re.fullmatch(r"\d+", text):
        return int(text)
    # Two decimals are a price or a factor; "5.0" is a version and must stay a text.
    return float(text) if re.fullmatch(r"\d+\.\d\d", text) else text


def stamp(properties: Any, doc: Document) -> None:
    properties.title = doc.title
    properties.created = properties.modified = doc.date
    for name in ("author", "creator"):
        if hasattr(properties, name):
            setattr(properties, name, doc.meta.get("author", "Fernhill Software"))


def repeatable_zip(save: Callable[[Any], None], modified: datetime | None = None) -> bytes:
    """Office files are ZIPs with the time of writing in them; give them a fixed one."""
    first, out = io.BytesIO(), io.BytesIO()
    save(first)
    with zipfile.ZipFile(first) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            data = source.read(name)
            if modified and name == "docProps/core.xml":  # openpyxl writes "now" on save
                when = modified.strftime("%Y-%m-%dT%H:%M:%SZ").encode()
                data = re.sub(rb"(<dcterms:modified[^>]*>)[^<]*", rb"\g<1>" + when, data)
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(info, data)
    return out.getvalue()


RENDERERS: dict[str, Callable[[Document], bytes]] = {
    ".html": to_html,
    ".docx": to_docx,
    ".pdf": to_pdf,
    ".xlsx": to_xlsx,
    ".pptx": to_pptx,
}


def documents() -> None:
    for source in sorted((HERE / "source").rglob("*.*.md")):
        target = HERE / "files" / source.relative_to(HERE / "source").with_suffix("")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(RENDERERS[target.suffix](read(source)))


if __name__ == "__main__":
    expand.write(HERE)
    if sys.argv[1:] != ["tickets"]:
        documents()
