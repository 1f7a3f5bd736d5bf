"""A small decoder: its program text, its packed weights, and what it computes, in numpy."""

from __future__ import annotations

import ctypes
import subprocess
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path

import numpy as np

from amk.backends.device import (
    attention_bytes,
    combine_bytes,
    device_text,
    operand_bytes,
    shared_bytes,
)
from amk.interpreters import numerics

HERE = Path(__file__).parent
HOST_FLAGS = [
    *("-O3", "-std=c++20", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-pthread"),
    *("-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"),
]


@dataclass(frozen=True)
class Shape:
    """Sizes of the model and of its schedule; the names are those of the program's constants."""

    workers: int = 7
    dtype: str = "f32"
    plain: bool = False
    layers: int = 2
    hidden: int = 96
    heads: int = 6
    kv_heads: int = 2
    head: int = 16
    inner: int = 208
    vocabulary: int = 301
    splits: int = 2
    units: int = 2
    context: int = 192

    @property
    def group(self) -> int:
        return self.heads // self.kv_heads

    @property
    def qkv(self) -> int:
        return (self.heads + 2 * self.kv_heads) * self.head

    @property
    def split_rows(self) -> int:
        return -(-self.context // self.splits)

    def config(self, slots: int = 16) -> dict[str, int]:
        widths = (self.hidden, self.heads * self.head, self.inner)
        elements = -(-self.heads * self.head // self.workers) + 2
        return {
            "kWorkers": self.workers,
            "kSlices": 8,
            "kProducers": 4,
            "kArrivers": 1,
            "kSlotBytes": 4096,
            "kSlots": slots,
            "kWindow": 8,
            "kWideWindow": 12,
            "kPausedWindow": 4,
            "kOperandBytes": max(
                combine_bytes(elements), *(operand_bytes(k, self.dtype) for k in widths)
            ),
            "kScoreBytes": attention_bytes(self.dtype, self.head, self.group, self.units, 2),
            "kRowUnits": 2,
            "kPrivateBytes": (self.hidden // 8 // self.workers + 2) * 32,
        }

    def text(self, target: str, slots: int = 16) -> str:
        """The whole program for a target of the device layer."""
        sizes = {
            "kWorkers": self.workers,
            "kLayers": self.layers,
            "kHidden": self.hidden,
            "kHeads": self.heads,
            "kKvHeads": self.kv_heads,
            "kHead": self.head,
            "kInner": self.inner,
            "kVocabulary": self.vocabulary,
            "kSplits": self.splits,
            "kUnits": self.units,
            "kContext": self.context,
        }
        config = self.config(slots)
        entry = "entry_host.h" if target == "host" else "entry_cuda.h"
        parts = [
            "namespace amk::config {",
            *(f"[[maybe_unused]] constexpr int {k} = {v};" for k, v in config.items()),
            "}",
            device_text(target),
            *(f"constexpr int {k} = {v};" for k, v in sizes.items()),
            f"constexpr float kScale = {self.scale}f;",
            f"constexpr bool kPlain = {str(self.plain).lower()};",
            f"using Weight = {'float' if self.dtype == 'f32' else 'amk::bf16'};",
            (HERE / "program.h").read_text(),
            (HERE / entry).read_text(),
        ]
        if target != "host":
            parts.append(f"static_assert(amk::shared_bytes() == {shared_bytes(config)});\n")
        return "\n".join(parts)

    @property
    def scale(self) -> float:
        return 0.25


def pack(matrix: np.ndarray, dtype: str) -> np.ndarray:
    """One layer's weights [rows, columns] in the order of the host: blocks of eight rows."""
    width = numerics.STEP_COLUMNS[dtype]
    values = matrix if dtype == "f32" else numerics.to_bf16(matrix)
    rows, columns = values.shape
    blocks, steps = -(-rows // 8), -(-columns // width)
    padded = np.zeros((blocks * 8, steps * width), values.dtype)
    padded[:rows, :columns] = values
    return padded.reshape(blocks, 8, steps, 4, width // 4).transpose(0, 2, 4, 3, 1).reshape(-1)


@dataclass
class Weights:
    """Random parameters; matrices are float32 values that the storage type holds."""

    shape: Shape
    seed: int = 0
    arrays: dict[str, np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        s, rng = self.shape, np.random.default_rng(self.seed)
        dims = {
            "wqkv": (s.layers, s.qkv, s.hidden),
            "wo": (s.layers, s.hidden, s.heads * s.head),
            "wgu": (s.layers, 2 * s.inner, s.hidden),
            "wd": (s.layers, s.hidden, s.inner),
            "wlm": (1, s.vocabulary, s.hidden),
            "embedding": (1, s.vocabulary, s.hidden),
        }
        self.arrays = {}
        for name, d in dims.items():
            values = (rng.standard_normal(d) / np.sqrt(d[-1])).astype(np.float32)
            self.arrays[name] = self.stored(values)
        self.arrays["embedding"] = self.arrays["embedding"][0] * np.float32(8)
        for name in ("norm1", "norm2", "norm"):
            self.arrays[name] = rng.uniform(0.5, 1.5, (s.layers, s.hidden)).astype(np.float32)
        angle = np.outer(np.arange(s.context), 100.0 ** -(np.arange(s.head // 2) / (s.head / 2)))
        self.arrays["cos"] = np.cos(angle).astype(np.float32)
        self.arrays["sin"] = np.sin(angle).astype(np.float32)

    def stored(self, values: np.ndarray) -> np.ndarray:
        """Values rounded to the storage type of the matrices, the caches and the inner vectors."""
        return values if self.shape.dtype == "f32" else numerics.round_bf16(values)

    def packed(self, name: str) -> np.ndarray:
        return np.concatenate([pack(m, self.shape.dtype) for m in self.arrays[name]])


class Reference:
    """The program in numpy, bit for bit what the host target computes."""

    def __init__(self, weights: Weights) -> None:
        self.w, self.shape = weights, weights.shape
        s = self.shape
        self.keys = np.zeros((s.layers, s.kv_heads, s.context, s.head), np.float32)
        self.values = np.zeros_like(self.keys)

    def product(self, matrix: np.ndarray, x: np.ndarray) -> np.ndarray:
        if self.shape.dtype == "f32":
            return numerics.product_f32(matrix, x)
        return numerics.product_bf16(matrix, x)

    def norm_product(self, matrix: np.ndarray, x: np.ndarray, gain: np.ndarray) -> np.ndarray:
        stat = numerics.stat_reduce(x * x, self.shape.dtype)
        scale = numerics.rsqrt(stat / np.float32(self.shape.hidden) + np.float32(1e-5))
        return self.product(matrix, x * gain) * scale

    def attention(self, layer: int, qkv: np.ndarray, pos: int) -> np.ndarray:
        s = self.shape
        heads = self.w.stored(qkv).reshape(-1, s.head)
        self.keys[layer, :, pos] = heads[s.heads : s.heads + s.kv_heads]
        self.values[layer, :, pos] = heads[s.heads + s.kv_heads :]
        out = []
        for kv in range(s.kv_heads):
            q = heads[kv * s.group : (kv + 1) * s.group]
            rows = [slice(split, pos + 1, s.splits) for split in range(s.splits)]
            partials = [
                numerics.attention_partial(
                    q, self.keys[layer, kv, r], self.values[layer, kv, r], s.scale, z, s.units
                )
                for r in rows
                for z in range(s.units)
            ]
            out.append(numerics.combine(np.stack(partials, 1)))
        return self.w.stored(np.concatenate(out).reshape(-1))

    def step(self, token: int, pos: int) -> np.ndarray:
        """Logits after a token at a position."""
        s, a = self.shape, self.w.arrays
        x = a["embedding"][token]
        for layer in range(s.layers):
            qkv = self.norm_product(a["wqkv"][layer], x, a["norm1"][layer])
            turned = (s.heads + s.kv_heads) * s.head
            pairs = qkv[:turned].reshape(-1, s.head // 2, 2)
            c, n = a["cos"][pos], a["sin"][pos]
            even = pairs[..., 0] * c - pairs[..., 1] * n
            odd = pairs[..., 1] * c + pairs[..., 0] * n
            qkv = np.concatenate([np.stack([even, odd], -1).reshape(-1), qkv[turned:]])
            att = self.attention(layer, qkv, pos)
            h = x + self.product(a["wo"][layer], att)
            gu = self.norm_product(a["wgu"][layer], h, a["norm2"][layer])
            gate, up = gu[0::2], gu[1::2]
            sigmoid = np.float32(1) / (np.float32(1) + numerics.exp(np.float32(0) - gate))
            act = gate * sigmoid * up
            act = act if s.plain else self.w.stored(act)
            x = h + self.product(a["wd"][layer], act)
        return self.norm_product(a["wlm"][0], x, a["norm"][0])

    def generate(self, prompt: list[int], steps: int) -> tuple[np.ndarray, list[int]]:
        """Logits of each position, and its largest one, when the prompt is fed first."""
        logits, tokens, token = [], [], prompt[0]
        for pos in range(steps):
            logits.append(self.step(token, pos))
            tokens.append(int(np.argmax(logits[-1])))
            token = prompt[pos + 1] if pos + 1 < len(prompt) else tokens[-1]
        return np.stack(logits), tokens


class Launch(ctypes.Structure):
    _fields_ = (
        ("pos", ctypes.c_int32),
        ("steps", ctypes.c_int32),
        ("base", ctypes.c_uint32),
        ("timeout_ms", ctypes.c_uint32),
        ("reserved", ctypes.c_int32),
    )


class Status(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint32)
        for name in ("code", "worker", "task", "buffer", "index", "expected", "seen", "iteration")
    )


@dataclass
class State:
    """The memory that a program works on; field order is that of `struct Buffers`."""

    weights: Weights
    slots: int

    def __post_init__(self) -> None:
        s, w = self.weights.shape, self.weights
        stored = np.float32 if s.dtype == "f32" else np.uint16
        embedding = w.arrays["embedding"]
        cache = (s.layers, s.kv_heads, s.splits, s.split_rows, s.head)
        parts = s.splits * s.units
        self.arrays: dict[str, np.ndarray] = {
            **{name: w.packed(name) for name in ("wqkv", "wo", "wgu", "wd", "wlm")},
            **{name: w.arrays[name] for name in ("norm1", "norm2", "norm", "cos", "sin")},
            "embedding": embedding if s.dtype == "f32" else numerics.to_bf16(embedding),
            "keys": np.zeros(cache, stored),
            "values": np.zeros(cache, stored),
            **{
                name: np.zeros(n, np.uint64)
                for name, n in {
                    "x": s.hidden,
                    "qkv": s.qkv,
                    "partial": s.heads * parts * (s.head + 2),
                    "att": s.heads * s.head,
                    "h": s.hidden,
                    "act": s.inner,
                    "best": s.workers,
                    "index": s.workers,
                    "control": 2,
                }.items()
            },
            "plain": np.zeros(s.inner, np.float32),
            "counter": np.zeros(4, np.uint32),
            "forced": np.full(s.context + 1, -1, np.int32),
            "stop": np.zeros(4, np.int32),
            "tokens": np.zeros(s.context, np.uint64),
            "logits": np.zeros((self.slots, s.vocabulary), np.float32),
        }

    def tokens(self, base: int = 0) -> list[int]:
        """What was chosen after each position, as far as a launch from `base` got."""
        ring = self.arrays["tokens"]
        count = int(np.count_nonzero(ring >> np.uint64(32)))
        return [int(v & np.uint64(0xFFFFFFFF)) for v in ring[:count]]


@dataclass(frozen=True)
class HostProgram:
    """The program of a shape, built for the host in a folder."""

    shape: Shape
    folder: Path

    @cached_property
    def library(self) -> ctypes.CDLL:
        name = "-".join(str(getattr(self.shape, f.name)) for f in fields(self.shape))
        source, library = self.folder / f"{name}.cpp", self.folder / f"{name}.so"
        if not library.exists():
            source.write_text(self.shape.text("host"))
            subprocess.run(["g++", *HOST_FLAGS, str(source), "-o", str(library)], check=True)
        return ctypes.CDLL(str(library))

    def run(
        self,
        state: State,
        steps: int,
        *,
        pos: int = 0,
        base: int = 0,
        timeout_ms: int = 20_000,
        eos: int = -1,
        mute: int = -1,
    ) -> Status:
        """One launch; the status that it leaves."""
        names = list(state.arrays)
        buffers_type = type(
            "Buffers",
            (ctypes.Structure,),
            {
                "_fields_": [(n, ctypes.c_void_p) for n in names]
                + [("eos", ctypes.c_int), ("mute", ctypes.c_int)]
            },
        )
        pointers = [array.ctypes.data for array in state.arrays.values()]
        buffers, status = buffers_type(*pointers, eos, mute), Status()
        launch = Launch(pos, steps, base, timeout_ms, 0)
        self.library.amk_run(ctypes.byref(buffers), ctypes.byref(launch), ctypes.byref(status))
        return status
