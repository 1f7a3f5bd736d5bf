"""The `nn` dialect: one decode step of a decoder-only transformer, as whole-tensor operations.

Activations are rank-1 `f32` tensors: the vector of the one token of this step. Weights are
`nn.param` ops that carry the checkpoint key, never the bytes. Layers are a `nn.repeat`, and
`{layer}` in a key stands for the index of the enclosing repeat. The KV caches are state of the
model: one per (`nn.attention`, layer).

A `bf16` weight stands for numbers that bf16 holds exactly; all arithmetic is in the precision of
the interpreter (float32, or float64 for a reference), so rounding weights is no error of a kernel.
"""

from xdsl.ir import Dialect

from amk.dialects.nn_compute import (
    AddOp,
    ArgmaxOp,
    AttentionOp,
    EmbeddingOp,
    GeluOp,
    LinearOp,
    MulOp,
    RMSNormOp,
    RopeOp,
    SiluOp,
)
from amk.dialects.nn_structure import (
    LAYER_PLACEHOLDER,
    TOKEN_TYPE,
    ModelOp,
    ParamOp,
    RepeatOp,
    ReturnOp,
    YieldOp,
    int_attr,
    tensor_of,
    vector_type,
)

__all__ = [
    "LAYER_PLACEHOLDER",
    "NN",
    "TOKEN_TYPE",
    "AddOp",
    "ArgmaxOp",
    "AttentionOp",
    "EmbeddingOp",
    "GeluOp",
    "LinearOp",
    "ModelOp",
    "MulOp",
    "ParamOp",
    "RMSNormOp",
    "RepeatOp",
    "ReturnOp",
    "RopeOp",
    "SiluOp",
    "YieldOp",
    "int_attr",
    "tensor_of",
    "vector_type",
]

NN = Dialect(
    "nn",
    [
        ModelOp,
        ReturnOp,
        RepeatOp,
        YieldOp,
        ParamOp,
        EmbeddingOp,
        RMSNormOp,
        LinearOp,
        RopeOp,
        AttentionOp,
        SiluOp,
        GeluOp,
        MulOp,
        AddOp,
        ArgmaxOp,
    ],
)
