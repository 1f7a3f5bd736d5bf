"""In-memory `transformers` models as checkpoints.

Neither torch nor transformers is imported: whoever has a model has them loaded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from amk.errors import AmkError
from amk.frontend.checkpoint import Checkpoint, TensorInfo
from amk.frontend.tokenizer import Tokenizer

_SUPPORTED_CLASS = "LlamaForCausalLM"
_DTYPES = {"torch.float32": "f32", "torch.bfloat16": "bf16", "torch.float16": "f16"}
_HEAD, _EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


def checkpoint_from_transformers(model: Any, tokenizer: Any = None) -> Checkpoint:
    """A checkpoint that reads the weights of `model`, a `LlamaForCausalLM` on any device.

    `tokenizer` is its fast tokenizer, where text is wanted. The weights are read when they are
    asked for, so later changes to the model are seen. Raises AmkError on any other class of model.
    """
    return _TransformersCheckpoint(model, tokenizer)


class _TransformersCheckpoint(Checkpoint):
    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.name = f"the {type(model).__name__} in memory"
        if type(model).__name__ != _SUPPORTED_CLASS:
            raise AmkError(f"{self.name} is not supported (supported: {_SUPPORTED_CLASS})")
        self._tokenizer = tokenizer
        self.config = model.config.to_dict()
        eos = model.generation_config.eos_token_id if model.generation_config else None
        if eos is not None:
            self.config["eos_token_id"] = eos
        self._state: dict[str, Any] = dict(model.state_dict())
        # A tied head is the embedding itself under a second name.
        tied = self.config.get("tie_word_embeddings") and _HEAD in self._state
        if tied and self._state[_HEAD].data_ptr() == self._state[_EMBEDDING].data_ptr():
            del self._state[_HEAD]
        self._tensors = {key: self._describe(key, tensor) for key, tensor in self._state.items()}

    def _describe(self, key: str, tensor: Any) -> TensorInfo:
        dtype = str(tensor.dtype)
        if dtype not in _DTYPES:
            raise AmkError(
                f"{self.name}: {key} has type {dtype}, supported are {', '.join(_DTYPES)}"
            )
        return TensorInfo(tuple(tensor.shape), _DTYPES[dtype])

    def tensors(self) -> Mapping[str, TensorInfo]:
        return self._tensors

    def read(self, key: str) -> np.ndarray:
        self.info(key)
        return self._state[key].detach().float().cpu().numpy()

    def fingerprint(self) -> str:
        # Nothing but the bytes tells whether weights in memory have changed.
        described = {key: repr(info) for key, info in self._tensors.items()}
        digest = hashlib.sha256(
            json.dumps([self.config, described], sort_keys=True, default=str).encode()
        )
        for key in sorted(self._tensors):
            digest.update(np.ascontiguousarray(self.read(key)).tobytes())
        return digest.hexdigest()

    def tokenizer(self) -> Tokenizer:
        if self._tokenizer is None:
            raise AmkError(f"{self.name} came without a tokenizer: pass one, or give token numbers")
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise AmkError(f"{self.name}: {type(self._tokenizer).__name__} is no fast tokenizer")
        eos = self.config.get("eos_token_id")
        return Tokenizer(
            backend,
            eos_ids=[] if eos is None else eos if isinstance(eos, list) else [eos],
            chat_template=self._tokenizer.chat_template,
            special_tokens=self._tokenizer.special_tokens_map,
        )
