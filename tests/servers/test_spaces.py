"""Another embedder takes over while questions are asked and documents come in: nothing fails, nothing is mixed."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from assistant.app import Assistant
from assistant.config import Settings
from assistant.errors import ConfigError, ModelUnavailable
from assistant.ingest import embed, reembed
from assistant.ingest.chunk import embedding_text
from assistant.ingest.embed import Embedder
from assistant.model import (
    Access,
    Batch,
    Chunk,
    Customer,
    Delete,
    Kind,
    Part,
    Passage,
    Principal,
    SourceDocument,
    Ticket,
    Upsert,
)
from assistant.retrieve.scope import Scope
from assistant.runtime.up import environment
from assistant.store import erasure, sources, spaces, sync, versions
from assistant.store.spaces import Space
from assistant.store.versions import Kind as VersionKind
from assistant.weights import State, check
from tests import tiny_embedder

READER = Scope(Principal("a"))
THINGS = ("port", "password", "printer", "calendar", "folder", "certificate", "proxy", "attachment")
WORDS = ("opens", "slowly", "after", "the", "update", "and", "needs", "a", "new", "setting", "in", "options")


def text(number: int) -> str:
    chance = np.random.default_rng(number)
    return f"The {THINGS[number % len(THINGS)]} number {number} " + " ".join(chance.choice(WORDS, 12))


def title(number: int) -> str:
    return f"About {THINGS[number % len(THINGS)]} {number}"


class Office:
    """An installation with documents, and trained embedders as tiny ones."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        base = settings.models_folder / settings.embedder
        models = folder / "models"
        models.mkdir()
        (models / settings.embedder).symlink_to(base.resolve())
        self.tokenizer = base / "tokenizer.json"
        self.settings = settings.model_copy(update={"models": models})
        self.assistant = Assistant(self.settings, threads=1)
        with self.assistant.database.writer() as connection:
            sources.add(
                connection, name="files", connector="directory", realm="desk", settings={}, secrets=None,
                every_seconds=None,
            )  # fmt: skip
            self.source = sources.get(connection, "files")
            self.run = sources.request(connection, self.source)

    def commit(self, *numbers: int, index: bool = True) -> None:
        made = (
            Upsert(SourceDocument(f"d{n}", Kind.DOCUMENT, title(n), (Part(text(n)),), "1", Access.public()))
            for n in numbers
        )
        self.change(*made)
        while index and self.assistant.pipeline.run_batch():
            pass

    def change(self, *changes: Any) -> None:
        with self.assistant.database.writer() as connection:
            sync.commit_batch(
                connection, self.source, self.run, Batch(changes, {}), self.assistant.fingerprint
            )

    def version(self, *, seed: int = 1, like_base: bool = False) -> versions.Version:
        """A trained embedder; `like_base`: one that is the untrained one under another name."""
        with self.assistant.database.writer() as connection:
            made = versions.request(
                connection,
                VersionKind.EMBEDDER,
                base=self.settings.embedder,
                dataset_hash=None,
                recipe={},
                by="ann",
            )
            versions.finish(connection, made, {})
        if like_base:
            shutil.copytree(self.tokenizer.parent, self.settings.models_folder / made.folder)
        else:
            tiny_embedder.folder(self.settings.models_folder, made.name, self.tokenizer, seed=seed)
        return made

    def back(self) -> Space:
        with self.assistant.database.writer() as connection:
            return spaces.back(connection, base=self.settings.embedder, by="ben")

    def want(self, version: versions.Version, *, by: str = "ann") -> Space:
        embedder = embed.tuned(self.settings, version.name, threads=1)
        with self.assistant.database.writer() as connection:
            return spaces.want(
                connection,
                name=embedder.name,
                revision=embedder.revision,
                dimension=embedder.dimension,
                by=by,
            )

    def fill(self, **options: Any) -> bool:
        return reembed.run(self.assistant.database, self.assistant.embedders, **options)

    def rows(self, statement: str) -> list[dict[str, Any]]:
        with self.assistant.database.owner() as connection:
            return connection.execute(statement.encode()).fetchall()

    def live(self) -> str:
        return self.assistant.live()[0].name


