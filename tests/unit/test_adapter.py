"""Adapters of others and our own: what is refused, and that merging does what torch does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader, quants
from safetensors.numpy import save_file

from assistant.config import Settings
from assistant.errors import ModelUnavailable
from assistant.generate import adapter
from tests import tiny
from tests.paths import MODELS

RANK, ALPHA = 4, 8


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_gguf(tmp_path_factory.mktemp("base") / "model.gguf")


def write(folder: Path, changes: dict[str, Any] | None = None, **tensors: Any) -> Path:
    """An adapter of the tiny model with random matrices in every layer; `changes` to its configuration."""
    chance = np.random.default_rng(5)
    found: dict[str, Any] = {}
    for layer in range(tiny.LAYERS):
        for module, rows, columns in tiny.MODULES.values():
            name = f"base_model.model.model.layers.{layer}.{module}"
            found[f"{name}.lora_A.weight"] = chance.standard_normal((RANK, columns)).astype(np.float32) / 8
            found[f"{name}.lora_B.weight"] = chance.standard_normal((rows, RANK)).astype(np.float32) / 8
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "base_model_name_or_path": "tiny"}
    folder.mkdir(exist_ok=True)
    (folder / adapter.CONFIG).write_text(json.dumps(config | (changes or {})))
    save_file(
        {name: value for name, value in (found | tensors).items() if value is not None},
        folder / adapter.WEIGHTS,
    )
    return folder


def matrices(gguf: Path) -> dict[str, Any]:
    return {
        tensor.name: quants.dequantize(tensor.data, tensor.tensor_type) for tensor in GGUFReader(gguf).tensors
    }


def in_torch_order(values: Any, heads: int) -> Any:
    """Rows of q and k as transformers has them, from the order in the GGUF: llama.cpp's `permute` taken back."""
    rows, columns = values.shape
    return values.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


@pytest.mark.parametrize(("rslora", "strength"), [(False, 1.0), (True, 1.0), (False, 0.5), (False, 0.0)])
def test_merging_adds_the_scaled_product(base: Path, tmp_path: Path, rslora: bool, strength: float) -> None:
    read = adapter.read(write(tmp_path / "a", {"use_rslora": rslora}))
    adapter.merge(base, read, tmp_path / "merged.gguf", strength=strength)
    before, after = matrices(base), matrices(tmp_path / "merged.gguf")
    assert before.keys() == after.keys()
    scaling = ALPHA / (RANK**0.5 if rslora else RANK)
    for layer in range(tiny.LAYERS):
        for name, (module, *_) in tiny.MODULES.items():
            update = read.updates[f"model.layers.{layer}.{module}"]
            place = f"blk.{layer}.{name}.weight"
            old, new = before[place], after[place]
            if name in ("attn_q", "attn_k"):
                heads = tiny.HEADS if name == "attn_q" else tiny.KV_HEADS
                old, new = in_torch_order(old, heads), in_torch_order(new, heads)
            wanted = old + strength * scaling * update.b @ update.a
            assert np.abs(new - wanted).max() <= np.abs(wanted).max() / 127, "more than 8 bits' rounding"
    assert np.array_equal(before["token_embd.weight"], after["token_embd.weight"])


def test_metadata_stay(base: Path, tmp_path: Path) -> None:
    adapter.merge(base, adapter.read(write(tmp_path / "a")), tmp_path / "merged.gguf")
    before, after = GGUFReader(base).fields, GGUFReader(tmp_path / "merged.gguf").fields
    told = [key for key in before if not key.startswith("GGUF.")]
    assert len(told) > 15
    assert all(before[key].contents() == after[key].contents() for key in told)


@pytest.mark.parametrize(
    ("changes", "tensors", "reason"),
    [
        ({"peft_type": "IA3"}, {}, "not LoRA but IA3"),
        ({"r": 8}, {}, "the rank 8"),
        ({"r": None}, {}, "makes sense"),
        ({"modules_to_save": ["lm_head"]}, {}, "modules_to_save"),
        ({"rank_pattern": {"q_proj": 2}}, {}, "rank_pattern"),
        ({"some_day": True}, {}, "some_day"),
        ({"bias": "all"}, {}, "bias"),
        ({"init_lora_weights": "pissa"}, {}, "pissa"),
        ({"use_dora": True}, {}, "magnitude"),
        ({}, {"Q.lora_A.weight": np.full((RANK, 64), np.nan, np.float32)}, "not a number"),
        ({}, {"Q.lora_B.weight": np.full((64, RANK), np.inf, np.float32)}, "not a number"),
        ({}, {"Q.lora_B.weight": None}, "don't fit"),
        ({}, {"Q.lora_A.weight": np.ones((RANK, 64), np.int32)}, "I32"),
        ({}, {"base_model.model.lm_head.weight": np.ones((4, 4), np.float32)}, "not a part of LoRA"),
    ],
)
def test_what_cannot_be_applied_is_refused(
    tmp_path: Path, changes: dict[str, Any], tensors: dict[str, Any], reason: str
) -> None:
    attention = "base_model.model.model.layers.0.self_attn.q_proj"
    folder = write(
        tmp_path, changes, **{name.replace("Q.", f"{attention}."): v for name, v in tensors.items()}
    )
    with pytest.raises(ModelUnavailable, match=reason) as refused:
        adapter.read(folder)
    assert "Nothing was changed" in str(refused.value)


