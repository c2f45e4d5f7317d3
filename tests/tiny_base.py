"""A BERT with random weights, so small that it is trained in seconds, in the place of the weights to train from."""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

from assistant import weights
from assistant.weights import File, Weights

NAME = "minilm-l6-v2"


def make(models: Path, tokenizer: Path) -> Path:
    """Write it below `models` with a BERT's `tokenizer.json`; needs the extra `[tune]`."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    folder = models / NAME
    BertModel(BertConfig(**size), add_pooling_layer=False).save_pretrained(folder)
    shutil.copy(tokenizer, folder / "tokenizer.json")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    return folder


def known(models: Path) -> None:
    """Let its files be the right ones, in this process."""
    files = tuple(
        File(name, place.stat().st_size, hashlib.sha256(place.read_bytes()).hexdigest(), ())
        for name in ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json")
        if (place := models / NAME / name).exists()
    )
    weights.KNOWN[NAME] = Weights(NAME, "a random one", "Apache-2.0", files)


if __name__ == "__main__":
    from assistant.config import settings
    from assistant.tune import retriever_train

    known(settings().models_folder)
    raise SystemExit(retriever_train.main(sys.argv[1]))