@pytest.fixture
def office(settings: Settings, tmp_path: Path) -> Iterator[Office]:
    if check(settings.embedder, settings) is not State.PRESENT:
        pytest.skip(f"the weights {settings.embedder} are absent: `deskhand models pull`")
    made = Office(settings, tmp_path)
    yield made
    made.assistant.close()


def ask(assistant: Assistant, question: str) -> list[Passage]:
    return [passage for _, passage in assistant.retriever.documents(question, READER)]


def space_of(question: str, found: Sequence[Passage], embedders: Sequence[Embedder]) -> str:
    """The one embedder by which all the passages are as near to the question as they say."""
    fitting: list[str] = []
    for one in embedders:
        vector = one.encode_query(question)
        texts = one.encode([embedding_text(p.title, Chunk(0, p.text)) for p in found])
        if np.allclose(texts @ vector, [p.cosine for p in found], atol=0.003):
            fitting.append(one.name)
    assert len(fitting) == 1, f"of {fitting or 'no single'} space: {[round(p.cosine, 3) for p in found]}"
    return fitting[0]


def test_the_same_model_under_another_name_answers_the_same(office: Office) -> None:
    """So nothing is lost on the way: what was found before is found after, in that order, as near as before."""
    office.commit(*range(40))
    questions = [text(n) for n in range(100, 120)]
    before = [[(p.external_id, round(p.cosine, 4)) for p in ask(office.assistant, q)] for q in questions]
    version = office.version(like_base=True)
    space = office.want(version)
    assert space.slot == 2
    assert not office.fill(), "nothing is left to do"
    assert office.live() == version.name
    assert [
        [(p.external_id, round(p.cosine, 4)) for p in ask(office.assistant, q)] for q in questions
    ] == before
    with office.assistant.database.writer() as connection:
        assert versions.get(connection, version.name).promoted_by == "ann"
        live = versions.live(connection, VersionKind.EMBEDDER)
    assert live is not None
    assert live.name == version.name
    indexes = office.rows("select indexdef as i from pg_indexes where indexname ~ '^chunk_embedding_'")
    assert any(f"(space_2 = {space.id})" in row["i"] and "embedding_2" in row["i"] for row in indexes)


def test_questions_and_ingest_go_on_while_it_switches(office: Office) -> None:
    """And back again, twice. Processes with the old model loaded see it with their next question."""
    office.commit(*range(30))
    version = office.version()
    both = [office.assistant.embedder, embed.tuned(office.settings, version.name, threads=1)]
    stop, failures, told = threading.Event(), list[BaseException](), list[tuple[str, str]]()

    def guarded(work: Callable[[int], None]) -> Callable[[], None]:
        def run() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                try:
                    work(number)
                except BaseException as error:
                    failures.append(error)
                    return

        return run

    def question(assistant: Assistant, name: str) -> Callable[[int], None]:
        def one(number: int) -> None:
            asked = text(1000 + number)
            found = ask(assistant, asked)
            assert len(found) == 10
            told.append((name, space_of(asked, found, both)))

        return one

    def news(number: int) -> None:
        if number <= 60:
            office.commit(100 + number)

    others = [Assistant(office.settings, threads=1) for _ in range(2)]
    work = [question(one, str(n)) for n, one in enumerate(others)] + [news]
    threads = [threading.Thread(target=guarded(one)) for one in work]
    try:
        for thread in threads:
            thread.start()
        for _ in range(2):
            for wanted in (version.name, office.settings.embedder):
                go_to(office, wanted)
                seen = len(told)
                until(lambda n=seen: len(told) > n + 6 or bool(failures))
                assert not failures
                assert {space for _, space in told[seen + 4 :]} == {wanted}, (
                    "also where the old one is loaded"
                )
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
        for one in others:
            one.close()
    assert not failures
    assert {space for _, space in told} == {one.name for one in both}
    lacking = office.rows("select count(*) as n from chunk where space_1 is null")
    assert lacking == [{"n": 0}], "the live one has everything, what came meanwhile too"


