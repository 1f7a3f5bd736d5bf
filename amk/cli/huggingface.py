"""The same model in Hugging Face transformers, to compare with. Needs the extra `hf`."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from amk.errors import AmkError
from amk.frontend.checkpoint import Checkpoint
from amk.runtime.cache import cache_dir

_NEEDED = ("torch", "transformers", "accelerate")


def missing_packages() -> list[str]:
    """What is needed and not installed."""
    return [name for name in _NEEDED if importlib.util.find_spec(name) is None]


def require_huggingface() -> None:
    """Raise an AmkError that says what to install, where something is missing."""
    missing = missing_packages()
    if missing:
        raise AmkError(
            f"comparing with Hugging Face needs {', '.join(missing)}: pip install 'amk[hf]'"
        )


def load_reference(path: str | Path, checkpoint: Checkpoint) -> Any:
    """The model as a `LlamaForCausalLM` in float32, on the CPU, in evaluation mode.

    A .gguf file is converted once and kept in the cache.
    """
    import os

    # Read when tqdm is imported: some of its bars in transformers have no other switch.
    os.environ.setdefault("TQDM_DISABLE", "1")
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    source = Path(path)
    if source.is_file():
        source = _converted(source, checkpoint)
    return AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()


def _converted(file: Path, checkpoint: Checkpoint) -> Path:
    """A Hugging Face directory with the weights of a .gguf file."""
    import os
    import shutil

    import torch
    from transformers import AutoModelForCausalLM

    target = cache_dir() / f"hf-{checkpoint.fingerprint()[:32]}"
    if target.exists():
        return target
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        quantized = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32
        )
        # What came from a .gguf file cannot be saved, though its weights are plain float32 now.
        config = quantized.config
        delattr(config, "quantization_config")
        model = type(quantized)(config)
        model.load_state_dict(quantized.state_dict())
        model.save_pretrained(partial)
        partial.replace(target)
    except OSError:
        if not target.exists():  # another process may have been faster
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def greedy_tokens(model: Any, ids: Sequence[int], count: int, eos: Sequence[int]) -> list[int]:
    """The greedy continuation of `ids`: up to `count` tokens, or through the first of `eos`."""
    import torch

    result: list[int] = []
    fed, cache = torch.tensor([list(ids)]), None
    with torch.inference_mode():
        while len(result) < count:
            output = model(fed, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            result.append(int(output.logits[0, -1].argmax()))
            if result[-1] in eos:
                break
            fed = torch.tensor([result[-1:]])
    return result


def teacher_forced_logits(model: Any, ids: Sequence[int]) -> np.ndarray:
    """Logits (float32 [len(ids), vocabulary]) after each of `ids`."""
    import torch

    with torch.inference_mode():
        return model(torch.tensor([list(ids)])).logits[0].float().numpy()


def round_matrices(model: Any) -> None:
    """Round the matrices of `model` to bfloat16, in place, as a bf16 program stores them."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.copy_(parameter.to(torch.bfloat16).to(parameter.dtype))
