"""How well the retriever finds what is relevant, by the measures of trec_eval."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from assistant.app import Assistant
from assistant.errors import ConfigError
from assistant.evaluate import beir
from assistant.evaluate.scratch import Progress
from assistant.evaluate.statistics import Estimate, estimate, p50, p95
from assistant.model import Principal
from assistant.retrieve.fusion import Legs
from assistant.retrieve.scope import Scope
from assistant.store import sources
from assistant.store.search import Filters

DEPTH = 100
"""documents ranked for one query"""
CUT = 10

Ranking = Mapping[str, Sequence[str]]
"""query id → document ids, best first"""


@dataclass(frozen=True, slots=True)
class Run:
    """What one system found, with each query's scores."""

    system: str
    ranking: Ranking = field(repr=False)
    scores: Mapping[str, Mapping[str, float]] = field(repr=False)
    """query id → measure → value"""
    metrics: Mapping[str, Estimate]


def run(
    assistant: Assistant,
    task: beir.Task,
    *,
    legs: Legs,
    principal: Principal,
    source: str = "",
    as_of_field: str = "",
    progress: Progress,
) -> Run:
    """Ask every query of `task` as `principal`.

    `source`: search only this one. A document whose id is the query's own is
    left out; with `as_of_field`, which names a field of the query's metadata, so
    are texts written after that moment. Raises `ConfigError` for a query without it.
    """
    chosen = None
    if source:
        with assistant.database.writer() as connection:
            chosen = (sources.get(connection, source).id,)
    ranking: dict[str, list[str]] = {}
    seconds: list[float] = []
    for done, query in enumerate(task.queries, 1):
        filters = Filters(sources=chosen, before=_as_of(query, as_of_field))
        started = time.perf_counter()
        found = assistant.retriever.documents(
            query.text, Scope(principal, filters=filters), limit=DEPTH + 1, legs=legs
        )
        seconds.append(time.perf_counter() - started)
        ids = [passage.external_id for _, passage in found]
        ranking[query.id] = [name for name in ids if name != query.id][:DEPTH]
        progress(f"Ask {legs}", done, len(task.queries))
    scores = score(task.relevant, ranking)
    metrics = summary(scores)
    for name, statistic in (("seconds_p50", p50), ("seconds_p95", p95)):
        if found_estimate := estimate(seconds, statistic):
            metrics[name] = found_estimate
    return Run(legs.value, ranking, scores, metrics)


def score(relevant: Mapping[str, Mapping[str, int]], ranking: Ranking) -> dict[str, dict[str, float]]:
    """nDCG@10, recall@10 and @100 and MRR@10 of every query of `relevant`; 0 where nothing was found."""
    import pytrec_eval

    judged = {query: dict(grades) for query, grades in relevant.items()}
    # trec_eval sorts by score itself, and breaks ties by id: ranks keep our order.
    runs = {q: {name: -float(rank) for rank, name in enumerate(ids)} for q, ids in ranking.items()}
    first = {q: {name: -float(rank) for rank, name in enumerate(ids[:CUT])} for q, ids in ranking.items()}
    measures = {f"ndcg_cut.{CUT}", f"recall.{CUT},{DEPTH}"}
    cut = pytrec_eval.RelevanceEvaluator(judged, measures).evaluate(runs)
    reciprocal = pytrec_eval.RelevanceEvaluator(judged, {"recip_rank"}).evaluate(first)
    return {
        query: {
            f"ndcg@{CUT}": cut.get(query, {}).get(f"ndcg_cut_{CUT}", 0.0),
            f"recall@{CUT}": cut.get(query, {}).get(f"recall_{CUT}", 0.0),
            f"recall@{DEPTH}": cut.get(query, {}).get(f"recall_{DEPTH}", 0.0),
            f"mrr@{CUT}": reciprocal.get(query, {}).get("recip_rank", 0.0),
        }
        for query in relevant
    }


def summary(scores: Mapping[str, Mapping[str, float]]) -> dict[str, Estimate]:
    """The mean of each measure over the queries, with its interval."""
    names = next(iter(scores.values()), {})
    found = {name: estimate([of_query[name] for of_query in scores.values()]) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def _as_of(query: beir.Record, name: str) -> dt.datetime | None:
    if not name:
        return None
    moment = beir.moment(query.metadata.get(name))
    if moment is None:
        raise ConfigError(
            f"Query {query.id} has no «{name}» in its metadata, which --as-of-field asks for. Nothing was "
            "evaluated; name another field, or leave the option out."
        )
    return moment