def go_to(office: Office, name: str) -> None:
    """Promote or take back, as the command does, and do the work."""
    if name == office.settings.embedder:
        office.back()
    else:
        with office.assistant.database.writer() as connection:
            version = versions.get(connection, name)
        office.want(version)
    until(lambda: not office.fill() and office.live() == name)


def until(condition: Callable[[], bool], *, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


SLOW = """
import sys, time
from assistant.app import Assistant
from assistant.config import load
from assistant.ingest import reembed
reembed.BATCH = 4
assistant = Assistant(load(), threads=1)
_ = assistant.embedders
def slowly(done, total):
    print(done, flush=True)
    time.sleep(0.2)
reembed.run(assistant.database, assistant.embedders, progress=slowly)
"""


def test_killed_in_the_middle_it_goes_on_where_it_was(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.commit(*range(40))
    version = office.version()
    office.want(version)
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SLOW)],
        env=environment(office.settings),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 12:
            break
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    process.stdout.close()
    assert office.live() == office.settings.embedder
    assert len(ask(office.assistant, text(500))) == 10
    done = office.rows("select count(*) as n from chunk where space_2 is not null")[0]["n"]
    assert 12 <= done < 40
    embedder = office.assistant.embedders.of(office.want(version))
    encoded: list[str] = []
    original = embedder.encode
    monkeypatch.setattr(embedder, "encode", lambda texts: encoded.extend(texts) or original(texts))
    until(lambda: not office.fill() and office.live() == version.name)
    titles = {title(n) for n in range(40)}
    assert len([one for one in encoded if one not in titles]) == 40 - done, "nothing was done twice"


