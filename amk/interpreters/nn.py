"""What `nn` programs compute, in numpy: the reference that lower levels are compared with.

The arithmetic is whole-tensor numpy in float32 or float64, so results are *not* bit for bit those
of a kernel: the order of a reduction becomes part of the meaning at `tile` level only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from xdsl.dialects.builtin import BFloat16Type, ModuleOp, TensorType
from xdsl.interpreter import (
    Interpreter,
    InterpreterFunctions,
    PythonValues,
    ReturnedValues,
    TerminatorValue,
    impl,
    impl_terminator,
    register_impls,
)

from amk.dialects import nn
from amk.errors import AmkError
from amk.frontend.bf16 import from_bf16, to_bf16

Weights = Callable[[str], np.ndarray]
"""Looks a parameter up by checkpoint key; `Checkpoint.read` is one, `dict.__getitem__` another."""

_INITIAL_CAPACITY = 64


def rope_table(frequencies: np.ndarray, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin, float32 [count, len(frequencies)], of the positions from `first` on.

    The angle is the float32 product of position and frequency, as in Hugging Face; its cos and sin
    are computed in float64 and rounded.
    """
    positions = np.arange(first, first + count, dtype=np.float32)
    angles = (positions[:, None] * frequencies.astype(np.float32)[None, :]).astype(np.float64)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


@dataclass
class _Cache:
    """Keys and values of one (attention, layer): [capacity, kv_heads, head_dim], growing."""

    keys: np.ndarray
    values: np.ndarray

    def write(self, position: int, key: np.ndarray, value: np.ndarray) -> None:
        if position >= len(self.keys):
            self.keys, self.values = _doubled(self.keys), _doubled(self.values)
        self.keys[position], self.values[position] = key, value


def _doubled(array: np.ndarray) -> np.ndarray:
    return np.concatenate([array, np.zeros_like(array)])


@dataclass
class ModelState:
    """The KV caches of one sequence, and how many positions they hold.

    `dtype` (`np.float32` or `np.float64`) is the precision of the caches and of all arithmetic.
    """

    dtype: Any = np.float32
    length: int = 0
    caches: dict[tuple[nn.AttentionOp, int], _Cache] = field(default_factory=dict)


class NNRunner:
    """Runs the `nn.model` of a module step by step, with all of its parameters loaded.

    Parameters are rounded to the storage type of their `nn.param` (bf16 or float32) and then kept
    in `dtype`, the precision of all arithmetic. Raises AmkError where the module holds no single
    `nn.model`, or where a parameter is missing or of another shape.
    """

    def __init__(self, module: ModuleOp, weights: Weights, dtype: Any = np.float32) -> None:
        self.model = find_model(module)
        self.dtype = np.dtype(dtype)
        self.parameters = _load_parameters(self.model, weights, self.dtype)
        self._functions = NNFunctions(self)
        self._interpreter = Interpreter(module)
        self._interpreter.register_implementations(self._functions)

    def new_state(self) -> ModelState:
        """Empty KV caches, for a new sequence."""
        return ModelState(self.dtype)

    def step(self, state: ModelState, token: int, position: int) -> tuple[np.ndarray, int]:
        """Runs `token` at `position`; returns (logits [vocabulary], the greedy next token).

        `position` is at most the number of positions that `state` holds. An earlier position is
        overwritten, and what followed it is dropped.
        """
        self._check_step(state, token, position)
        self._functions.state = state
        logits, next_token = self._interpreter.run_ssacfg_region(
            self.model.body, (token, position), "nn.model"
        )
        state.length = position + 1
        return logits, next_token

    def logits(self, tokens: Sequence[int]) -> np.ndarray:
        """Logits [len(tokens), vocabulary] after each of `tokens`, in a new sequence."""
        state = self.new_state()
        return np.stack([self.step(state, token, at)[0] for at, token in enumerate(tokens)])

    def generate(self, tokens: Sequence[int], max_new_tokens: int) -> list[int]:
        """The greedy continuation of `tokens`: up to and including an eos token, if one comes."""
        if not tokens:
            raise AmkError("cannot generate from an empty prompt: give at least one token")
        state, eos = self.new_state(), set(self.model.eos_tokens)
        new: list[int] = []
        following = -1
        for position, token in enumerate(tokens):
            _, following = self.step(state, token, position)
        while len(new) < max_new_tokens:
            new.append(following)
            if following in eos or len(new) == max_new_tokens:
                break
            _, following = self.step(state, following, state.length)
        return new

    def _check_step(self, state: ModelState, token: int, position: int) -> None:
        found = np.dtype(state.dtype)
        if found != self.dtype:
            raise AmkError(f"state of {found} for a runner of {self.dtype}: use new_state()")
        if not 0 <= token < self.model.vocabulary:
            raise AmkError(f"token {token} is outside 0..{self.model.vocabulary - 1}")
        context = self.model.context.value.data
        if not 0 <= position < context:
            raise AmkError(
                f"position {position} is outside the context of {context}: import a longer context"
            )
        if position > state.length:
            raise AmkError(f"position {position} cannot run: only {state.length} ran before it")


