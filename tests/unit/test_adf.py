"""Atlassian Document Format to Markdown."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.jira.adf import to_markdown

Node = dict[str, Any]


def node(kind: str, *content: Node | str, **attrs: Any) -> Node:
    children = [text(child) if isinstance(child, str) else child for child in content]
    return {"type": kind, "content": children, **({"attrs": attrs} if attrs else {})}


def text(words: str, *marks: str, href: str = "") -> Node:
    found: list[Node] = [{"type": mark} for mark in marks]
    if href:
        found.append({"type": "link", "attrs": {"href": href}})
    return {"type": "text", "text": words, "marks": found}


def p(*content: Node | str) -> Node:
    return node("paragraph", *content)


CASES: dict[str, tuple[Node, str]] = {
    "heading": (node("heading", "Steps", level=3), "### Steps"),
    "marks": (
        p(text("bold", "strong"), " ", text("code", "code"), " ", text("gone ", "strike"), text("x", "em")),
        "**bold** `code` ~~gone~~ *x*",
    ),
    "link": (
        p(text("the docs", href="https://x.example/a (b)")),
        "[the docs](https://x.example/a%20%28b%29)",
    ),
    "bare link": (p(text("https://x.example", href="https://x.example")), "https://x.example"),
    "break": (p("one", {"type": "hardBreak"}, "two"), "one\ntwo"),
    "mention": (p({"type": "mention", "attrs": {"id": "1", "text": "@Ann Lee"}}, " look"), "@Ann Lee look"),
    "emoji": (p({"type": "emoji", "attrs": {"shortName": ":smile:", "text": "😄"}}), "😄"),
    "status": (p({"type": "status", "attrs": {"text": "DONE", "color": "green"}}), "DONE"),
    "date": (p({"type": "date", "attrs": {"timestamp": "1767571200000"}}), "2026-01-05"),
    "card": (p({"type": "inlineCard", "attrs": {"url": "https://x.example/1"}}), "https://x.example/1"),
    "code": (node("codeBlock", "a < b\n```\nc", language="py"), "````py\na < b\n```\nc\n````"),
    "quote": (node("blockquote", p("one"), p("two")), "> one\n>\n> two"),
    "panel": (node("panel", p("hot"), panelType="warning"), "**Warning:** hot"),
    "list": (
        node(
            "bulletList",
            node("listItem", p("one"), node("orderedList", node("listItem", p("two")), order=3)),
            node("listItem", p("three")),
        ),
        "- one\n  3. two\n- three",
    ),
    "tasks": (
        node("taskList", node("taskItem", "todo", state="TODO"), node("taskItem", "done", state="DONE")),
        "- [ ] todo\n- [x] done",
    ),
    "table": (
        node(
            "table",
            node("tableRow", node("tableHeader", p("A")), node("tableHeader", p("B|C"))),
            node("tableRow", node("tableCell", p("1"), p("2"))),
        ),
        "| A | B\\|C |\n| --- | --- |\n| 1 2 |  |",
    ),
    "media": (
        node("mediaSingle", {"type": "media", "attrs": {"id": "u", "alt": "a.png"}}, node("caption", "Fig.")),
        "[attachment: a.png]\nFig.",
    ),
    "expand": (node("expand", p("inside"), title="More"), "**More**\n\ninside"),
    "unknown block": (node("somethingNew", p("kept"), node("evenNewer", "this too")), "kept\n\nthis too"),
    "unknown inline": (p("a ", node("newInline", "b"), " c"), ""),
    "html": (
        p("<script>alert(1)</script> & # no heading"),
        "&lt;script>alert(1)&lt;/script> &amp; # no heading",
    ),
    "no heading": (p("# not a heading"), "\\# not a heading"),
}


@pytest.mark.parametrize("name", [name for name in CASES if name != "unknown inline"])
def test_a_node_becomes_markdown(name: str) -> None:
    given_node, expected = CASES[name]
    assert to_markdown({"type": "doc", "version": 1, "content": [given_node]}) == expected


def test_an_unknown_inline_node_keeps_its_text() -> None:
    found = to_markdown(node("doc", CASES["unknown inline"][0]))
    assert found.split() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("value", "expected"), [(None, ""), ("plain & old", "plain &amp; old"), (7, ""), ([], "")]
)
def test_what_is_no_document(value: object, expected: str) -> None:
    assert to_markdown(value) == expected


def test_what_is_nested_beyond_all_sense_is_still_read() -> None:
    deep = p("at the bottom")
    for number in range(5000):
        deep = node("listItem" if number % 2 else "bulletList", deep)
    assert "at the bottom" in to_markdown(node("doc", deep))


KINDS = st.sampled_from(
    [
        *("doc", "paragraph", "heading", "text", "bulletList", "listItem", "table", "tableRow", "tableCell"),
        *("codeBlock", "panel", "mention", "mediaSingle", "media", "date", "expand", "taskList", "taskItem"),
        *("blockquote", "unheardOf"),
    ]
)
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text("ab#<|`", max_size=4), st.just([]), st.just({})
)
LEAVES = st.builds(
    lambda kind, words, attrs: {"type": kind, "text": words, "attrs": attrs}, KINDS, VALUES, VALUES
)
TREES = st.recursive(
    LEAVES,
    lambda below: st.builds(
        lambda kind, content, level: {
            "type": kind,
            "content": content,
            "attrs": {"level": level, "order": level},
        },
        KINDS,
        st.lists(st.one_of(below, VALUES), max_size=4),
        VALUES,
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(TREES)
def test_whatever_comes_is_read(tree: object) -> None:
    assert isinstance(to_markdown(tree), str)


@settings(deadline=None)
@given(st.lists(st.text("abc ", min_size=1, max_size=5), min_size=1, max_size=5), st.lists(KINDS, max_size=6))
def test_no_words_are_lost(texts: list[str], kinds: list[str]) -> None:
    """However paragraphs are wrapped, known and unknown nodes alike."""
    tree = node("doc", *(p(words) for words in texts))
    for kind in kinds:
        if kind not in ("text", "mention", "media", "date", "codeBlock"):  # those hold no blocks
            tree = node(kind, tree)
    found = to_markdown(tree)
    for words in texts:
        assert all(word in found for word in words.split())
