"""What a mean over questions is worth: its bootstrap interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np

from assistant.errors import ConfigError

RESAMPLES = 2000
PACKAGES = ("pytrec_eval", "rouge_score", "scipy", "matplotlib")


@dataclass(frozen=True, slots=True)
class Estimate:
    """A statistic of `count` questions and its 95 % percentile bootstrap interval."""

    value: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        """Short enough for a table: the value and half the interval's width."""
        return f"{self.value:.3f} ±{(self.high - self.low) / 2:.3f}"


def estimate(values: Sequence[float], statistic: Callable[..., Any] = np.mean) -> Estimate | None:
    """The statistic of `values`, None when there are none; the same values give the same interval."""
    if not values:
        return None
    sample = np.asarray(values, float)
    value = float(statistic(sample))
    if len(sample) < 2 or sample.min() == sample.max():
        return Estimate(value, value, value, len(sample))
    from scipy.stats import bootstrap

    found = bootstrap(
        (sample,),
        statistic,
        n_resamples=RESAMPLES,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Estimate(value, float(found.low), float(found.high), len(sample))


def balanced(groups: Sequence[Sequence[float]]) -> Estimate | None:
    """The mean of the groups' means, so that none counts more for being larger; None when one is empty.

    Each group is resampled by itself. Differences of pairs as values make it a paired bootstrap.
    """
    if not groups or not all(groups):
        return None
    chance = np.random.default_rng(0)
    means = np.zeros(RESAMPLES)
    for group in groups:
        sample = np.asarray(group, float)
        means += sample[chance.integers(len(sample), size=(RESAMPLES, len(sample)))].mean(axis=1)
    low, high = np.percentile(means / len(groups), (2.5, 97.5))
    value = float(np.mean([np.mean(group) for group in groups]))
    return Estimate(value, float(low), float(high), sum(len(group) for group in groups))


p50 = partial(np.percentile, q=50)
p95 = partial(np.percentile, q=95)


def check_installed() -> None:
    """Raises `ConfigError` when the extra `eval` isn't installed: before the work, not after it."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"Evaluating needs {', '.join(missing)}, which a plain installation leaves out. Nothing was "
            "evaluated; run `pip install 'deskhand[eval]'` and try again."
        )
