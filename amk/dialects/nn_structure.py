"""Structure ops of the `nn` dialect: model, layers and parameters (see `amk.dialects.nn`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from xdsl.dialects.builtin import (
    BFloat16Type,
    DenseArrayBase,
    Float32Type,
    Float64Type,
    FloatAttr,
    IndexType,
    IntegerAttr,
    IntegerType,
    StringAttr,
    SymbolNameConstraint,
    TensorType,
    f32,
    i32,
    i64,
)
from xdsl.dialects.utils import AbstractYieldOperation
from xdsl.ir import Attribute, Region, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    prop_def,
    region_def,
    result_def,
    traits_def,
    var_operand_def,
    var_result_def,
)
from xdsl.parser import Parser, UnresolvedOperand
from xdsl.printer import Printer
from xdsl.traits import (
    HasParent,
    IsolatedFromAbove,
    IsTerminator,
    Pure,
    RecursiveMemoryEffect,
    SymbolOpInterface,
)
from xdsl.utils.exceptions import VerifyException

Int64Attr = IntegerAttr[IntegerType]
Float64Attr = FloatAttr[Float64Type]
AnyTensor = TensorType[Attribute]

LAYER_PLACEHOLDER = "{layer}"
"""What stands for the index of the enclosing `nn.repeat` in the key of a `nn.param`."""

TOKEN_TYPE: AnyTensor = TensorType(i32, [])
"""Type of a token: an `i32` scalar."""


def vector_type(length: int) -> AnyTensor:
    """Type of an activation of `length` elements."""
    return TensorType(f32, [length])


def int_attr(value: int) -> Int64Attr:
    """`value` as an `i64` attribute, the type of all integer attributes of the dialect."""
    return cast(Int64Attr, IntegerAttr(value, i64))


def tensor_of(value: SSAValue, what: str) -> AnyTensor:
    """The static tensor type of `value`; `what` names it in the VerifyException otherwise."""
    found = value.type
    if not isinstance(found, TensorType):
        raise VerifyException(f"{what} must be a tensor, got {found}")
    tensor = cast(AnyTensor, found)
    if any(size < 1 for size in tensor.get_shape()):
        raise VerifyException(f"{what} must have static positive sizes, got {tensor}")
    return tensor


def vector_length(value: SSAValue, what: str) -> int:
    tensor = tensor_of(value, what)
    if tensor.get_num_dims() != 1 or tensor.element_type != f32:
        raise VerifyException(f"{what} must be a rank-1 f32 tensor, got {tensor}")
    return tensor.get_shape()[0]


def matrix_shape(value: SSAValue, what: str) -> tuple[int, int]:
    tensor = tensor_of(value, what)
    if tensor.get_num_dims() != 2 or not is_storage_type(tensor.element_type):
        raise VerifyException(f"{what} must be a rank-2 f32 or bf16 tensor, got {tensor}")
    rows, columns = tensor.get_shape()
    return rows, columns


def is_storage_type(element: Attribute) -> bool:
    return isinstance(element, Float32Type | BFloat16Type)


def require_positive(**attributes: Int64Attr) -> None:
    for name, attribute in attributes.items():
        if attribute.value.data < 1:
            raise VerifyException(f"{name} must be at least 1, got {attribute.value.data}")


@irdl_op_definition
class ModelOp(IRDLOperation):
    """One decode step of a model, as a function of (`tensor<i32>` token, `index` position).

    `context` is the number of positions that the KV caches hold, `eos` the tokens that end a text,
    `dtype` the storage type (`f32` or `bf16`) of every matrix; parameter vectors (norm gains,
    biases) are always `f32`. The position of a step is at least 0 and below `context`, and all
    earlier positions ran before.

    ```mlir
    nn.model @tiny {context = 64 : i64, eos = array<i64: 2>, dtype = f32} (
        %token: tensor<i32>, %pos: index) {
      %e = nn.param "model.embed_tokens.weight" : tensor<96x16xf32>
      %x = nn.embedding %e, %token : (tensor<96x16xf32>, tensor<i32>) -> tensor<16xf32>
      %logits = nn.linear %x, %e : (tensor<16xf32>, tensor<96x16xf32>) -> tensor<96xf32>
      %next = nn.argmax %logits : tensor<96xf32>
      nn.return %logits, %next : tensor<96xf32>
    }
    ```
    """

    name = "nn.model"
    sym_name = prop_def(SymbolNameConstraint())
    context = prop_def(Int64Attr)
    eos = prop_def(DenseArrayBase.constr(i64))
    dtype = prop_def()
    body = region_def("single_block")
    traits = traits_def(SymbolOpInterface(), IsolatedFromAbove())

    def __init__(
        self, name: str, body: Region, *, context: int, eos: Sequence[int], dtype: Attribute
    ) -> None:
        properties: dict[str, Attribute] = {
            "sym_name": StringAttr(name),
            "context": int_attr(context),
            "eos": DenseArrayBase.from_list(i64, list(eos)),
            "dtype": dtype,
        }
        super().__init__(properties=properties, regions=[body])

    @property
    def token(self) -> SSAValue:
        """The token of this step (`tensor<i32>`)."""
        return self.body.block.args[0]

    @property
    def position(self) -> SSAValue:
        """The position of this step (`index`)."""
        return self.body.block.args[1]

    @property
    def return_op(self) -> ReturnOp:
        """The terminator of the model."""
        return cast(ReturnOp, self.body.block.last_op)

    @property
    def vocabulary(self) -> int:
        """The number of logits."""
        return tensor_of(self.return_op.logits, "logits").get_shape()[0]

    @property
    def eos_tokens(self) -> tuple[int, ...]:
        """The tokens that end a text."""
        return cast(DenseArrayBase[IntegerType], self.eos).get_values()

    def parameters(self) -> Iterator[ParamOp]:
        """Every `nn.param` of the model, in program order."""
        return (op for op in self.walk() if isinstance(op, ParamOp))

    def verify_(self) -> None:
        require_positive(context=self.context)
        if not is_storage_type(self.dtype):
            raise VerifyException(f"dtype must be f32 or bf16, got {self.dtype}")
        argument_types = [argument.type for argument in self.body.block.args]
        if argument_types != [TOKEN_TYPE, IndexType()]:
            found = ", ".join(str(t) for t in argument_types)
            raise VerifyException(f"arguments must be (tensor<i32>, index), got ({found})")
        if not isinstance(self.body.block.last_op, ReturnOp):
            raise VerifyException("body must end in nn.return")
        self._verify_parameters()
        for token in self.eos_tokens:
            if not 0 <= token < self.vocabulary:
                raise VerifyException(f"eos token {token} is outside 0..{self.vocabulary - 1}")

    def _verify_parameters(self) -> None:
        types: dict[str, Attribute] = {}
        for op in self.parameters():
            key, found = op.key.data, cast(AnyTensor, op.result.type)
            if types.setdefault(key, found) != found:
                raise VerifyException(f'parameter "{key}" has two types: {types[key]} and {found}')
            expected = self.dtype if found.get_num_dims() > 1 else f32
            if found.element_type != expected:
                raise VerifyException(
                    f'parameter "{key}" must be stored as {expected}, got {found}'
                )

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_symbol_name(self.sym_name.data)
        shown = {k: v for k, v in self.properties.items() if k != "sym_name"} | self.attributes
        printer.print_op_attributes(shown)
        printer.print_string(" ")
        with printer.in_parens():
            printer.print_list(self.body.block.args, printer.print_block_argument)
        printer.print_string(" ")
        printer.print_region(self.body, print_entry_block_args=False)

    @classmethod
    def parse(cls, parser: Parser) -> ModelOp:
        name = parser.parse_symbol_name()
        attributes = parser.parse_optional_attr_dict()
        names = ("context", "eos", "dtype")
        properties = {n: attributes.pop(n) for n in names if n in attributes}
        arguments = parser.parse_comma_separated_list(
            parser.Delimiter.PAREN, lambda: parser.parse_argument(expect_type=True)
        )
        body = parser.parse_region(arguments)
        return cls.create(
            properties={"sym_name": name, **properties}, attributes=attributes, regions=[body]
        )


@irdl_op_definition
class ReturnOp(IRDLOperation):
    """End of a `nn.model`: the logits of this step, and the token that comes next.

    ```mlir
    nn.return %logits, %next : tensor<49152xf32>
    ```
    """

    name = "nn.return"
    logits = operand_def()
    next_token = operand_def(TOKEN_TYPE)
    assembly_format = "$logits `,` $next_token attr-dict `:` type($logits)"
    traits = traits_def(IsTerminator(), HasParent(ModelOp))

    def __init__(self, logits: SSAValue, next_token: SSAValue) -> None:
        super().__init__(operands=[logits, next_token])

    def verify_(self) -> None:
        vector_length(self.logits, "logits")


@irdl_op_definition
class RepeatOp(IRDLOperation):
    """Runs its body `count` times, for layer 0 to `count`-1; values are carried along.

    The body's first argument is the layer index, the others are the carried values; the results are
    the values of the last `nn.yield`. A repeat stands directly in a `nn.model`: layers do not nest.

    ```mlir
    %y = nn.repeat %layer = 30 iter(%h = %x) : tensor<576xf32> {
      %h1 = nn.add %h, %h : tensor<576xf32>
      nn.yield %h1 : tensor<576xf32>
    }
    ```
    """

    name = "nn.repeat"
    count = prop_def(Int64Attr)
    initial = var_operand_def()
    body = region_def("single_block")
    results_ = var_result_def()
    traits = traits_def(HasParent(ModelOp), RecursiveMemoryEffect())

    def __init__(self, count: int, initial: Sequence[SSAValue], body: Region) -> None:
        super().__init__(
            operands=[initial],
            result_types=[[value.type for value in initial]],
            properties={"count": int_attr(count)},
            regions=[body],
        )

    def verify_(self) -> None:
        require_positive(count=self.count)
        carried = [value.type for value in self.initial]
        if [argument.type for argument in self.body.block.args] != [IndexType(), *carried]:
            raise VerifyException("body arguments must be an index and one per carried value")
        if [value.type for value in self.results] != carried:
            raise VerifyException("results must have the types of the carried values")
        end = self.body.block.last_op
        if not isinstance(end, YieldOp) or [v.type for v in end.operands] != carried:
            raise VerifyException("body must end in nn.yield of one value per carried value")

    def print(self, printer: Printer) -> None:
        layer, *arguments = self.body.block.args
        printer.print_string(" ")
        printer.print_ssa_value(layer)
        printer.print_string(f" = {self.count.value.data} iter")
        with printer.in_parens():
            pairs = zip(arguments, self.initial, strict=True)
            printer.print_list(pairs, lambda pair: _print_assignment(printer, *pair))
        printer.print_string(" : ")
        printer.print_list(self.initial.types, printer.print_attribute)
        printer.print_string(" ")
        printer.print_region(self.body, print_entry_block_args=False)
        printer.print_op_attributes(self.attributes, print_keyword=True)

    @classmethod
    def parse(cls, parser: Parser) -> RepeatOp:
        layer = parser.parse_argument(expect_type=False).resolve(IndexType())
        parser.parse_punctuation("=")
        count = parser.parse_integer()
        parser.parse_keyword("iter")
        pairs = parser.parse_comma_separated_list(
            parser.Delimiter.PAREN, lambda: _parse_assignment(parser)
        )
        parser.parse_punctuation(":")
        position = parser.pos
        types = parser.parse_comma_separated_list(parser.Delimiter.NONE, parser.parse_type)
        initial = parser.resolve_operands([value for _, value in pairs], types, position)
        arguments = [argument.resolve(t) for (argument, _), t in zip(pairs, types, strict=True)]
        body = parser.parse_region([layer, *arguments])
        op = cls(count, initial, body)
        attributes = parser.parse_optional_attr_dict_with_keyword()
        op.attributes |= attributes.data if attributes else {}
        return op


def _print_assignment(printer: Printer, argument: SSAValue, value: SSAValue) -> None:
    printer.print_ssa_value(argument)
    printer.print_string(" = ")
    printer.print_ssa_value(value)


def _parse_assignment(parser: Parser) -> tuple[Parser.UnresolvedArgument, UnresolvedOperand]:
    argument = parser.parse_argument(expect_type=False)
    parser.parse_punctuation("=")
    return argument, parser.parse_unresolved_operand()


@irdl_op_definition
class YieldOp(AbstractYieldOperation[Attribute]):
    """End of the body of a `nn.repeat`: the carried values of the next layer.

    ```mlir
    nn.yield %h : tensor<576xf32>
    ```
    """

    name = "nn.yield"
    traits = traits_def(IsTerminator(), HasParent(RepeatOp))


@irdl_op_definition
class ParamOp(IRDLOperation):
    """A weight of the checkpoint, by key; `{layer}` in it is the index of the enclosing repeat.

    The type is the storage type that kernels use; a checkpoint that holds wider numbers is rounded
    to it (to nearest, ties to even) when it is loaded.

    ```mlir
    %w = nn.param "model.layers.{layer}.self_attn.q_proj.weight" : tensor<576x576xbf16>
    ```
    """

    name = "nn.param"
    key = prop_def(StringAttr)
    result = result_def()
    assembly_format = "$key attr-dict `:` type($result)"
    traits = traits_def(Pure())

    def __init__(self, key: str, result_type: Attribute) -> None:
        super().__init__(properties={"key": StringAttr(key)}, result_types=[result_type])

    def checkpoint_keys(self) -> tuple[str, ...]:
        """The checkpoint keys that the op stands for: one per layer, or one if it names none."""
        repeat = self.parent_op()
        if LAYER_PLACEHOLDER not in self.key.data or not isinstance(repeat, RepeatOp):
            return (self.key.data,)
        return tuple(self.key_of(layer) for layer in range(repeat.count.value.data))

    def key_of(self, layer: int) -> str:
        """The checkpoint key in layer `layer`."""
        return self.key.data.replace(LAYER_PLACEHOLDER, str(layer))

    def verify_(self) -> None:
        tensor = tensor_of(self.result, "parameter")
        if tensor.get_num_dims() not in (1, 2) or not is_storage_type(tensor.element_type):
            raise VerifyException(
                f"parameter must be a rank-1 or rank-2 f32 or bf16 tensor, got {tensor}"
            )
        rest = self.key.data.replace(LAYER_PLACEHOLDER, "")
        if not rest or "{" in rest or "}" in rest:
            raise VerifyException(
                f'key "{self.key.data}" may hold {LAYER_PLACEHOLDER} and no other braces'
            )
        if rest != self.key.data and not isinstance(self.parent_op(), RepeatOp):
            raise VerifyException(f'key "{self.key.data}" names a layer outside of a nn.repeat')
