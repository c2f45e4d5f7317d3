"""A version's adapter where a GPU server finds it, or another Deskhand (`assistant/adapters`).

vLLM loads PEFT's own layout (`--enable-lora --lora-modules NAME=FOLDER`) and serves the
adapter under that name beside its base; it knows rsLoRA, but no DoRA, and wants to be
told of ranks above 16 (vLLM's `peft_helper.py` and `--max-lora-rank`).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from assistant import servers
from assistant.config import Settings
from assistant.errors import ConfigError, ModelUnavailable
from assistant.generate import adapter, live
from assistant.generate.base import Tuned

FILES = (adapter.WEIGHTS, adapter.CONFIG, "README.md")
HUB_NAMES = {"smollm2-135m-instruct": "HuggingFaceTB/SmolLM2-135M-Instruct"}
"""known weights → the same on a hub"""
RANKS = (16, 32, 64, 128, 256, 320, 512)
"""what `--max-lora-rank` may be, from its default on"""


def publish(tuned: Tuned | None, to: Path, settings: Settings) -> tuple[Path, str]:
    """Copy the adapter to a folder of its name in `to`; returns that and the command that serves it.

    Raises `ConfigError` for the plain model and for what vLLM can't load, `ModelUnavailable`
    for an adapter that can't be read or a folder that can't be written.
    """
    if tuned is None:
        raise ConfigError("The plain model has no adapter. Nothing was written; name a version.")
    base = adapter.read(tuned.folder).base or settings.local_model
    config: dict[str, Any] = json.loads((tuned.folder / adapter.CONFIG).read_text(encoding="utf-8"))
    if config.get("use_dora"):
        raise ConfigError(
            f"{tuned.name} was trained with DoRA, which vLLM can't load. Nothing was written; train it without, or "
            "serve it with DESKHAND_GENERATOR=transformers."
        )
    place = to.expanduser().resolve() / tuned.name
    scratch = place.with_name(f".{tuned.name}")
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        for file in FILES:
            if (tuned.folder / file).exists():
                shutil.copyfile(tuned.folder / file, scratch / file)
        servers.write_small(scratch / live.RECIPE, json.dumps(live.told(tuned), indent=2) + "\n", mode=0o644)
        shutil.rmtree(place, ignore_errors=True)
        scratch.rename(place)
    except OSError as error:
        raise ModelUnavailable(
            f"{place} could not be written: {error.strerror or error}. What was there before may be gone; make room, "
            "then publish it again."
        ) from error
    rank = next((most for most in RANKS if config["r"] <= most), config["r"])
    command = f"vllm serve {HUB_NAMES.get(base, base)} --enable-lora --lora-modules {tuned.name}={place}"
    return place, command + (f" --max-lora-rank {rank}" if rank > RANKS[0] else "")
