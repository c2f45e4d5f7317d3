"""Sections to chunks."""

from __future__ import annotations

import re
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from tokenizers import Tokenizer

from assistant import weights
from assistant.config import Settings
from assistant.errors import ModelUnavailable
from assistant.ingest.chunk import MAX_TOKENS, Chunker, embedding_text, plain
from assistant.ingest.embed import OnnxEmbedder
from assistant.model import Audience, Chunk, Section
from tests.conftest import PROJECT

WORDS = ["the", "server", "refuses", "a", "message", "whose", "sender", "is", "unknown", "to", "it"]


@pytest.fixture(scope="module")
def tokenizer_file() -> Path:
    try:
        return weights.path(
            "minilm-l6-v2-int8", Settings(models=PROJECT / ".deskhand/models"), file="tokenizer.json"
        )
    except ModelUnavailable as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def chunker(tokenizer_file: Path) -> Chunker:
    return Chunker(tokenizer_file)


@pytest.fixture(scope="module")
def tokenizer(tokenizer_file: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def prose(sentences: int, *, start: int = 0) -> str:
    return " ".join(f"Number {i} says that {' '.join(WORDS)}." for i in range(start, start + sentences))


def words(chunks: list[Chunk]) -> Counter[str]:
    return Counter(
        re.findall(r"\w+", " ".join(" ".join(chunk.headings) + " " + chunk.text for chunk in chunks))
    )


def test_a_short_document_is_one_chunk(chunker: Chunker) -> None:
    (chunk,) = chunker.chunk([Section("Hello world.", headings=("Top", "Sub"), page=3)], title="T")
    assert (chunk.ordinal, chunk.text, chunk.headings, chunk.page) == (0, "Hello world.", ("Top", "Sub"), 3)
    assert embedding_text("T", chunk) == "T\nTop > Sub\n\nHello world."
    assert chunker.chunk([], title="T") == []


def test_long_prose_is_cut_between_sentences_into_like_sizes(chunker: Chunker, tokenizer: Tokenizer) -> None:
    chunks = chunker.chunk([Section(prose(60))], title="A title")
    assert len(chunks) > 3
    for chunk in chunks:
        assert chunk.text.startswith("Number")
        assert chunk.text.endswith(".")
        assert len(tokenizer.encode(embedding_text("A title", chunk)).ids) <= 256
    sizes = [chunk.tokens for chunk in chunks]
    assert max(sizes) <= MAX_TOKENS
    assert min(sizes) > max(sizes) / 2, "no crumb at the end"
    assert words(chunks) == words([Chunk(0, prose(60))])


def test_audiences_and_roles_never_share_a_chunk(chunker: Chunker) -> None:
    sections = [
        Section("Public answer.", audience=Audience.PUBLIC, role="agent"),
        Section("Internal note.", audience=Audience.INTERNAL, role="agent"),
        Section("Another note.", audience=Audience.INTERNAL, role="agent"),
        Section("A question.", role="customer"),
        Section("One more thing.", role="customer"),
        Section("The fix.", role="agent", is_solution=True),
        Section("You are welcome.", role="agent"),
    ]
    chunks = chunker.chunk(sections, title="T")
    assert [(c.text, c.audience, c.role, c.is_solution) for c in chunks] == [
        ("Public answer.", Audience.PUBLIC, "agent", False),
        ("Internal note.\n\nAnother note.", Audience.INTERNAL, "agent", False),
        ("A question.\n\nOne more thing.", Audience.PUBLIC, "customer", False),
        ("The fix.", Audience.PUBLIC, "agent", True),
        ("You are welcome.", Audience.PUBLIC, "agent", False),
    ]
    assert [chunk.ordinal for chunk in chunks] == list(range(5))


def test_small_siblings_are_joined_under_their_parent_with_their_headings(chunker: Chunker) -> None:
    sections = [
        Section("Press A.", headings=("Guide", "Start")),
        Section("Press B.", headings=("Guide", "Stop")),
        Section(prose(26), headings=("Guide", "Theory")),
    ]
    small, *big = chunker.chunk(sections, title="T")
    assert small.headings == ("Guide",)
    assert small.text == "## Start\n\nPress A.\n\n## Stop\n\nPress B."
    assert {chunk.headings for chunk in big} == {("Guide", "Theory")}


def test_tables_are_cut_between_rows_and_keep_their_header(chunker: Chunker) -> None:
    rows = [f"| host{i} | port {i} | {' '.join(WORDS[:4])} |" for i in range(60)]
    table = "\n".join(["| Host | Port | Use |", "| --- | --- | --- |", *rows])
    chunks = chunker.chunk([Section(f"Before.\n\n{table}\n\nAfter.")], title="T")
    assert len(chunks) > 2
    found = "\n".join(chunk.text for chunk in chunks)
    assert all(found.count(row) == 1 for row in rows)
    with_rows = [chunk for chunk in chunks if "host" in chunk.text]
    assert all("| Host | Port | Use |\n| --- | --- | --- |\n" in chunk.text for chunk in with_rows)


def test_code_stays_whole_and_is_fenced_again_when_it_can_not(chunker: Chunker) -> None:
    short = "```sh\nls -l\n\n# then\nrm x\n```"
    assert short in chunker.chunk([Section(f"{prose(14)}\n\n{short}\n\n{prose(14)}")], title="T")[
        1
    ].text or any(
        short in chunk.text for chunk in chunker.chunk([Section(f"{prose(14)}\n\n{short}")], title="T")
    )
    long = "```python\n" + "\n".join(f"call_{i}(argument={i})" for i in range(80)) + "\n```"
    chunks = chunker.chunk([Section(long)], title="T")
    assert len(chunks) > 2
    assert all(chunk.text.startswith("```python\n") and chunk.text.endswith("\n```") for chunk in chunks)


def test_an_introduction_stays_with_its_list(chunker: Chunker) -> None:
    steps = "\n".join(f"- Step {i}: {' '.join(WORDS)}" for i in range(9))
    chunks = chunker.chunk([Section(f"{prose(9)}\n\nDo the following:\n\n{steps}")], title="T")
    (holder,) = [chunk for chunk in chunks if "Do the following:" in chunk.text]
    assert "Step 0" in holder.text


def test_a_hard_wrapped_paragraph_is_not_cut_at_its_lines(chunker: Chunker) -> None:
    wrapped = re.sub(r"(.{60}\S*) ", r"\1\n", prose(40))
    for chunk in chunker.chunk([Section(wrapped)], title="T"):
        assert chunk.text.endswith(".")


@pytest.mark.parametrize(
    "monster", ["x" * 5000, "漢" * 3000, "a.b." * 3000, "word " * 4000, "\n".join("ab" * 900)]
)
def test_text_without_a_place_to_cut_fits_all_the_same(
    chunker: Chunker, tokenizer: Tokenizer, monster: str
) -> None:
    chunks = chunker.chunk([Section(monster)], title="T")
    assert all(len(tokenizer.encode(embedding_text("T", c)).ids) <= 256 for c in chunks)
    letters = re.sub(r"\W", "", monster)
    assert re.sub(r"\W", "", "".join(chunk.text for chunk in chunks)) == letters


def test_long_titles_leave_room_for_the_text(chunker: Chunker, tokenizer: Tokenizer) -> None:
    title, headings = "Größenänderung " * 40, ("Überschrift " * 30, "Unterüberschrift " * 30)
    for chunk in chunker.chunk([Section(prose(40), headings=headings)], title=title):
        assert len(tokenizer.encode(embedding_text(title, chunk)).ids) <= 256
        assert chunk.tokens > 60


def test_a_heading_that_repeats_the_title_is_said_once() -> None:
    chunk = Chunk(0, "Text.", headings=("Sending mail", "By hand"))
    assert embedding_text("Sending Mail", chunk) == "Sending Mail\nBy hand\n\nText."


def test_what_is_embedded_has_no_markup() -> None:
    text = (
        "## Head\n\n**Bold** [list](https://x.org/a_(b)?q=1#f) see https://x.org/p?utm=1\n\n"
        "| a |  | b |\n| --- | --- | --- |\n```py\ncode()\n```"
    )
    assert plain(text).split() == [
        "Head",
        "Bold",
        "list",
        "see",
        "https://x.org/p",
        "|",
        "a",
        "|",
        "b",
        "|",
        "code()",
    ]


_text = st.text(st.sampled_from("ab. \n|#-`*é漢"), max_size=400)


@examples(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(_text, st.sampled_from(["", "agent"]), st.booleans()), max_size=6))
def test_no_word_is_lost_and_the_same_input_gives_the_same_chunks(
    chunker: Chunker, given_sections: list[tuple[str, str, bool]]
) -> None:
    sections = [Section(t * 3, role=role, is_solution=solved) for t, role, solved in given_sections]
    chunks = chunker.chunk(sections, title="T")
    assert chunks == chunker.chunk(sections, title="T")
    assert all(chunk.tokens <= MAX_TOKENS for chunk in chunks)
    letters = Counter("".join(re.findall(r"\w", " ".join(section.text for section in sections))))
    assert not letters - Counter("".join(words(chunks).elements()))


def test_chunking_is_ten_times_as_fast_as_embedding(chunker: Chunker, tokenizer_file: Path) -> None:
    sections = [Section(prose(10, start=10 * i), headings=("Guide", f"Part {i}")) for i in range(100)]
    chunker.chunk(sections, title="T")
    started = time.process_time()
    chunks = chunker.chunk(sections, title="T")
    chunking = (time.process_time() - started) / len(chunks)
    embedder = OnnxEmbedder(tokenizer_file.parent, threads=1)
    texts = [embedding_text("T", chunk) for chunk in chunks[:20]]
    embedder.encode(texts)
    started = time.process_time()
    embedder.encode(texts)
    assert chunking * 10 < (time.process_time() - started) / len(texts)
