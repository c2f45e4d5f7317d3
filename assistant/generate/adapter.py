"""LoRA adapters in PEFT's layout: read, checked, and merged with the GGUF they were trained on. Needs no torch.

LoRA (Hu et al. 2021, arXiv 2106.09685) adds (alpha/r)·B·A to a weight matrix; rsLoRA (Kalajdzievski
2023, arXiv 2312.03732) divides by √r instead; DoRA (Liu et al. 2024, arXiv 2402.09353) then scales each row to
a learnt length. An adapter is somebody's file: only safetensors are read, since a pickle runs code.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np
from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, GGUFReader, TensorNameMap
from safetensors import SafetensorError, deserialize

from assistant.errors import ModelUnavailable
from assistant.generate.gguf import Change, Weights, rewrite

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
PREFIX = "base_model.model."
"""what PEFT puts before the name a module has in its model"""
LAYOUTS: Mapping[str, tuple[str, ...]] = {"llama": ("attn_q", "attn_k")}
"""architectures that can be merged → matrices whose rows the GGUF has in another order than torch

llama.cpp rotates neighbouring rows of a head, transformers its two halves (`permute` in llama.cpp's converter)."""

KNOWN = {
    *(
        "r",
        "lora_alpha",
        "use_rslora",
        "use_dora",
        "lora_dropout",
        "bias",
        "target_modules",
        "exclude_modules",
    ),
    *("peft_type", "task_type", "base_model_name_or_path", "revision", "inference_mode", "peft_version"),
    *("init_lora_weights", "layers_to_transform", "layers_pattern", "megatron_core", "qalora_group_size"),
    *("ensure_weight_tying", "runtime_config"),
}
"""of an adapter's configuration: what is understood, or says nothing about how it is applied"""
PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal", "eva")
"""beginnings that leave the base model as it was; others (PiSSA, OLoRA …) change it"""


@dataclass(frozen=True, slots=True)
class Update:
    """What an adapter does to one matrix."""

    a: Weights
    """rank × columns"""
    b: Weights
    """rows × rank"""
    scaling: float
    magnitude: Weights | None = None
    """of DoRA: the length of each row"""

    @property
    def shape(self) -> tuple[int, int]:
        return self.b.shape[0], self.a.shape[1]

    def applied(self, weights: Weights, strength: float) -> Weights:
        """The matrix with this much of the update; `strength` 0 leaves it as it is, 1 is what was trained."""
        merged = weights + (self.scaling * self.b) @ self.a
        if self.magnitude is not None:
            merged *= (self.magnitude / np.linalg.norm(merged, axis=1))[:, None]
        return np.asarray(weights + strength * (merged - weights), np.float32)

    def reordered(self, rows: np.ndarray[Any, Any]) -> Update:
        lengths = None if self.magnitude is None else self.magnitude[rows]
        return Update(self.a, self.b[rows], self.scaling, lengths)


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter whose numbers are all finite and fit each other."""

    folder: Path
    base: str
    """the model it was trained on, as its configuration names it"""
    updates: Mapping[str, Update]
    """by the module's name in the model, such as `model.layers.0.mlp.up_proj`"""


def read(folder: Path) -> Adapter:
    """The adapter in a folder. Raises `ModelUnavailable` with the reason where it can't be used."""
    file = folder / WEIGHTS
    if not file.is_file():
        _refuse(
            folder, f"there is no {WEIGHTS}. Other formats, such as a pickle, are not read: they can run code"
        )
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        found = {name: _values(folder, name, tensor) for name, tensor in deserialize(file.read_bytes())}
    except (OSError, ValueError, SafetensorError) as error:
        _refuse(folder, f"its files can't be read ({str(error).strip() or type(error).__name__})")
    scaling = _scaling(folder, config)
    updates: dict[str, Update] = {}
    for key in [key for key in found if key.endswith(".lora_A.weight")]:
        module = key.removesuffix(".lora_A.weight")
        a, b = found.pop(key), found.pop(f"{module}.lora_B.weight", None)
        lengths = found.pop(f"{module}.lora_magnitude_vector", None) if config.get("use_dora") else None
        if b is None or a.ndim != 2 or b.ndim != 2 or not a.shape[0] == b.shape[1] == config["r"]:
            _refuse(folder, f"the matrices of {module} don't fit each other or the rank {config['r']}")
        if config.get("use_dora") and (lengths is None or lengths.shape != b.shape[:1]):
            _refuse(folder, f"{module} has no fitting magnitude, which DoRA needs")
        updates[module.removeprefix(PREFIX)] = Update(a, b, scaling, lengths)
    if found or not updates:
        _refuse(
            folder, f"{min(found) if found else 'nothing in it'} is not a part of LoRA that can be merged"
        )
    return Adapter(folder, str(config.get("base_model_name_or_path") or ""), updates)


def merge(base: Path, adapter: Adapter, target: Path, *, strength: float = 1.0) -> None:
    """Write base + adapter to `target` as a GGUF of 8-bit weights; seconds for 135 million weights.

    `target` appears only when it is whole. Raises `ModelUnavailable` for an adapter of
    another model, `OSError` when the disk is full.
    """
    try:
        reader = GGUFReader(base)
    except (OSError, ValueError) as error:
        raise ModelUnavailable(
            f"{base} is no GGUF that can be read ({error}). Nothing was changed."
        ) from error
    changes = _changes(reader, adapter, strength)
    scratch = target.with_name(f".{target.name}-{os.getpid()}")
    try:
        rewrite(base, scratch, changes)
        with scratch.open("rb") as written:
            os.fsync(written.fileno())
        scratch.replace(target)
    finally:
        scratch.unlink(missing_ok=True)


def _changes(reader: GGUFReader, adapter: Adapter, strength: float) -> dict[str, Change]:
    """By tensor of the base, how it is changed."""

    def number(key: str) -> int:
        field = reader.get_field(f"{architecture}.{key}")
        return int(cast(int, field.contents())) if field else 0

    architecture = str(reader.fields["general.architecture"].contents())
    if architecture not in LAYOUTS:
        known = ", ".join(LAYOUTS)
        _refuse(adapter.folder, f"models of the kind {architecture} can't be merged with one, only {known}")
    kinds: dict[str, MODEL_ARCH] = {name: kind for kind, name in MODEL_ARCH_NAMES.items()}
    names = TensorNameMap(kinds[architecture], number("block_count"))
    heads = {"attn_q": number("attention.head_count")}
    heads["attn_k"] = number("attention.head_count_kv") or heads["attn_q"]
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    changes: dict[str, Change] = {}
    for module, update in adapter.updates.items():
        name = f"{names.get_name(module)}.weight"
        if name not in tensors:
            _refuse(adapter.folder, f"it changes {module}, which the base model doesn't have")
        shape = tuple(int(size) for size in reversed(tensors[name].shape))
        if shape != update.shape:
            _refuse(
                adapter.folder,
                f"its {module} is {update.shape}, the base model's is {shape}: it is another's",
            )
        if (matrix := name.split(".")[-2]) in LAYOUTS[architecture]:
            rows = np.arange(shape[0]).reshape(heads[matrix], 2, -1).swapaxes(1, 2).ravel()
            update = update.reordered(rows)
        changes[name] = lambda weights, update=update: update.applied(weights, strength)
    return changes


def _scaling(folder: Path, config: Mapping[str, Any]) -> float:
    """What B·A is multiplied with; refuses what this module doesn't know how to apply."""
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if config.get("peft_type") != "LORA":
        _refuse(folder, f"it is not LoRA but {config.get('peft_type')}")
    if (
        not isinstance(rank, int)
        or rank < 1
        or not isinstance(alpha, int | float)
        or not math.isfinite(alpha)
    ):
        _refuse(folder, f"its rank ({rank}) or alpha ({alpha}) is not a number that makes sense")
    unknown = sorted(key for key, value in config.items() if value and key not in KNOWN)
    if config.get("bias", "none") != "none":
        unknown.append("bias")
    if config.get("init_lora_weights") not in PLAIN_STARTS:
        unknown.append(f"init_lora_weights={config['init_lora_weights']}")
    if unknown:
        _refuse(folder, f"it uses {', '.join(unknown)}, which can't be merged here")
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _values(folder: Path, name: str, tensor: Mapping[str, Any]) -> Weights:
    """A tensor's numbers; NumPy has no bfloat16, which is the upper half of a float32."""
    kind, data = tensor["dtype"], tensor["data"]
    if kind == "BF16":
        values = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    elif kind in ("F16", "F32"):
        values = np.frombuffer(data, "<f2" if kind == "F16" else "<f4").astype(np.float32)
    else:
        _refuse(folder, f"{name} has numbers of the type {kind}")
    if not np.isfinite(values).all():
        _refuse(folder, f"{name} holds something that is not a number: the training failed")
    return values.reshape(tensor["shape"])


def _refuse(folder: Path, reason: str) -> NoReturn:
    raise ModelUnavailable(
        f"The adapter in {folder} can't be used: {reason}. Nothing was changed; use one that was trained by "
        "`deskhand tune train` on this base model, or by PEFT on the same."
    )
