"""Texts to vectors, with the real model."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from assistant import weights
from assistant.config import Settings
from assistant.errors import ConfigError, ModelUnavailable
from assistant.ingest import embed
from assistant.ingest.embed import EMBEDDERS, Embedder, OnnxEmbedder
from tests.conftest import PROJECT

TEXTS = [
    "How do I reset my password?",
    "Steps to choose a new password after you forgot the old one.",
    "The printer in the second floor is out of paper. " * 12,
    "Invoices are sent on the first day of every month.",
    "a",
    "",
]


@pytest.fixture(scope="module")
def settings() -> Settings:
    settings = Settings(models=PROJECT / ".deskhand/models")
    try:
        weights.path("minilm-l6-v2-int8", settings)
    except ModelUnavailable as missing:
        pytest.skip(str(missing))
    return settings


@pytest.fixture(scope="module")
def embedder(settings: Settings) -> Embedder:
    return embed.load(settings, threads=1)


def test_it_says_which_space_its_vectors_are_of(embedder: Embedder) -> None:
    assert (embedder.name, embedder.dimension, embedder.max_tokens, embedder.pooling) == (
        "minilm-l6-v2-int8",
        384,
        256,
        "mean",
    )
    assert embedder.revision == weights.KNOWN["minilm-l6-v2-int8"].files[0].sha256
    assert embedder.tokenizer_file.is_file()


def test_vectors_have_length_one_and_keep_their_order(embedder: Embedder) -> None:
    vectors = embedder.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), 384)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert embedder.encode([]).shape == (0, 384)
    query = embedder.encode_query("I forgot my password")
    assert query.shape == (384,)
    ranked = np.argsort(-(vectors @ query))
    assert set(ranked[:2]) == {0, 1}


def test_a_text_has_one_vector_whatever_it_is_encoded_with(embedder: Embedder, settings: Settings) -> None:
    """Bit-equal: in any company and order, alone, as a query, and with more threads."""
    together = embedder.encode(TEXTS)
    assert np.array_equal(together, embedder.encode(TEXTS[::-1])[::-1])
    assert np.array_equal(together, np.stack([embedder.encode([text])[0] for text in TEXTS]))
    assert np.array_equal(together, np.stack([embedder.encode_query(text) for text in TEXTS]))
    assert np.array_equal(together, embed.load(settings, threads=2).encode(TEXTS))


def test_memory_does_not_grow_with_every_length_of_text(embedder: Embedder) -> None:
    embedder.encode(["word " * n for n in range(8, 250, 16)])
    before = psutil.Process().memory_info().rss
    embedder.encode(["word " * n for n in range(1, 250)])
    assert psutil.Process().memory_info().rss - before < 60 << 20


def test_texts_are_cut_at_the_models_limit(embedder: Embedder) -> None:
    head = "word " * 254
    assert np.array_equal(embedder.encode([head]), embedder.encode([head + "unread " * 5000]))


def test_it_agrees_with_the_models_published_numbers(embedder: Embedder) -> None:
    """Cosines of the model card's example in fp32, which int8 weights and bf16 move by a hundredth at most."""
    a, b = embedder.encode(["That is a happy person", "That is a very happy person"])
    assert float(a @ b) == pytest.approx(0.943, abs=0.02)


def test_threads_can_ask_at_once(embedder: Embedder) -> None:
    expected = [embedder.encode_query(text) for text in TEXTS]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(embedder.encode_query, TEXTS * 5))
    assert all(np.array_equal(vector, expected[i % len(TEXTS)]) for i, vector in enumerate(found))


def test_absent_and_damaged_weights_are_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="deskhand models pull"):
        embed.load(Settings(models=tmp_path))
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelUnavailable, match="deskhand models pull"):
        OnnxEmbedder(tmp_path)


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="minilm-l6-v2-int8"):
        embed.load(Settings(embedder="no-such"))


def test_another_embedder_is_one_entry(monkeypatch: pytest.MonkeyPatch, embedder: Embedder) -> None:
    monkeypatch.setitem(EMBEDDERS, "mine", lambda settings, threads: embedder)
    assert embed.load(Settings(embedder="mine")) is embedder
