"""SmolLM2 in llama.cpp (package `xllamacpp`), with weights of the same size as AMK's."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

FILE_TYPES = {"f32": 0, "bf16": 32}
"""general.file_type of a .gguf file."""


def installed() -> bool:
    """Whether llama.cpp can be run from here."""
    return importlib.util.find_spec("xllamacpp") is not None


def expand(source: Path, target: Path, dtype: str) -> None:
    """Write the quantised .gguf file `source` with matrices of `dtype` (f32 or bf16)."""
    import gguf

    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    own = {"general.architecture", "general.file_type", "general.quantization_version"}
    for field in reader.fields.values():
        if field.name in own or field.name.startswith("GGUF."):
            continue
        kind, *rest = field.types
        writer.add_key_value(
            field.name, field.contents(), kind, sub_type=rest[-1] if rest else None
        )
    writer.add_file_type(FILE_TYPES[dtype])
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if dtype == "bf16" and values.ndim == 2:
            bf16 = gguf.GGMLQuantizationType.BF16
            writer.add_tensor(tensor.name, gguf.quantize(values, bf16), raw_dtype=bf16)
        else:
            writer.add_tensor(tensor.name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class LlamaCpp:
    """A model that is loaded and ready to generate."""

    def __init__(self, file: Path, threads: int) -> None:
        import xllamacpp

        parameters: Any = xllamacpp.CommonParams()
        parameters.model.path = str(file)
        parameters.cpuparams.n_threads = threads
        parameters.cpuparams_batch.n_threads = threads
        parameters.n_ctx, parameters.n_parallel, parameters.n_gpu_layers = 2048, 1, 0
        parameters.verbosity = 0
        self._server = xllamacpp.Server(parameters)

    def generate(self, ids: list[int], count: int) -> tuple[str, float]:
        """The greedy continuation as text, and the tokens a second that llama.cpp measured."""
        request = {
            "prompt": ids,
            "n_predict": count,
            "temperature": 0.0,
            "top_k": 1,
            "cache_prompt": False,
        }
        answer: Any = self._server.handle_completions(request)
        return answer["choices"][0]["text"], float(answer["timings"]["predicted_per_second"])
