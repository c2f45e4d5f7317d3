"""A tiny model as a GGUF, with tokenizer and chat format: whatever works on it works on a large one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, TokenType, quants

LAYERS, HIDDEN, HEADS, KV_HEADS, INNER = 2, 64, 4, 2, 128
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["t h", "th e", "i n", "o n", "e r", "[ 1", "[1 ]", "Ġ t", "Ġt h", "Ġth e", "Ġ a", "Ġ i"]
TEMPLATE = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MODULES = {
    "attn_q": ("self_attn.q_proj", HIDDEN, HIDDEN),
    "attn_k": ("self_attn.k_proj", HIDDEN // HEADS * KV_HEADS, HIDDEN),
    "attn_v": ("self_attn.v_proj", HIDDEN // HEADS * KV_HEADS, HIDDEN),
    "attn_output": ("self_attn.o_proj", HIDDEN, HIDDEN),
    "ffn_gate": ("mlp.gate_proj", INNER, HIDDEN),
    "ffn_up": ("mlp.up_proj", INNER, HIDDEN),
    "ffn_down": ("mlp.down_proj", HIDDEN, INNER),
}
"""name in the GGUF → name in transformers, rows, columns"""


def tokens() -> list[str]:
    """Bytes as GPT-2 writes them, what is merged from them, and the control tokens."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    byte_tokens = [chr(byte) for byte in printable] + [chr(256 + number) for number in range(len(others))]
    return [*SPECIAL, *byte_tokens, *(merge.replace(" ", "") for merge in MERGES)]


def write_gguf(place: Path, *, seed: int = 1, layers: int = LAYERS, norm: float = 1.0) -> Path:
    """A llama of 0.1 million random weights, in Q8_0; what leaves the last layer is multiplied with `norm`."""
    chance = np.random.default_rng(seed)
    writer = GGUFWriter(place, "llama")
    writer.add_name("tiny")
    writer.add_file_type(7)
    writer.add_block_count(layers)
    writer.add_context_length(2048)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_rope_freq_base(10_000.0)
    vocabulary = tokens()
    writer.add_vocab_size(len(vocabulary))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(vocabulary)
    kinds = [TokenType.CONTROL if token in SPECIAL else TokenType.NORMAL for token in vocabulary]
    writer.add_token_types(kinds)
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)

    def matrix(name: str, rows: int, columns: int) -> None:
        values = (chance.standard_normal((rows, columns)) * 0.05).astype(np.float32)
        kind = GGMLQuantizationType.Q8_0
        writer.add_tensor(name, quants.quantize(values, kind), raw_dtype=kind)

    matrix("token_embd.weight", len(vocabulary), HIDDEN)
    for layer in range(layers):
        for name, (_, rows, columns) in MODULES.items():
            matrix(f"blk.{layer}.{name}.weight", rows, columns)
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(HIDDEN, np.float32))
    writer.add_tensor("output_norm.weight", np.full(HIDDEN, norm, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return place
