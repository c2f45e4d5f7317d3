"""Fine-tuned versions of the tiny model: real files and real rows, with adapters that learnt nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from assistant.config import Settings
from assistant.generate import adapter, local
from assistant.store import versions
from assistant.store.db import Database
from assistant.store.versions import Kind, Version
from tests import tiny

RANK = 4


def installed(settings: Settings, folder: Path) -> Settings:
    """These settings with the tiny model as the local one, and models in `folder` beside the real embedder's."""
    folder.mkdir(parents=True, exist_ok=True)
    embedder = folder / settings.embedder
    if not embedder.exists():
        os.symlink((settings.models_folder / settings.embedder).resolve(), embedder)
    base = tiny.write_gguf(folder / "tiny.gguf")
    return settings.model_copy(update={"models": folder, "generator": "local", "local_model": str(base)})


def write_adapter(folder: Path, settings: Settings, *, seed: int = 5, size: float = 0.125) -> Path:
    """A LoRA adapter of the tiny model with random numbers; `size` 0: one that changes nothing."""
    chance = np.random.default_rng(seed)
    tensors: dict[str, Any] = {}
    for layer in range(tiny.LAYERS):
        for module, rows, columns in tiny.MODULES.values():
            name = f"base_model.model.model.layers.{layer}.{module}"
            for part, shape in (("A", (RANK, columns)), ("B", (rows, RANK))):
                values = chance.standard_normal(shape).astype(np.float32) * size
                tensors[f"{name}.lora_{part}.weight"] = values
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "target_modules": sorted({module.split(".")[-1] for module, *_ in tiny.MODULES.values()}),
        "base_model_name_or_path": settings.local_model,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / adapter.CONFIG).write_text(json.dumps(config))
    (folder / "README.md").write_text("# An adapter of the tests\n")
    save_file(tensors, folder / adapter.WEIGHTS)
    return folder


def version(
    database: Database,
    settings: Settings,
    *,
    seed: int = 5,
    dataset: str | None = None,
    recipe: dict[str, Any] | None = None,
) -> Version:
    """A candidate whose files lie where those of a trained one do."""
    with database.writer() as connection:
        made = versions.request(
            connection,
            Kind.GENERATOR,
            base=settings.local_model,
            dataset_hash=dataset,
            recipe=recipe or {},
            by="tests",
        )
        versions.finish(connection, made, {})
        made = versions.get(connection, made.name)
    folder = write_adapter(settings.models_folder / made.folder, settings, seed=seed)
    adapter.merge(Path(settings.local_model), adapter.read(folder), folder / local.MERGED)
    return made
