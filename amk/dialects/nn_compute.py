"""Tensor ops of the `nn` dialect (see `amk.dialects.nn`)."""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Sequence
from typing import ClassVar

from xdsl.dialects.builtin import (
    DenseIntOrFPElementsAttr,
    FloatAttr,
    IndexType,
    TensorType,
    f32,
    f64,
)
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    ParsePropInAttrDict,
    VarConstraint,
    base,
    irdl_op_definition,
    operand_def,
    prop_def,
    result_def,
    traits_def,
)
from xdsl.traits import (
    HasAncestor,
    Pure,
)
from xdsl.utils.exceptions import VerifyException

from amk.dialects.nn_structure import (
    TOKEN_TYPE,
    Float64Attr,
    Int64Attr,
    ModelOp,
    int_attr,
    matrix_shape,
    require_positive,
    tensor_of,
    vector_length,
    vector_type,
)


@irdl_op_definition
class EmbeddingOp(IRDLOperation):
    """Row `token` of a table [vocabulary, hidden].

    ```mlir
    %x = nn.embedding %e, %token : (tensor<49152x576xbf16>, tensor<i32>) -> tensor<576xf32>
    ```
    """

    name = "nn.embedding"
    table = operand_def()
    token = operand_def(TOKEN_TYPE)
    result = result_def()
    assembly_format = "$table `,` $token attr-dict `:` functional-type(operands, results)"
    traits = traits_def(Pure())

    def __init__(self, table: SSAValue, token: SSAValue) -> None:
        hidden = tensor_of(table, "table").get_shape()[-1]
        super().__init__(operands=[table, token], result_types=[vector_type(hidden)])

    def verify_(self) -> None:
        _, hidden = matrix_shape(self.table, "table")
        if vector_length(self.result, "result") != hidden:
            raise VerifyException(f"result must have the {hidden} columns of the table")


@irdl_op_definition
class RMSNormOp(IRDLOperation):
    """x / sqrt(mean(x²) + eps) * gain, elementwise.

    ```mlir
    %n = nn.rms_norm %h, %g {eps = 1.000000e-05 : f64} : tensor<576xf32>
    ```
    """

    name = "nn.rms_norm"
    T: ClassVar = VarConstraint("T", base(TensorType))
    x = operand_def(T)
    gain = operand_def(T)
    eps = prop_def(Float64Attr)
    result = result_def(T)
    assembly_format = "$x `,` $gain attr-dict `:` type($x)"
    irdl_options = (ParsePropInAttrDict(),)
    traits = traits_def(Pure())

    def __init__(self, x: SSAValue, gain: SSAValue, eps: float) -> None:
        super().__init__(
            operands=[x, gain], properties={"eps": FloatAttr(eps, f64)}, result_types=[x.type]
        )

    def verify_(self) -> None:
        vector_length(self.x, "x")
        if not 0.0 <= self.eps.value.data < math.inf:
            raise VerifyException(f"eps must be finite and not negative, got {self.eps.value.data}")


@irdl_op_definition
class LinearOp(IRDLOperation):
    """y = W x, where W is [out, in] as in a checkpoint.

    ```mlir
    %q = nn.linear %n, %wq : (tensor<576xf32>, tensor<192x576xbf16>) -> tensor<192xf32>
    ```
    """

    name = "nn.linear"
    x = operand_def()
    weight = operand_def()
    result = result_def()
    assembly_format = "$x `,` $weight attr-dict `:` functional-type(operands, results)"
    traits = traits_def(Pure())

    def __init__(self, x: SSAValue, weight: SSAValue) -> None:
        rows = tensor_of(weight, "weight").get_shape()[0]
        super().__init__(operands=[x, weight], result_types=[vector_type(rows)])

    def verify_(self) -> None:
        rows, columns = matrix_shape(self.weight, "weight")
        if (found := vector_length(self.x, "x")) != columns:
            raise VerifyException(f"weight has {columns} columns but x has {found} elements")
        if (found := vector_length(self.result, "result")) != rows:
            raise VerifyException(f"weight has {rows} rows but the result has {found} elements")