def test_going_back_fills_in_only_what_came_since(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.commit(*range(20))
    version = office.version()
    office.want(version)
    assert not office.fill()
    office.commit(*range(20, 25))
    assert office.rows("select count(*) as n from chunk where space_1 is null") == [{"n": 5}]
    space = office.back()
    assert space.name == office.settings.embedder
    embedder = office.assistant.embedders.of(space)
    encoded: list[str] = []
    original = embedder.encode
    monkeypatch.setattr(embedder, "encode", lambda texts: encoded.extend(texts) or original(texts))
    assert not office.fill()
    assert office.live() == office.settings.embedder
    assert len(encoded) == 10, "five texts and their titles"
    with office.assistant.database.writer() as connection:
        assert versions.get(connection, version.name).state == "retired"
        assert versions.live(connection, VersionKind.EMBEDDER) is None
    with pytest.raises(ConfigError, match="nothing to take back"):
        office.back()


def test_a_third_one_takes_the_column_of_the_first(office: Office) -> None:
    """Its vectors are written over the old ones, whose index goes before."""
    office.commit(*range(10))
    first, second = office.version(seed=1), office.version(seed=2)
    for version in (first, second):
        office.want(version)
        assert not office.fill()
        found = ask(office.assistant, text(77))
        both = [embed.tuned(office.settings, one.name, threads=1) for one in (first, second)]
        assert space_of(text(77), found, both) == version.name
    placed = office.rows("select id, name, slot from embedding_space where slot is not null order by slot")
    assert [row["name"] for row in placed] == [second.name, first.name]
    names = {
        row["n"]
        for row in office.rows("select indexname as n from pg_indexes where indexname ~ '^chunk_emb'")
    }
    assert names == {f"chunk_embedding_{row['id']}" for row in placed}
    assert office.back().name == first.name
    assert not office.fill()
    assert office.back().name == office.settings.embedder, "and on to the one before it"
    assert not office.fill()
    assert len(ask(office.assistant, text(77))) == 10


def test_without_its_files_nothing_changes_and_ingest_goes_on(office: Office) -> None:
    office.commit(*range(5))
    version = office.version()
    office.want(version)
    shutil.rmtree(office.settings.models_folder / version.folder)
    office.commit(5)
    with pytest.raises(ModelUnavailable, match="trained here"):
        office.fill()
    assert not office.fill(), "it is not wanted any more"
    assert office.live() == office.settings.embedder
    assert len(ask(office.assistant, text(5))) == 6


def test_weights_that_changed_are_refused(office: Office) -> None:
    """Their vectors would look like those of the index, and would not be."""
    office.commit(1)
    version = office.version(seed=1)
    office.want(version)
    assert not office.fill()
    shutil.rmtree(office.settings.models_folder / version.folder)
    tiny_embedder.folder(office.settings.models_folder, version.name, office.tokenizer, seed=2)
    assert len(ask(office.assistant, text(1))) == 1, "whoever has it loaded goes on"
    other = Assistant(office.settings, threads=1)
    with pytest.raises(ConfigError, match="can't be compared"):
        ask(other, text(1))
    other.close()


def test_what_is_unfinished_is_made_again(office: Office) -> None:
    """An index whose making was interrupted is there and not valid."""
    office.commit(*range(5))
    space = office.want(office.version())
    name = f"chunk_embedding_{space.id}"
    with office.assistant.database.connect("deskhand_owner") as connection:
        connection.execute(spaces.hnsw(space))
    with psycopg.connect(office.assistant.database.url, autocommit=True) as connection:  # the server's admin
        connection.execute(
            "update pg_index set indisvalid = false where indexrelid = ('deskhand.' || %s)::regclass", (name,)
        )
    assert not office.fill()
    valid = office.rows(f"select indisvalid as v from pg_index where indexrelid = '{name}'::regclass")
    assert valid == [{"v": True}]


def test_an_erasure_takes_both_vectors_and_is_not_held_up(office: Office) -> None:
    office.commit(*range(30))
    customer = Customer("acme", "Acme Corp", ("acme.example",))
    office.change(
        *(
            Upsert(
                SourceDocument(
                    f"t{n}", Kind.TICKET, f"Frobnicator {n}", (Part(f"The frobnicator {n} hums.", role="customer"),),
                    "1", Access.public(), customer=customer,
                    ticket=Ticket(status="open", requester="Ana Rossi", requester_email="ana@acme.example"),
                )
            )
            for n in range(10)
        )
    )  # fmt: skip
    while office.assistant.pipeline.run_batch():
        pass
    version = office.version()
    office.want(version, by="ana@acme.example")
    erased: list[erasure.Report] = []

    def erase(done: int, _total: int) -> None:
        if done >= 8 and not erased:
            assistant = office.assistant
            erased.append(
                erasure.erase(
                    assistant.database, assistant.fingerprint, erasure.CUSTOMER, "acme", actor="cli"
                )
            )

    batch, reembed.BATCH = reembed.BATCH, 4
    try:
        until(lambda: not office.fill(progress=erase) and office.live() == version.name)
    finally:
        reembed.BATCH = batch
    assert erased[0].left == {}
    assert office.rows("select count(*) as n from chunk where text ~ 'frobnicator'") == [{"n": 0}]
    assert office.rows(
        "select count(*) as n from chunk where num_nonnulls(embedding_1, embedding_2) < 2"
    ) == [{"n": 0}]
    with office.assistant.database.writer() as connection:
        assert versions.get(connection, version.name).promoted_by == "(erased)"


def test_a_document_that_went_meanwhile_holds_nothing_up(office: Office) -> None:
    office.commit(*range(12))
    version = office.version()
    office.want(version)

    def go(done: int, _total: int) -> None:
        if done >= 4:
            office.change(Delete("d11"))

    batch, reembed.BATCH = reembed.BATCH, 4
    try:
        assert not office.fill(progress=go)
    finally:
        reembed.BATCH = batch
    assert office.live() == version.name
    assert "d11" not in {p.external_id for p in ask(office.assistant, text(11))}
