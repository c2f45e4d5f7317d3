"""Documents to sections: formats, markup, encodings, and files that do harm."""

from __future__ import annotations

import io
import os
import threading
import time
import zipfile
from collections.abc import Iterator

import psutil
import pytest

from assistant.config import Settings
from assistant.errors import ItemError
from assistant.ingest import markup
from assistant.ingest.parse import INLINE_HTML, Parser
from assistant.ingest.wiki import wiki_to_markdown
from assistant.model import Access, Audience, Kind, Part, Section, SourceDocument


@pytest.fixture(scope="module")
def parser() -> Iterator[Parser]:
    with Parser(Settings()) as parser:
        yield parser


def document(body: bytes | tuple[Part, ...], name: str = "", media_type: str = "") -> SourceDocument:
    return SourceDocument(
        external_id="1",
        kind=Kind.DOCUMENT,
        title="A title",
        body=body,
        revision="1",
        access=Access.public(),
        media_type=media_type,
        metadata={"path": name},
    )


def text(sections: list[Section]) -> str:
    return "\n".join(" > ".join(section.headings) + "\n" + section.text for section in sections)


def sections_of(parser: Parser, document: SourceDocument) -> list[Section]:
    return parser.parse(document).sections


def reason(parser: Parser, body: bytes, name: str) -> str:
    with pytest.raises(ItemError) as caught:
        sections_of(parser, document(body, name))
    return str(caught.value)


def docx(paragraph: str, *, repeat: int = 1) -> bytes:
    out = io.BytesIO()
    w = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "[Content_Types].xml",
            '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
            '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            '<Override PartName="/word/document.xml" ContentType="application/vnd.openxmlformats-'
            'officedocument.wordprocessingml.document.main+xml"/></Types>',
        )
        archive.writestr(
            "_rels/.rels",
            '<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/'
            'relationships"><Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/'
            'relationships/officeDocument" Target="word/document.xml"/></Relationships>',
        )
        paragraphs = f"<w:p><w:r><w:t>{paragraph}</w:t></w:r></w:p>" * repeat
        archive.writestr("word/document.xml", f"<w:document {w}><w:body>{paragraphs}</w:body></w:document>")
    return out.getvalue()


# --- parts --------------------------------------------------------------------------------


def test_parts_keep_who_said_what_to_whom(parser: Parser) -> None:
    parts = (
        Part("<p>It fails.</p>", "text/html", role="customer", author="u1"),
        Part("Reset it.", audience=Audience.INTERNAL, role="agent", is_solution=True),
    )
    question, note = sections_of(parser, document(parts))
    assert (question.text, question.role, question.author) == ("It fails.", "customer", "u1")
    assert (note.text, note.audience, note.is_solution) == ("Reset it.", Audience.INTERNAL, True)


def test_html_becomes_markdown_and_nothing_active_survives(parser: Parser) -> None:
    source = """<h2>Steps</h2><p>Select <span class="menu">Save page as…</span>, then
    <span class="button">OK</span>.</p>
    <ul><li>one<ul><li>two</li></ul></li></ul><table><tr><th>Port<th>Use<tr><td>993<td>IMAP</table>
    <pre><code>if a &lt; b:\n    c()</code></pre>
    <script>steal()</script><style>p {color: red}</style><!-- secret --><img src=x onerror=steal()>
    <a href="javascript:steal()">click</a> <a href="https://example.org/x">there</a> <a href="/kb">here</a>
    <svg onload="steal()"><text>drawn</text></svg>"""
    (section,) = sections_of(parser, document((Part(source, "text/html"),)))
    assert section.headings == ("Steps",)
    assert "Select Save page as…, then OK." in section.text
    assert "| 993 | IMAP |" in " ".join(section.text.split())
    assert "if a < b:\n    c()" in section.text
    assert "[there](https://example.org/x)" in section.text
    assert "here" in section.text
    for gone in ("steal", "color", "secret", "javascript", "/kb", "base64"):
        assert gone not in section.text