@irdl_op_definition
class RopeOp(IRDLOperation):
    """Rotates each head of `head_dim` = D elements by the position; partners are d and d + D/2.

    angle = position * frequencies[d], rounded to float32 as Hugging Face does; then
    y[d] = x[d] cos - x[d+D/2] sin and y[d+D/2] = x[d+D/2] cos + x[d] sin, with cos and sin of the
    angle rounded to float32.

    ```mlir
    %r = nn.rope %q, %pos {
        head_dim = 4 : i64, frequencies = dense<[1.0, 0.01]> : tensor<2xf32>} : tensor<8xf32>
    ```
    """

    name = "nn.rope"
    T: ClassVar = VarConstraint("T", base(TensorType))
    x = operand_def(T)
    position = operand_def(IndexType())
    head_dim = prop_def(Int64Attr)
    frequencies = prop_def(DenseIntOrFPElementsAttr)
    result = result_def(T)
    assembly_format = "$x `,` $position attr-dict `:` type($x)"
    irdl_options = (ParsePropInAttrDict(),)
    traits = traits_def(Pure())

    def __init__(
        self, x: SSAValue, position: SSAValue, head_dim: int, frequencies: Sequence[float]
    ) -> None:
        shape = TensorType(f32, [len(frequencies)])
        properties: dict[str, Attribute] = {
            "head_dim": int_attr(head_dim),
            "frequencies": DenseIntOrFPElementsAttr.from_list(shape, list(frequencies)),
        }
        super().__init__(operands=[x, position], properties=properties, result_types=[x.type])

    def verify_(self) -> None:
        require_positive(head_dim=self.head_dim)
        size, length = self.head_dim.value.data, vector_length(self.x, "x")
        if size % 2 or length % size:
            raise VerifyException(
                f"head_dim {size} must be even and divide the {length} elements of x"
            )
        expected = TensorType(f32, [size // 2])
        if self.frequencies.type != expected:
            raise VerifyException(f"frequencies must be {expected}, got {self.frequencies.type}")


@irdl_op_definition
class AttentionOp(IRDLOperation):
    """Causal attention of one token over the positions 0..position.

    Appends `k` and `v` ([kv_heads * head_dim]) at `position` to a cache of its own, one per layer.
    Then head h of `q` ([heads * head_dim]) attends over that cache's head h // (heads / kv_heads):
    the sum of v weighted by softmax(scale * q·k). Position p must run after all positions below p.

    ```mlir
    %a = nn.attention %q, %k, %v, %pos {
        heads = 9 : i64, kv_heads = 3 : i64, head_dim = 64 : i64, scale = 1.250000e-01 : f64}
        : tensor<576xf32>, tensor<192xf32>
    ```
    """

    name = "nn.attention"
    Q: ClassVar = VarConstraint("Q", base(TensorType))
    K: ClassVar = VarConstraint("K", base(TensorType))
    q = operand_def(Q)
    k = operand_def(K)
    v = operand_def(K)
    position = operand_def(IndexType())
    heads = prop_def(Int64Attr)
    kv_heads = prop_def(Int64Attr)
    head_dim = prop_def(Int64Attr)
    scale = prop_def(Float64Attr)
    result = result_def(Q)
    assembly_format = "$q `,` $k `,` $v `,` $position attr-dict `:` type($q) `,` type($k)"
    irdl_options = (ParsePropInAttrDict(),)
    traits = traits_def(HasAncestor(ModelOp))

    def __init__(
        self,
        operands: tuple[SSAValue, SSAValue, SSAValue, SSAValue],
        *,
        heads: int,
        kv_heads: int,
        head_dim: int,
        scale: float,
    ) -> None:
        properties: dict[str, Attribute] = {
            "heads": int_attr(heads),
            "kv_heads": int_attr(kv_heads),
            "head_dim": int_attr(head_dim),
            "scale": FloatAttr(scale, f64),
        }
        super().__init__(operands=operands, properties=properties, result_types=[operands[0].type])

    def verify_(self) -> None:
        require_positive(heads=self.heads, kv_heads=self.kv_heads, head_dim=self.head_dim)
        heads, kv_heads, size = (a.value.data for a in (self.heads, self.kv_heads, self.head_dim))
        if heads % kv_heads:
            raise VerifyException(f"heads {heads} must be a multiple of kv_heads {kv_heads}")
        for what, value, count in (
            ("q", self.q, heads),
            ("k", self.k, kv_heads),
            ("v", self.v, kv_heads),
        ):
            if (found := vector_length(value, what)) != count * size:
                raise VerifyException(f"{what} must have {count} * {size} elements, got {found}")
        if not math.isfinite(self.scale.value.data):
            raise VerifyException(f"scale must be finite, got {self.scale.value.data}")


class _Unary(IRDLOperation, ABC):
    T: ClassVar = VarConstraint("T", base(TensorType))
    x = operand_def(T)
    result = result_def(T)
    assembly_format = "$x attr-dict `:` type($x)"
    traits = traits_def(Pure())

    def __init__(self, x: SSAValue) -> None:
        super().__init__(operands=[x], result_types=[x.type])

    def verify_(self) -> None:
        vector_length(self.x, "x")


class _Binary(IRDLOperation, ABC):
    T: ClassVar = VarConstraint("T", base(TensorType))
    lhs = operand_def(T)
    rhs = operand_def(T)
    result = result_def(T)
    assembly_format = "$lhs `,` $rhs attr-dict `:` type($lhs)"
    traits = traits_def(Pure())

    def __init__(self, lhs: SSAValue, rhs: SSAValue) -> None:
        super().__init__(operands=[lhs, rhs], result_types=[lhs.type])

    def verify_(self) -> None:
        vector_length(self.lhs, "operand")


@irdl_op_definition
class SiluOp(_Unary):
    """x / (1 + exp(-x)), elementwise.

    ```mlir
    %s = nn.silu %gate : tensor<1536xf32>
    ```
    """

    name = "nn.silu"


@irdl_op_definition
class GeluOp(_Unary):
    """The tanh form of GELU, elementwise: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x³))).

    ```mlir
    %s = nn.gelu %gate : tensor<1536xf32>
    ```
    """

    name = "nn.gelu"


@irdl_op_definition
class MulOp(_Binary):
    """Elementwise product.

    ```mlir
    %m = nn.mul %s, %up : tensor<1536xf32>
    ```
    """

    name = "nn.mul"


@irdl_op_definition
class AddOp(_Binary):
    """Elementwise sum; with a `nn.param` vector it adds a bias.

    ```mlir
    %h1 = nn.add %h, %o : tensor<576xf32>
    ```
    """

    name = "nn.add"


@irdl_op_definition
class ArgmaxOp(IRDLOperation):
    """Index of the largest element, the lowest of equals, as a token.

    ```mlir
    %next = nn.argmax %logits : tensor<49152xf32>
    ```
    """

    name = "nn.argmax"
    x = operand_def()
    result = result_def(TOKEN_TYPE)
    assembly_format = "$x attr-dict `:` type($x)"
    traits = traits_def(Pure())

    def __init__(self, x: SSAValue) -> None:
        super().__init__(operands=[x], result_types=[TOKEN_TYPE])

    def verify_(self) -> None:
        vector_length(self.x, "x")
