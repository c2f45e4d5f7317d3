"""A tiny embedding model with random weights, as the files that a trained one leaves.

A text's vector is the mean of its words' random vectors, so texts with words in common are alike. The
ONNX file is written by hand, since nothing that tests install can write one.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

FLOAT, INT64 = 1, 7
"""ONNX's element types"""


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, value: int | str | bytes) -> bytes:
    """A field of a protocol buffer."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _node(operator: str, inputs: list[str], output: str, *attributes: bytes) -> bytes:
    fields = [_field(1, name) for name in inputs] + [_field(2, output), _field(4, operator)]
    return b"".join([*fields, *(_field(5, attribute) for attribute in attributes)])


def _attribute(name: str, value: int) -> bytes:
    return _field(1, name) + _field(3, value) + _field(20, 2)


def _tensor(name: str, values: np.ndarray) -> bytes:
    kind = FLOAT if values.dtype == np.float32 else INT64
    fields = [_field(1, size) for size in values.shape] + [_field(2, kind), _field(8, name)]
    return b"".join([*fields, _field(9, values.tobytes())])


def _value(name: str, kind: int, shape: list[int | str]) -> bytes:
    sizes = b"".join(
        _field(1, _field(1, size) if isinstance(size, int) else _field(2, size)) for size in shape
    )
    return _field(1, name) + _field(2, _field(1, _field(1, kind) + _field(2, sizes)))


def onnx(words: int, dimension: int, seed: int) -> bytes:
    """token_type_ids and attention_mask are read, as a BERT reads them."""
    chance = np.random.default_rng(seed)
    table = chance.standard_normal((words, dimension)).astype(np.float32)
    graph = b"".join(
        [
            _field(1, _node("Gather", ["words", "input_ids"], "word")),
            _field(1, _node("Gather", ["types", "token_type_ids"], "type")),
            _field(1, _node("Add", ["word", "type"], "sum")),
            _field(1, _node("Cast", ["attention_mask"], "mask", _attribute("to", FLOAT))),
            _field(1, _node("Unsqueeze", ["mask", "axis"], "column")),
            _field(1, _node("Mul", ["sum", "column"], "last_hidden_state")),
            _field(2, "tiny"),
            _field(5, _tensor("words", table)),
            _field(5, _tensor("types", np.zeros((2, dimension), np.float32))),
            _field(5, _tensor("axis", np.array([2], np.int64))),
            *(
                _field(11, _value(name, INT64, ["batch", "length"]))
                for name in ("input_ids", "attention_mask", "token_type_ids")
            ),
            _field(12, _value("last_hidden_state", FLOAT, ["batch", "length", dimension])),
        ]
    )
    return _field(1, 8) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 13))


def folder(models: Path, name: str, tokenizer: Path, *, dimension: int = 24, seed: int = 1) -> Path:
    """The folder of a version `name` below `models`; `tokenizer`: a BERT's tokenizer.json."""
    place = models / "tuned" / name
    place.mkdir(parents=True)
    (place / "model.onnx").write_bytes(onnx(30_522, dimension, seed))
    shutil.copy(tokenizer, place / "tokenizer.json")
    return place
