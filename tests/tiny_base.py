"""An installation whose models are so small that nothing waits for them.

What answers is a tiny embedder, and what is trained from is a BERT with random weights that is
trained in seconds. `python -m tests.tiny_base NAME` trains with them, as `assistant.tune.retriever_train` does.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

import psycopg
import pytest

from assistant import weights
from assistant.config import Settings
from assistant.ingest import embed
from assistant.ingest.embed import Embedder, OnnxEmbedder
from assistant.store import spaces
from assistant.store.spaces import Space
from assistant.tune import retriever
from assistant.weights import File, Weights
from tests import tiny_embedder

LIVE, BASE = "tiny", "tiny-base"
FILES = ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json")


def settings_with(settings: Settings, folder: Path) -> Settings:
    """The settings with models in `folder`, and its database with the tiny embedder's space as the live one."""
    tokenizer = settings.models_folder / settings.embedder / "tokenizer.json"
    if not tokenizer.is_file():
        pytest.skip(f"the weights {settings.embedder} are absent: `deskhand models pull`")
    models = folder / "models"
    made = settings.model_copy(update={"models": models, "embedder": LIVE})
    tiny_embedder.folder(models, LIVE, tokenizer, seed=7)
    embedder = _live(made)
    with psycopg.connect(
        settings.database_url.get_secret_value() if settings.database_url else "",
        options="-c role=deskhand_owner -c search_path=deskhand,public",
    ) as connection:
        row = connection.execute(
            "update embedding_space set name = %s, revision = %s, dimension = %s where live returning id",
            (embedder.name, embedder.revision, embedder.dimension),
        ).fetchone()
        assert row is not None
        connection.execute(f"drop index chunk_embedding_{row[0]}".encode())
        connection.execute(
            spaces.hnsw(Space(row[0], embedder.name, embedder.revision, embedder.dimension, 1))
        )
    return made


def base(models: Path) -> None:
    """Write the weights to train from; needs the extra `[tune]`."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(**sizes), add_pooling_layer=False).save_pretrained(models / BASE)
    shutil.copy(models / "tuned" / LIVE / "tokenizer.json", models / BASE)
    (models / BASE / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')


def known(models: Path) -> None:
    """Let this process know them."""
    files = tuple(
        File(name, place.stat().st_size, hashlib.sha256(place.read_bytes()).hexdigest(), ())
        for name in FILES
        if (place := models / BASE / name).exists()
    )
    weights.KNOWN[BASE] = Weights(BASE, "a random BERT", "Apache-2.0", files)
    embed.EMBEDDERS[LIVE] = lambda settings, _threads: _live(settings)
    retriever.TRAINABLE[LIVE] = BASE


def unknown() -> None:
    """And forget them again."""
    for names, name in ((weights.KNOWN, BASE), (embed.EMBEDDERS, LIVE), (retriever.TRAINABLE, LIVE)):
        names.pop(name, None)


def _live(settings: Settings) -> Embedder:
    return OnnxEmbedder(settings.models_folder / "tuned" / LIVE, threads=1, name=LIVE)


if __name__ == "__main__":
    from assistant.config import settings
    from assistant.tune import retriever_train

    known(settings().models_folder)
    raise SystemExit(retriever_train.main(sys.argv[1]))
