"""GGUF files: read one and write it again with 8-bit weights, changed or not. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, quants
from numpy.typing import NDArray

Weights = NDArray[np.float32]
Change = Callable[[Weights], Weights]
"""gives a tensor's new values, of the same shape (rows × columns, as torch has it)"""


def rewrite(source: Path, target: Path, changes: Mapping[str, Change] | None = None) -> None:
    """Write a GGUF again with its quantised tensors as Q8_0; other tensors and all metadata stay.

    `changes`: by the tensor's name, what is to be done to its values before. Raises `OSError`
    when the disk is full, `ValueError` for a file that is none or names no such tensor.
    """
    reader = GGUFReader(source)
    waiting = dict(changes or {})
    writer = GGUFWriter(target, str(reader.fields["general.architecture"].contents()))
    try:
        for key, field in reader.fields.items():
            if key.startswith("GGUF.") or key == "general.architecture":
                continue
            kind = field.types[0]
            inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
            writer.add_key_value(key, field.contents(), kind, sub_type=inner)
        for tensor in reader.tensors:
            kind, change = tensor.tensor_type, waiting.pop(tensor.name, None)
            if kind in (GGMLQuantizationType.F32, GGMLQuantizationType.Q8_0) and change is None:
                writer.add_tensor(tensor.name, tensor.data, raw_dtype=kind)
                continue
            values = quants.dequantize(tensor.data, kind).astype(np.float32, copy=False)
            if change is not None:
                values = change(values)
            if kind != GGMLQuantizationType.F32:
                kind = GGMLQuantizationType.Q8_0
            writer.add_tensor(tensor.name, quants.quantize(values, kind), raw_dtype=kind)
        if waiting:
            raise ValueError(f"{source.name} has no tensor {min(waiting)}")
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()