@pytest.mark.parametrize("deep", ["<div>", "<b>", "<blockquote>", "<table><tr><td>", "<ul><li>"])
def test_text_below_thousands_of_tags_is_still_found(parser: Parser, deep: str) -> None:
    (section,) = sections_of(parser, document((Part(deep * 5000 + "found", "text/html"),)))
    assert "found" in section.text


def test_a_large_html_part_is_converted_in_the_child(parser: Parser) -> None:
    sections = sections_of(parser, document((Part("<p>word</p>" * INLINE_HTML, "text/html"),)))
    assert text(sections).count("word") == INLINE_HTML


def test_hashes_in_plain_text_are_no_headings(parser: Parser) -> None:
    (section,) = sections_of(parser, document((Part("# sudo reboot\nhelps"),)))
    assert (section.headings, section.text) == ((), "# sudo reboot\nhelps")


def test_nothing_that_a_database_refuses_gets_through(parser: Parser) -> None:
    (section,) = sections_of(
        parser, document((Part("a\x00b\ud800c e\u0301 \u200bd\ufeff\r\n\r\n\r\n\r\nx   y\u2029z\vq"),))
    )
    assert section.text == "abc é d\n\nx y z\nq"
    section.text.encode()


def test_blank_parts_are_no_text(parser: Parser) -> None:
    with pytest.raises(ItemError, match="no text"):
        sections_of(parser, document((Part("<p> </p>", "text/html"), Part("\n"))))


def test_tickets_are_parsed_as_fast_as_they_come(parser: Parser) -> None:
    """2,000 parts a second when idle; half must hold on a busy machine."""
    part = Part("<p>Hello, I can't send mail &amp; get <b>0x80004005</b>.</p>" * 8, "text/html")
    started = time.process_time()
    for _ in range(100):
        sections_of(parser, document((part,) * 5))
    assert 500 / (time.process_time() - started) > 1000


# --- text files ---------------------------------------------------------------------------


def test_markdown_gives_nested_heading_paths(parser: Parser) -> None:
    body = b"""---
title: "Backups"
tags: [x]
---
Intro.

## Restore
### From tape
Wind it.

```sh
# not a heading
```
## Empty
## Verify
<details><summary>More</summary>Compare <b>sums</b> of <your file>.</details>

* [Restore](#restore)
"""
    sections = sections_of(parser, document(body, "a.md"))
    assert [section.headings for section in sections] == [
        ("Backups",),
        ("Backups", "Restore", "From tape"),
        ("Backups",),
        ("Backups", "Verify"),
    ]
    assert "# not a heading" in sections[1].text
    assert sections[2].text == "Empty"
    assert "More" in sections[3].text
    assert "Compare sums of <your file>." in sections[3].text
    assert "#restore" not in sections[3].text


def test_wiki_markup_goes(parser: Parser) -> None:
    body = b"""__TOC__
<!-- draft -->
= Sending =
Press {button Send} or {key Ctrl}+{key Enter} {for win}in ''Windows''{/for}. [[Image:send.png]]
# Open {menu Tools > Options}
# Click the [[Main menu|menu]]
{note}'''Mind:''' see [https://example.org/x the list] and [[Filters]].{/note}
{{Infobox|a={{b}}}}[[Template:Nav]]
{|class="x"
!Port!!Use
|-
|993||IMAP
|}
== Code ==
<pre>
# stays = stays
</pre>
"""
    sections = sections_of(parser, document(body, "a.wiki"))
    assert [section.headings for section in sections] == [("Sending",), ("Sending", "Code")]
    assert "Press Send or Ctrl+Enter in Windows." in sections[0].text
    assert "1. Open Tools > Options\n2. Click the menu" in sections[0].text
    assert "**Mind:** see [the list](https://example.org/x) and Filters." in sections[0].text
    assert "| Port | Use |\n| --- | --- |\n| 993 | IMAP |" in sections[0].text
    assert sections[1].text == "```\n\n# stays = stays\n\n```"
    for gone in ("{", "[[", "TOC", "draft", "Infobox", "Template", "''"):
        assert gone not in sections[0].text
    # The same text without the suffix that says so.
    assert text(sections_of(parser, document(body, "a.txt"))) == text(sections)


