"""Average linkage without a matrix, compared with SciPy's."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest

from assistant.evaluate import linkage


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def noisy(topics: int, rows: int, spread: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((topics, 384))
    return unit(centres[np.arange(rows) % topics] + spread * rng.standard_normal((rows, 384)))


@pytest.fixture(params=["at once and one by one", "one by one"], autouse=True)
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "one by one":
        monkeypatch.setattr(linkage, "FEW", 1.0)


@pytest.mark.parametrize("spread", [0.3, 0.8, 1.0])
@pytest.mark.parametrize("threshold", [0.4, 0.55])
def test_grouping_is_average_linkage(spread: float, threshold: float) -> None:
    from scipy.cluster import hierarchy

    vectors = noisy(20, 400, spread)
    tree = hierarchy.linkage(vectors.astype(float), "average", metric="cosine")
    labels = hierarchy.fcluster(tree, 1 - threshold, "distance")
    expected = {frozenset(np.flatnonzero(labels == label).tolist()) for label in set(labels.tolist())}
    assert {frozenset(group) for group in linkage.groups(vectors, threshold)} == expected


def test_grouping_of_few_of_equals_and_of_none() -> None:
    one = noisy(1, 1, 0.0)
    assert linkage.groups(np.zeros((0, 384), np.float32)) == []
    assert linkage.groups(one) == [[0]]
    assert [sorted(g) for g in linkage.groups(np.repeat(one, 50, axis=0))] == [list(range(50))]
    assert linkage.middle(unit(np.array([[1.0, 0.0], [1.0, 0.5], [1.0, 1.0]])), [0, 1, 2]) == 1


def test_ten_thousand_questions_take_seconds_and_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # as it is in use
    vectors = noisy(1000, 10_000, 0.6)
    tracemalloc.start()
    started = time.process_time()
    found = linkage.groups(vectors)
    seconds, peak = time.process_time() - started, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sorted(map(len, found)) == [10] * 1000
    assert peak < 120e6, "no matrix of all distances, which would take 400 MB"
    assert seconds < 60
