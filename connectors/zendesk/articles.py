"""Articles of Zendesk's help centre and who may read them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from assistant.errors import SourceBusy
from assistant.model import Access, Batch, Change, Delete, Failed, Kind, SourceDocument, Upsert
from connectors.base import BATCH_SIZE
from connectors.http import Http
from connectors.revision import revision
from connectors.zendesk.people import Row, listing
from connectors.zendesk.ticket import moment

ARTICLES = "api/v2/help_center/incremental/articles.json"


def article_access(article: Row, *, public: bool) -> Access:
    """Whom an article's user segments let in; no segment means everybody who gets into the help centre."""
    segments = set(article.get("user_segment_ids") or ())
    if article.get("user_segment_id"):
        segments.add(article["user_segment_id"])
    if segments:
        return Access.of(groups=tuple(f"segment:{segment}" for segment in sorted(segments)))
    if "user_segment_id" not in article:
        return Access.nobody()
    return Access.public() if public else Access.of(groups=("signed-in",))


def sync_articles(http: Http, state: dict[str, Any], *, public: bool) -> Iterator[Batch]:
    """The time-based export. Its second of start is read again each time, so what it showed is remembered."""
    start, seen = int(state.get("articles", 0)), list(state.get("seen", ()))
    pending: list[Change] = []
    while True:
        page = http.json("GET", ARTICLES, params={"start_time": str(start)})
        for article in page["articles"]:
            version = f"{article['id']}@{article['updated_at']}"
            if version in seen:
                continue
            if len(pending) == BATCH_SIZE:
                yield Batch(tuple(pending), {**state, "articles": start, "seen": list(seen)})
                pending = []
            pending.append(article_change(article, public=public))
            seen.append(version)
        end = int(page["end_time"] or start)
        if end > start:
            edge = {
                f"{a['id']}@{a['updated_at']}" for a in page["articles"] if _epoch(a["updated_at"]) >= end
            }
            start, seen = end, [version for version in seen if version in edge]
        elif page["next_page"]:
            raise SourceBusy(
                "More articles changed within one second than a page of their export holds. Nothing was lost; "
                "change one of them, and the sync goes on."
            )
        if not page["next_page"]:
            break
    settled = {**state, "articles": start, "seen": seen}
    if pending or settled != state:
        yield Batch(tuple(pending), settled)


def article_change(article: Row, *, public: bool) -> Change:
    name = f"article/{article['id']}"
    if article["draft"]:
        return Delete(name)
    try:
        return Upsert(_document(article, public))
    except (KeyError, TypeError, ValueError) as error:
        return Failed(
            name,
            f"Zendesk describes it otherwise than documented ({type(error).__name__}). It was not read; it is "
            "tried again by itself.",
        )


def _document(article: Row, public: bool) -> SourceDocument:
    document = SourceDocument(
        external_id=f"article/{article['id']}",
        kind=Kind.DOCUMENT,
        title=article["title"] or f"Article {article['id']}",
        body=(article["body"] or article["title"]).encode(),
        revision="",
        access=article_access(article, public=public),
        url=article["html_url"],
        media_type="text/html",
        language=article["locale"].partition("-")[0],
        created_at=moment(article["created_at"]),
        updated_at=moment(article["updated_at"]),
        metadata={"labels": list(article.get("label_names") or ())},
    )
    return replace(document, revision=revision(replace(document, updated_at=None)))


def articles_now(http: Http) -> Iterator[Row]:
    rows = listing(http, "api/v2/help_center/articles.json", "articles")
    return (row for row in rows if not row["draft"])


def _epoch(text: str) -> int:
    return int(moment(text).timestamp())
