"""How well a model still reads general text: forgetting shows as a higher perplexity than its base's."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from assistant.evaluate.scratch import Progress
from assistant.evaluate.statistics import Estimate
from assistant.generate.local import LocalChat

WINDOW = 256
"""tokens read at once, each predicted from those before it in the window"""
MOST = 20_480
"""tokens of a text that are read: enough for an interval of a few per cent, in a minute on two cores"""
RESAMPLES = 1000


def perplexity(model: LocalChat, text: str, progress: Progress) -> Estimate:
    """Perplexity on `text` by the very weights and runtime that answer, with an interval over its windows.

    Raises `ModelUnavailable`.
    """
    losses = [float(loss.mean()) for loss in token_losses(model.prepare(), model, text, progress)]
    sample = np.asarray(losses)
    chance = np.random.default_rng(0)
    means = sample[chance.integers(len(sample), size=(RESAMPLES, len(sample)))].mean(axis=1)
    low, high = np.exp(np.percentile(means, (2.5, 97.5)))
    return Estimate(float(np.exp(sample.mean())), float(low), float(high), len(sample))


def token_losses(folder: Path, model: LocalChat, text: str, progress: Progress) -> list[np.ndarray]:
    """Negative log-likelihood of each token but the first, in nats, by window."""
    import openvino

    ids = np.asarray(model.tokenizer().encode(text, add_special_tokens=False).input_ids.data)[0][: MOST + 1]
    compiled = openvino.Core().compile_model(folder / "openvino_model.xml", "CPU")
    request = compiled.create_infer_request()
    found: list[np.ndarray] = []
    starts = range(0, max(1, len(ids) - WINDOW), WINDOW)
    for done, start in enumerate(starts, 1):
        window = ids[start : start + WINDOW + 1].astype(np.int64)
        read, wanted = window[None, :-1], window[1:]
        request.reset_state()
        logits = request.infer(
            {
                "input_ids": read,
                "attention_mask": np.ones_like(read),
                "position_ids": np.arange(read.shape[1])[None],
                "beam_idx": np.zeros(1, np.int32),
            }
        )["logits"][0].astype(np.float64)
        peak = logits.max(axis=1)
        total = peak + np.log(np.exp(logits - peak[:, None]).sum(axis=1))
        found.append(total - logits[np.arange(len(wanted)), wanted])
        progress("General text", done, len(starts))
    return found