@pytest.mark.parametrize("name", ["adapter_model.bin", "adapter_model.pt", "adapter_model.pkl"])
def test_pickles_are_not_read(tmp_path: Path, name: str) -> None:
    (write(tmp_path) / adapter.WEIGHTS).rename(tmp_path / name)
    with pytest.raises(ModelUnavailable, match="they can run code"):
        adapter.read(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b"\xff" * 64])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (write(tmp_path) / adapter.WEIGHTS).write_bytes(content)
    with pytest.raises(ModelUnavailable, match="can't be read"):
        adapter.read(tmp_path)


def test_an_adapter_of_another_model_is_refused(base: Path, tmp_path: Path) -> None:
    name = "base_model.model.model.layers.7.self_attn.q_proj"
    extra = {f"{name}.lora_A.weight": np.ones((RANK, 64), np.float32)}
    extra |= {f"{name}.lora_B.weight": np.ones((64, RANK), np.float32)}
    deep = adapter.read(write(tmp_path / "deep", **extra))
    with pytest.raises(
        ModelUnavailable, match=r"layers\.7\.self_attn\.q_proj, which the base model doesn't have"
    ):
        adapter.merge(base, deep, tmp_path / "merged.gguf")
    wide = "base_model.model.model.layers.0.mlp.up_proj"
    broad = adapter.read(
        write(tmp_path / "wide", **{f"{wide}.lora_A.weight": np.ones((RANK, 96), np.float32)})
    )
    with pytest.raises(ModelUnavailable, match="it is another's"):
        adapter.merge(base, broad, tmp_path / "merged.gguf")
    assert not list(tmp_path.glob("*.gguf"))
    assert not list(tmp_path.glob(".*.gguf*"))


def peft_adapter(model: Any, folder: Path, *, dora: bool, rslora: bool, rank: int) -> Any:
    """A PEFT model with random matrices everywhere, saved to `folder` as training leaves it."""
    import torch
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank,
        lora_alpha=8,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
        use_dora=dora,
        use_rslora=rslora,
    )
    torch.manual_seed(3)
    made = get_peft_model(model, config)
    for name, value in made.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.1)
        if "magnitude" in name:
            value.data *= 1.1
    made.save_pretrained(folder, save_embedding_layers=False)
    return made


def load(gguf: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)


@pytest.mark.parametrize(("dora", "rslora"), [(False, False), (False, True), (True, False)])
def test_a_merge_is_what_torch_makes(base: Path, tmp_path: Path, dora: bool, rslora: bool) -> None:
    pytest.importorskip("peft", reason="needs the extra [tune]")
    merged = peft_adapter(load(base), tmp_path / "a", dora=dora, rslora=rslora, rank=RANK).merge_and_unload()
    adapter.merge(base, adapter.read(tmp_path / "a"), tmp_path / "merged.gguf")
    ours = load(tmp_path / "merged.gguf").state_dict()
    for name, value in merged.state_dict().items():
        assert (ours[name] - value).abs().max() <= value.abs().max() / 127, name


def test_the_real_model_merged_speaks_as_torch_does(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the extra [tune]")
    pytest.importorskip("peft", reason="needs the extra [tune]")
    from assistant import weights

    try:
        base = weights.path("smollm2-135m-instruct", Settings(models=MODELS))
    except ModelUnavailable as error:
        pytest.skip(str(error))
    merged = peft_adapter(load(base), tmp_path / "a", dora=False, rslora=False, rank=16).merge_and_unload()
    adapter.merge(base, adapter.read(tmp_path / "a"), tmp_path / "merged.gguf")
    ours = load(tmp_path / "merged.gguf")
    ids = torch.arange(1_000, 1_064)[None]
    with torch.inference_mode():
        one, two = (model(ids).logits.log_softmax(-1) for model in (merged, ours))
        untouched = load(base)(ids).logits.log_softmax(-1)
    apart = (one.exp() * (one - two)).sum(-1).mean()
    changed = (one.exp() * (one - untouched)).sum(-1).mean()
    assert apart < 0.01
    assert changed > 20 * apart, "the adapter does something"
