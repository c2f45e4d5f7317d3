"""The model that is trained on: known weights, a GGUF, a folder, or one on a hub."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assistant import weights
from assistant.config import Settings
from assistant.errors import ModelUnavailable


@dataclass(frozen=True, slots=True)
class Base:
    """A causal language model of transformers. `gguf`: the file it is in, where it is one."""

    name: str
    gguf: Path | None = None

    def tokenizer(self) -> Any:
        """Raises `ModelUnavailable` when there is none, or it has no chat format."""
        from transformers import AutoTokenizer

        made = self._loaded(AutoTokenizer)
        if not made.chat_template:
            raise ModelUnavailable(
                f"The model {self.name} has no chat format, so it can't be trained to answer. Nothing was started; "
                "take the variant of it that is made for conversation."
            )
        if made.pad_token is None:
            made.pad_token = made.eos_token
        return made

    def model(self) -> Any:
        """The weights, in bfloat16 where the machine computes with it. Raises `ModelUnavailable`."""
        import torch
        from transformers import AutoModelForCausalLM, GgufConfig

        kind = torch.bfloat16 if bf16() else torch.float32
        if self.gguf is None:
            return self._loaded(AutoModelForCausalLM, dtype=kind, use_safetensors=True)
        made = self._loaded(AutoModelForCausalLM, dtype=kind, quantization_config=GgufConfig(dequantize=True))
        # One that came out of a GGUF keeps marks of it that forbid saving; its numbers in a new one do not.
        clean = AutoModelForCausalLM.from_config(made.config, dtype=kind)
        clean.load_state_dict(made.state_dict())
        clean.generation_config = made.generation_config
        return clean

    def _loaded(self, kind: Any, **options: Any) -> Any:
        place: str | Path = self.name
        if self.gguf is not None:
            place, options = self.gguf.parent, {**options, "gguf_file": self.gguf.name}
        try:
            return kind.from_pretrained(place, **options)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise ModelUnavailable(
                f"The model {self.name} would not load ({str(error).strip().splitlines()[0]}). Nothing was started. "
                "Give one that `deskhand models list` shows, a folder with safetensors, or a name on a hub."
            ) from error


def base(name: str, settings: Settings) -> Base:
    """The model of that name. Raises `ModelUnavailable` for known weights that are not there.

    To be called before transformers is imported: nothing is asked of a hub for what is here.
    """
    if name in weights.KNOWN or Path(name).exists():
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if name in weights.KNOWN:
        return Base(name, weights.path(name, settings))
    if name.endswith(".gguf"):
        if not Path(name).is_file():
            raise ModelUnavailable(f"There is no model file {name}. Nothing was started.")
        return Base(name, Path(name))
    return Base(name)


def bf16() -> bool:
    """Whether this machine computes with bfloat16; where it only pretends to, float32 is faster."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    return any(flag in flags for flag in ("amx_bf16", "avx512_bf16", " bf16"))
