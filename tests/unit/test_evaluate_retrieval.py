"""Reading BEIR folders, trec_eval's measures in our order, and intervals."""

from __future__ import annotations

import datetime as dt
import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from assistant.errors import ConfigError
from assistant.evaluate import beir, results, statistics
from assistant.evaluate.retrieval import score, summary
from assistant.evaluate.statistics import Estimate, estimate, p95

DOCUMENTS = [{"_id": "a", "title": "A", "text": "alpha"}, {"_id": 2, "text": "beta", "metadata": {"x": 1}}]


def folder(path: Path, *, packed: bool = False, qrels: str = "q1\ta\t1\nq2\t2\t0\n") -> Path:
    content = "\n".join(json.dumps(d) for d in DOCUMENTS).encode()
    if packed:
        (path / "corpus.jsonl.gz").write_bytes(gzip.compress(content))
    else:
        (path / "corpus.jsonl").write_bytes(content + b"\n\n")
    (path / "queries.jsonl").write_text(
        '{"_id": "q1", "text": "first?"}\n{"_id": "q2", "text": "second?"}\n{"_id": "q3", "text": "third?"}\n'
    )
    (path / "qrels").mkdir()
    (path / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\n" + qrels)
    return path


@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_is_read_compressed_or_not(tmp_path: Path, *, packed: bool) -> None:
    place = folder(tmp_path, packed=packed)
    assert [(d.id, d.title, d.text) for d in beir.corpus(place)] == [("a", "A", "alpha"), ("2", "", "beta")]
    task = beir.task(place)
    assert task.split == "dev"
    assert [q.id for q in task.queries] == ["q1"], "a query without a relevant document can't be scored"


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    content = b'{"_id": "a", "text": "alpha"}\n'
    (tmp_path / "x" / "corpus.jsonl").write_bytes(content)
    (tmp_path / "y" / "corpus.jsonl.gz").write_bytes(gzip.compress(content))
    assert beir.fingerprint(tmp_path / "x") == beir.fingerprint(tmp_path / "y")
    (tmp_path / "x" / "corpus.jsonl").write_bytes(content + content)
    assert beir.fingerprint(tmp_path / "x") != beir.fingerprint(tmp_path / "y")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("qrels/dev.tsv", "q1 a 1\n", "dev.tsv, line 1"),
        ("qrels/dev.tsv", "q1\ta\tmuch\n", "whole number"),
        ("queries.jsonl", '{"_id": "q1"}\n', "line 1: text"),
        ("queries.jsonl", "{", "line 1"),
        ("queries.jsonl", '{"_id": "other", "text": "x"}\n', "None of the queries"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(tmp_path: Path, name: str, content: str, said: str) -> None:
    place = folder(tmp_path)
    (place / name).write_text(content)
    with pytest.raises(ConfigError, match=said):
        beir.task(place)


def test_a_missing_split_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"qrels/test\.tsv"):
        beir.task(folder(tmp_path), split="test")


def test_moments_as_sets_write_them() -> None:
    expected = dt.datetime(2025, 7, 1, 13, 27, 12, tzinfo=dt.UTC)
    assert beir.moment("2025-07-01 13:27:12 +0000") == expected
    assert beir.moment("2025-07-01T06:27:12-07:00") == expected
    assert beir.moment("2025-07-01T13:27:12Z") == expected
    assert beir.moment("2025-07-01") == dt.datetime(2025, 7, 1, tzinfo=dt.UTC)
    assert beir.moment(None) is None
    with pytest.raises(ConfigError, match="yesterday"):
        beir.moment("yesterday")


def test_the_measures_are_those_of_trec_eval() -> None:
    relevant = {"q": {"a": 1, "b": 1}, "late": {"z": 1}, "none": {"a": 1}}
    ranking = {"q": ["x", "a", "b"], "late": [f"d{i}" for i in range(10)] + ["z"]}
    found = score(relevant, ranking)
    ideal = 1 + 1 / np.log2(3)
    assert found["q"]["ndcg@10"] == pytest.approx((1 / np.log2(3) + 1 / np.log2(4)) / ideal)
    assert found["q"]["mrr@10"] == 0.5
    assert found["q"]["recall@10"] == 1.0
    assert (found["late"]["mrr@10"], found["late"]["recall@10"], found["late"]["recall@100"]) == (0, 0, 1)
    assert set(found["none"].values()) == {0.0}, "a query without results counts as 0"
    assert summary(found)["recall@100"].value == pytest.approx(2 / 3)


def test_an_interval_is_repeatable_and_holds_the_mean() -> None:
    values = [float(v) for v in np.random.default_rng(1).random(200)]
    first, second = estimate(values), estimate(values)
    assert first == second
    assert first is not None
    assert first.low < first.value < first.high
    # The normal approximation is near for a mean of 200.
    half = 1.96 * float(np.std(values)) / np.sqrt(200)
    assert first.high - first.value == pytest.approx(half, rel=0.15)


def test_intervals_of_few_and_equal_values() -> None:
    assert estimate([]) is None
    assert estimate([0.5]) == Estimate(0.5, 0.5, 0.5, 1)
    assert estimate([1.0, 1.0, 1.0]) == Estimate(1.0, 1.0, 1.0, 3)
    tail = estimate([float(v) for v in range(100)], p95)
    assert tail is not None
    assert tail.value == pytest.approx(94.05)


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "PACKAGES", ("scipy", "no_such_package"))
    with pytest.raises(ConfigError, match=r"no_such_package.*pip install 'deskhand\[eval\]'"):
        statistics.check_installed()


def test_a_plot_is_drawn(tmp_path: Path) -> None:
    some = Estimate(0.5, 0.4, 0.7, 10)
    metrics = {"ndcg@10": some, "recall@10": some, "seconds_p50": Estimate(2.0, 1.0, 3.0, 10)}
    made = [results.Result("retrieval", "set", name, metrics) for name in ("hybrid", "dense")]
    results.plot(made, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