def run_step(
    module: ModuleOp, weights: Weights, state: ModelState, token: int, position: int
) -> tuple[np.ndarray, int]:
    """One step as NNRunner.step, for a single use: it loads every parameter again."""
    return NNRunner(module, weights, state.dtype).step(state, token, position)


def find_model(module: ModuleOp) -> nn.ModelOp:
    """The only `nn.model` of `module`; AmkError if there is none, or more than one."""
    models = [op for op in module.body.block.ops if isinstance(op, nn.ModelOp)]
    if len(models) != 1:
        raise AmkError(
            f"expected one nn.model in the module, found {len(models)}: run `amk import`"
        )
    return models[0]


def _load_parameters(
    model: nn.ModelOp, weights: Weights, dtype: np.dtype[Any]
) -> dict[str, np.ndarray]:
    loaded: dict[str, np.ndarray] = {}
    for op in model.parameters():
        shape = nn.tensor_of(op.result, "parameter").get_shape()
        for key in op.checkpoint_keys():
            if key not in loaded:
                loaded[key] = _load_parameter(op, key, shape, weights).astype(dtype, copy=False)
    return loaded


def _load_parameter(
    op: nn.ParamOp, key: str, shape: tuple[int, ...], weights: Weights
) -> np.ndarray:
    try:
        found = np.asarray(weights(key))
    except KeyError as error:
        raise AmkError(f'no weights for parameter "{key}"') from error
    if found.shape != shape:
        raise AmkError(f'parameter "{key}" has shape {found.shape}, the module says {shape}')
    values = found.astype(np.float32, copy=False)
    type_ = op.result.type
    if isinstance(type_, TensorType) and isinstance(type_.element_type, BFloat16Type):
        return from_bf16(to_bf16(values))
    return values


