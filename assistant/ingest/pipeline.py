"""From the queue to the index: parse → chunk → embed → one transaction.

A batch is claimed by counting its attempt and then by locking its rows for as
long as the work lasts. Killing the worker, Valkey or PostgreSQL at any moment
therefore leaves every document either queued or indexed, never half of both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from assistant.errors import ItemError, ModelUnavailable
from assistant.ingest import lexical
from assistant.ingest.chunk import Chunker, embedding_text
from assistant.ingest.digest import Digest, digest
from assistant.ingest.embed import Embedder, Embedders
from assistant.ingest.parse import Parser
from assistant.ingest.stated import Stated
from assistant.model import Access, Audience, Chunk, Kind, SourceDocument
from assistant.store import documents, spaces
from assistant.store.db import Conn, Database, Row
from assistant.store.spaces import Space, Vector
from assistant.store.sync import fail, unpack

RETRY_SECONDS = 30.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Report:
    """What one batch did."""

    documents: int = 0
    chunks: int = 0
    embedded: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class _Prepared:
    row: Row
    chunks: list[Chunk]
    texts: list[str]
    hashes: list[bytes]
    digest: Digest


class Pipeline:
    """One worker process's ingest; not for use by several threads at once."""

    def __init__(self, database: Database, *, parser: Parser, chunker: Chunker, embedders: Embedders) -> None:
        self.database = database
        self.parser = parser
        self.chunker = chunker
        self.embedders = embedders

    def run_batch(self, *, limit: int = documents.BATCH) -> Report | None:
        """Index up to `limit` queued documents; None when none was ready.

        A document that can't be used becomes a failure row. Raises `NotRunning`
        when PostgreSQL goes away; the batch is then queued as before.
        """
        with self.database.writer() as connection:
            ids = documents.claim(connection, limit=limit)
        if not ids:
            return None
        with self.database.writer() as connection:
            rows = documents.take(connection, ids)
            prepared: list[_Prepared] = []
            failed = 0
            for row in rows:
                if row["attempts"] > documents.MAX_ATTEMPTS:
                    self._give_up(connection, row, _KILLER)
                    failed += 1
                    continue
                try:
                    prepared.append(self._prepare(row))
                except ItemError as error:
                    self._failed(connection, row, error)
                    failed += 1
            embedded = self._write(connection, prepared)
        report = Report(len(prepared), sum(len(p.chunks) for p in prepared), embedded, failed)
        log.info(
            "indexed", documents=report.documents, chunks=report.chunks, embedded=embedded, failed=failed
        )
        return report

    def _prepare(self, row: Row) -> _Prepared:
        parsed = self.parser.parse(_document(row))
        row = _with_stated(row, parsed.stated)
        chunks = self.chunker.chunk(parsed.sections, title=row["title"])
        if not chunks:
            raise ItemError("There is no text in it. Nothing to do, unless it should have some.")
        texts = [embedding_text(row["title"], chunk) for chunk in chunks]
        hashes = [hashlib.sha256(text.encode()).digest()[:16] for text in texts]
        gist = digest(row["title"], parsed.sections) if row["kind"] == Kind.TICKET else Digest()
        return _Prepared(row, chunks, texts, hashes, gist)

    def _write(self, connection: Conn, prepared: Sequence[_Prepared]) -> int:
        texts = {h: t for p in prepared for h, t in zip(p.hashes, p.texts, strict=True)}
        titles = list({p.row["title"] for p in prepared})
        vectors: dict[int, Mapping[bytes, Vector]] = {}
        title_vectors: dict[int, Mapping[str, Vector]] = {}
        new: list[bytes] = []
        targets = self._targets(connection)
        for space, embedder in reversed(targets):  # the live one last: what is new to it is reported
            known: dict[bytes, Vector] = dict(documents.known_vectors(connection, space, texts))
            new = [digest for digest in texts if digest not in known]
            # One call for both, so that short titles fill up the encoder's batches.
            encoded = embedder.encode([texts[digest] for digest in new] + titles)
            vectors[space.slot] = known | dict(zip(new, encoded, strict=False))
            title_vectors[space.slot] = dict(zip(titles, encoded[len(new) :], strict=True))
        documents.write(
            connection,
            [space for space, _ in targets],
            [
                documents.Indexed(
                    row=p.row,
                    chunks=p.chunks,
                    hashes=p.hashes,
                    weights=[_words(p.row["title"], text) for text in p.texts],
                    vectors=vectors,
                    title_vectors={slot: of[p.row["title"]] for slot, of in title_vectors.items()},
                    lines=p.digest.lines,
                    codes=p.digest.codes,
                )
                for p in prepared
            ],
        )
        return len(new)

    def _targets(self, connection: Conn) -> list[tuple[Space, Embedder]]:
        """The live space, and the one that is wanted, with their embedders."""
        found: list[tuple[Space, Embedder]] = []
        for space in spaces.targets(connection):
            try:
                found.append((space, self.embedders.of(space)))
            except ModelUnavailable as error:
                if not found:
                    raise
                # Whoever fills in the wanted space's vectors fills in these, too.
                log.warning("indexed without the wanted embedder", reason=str(error))
        return found

    def _failed(self, connection: Conn, row: Row, error: ItemError) -> None:
        if error.permanent or row["attempts"] >= documents.MAX_ATTEMPTS:
            self._give_up(connection, row, str(error), permanent=error.permanent)
        else:
            documents.later(connection, row["document_id"], seconds=RETRY_SECONDS * 2 ** row["attempts"])
            fail(connection, row["source_id"], row["external_id"], "parse", str(error), row["attempts"])

    def _give_up(self, connection: Conn, row: Row, reason: str, *, permanent: bool = True) -> None:
        documents.park(connection, row["document_id"])
        fail(
            connection,
            row["source_id"],
            row["external_id"],
            "parse",
            reason,
            row["attempts"],
            permanent=permanent,
        )


_KILLER = (
    "Indexing it stopped the worker several times, so it was set aside. The rest of the source is not "
    "affected. Look at the file, then retry it with `deskhand failures retry`."
)


def _words(title: str, text: str) -> dict[int, float]:
    """BM25 weights of a chunk. Its title, which stands in `text` already, counts twice."""
    return lexical.weights(lexical.tokenise(f"{title}\n{text}"))


def _with_stated(row: Row, stated: Stated) -> Row:
    """The row with the file's own title and date, where it has them, in place of its source's."""
    own = {key: value for key, value in (("title", stated.title), ("created_at", stated.written)) if value}
    return {**row, **own, "stated": sorted(own)}


def _document(row: Row) -> SourceDocument:
    return SourceDocument(
        external_id=row["external_id"],
        kind=Kind(row["kind"]),
        title=row["title"],
        body=unpack(row["form"], bytes(row["body"])),
        revision=row["revision"],
        access=Access.nobody(),
        url=row["url"],
        media_type=row["media_type"],
        language=row["language"],
        audience=Audience(row["audience"]),
        created_at=row["created_at"],
        metadata=row["metadata"],
    )