def test_alternatives_do_not_run_together() -> None:
    wiki = "the {for win}program{/for}{for mac}application{/for} folder"
    assert wiki_to_markdown(wiki) == "the program / application folder"
    html = '<span class="for" data-for="win">Enter</span><span class="for" data-for="mac">Return</span>'
    assert markup.html_to_markdown(html).strip() == "Enter / Return"


@pytest.mark.parametrize(
    ("name", "body", "expected"),
    [
        ("a.json", b'{"error": {"code": "FS-1042"}}', "FS-1042"),
        ("a.yaml", b"notes:\n  - note: Fixed <b>it</b>\n", "- note: Fixed it"),
        ("a.csv", b"port,use\n993,IMAP\n", "| 993 | IMAP |"),
        ("a.admx", b'<policy name="AppUpdate" class="Both"/>', "AppUpdate"),
        ("a.plist", b"<plist><dict><key>Port</key>\n<string>993</string></dict></plist>", "Port: 993"),
        ("a.py", b"def f(x):\n    return items[i](x)  # <b>\n", "return items[i](x)"),
        ("no_suffix", b"just words", "just words"),
        ("a.docx", docx("Hello from Word"), "Hello from Word"),
        ("renamed.doc", b"{\\rtf1\\ansi Hello from rich text}", "Hello from rich text"),
        (
            "a.html",
            b"<html><head><title>T</title></head><body><nav>Home</nav><p>Body</p></body></html>",
            "Body",
        ),
    ],
)
def test_formats(parser: Parser, name: str, body: bytes, expected: str) -> None:
    assert expected in text(sections_of(parser, document(body, name)))


def test_front_matter_and_menus_of_pages_go(parser: Parser) -> None:
    page = b"<html><head><title>T</title></head><body><nav>Home</nav><p>Body</p><footer>Imprint</footer></body></html>"
    assert text(sections_of(parser, document(page, "a.html"))).strip() == "Body"


def test_mail_keeps_its_lines_and_says_who_wrote(parser: Parser) -> None:
    body = b"""From: Ann <ann@example.org>
To: help@example.org
Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=
Content-Type: multipart/alternative; boundary=B

--B
Content-Type: text/plain; charset=iso-8859-1

1. first
2. zweitens: gr\xfc\xdfen
--B
Content-Type: text/html

<p>the same again</p>
--B--
"""
    found = text(sections_of(parser, document(body, "a.eml")))
    assert "Grüße" in found
    assert "Ann <ann@example.org>" in found
    assert "1. first\n2. zweitens: grüßen" in found
    assert "again" not in found


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "shift_jis", "koi8-r"])
def test_encodings_are_detected(parser: Parser, encoding: str) -> None:
    words = {
        "shift_jis": "メールを送信できません。設定を確認してください。",
        "koi8-r": "Не удаётся отправить письмо. ",
    }
    sentence = words.get(encoding, "Die Größe der Anhänge überschreitet das Maß. ") * 5
    assert markup.clean(sentence).strip() in text(
        sections_of(parser, document(sentence.encode(encoding), "a.txt"))
    )


def test_a_declared_encoding_is_believed(parser: Parser) -> None:
    body = '<html><head><meta charset="iso-8859-2"></head><body><p>źródło</p></body></html>'.encode(
        "iso-8859-2"
    )
    assert "źródło" in text(sections_of(parser, document(body, "a.html")))