@register_impls
class NNFunctions(InterpreterFunctions):
    """The meaning of every `nn` op inside of a `nn.model`, for `xdsl.interpreter`.

    Values are numpy arrays of the runner's precision; tokens and positions are Python integers.
    """

    def __init__(self, runner: NNRunner) -> None:
        super().__init__()
        self.parameters = runner.parameters
        self.dtype = runner.dtype
        self.state = runner.new_state()
        self.layer = 0

    @impl_terminator(nn.ReturnOp)
    def run_return(
        self, interpreter: Interpreter, op: nn.ReturnOp, args: PythonValues
    ) -> tuple[TerminatorValue, PythonValues]:
        return ReturnedValues(args), ()

    @impl_terminator(nn.YieldOp)
    def run_yield(
        self, interpreter: Interpreter, op: nn.YieldOp, args: PythonValues
    ) -> tuple[TerminatorValue, PythonValues]:
        return ReturnedValues(args), ()

    @impl(nn.RepeatOp)
    def run_repeat(
        self, interpreter: Interpreter, op: nn.RepeatOp, args: PythonValues
    ) -> PythonValues:
        for self.layer in range(op.count.value.data):
            args = interpreter.run_ssacfg_region(op.body, (self.layer, *args), "nn.repeat")
        return args

    @impl(nn.ParamOp)
    def run_param(
        self, interpreter: Interpreter, op: nn.ParamOp, args: PythonValues
    ) -> PythonValues:
        return (self.parameters[op.key_of(self.layer)],)

    @impl(nn.EmbeddingOp)
    def run_embedding(
        self, interpreter: Interpreter, op: nn.EmbeddingOp, args: PythonValues
    ) -> PythonValues:
        table, token = args
        return (table[token],)

    @impl(nn.RMSNormOp)
    def run_rms_norm(
        self, interpreter: Interpreter, op: nn.RMSNormOp, args: PythonValues
    ) -> PythonValues:
        x, gain = args
        mean_square = np.mean(x * x, dtype=self.dtype)
        scale = 1 / np.sqrt(mean_square + self.dtype.type(op.eps.value.data))
        return (x * scale * gain,)

    @impl(nn.LinearOp)
    def run_linear(
        self, interpreter: Interpreter, op: nn.LinearOp, args: PythonValues
    ) -> PythonValues:
        x, weight = args
        return (weight @ x,)

    @impl(nn.RopeOp)
    def run_rope(self, interpreter: Interpreter, op: nn.RopeOp, args: PythonValues) -> PythonValues:
        x, position = args
        frequencies = np.array(op.frequencies.get_values(), np.float32)
        cos, sin = rope_table(frequencies, position, 1)
        half = len(frequencies)
        heads = x.reshape(-1, 2 * half)
        low, high = heads[:, :half], heads[:, half:]
        cos, sin = cos[0].astype(self.dtype), sin[0].astype(self.dtype)
        rotated = np.concatenate([low * cos - high * sin, high * cos + low * sin], axis=1)
        return (rotated.reshape(x.shape),)

    @impl(nn.AttentionOp)
    def run_attention(
        self, interpreter: Interpreter, op: nn.AttentionOp, args: PythonValues
    ) -> PythonValues:
        q, k, v, position = args
        kv_heads, size = op.kv_heads.value.data, op.head_dim.value.data
        cache = self._cache_of(op, kv_heads, size)
        cache.write(position, k.reshape(kv_heads, size), v.reshape(kv_heads, size))
        keys, values = cache.keys[: position + 1], cache.values[: position + 1]
        # One matrix product per KV head serves all of its query heads.
        queries = q.reshape(kv_heads, -1, size)
        scores = (queries @ keys.transpose(1, 2, 0)) * self.dtype.type(op.scale.value.data)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        sums = (weights @ values.transpose(1, 0, 2)) / weights.sum(axis=-1, keepdims=True)
        return (sums.reshape(q.shape),)

    def _cache_of(self, op: nn.AttentionOp, kv_heads: int, size: int) -> _Cache:
        key = (op, self.layer)
        if key not in self.state.caches:
            shape = (_INITIAL_CAPACITY, kv_heads, size)
            self.state.caches[key] = _Cache(
                np.zeros(shape, self.dtype), np.zeros(shape, self.dtype)
            )
        return self.state.caches[key]

    @impl(nn.SiluOp)
    def run_silu(self, interpreter: Interpreter, op: nn.SiluOp, args: PythonValues) -> PythonValues:
        (x,) = args
        with np.errstate(over="ignore"):  # exp(-x) may be infinite; the quotient is then 0
            return (x / (1 + np.exp(-x)),)

    @impl(nn.GeluOp)
    def run_gelu(self, interpreter: Interpreter, op: nn.GeluOp, args: PythonValues) -> PythonValues:
        (x,) = args
        inner = self.dtype.type(math.sqrt(2 / math.pi)) * (x + self.dtype.type(0.044715) * x**3)
        return (self.dtype.type(0.5) * x * (1 + np.tanh(inner)),)

    @impl(nn.MulOp)
    def run_mul(self, interpreter: Interpreter, op: nn.MulOp, args: PythonValues) -> PythonValues:
        lhs, rhs = args
        return (lhs * rhs,)

    @impl(nn.AddOp)
    def run_add(self, interpreter: Interpreter, op: nn.AddOp, args: PythonValues) -> PythonValues:
        lhs, rhs = args
        return (lhs + rhs,)

    @impl(nn.ArgmaxOp)
    def run_argmax(
        self, interpreter: Interpreter, op: nn.ArgmaxOp, args: PythonValues
    ) -> PythonValues:
        (x,) = args
        return (int(np.argmax(x)),)
