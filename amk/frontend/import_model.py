"""From a checkpoint's config and tensor shapes to an `nn` module."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import numpy as np
from xdsl.builder import ImplicitBuilder
from xdsl.dialects.builtin import IndexType, ModuleOp, TensorType, bf16, f32
from xdsl.ir import Attribute, Block, Region, SSAValue

from amk.dialects import nn
from amk.errors import AmkError
from amk.frontend.checkpoint import Checkpoint, TensorInfo
from amk.frontend.config import LlamaConfig, parse_config

DEFAULT_CONTEXT = 2048
"""Positions that the KV caches hold where neither the caller nor a shorter model says otherwise."""

DtypeName = Literal["f32", "bf16"]

EMBEDDING_KEY = "model.embed_tokens.weight"
HEAD_KEY = "lm_head.weight"
FINAL_NORM_KEY = "model.norm.weight"
_LAYER_KEY = "model.layers.{layer}."
_ACTIVATION_OPS: Mapping[str, type[nn.SiluOp] | type[nn.GeluOp]] = {
    "silu": nn.SiluOp,
    "gelu": nn.GeluOp,
}
# Buffers that old checkpoints carry and that the config determines.
_DERIVED_TENSOR = re.compile(r"(model\.layers\.\d+\.self_attn|model)\.rotary_emb\.inv_freq")


def import_model(
    checkpoint: Checkpoint, *, dtype: DtypeName | None = None, context: int | None = None
) -> ModuleOp:
    """The `nn` module of a checkpoint: one `nn.model`, its layers in one `nn.repeat`.

    `dtype` is the storage type of the matrices (default: bf16 if the checkpoint's are, else f32),
    `context` the number of positions (default: 2048, or the model's maximum if that is less).
    Raises AmkError on a config that AMK does not implement, and on tensors that differ from it.
    """
    config = parse_config(checkpoint.config, checkpoint.name)
    tensors = checkpoint.tensors()
    if tensors:
        _check_tensors(checkpoint, config, tensors)
    if dtype is None:
        dtype = _stored_dtype(config, tensors)
    if dtype not in ("f32", "bf16"):
        raise AmkError(f'dtype "{dtype}" is not supported (supported: f32, bf16)')
    if context is None:
        context = min(config.max_context, DEFAULT_CONTEXT)
    if not 1 <= context <= config.max_context:
        raise AmkError(
            f"context {context} is outside 1..{config.max_context}, what {checkpoint.name} allows"
        )
    return _Importer(config, bf16 if dtype == "bf16" else f32).module(context)


def parameter_shapes(config: LlamaConfig) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor that a checkpoint of this config must hold, by key."""
    shapes: dict[str, tuple[int, ...]] = {
        EMBEDDING_KEY: (config.vocabulary, config.hidden),
        FINAL_NORM_KEY: (config.hidden,),
    }
    if not config.tied:
        shapes[HEAD_KEY] = (config.vocabulary, config.hidden)
    for layer in range(config.layers):
        prefix = _LAYER_KEY.replace(nn.LAYER_PLACEHOLDER, str(layer))
        shapes |= {prefix + name: shape for name, shape in _layer_shapes(config).items()}
    return shapes


def _layer_shapes(config: LlamaConfig) -> dict[str, tuple[int, ...]]:
    query, key_value = config.heads * config.head_dim, config.kv_heads * config.head_dim
    return {
        "input_layernorm.weight": (config.hidden,),
        "self_attn.q_proj.weight": (query, config.hidden),
        "self_attn.k_proj.weight": (key_value, config.hidden),
        "self_attn.v_proj.weight": (key_value, config.hidden),
        "self_attn.o_proj.weight": (config.hidden, query),
        "post_attention_layernorm.weight": (config.hidden,),
        "mlp.gate_proj.weight": (config.intermediate, config.hidden),
        "mlp.up_proj.weight": (config.intermediate, config.hidden),
        "mlp.down_proj.weight": (config.hidden, config.intermediate),
    }


def _check_tensors(
    checkpoint: Checkpoint, config: LlamaConfig, tensors: Mapping[str, TensorInfo]
) -> None:
    expected = parameter_shapes(config)
    for key, shape in expected.items():
        if key not in tensors:
            raise AmkError(f"{checkpoint.name}: the config needs tensor {key}, which is missing")
        if tensors[key].shape != shape:
            raise AmkError(
                f"{checkpoint.name}: tensor {key} has shape {tensors[key].shape}, "
                f"but the config says {shape}"
            )
    for key in tensors:
        if key not in expected and key != HEAD_KEY and not _DERIVED_TENSOR.fullmatch(key):
            raise AmkError(
                f"{checkpoint.name}: tensor {key} has no place in a Llama model of this config"
            )
    if config.tied and HEAD_KEY in tensors:
        _check_tied_head(checkpoint)


def _check_tied_head(checkpoint: Checkpoint) -> None:
    head, embedding = checkpoint.read(HEAD_KEY), checkpoint.read(EMBEDDING_KEY)
    if not np.array_equal(head, embedding):
        raise AmkError(
            f"{checkpoint.name}: the config ties {HEAD_KEY} to {EMBEDDING_KEY}, but they differ: "
            "set tie_word_embeddings to false"
        )


def _stored_dtype(config: LlamaConfig, tensors: Mapping[str, TensorInfo]) -> DtypeName:
    if not tensors:
        return "bf16" if config.dtype == "bfloat16" else "f32"
    stored = {tensors[key].dtype for key, shape in parameter_shapes(config).items() if shape[1:]}
    return "bf16" if stored == {"bf16"} else "f32"


class _Importer:
    """Builds the ops of one model."""

    def __init__(self, config: LlamaConfig, storage: Attribute) -> None:
        self.config = config
        self.storage = storage
        self.shapes = _layer_shapes(config)
        self.frequencies = [float(value) for value in config.frequencies()]

    def module(self, context: int) -> ModuleOp:
        config = self.config
        block = Block(arg_types=[nn.TOKEN_TYPE, IndexType()])
        token, position = block.args
        token.name_hint, position.name_hint = "token", "pos"
        with ImplicitBuilder(block):
            table = self.parameter(EMBEDDING_KEY, (config.vocabulary, config.hidden), "embedding")
            x = _named(nn.EmbeddingOp(table, token).result, "x0")
            x = self.layers(x, position)
            x = self.norm(x, FINAL_NORM_KEY, "norm")
            head = table
            if not config.tied:
                head = self.parameter(HEAD_KEY, (config.vocabulary, config.hidden), "w_head")
            logits = _named(nn.LinearOp(x, head).result, "logits")
            nn.ReturnOp(logits, _named(nn.ArgmaxOp(logits).result, "next"))
        body = Region(block)
        model = nn.ModelOp("model", body, context=context, eos=config.eos, dtype=self.storage)
        module = ModuleOp([model])
        module.verify()
        return module

    def layers(self, x: SSAValue, position: SSAValue) -> SSAValue:
        block = Block(arg_types=[IndexType(), x.type])
        layer, hidden = block.args
        layer.name_hint, hidden.name_hint = "layer", "h"
        with ImplicitBuilder(block):
            normed = self.norm(hidden, _LAYER_KEY + "input_layernorm.weight", "n")
            attended = self.attention(normed, position)
            middle = _named(nn.AddOp(hidden, attended).result, "h1")
            normed = self.norm(middle, _LAYER_KEY + "post_attention_layernorm.weight", "n1")
            nn.YieldOp(_named(nn.AddOp(middle, self.feed_forward(normed)).result, "h2"))
        repeat = nn.RepeatOp(self.config.layers, [x], Region(block))
        return _named(repeat.results[0], "x")

    def attention(self, x: SSAValue, position: SSAValue) -> SSAValue:
        config = self.config
        q, k, v = (self.linear(x, f"self_attn.{name}_proj.weight", name) for name in "qkv")
        size = config.head_dim
        q = _named(nn.RopeOp(q, position, size, self.frequencies).result, "qr")
        k = _named(nn.RopeOp(k, position, size, self.frequencies).result, "kr")
        attention = nn.AttentionOp(
            (q, k, v, position),
            heads=config.heads,
            kv_heads=config.kv_heads,
            head_dim=size,
            scale=size**-0.5,
        )
        return self.linear(_named(attention.result, "a"), "self_attn.o_proj.weight", "o")

    def feed_forward(self, x: SSAValue) -> SSAValue:
        gate = self.linear(x, "mlp.gate_proj.weight", "gate")
        up = self.linear(x, "mlp.up_proj.weight", "up")
        activated = _named(_ACTIVATION_OPS[self.config.activation](gate).result, "act")
        product = _named(nn.MulOp(activated, up).result, "m")
        return self.linear(product, "mlp.down_proj.weight", "down")

    def norm(self, x: SSAValue, key: str, name: str) -> SSAValue:
        gain = self.parameter(key, (self.config.hidden,), "g")
        return _named(nn.RMSNormOp(x, gain, self.config.eps).result, name)

    def linear(self, x: SSAValue, name: str, result_name: str) -> SSAValue:
        weight = self.parameter(_LAYER_KEY + name, self.shapes[name], f"w_{result_name}")
        return _named(nn.LinearOp(x, weight).result, result_name)

    def parameter(self, key: str, shape: tuple[int, ...], name: str) -> SSAValue:
        element = self.storage if len(shape) > 1 else f32
        return _named(nn.ParamOp(key, TensorType(element, shape)).result, name)


def _named(value: SSAValue, name: str) -> SSAValue:
    value.name_hint = name
    return value