# --- files that can't be used -------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "body", "says"),
    [
        ("a.txt", b"", "empty"),
        ("a.txt", b"\n \n", "no text"),
        ("a.png", b"\x89PNG\r\n", "picture"),
        ("a.docx", b"\x89PNG\r\n", "picture"),
        ("a.zip", b"PK\x03\x04", "archive"),
        ("a.xyz", b"\0\1\2" * 100, "format is unknown"),
        ("a.vsd", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "format is unknown"),
        ("a.docx", docx("x")[:-40], "damaged"),
        ("a.pdf", b"%PDF-1.7\nnothing", "damaged"),
        ("a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"), "encrypted"),
    ],
)
def test_every_refusal_says_why_and_what_to_do(parser: Parser, name: str, body: bytes, says: str) -> None:
    why = reason(parser, body, name)
    assert says in why
    assert any(hint in why for hint in ("sync again", "Put what it shows"))


def test_a_file_above_the_limit_is_not_read() -> None:
    with Parser(Settings(max_file_mb=1)) as parser:
        assert "more than the 1 MB" in reason(parser, b"a" * (2 << 20), "a.txt")


def test_entities_do_not_explode(parser: Parser) -> None:
    lol = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
    bomb = f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY l0 "lol">{lol}]><x>&l9;</x>'.encode()
    assert len(text(sections_of(parser, document(bomb, "a.xml")))) < 10_000


def test_a_parser_that_takes_too_long_is_stopped_and_the_next_file_is_served() -> None:
    with Parser(Settings(parse_seconds=1)) as parser:
        started = time.monotonic()
        why = reason(parser, b"<ref" * 2_000_000, "slow.html")
        assert time.monotonic() - started < 10
        assert "longer than 1 seconds" in why
        assert "next" in text(sections_of(parser, document(b"<p>next</p>", "a.html")))


def test_a_file_that_takes_too_much_memory_is_stopped() -> None:
    with Parser(Settings(parse_memory_mb=128)) as parser:
        bomb = docx("ten letters " * 20, repeat=200_000)
        assert len(bomb) < 1 << 20
        assert any(word in reason(parser, bomb, "bomb.docx") for word in ("128 MB of memory", "damaged"))
        assert "next" in text(sections_of(parser, document(docx("next"), "a.docx")))


def test_a_killed_child_costs_one_file_and_is_replaced(parser: Parser) -> None:
    parser.close()  # its next child is the newest of this process's
    sections_of(parser, document(b"<p>warm</p>", "a.html"))
    child = max(psutil.Process(os.getpid()).children(), key=lambda child: child.create_time())
    killer = threading.Timer(0.3, child.kill)
    killer.start()
    with pytest.raises(ItemError, match="crashed") as caught:
        sections_of(parser, document(b"<ref" * 2_000_000, "slow.html"))
    assert not caught.value.permanent
    assert "next" in text(sections_of(parser, document(b"<p>next</p>", "a.html")))


def test_the_child_knows_no_secrets(parser: Parser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESKHAND_KEY", "hush")
    with Parser(Settings()) as own:
        own.parse(document(b"<p>x</p>", "a.html"))
        newest = max(psutil.Process(os.getpid()).children(), key=lambda child: child.create_time())
        assert "DESKHAND_KEY" not in newest.environ()


@pytest.mark.parametrize(
    "unit",
    ["<", "<a ", "<!--", "[", "![", "](", "{{", "{for ", "|", "|-\n", "= a", "`", " ", "\n ", "&", "\\", "_"],
)
def test_no_pattern_runs_away(unit: str) -> None:
    evil = "{|\n" + unit * (100_000 // len(unit)) + "x>"
    started = time.process_time()
    for convert in (
        markup.bare_text,
        markup.markdown_file,
        wiki_to_markdown,
        markup.xml_text,
        markup.converted,
    ):
        markup.sections(convert(evil))
    assert time.process_time() - started < 5
