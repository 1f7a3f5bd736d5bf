"""What else decodes the model on this machine: PyTorch in several forms, and Hugging Face.

Each runs the last of `context` positions over caches of exactly that many, so none pays for a mask
or for positions that are not there. Needs torch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as functional

from amk.bench.stats import Times
from amk.bench.torch_llama import Layer, TorchLlama, rotate, split_heads

_MOST_STEPS = 50
_SECONDS = 0.1
"""Steps are timed together for about as long, but at most so many."""

Step = Callable[[], Any]
"""Runs one token."""
Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Query [heads, 1, size], keys and values [kv heads, positions, size] to [heads, 1, size]."""


@dataclass(frozen=True)
class Skipped:
    """An alternative that was not measured."""

    reason: str


def fused_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """What torch has chosen for scaled_dot_product_attention."""
    shared = len(q) != len(k)
    return functional.scaled_dot_product_attention(q[None], k[None], v[None], enable_gqa=shared)[0]


def batched_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Two batched products, so that cuBLAS spreads the positions over the device."""
    grouped = q.view(len(k), -1, q.shape[-1])
    scores = torch.bmm(grouped, k.mT) * q.shape[-1] ** -0.5
    weights = torch.softmax(scores, -1, dtype=torch.float32).to(q.dtype)
    return torch.bmm(weights, v).view(q.shape)


class Decoder:
    """One decode step over static caches; `run` feeds its own choice to the next one."""

    def __init__(self, model: TorchLlama, context: int, attention: Attention) -> None:
        self.model = model
        config, device = model.config, model.device
        shape = (config.kv_heads, context, config.head_dim)
        generator = torch.Generator(device).manual_seed(0)

        def cache() -> torch.Tensor:
            return torch.randn(shape, generator=generator, device=device, dtype=model.dtype)

        self.caches = [(cache(), cache()) for _ in model.layers]
        self.token = torch.ones(1, dtype=torch.long, device=device)
        self.position = torch.tensor([context - 1], device=device)
        self.cos, self.sin = (table.to(model.dtype) for table in model.rope(context))
        self.attention = attention

    def run(self) -> None:
        """Run one token."""
        self.token.copy_(self.logits(self.token, self.caches).argmax(-1))

    def logits(
        self, token: torch.Tensor, caches: list[tuple[torch.Tensor, torch.Tensor]]
    ) -> torch.Tensor:
        """Logits [1, vocabulary] after `token`, whose keys and values go into the caches."""
        model = self.model
        cos, sin = self.cos[self.position], self.sin[self.position]
        x = model.embedding[token]
        for layer, (keys, values) in zip(model.layers, caches, strict=True):
            x = x + self._attend(layer, x, cos, sin, keys, values)
            normed = model.normalise(x, layer.mlp_norm)
            gate, up = functional.linear(normed, layer.gate_up).chunk(2, -1)
            x = x + functional.linear(functional.silu(gate) * up, layer.down)
        return functional.linear(model.normalise(x, model.norm), model.head)

    def _attend(
        self,
        layer: Layer,
        x: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
    ) -> torch.Tensor:
        normed = self.model.normalise(x, layer.attention_norm)
        q, k, v = split_heads(self.model.config, functional.linear(normed, layer.qkv))
        keys.index_copy_(1, self.position, rotate(k, cos, sin))
        values.index_copy_(1, self.position, v)
        attended = self.attention(rotate(q, cos, sin), keys, values)
        return functional.linear(attended.transpose(0, 1).reshape(1, -1), layer.o)


def eager(model: TorchLlama, context: int) -> Step:
    """The step as it is."""
    return Decoder(model, context, fused_attention).run


def graph_of(step: Step) -> Step:
    """The step as a CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()

    def replay(_keeps_memory_of: Step = step) -> None:
        graph.replay()

    return replay


def graphed(model: TorchLlama, context: int) -> Step:
    """A CUDA graph of the step, cuBLAS and scaled_dot_product_attention."""
    return graph_of(Decoder(model, context, fused_attention).run)


def graphed_batched(model: TorchLlama, context: int) -> Step:
    """A CUDA graph of the step, with attention by cuBLAS as well."""
    return graph_of(Decoder(model, context, batched_attention).run)


class Compiled:
    """torch.compile of the whole step, once for all contexts, then a CUDA graph for each."""

    def __init__(self) -> None:
        self._compiled: Any = None

    def __call__(self, model: TorchLlama, context: int) -> Step:
        decoder = Decoder(model, context, fused_attention)
        if self._compiled is None:
            # Products with one row become tuned kernels, as in fast implementations.
            self._compiled = torch.compile(
                _compiled_step, fullgraph=True, options={"coordinate_descent_tuning": True}
            )
        for keys, values in decoder.caches:
            torch._dynamo.maybe_mark_dynamic(keys, 1)
            torch._dynamo.maybe_mark_dynamic(values, 1)
        for table in (decoder.cos, decoder.sin):
            torch._dynamo.maybe_mark_dynamic(table, 0)
        compiled = self._compiled

        def step() -> None:
            compiled(decoder, decoder.token, decoder.caches)

        return graph_of(step) if model.device == "cuda" else step


def _compiled_step(
    decoder: Decoder, token: torch.Tensor, caches: list[tuple[torch.Tensor, torch.Tensor]]
) -> None:
    token.copy_(decoder.logits(token, caches).argmax(-1))


def hugging_face(model: TorchLlama, context: int) -> Step:
    """transformers with a StaticCache, as it runs without compilation."""
    from transformers import LlamaConfig, LlamaForCausalLM, StaticCache
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    config = LlamaConfig(**model.checkpoint_config)
    with torch.device("meta"):
        theirs = LlamaForCausalLM(config)
    theirs.load_state_dict(_state(model), assign=True, strict=False)
    theirs.model.rotary_emb = LlamaRotaryEmbedding(config=config).to(model.device)
    theirs.eval()
    cache = StaticCache(config=config, max_cache_len=context)
    token = torch.ones((1, 1), dtype=torch.long, device=model.device)

    def step() -> None:
        layers: Any = cache.layers
        for layer in layers:
            if layer.is_initialized:
                layer.cumulative_length.fill_(context - 1)
        output = theirs(input_ids=token, past_key_values=cache, use_cache=True)
        token.copy_(output.logits[:, -1:].argmax(-1))

    return step


def _state(model: TorchLlama) -> Mapping[str, torch.Tensor]:
    """Hugging Face's parameters, as views of the weights of `model`."""
    config = model.config
    query, key = config.heads * config.head_dim, config.kv_heads * config.head_dim
    state = {
        "model.embed_tokens.weight": model.embedding,
        "lm_head.weight": model.head,
        "model.norm.weight": model.norm.to(model.dtype),
    }
    for number, layer in enumerate(model.layers):
        q, k, v = layer.qkv.split((query, key, key))
        gate, up = layer.gate_up.chunk(2)
        parts = {
            "self_attn.q_proj": q,
            "self_attn.k_proj": k,
            "self_attn.v_proj": v,
            "self_attn.o_proj": layer.o,
            "mlp.gate_proj": gate,
            "mlp.up_proj": up,
            "mlp.down_proj": layer.down,
            "input_layernorm": layer.attention_norm.to(model.dtype),
            "post_attention_layernorm": layer.mlp_norm.to(model.dtype),
        }
        state |= {f"model.layers.{number}.{name}.weight": part for name, part in parts.items()}
    return state


def alternatives(device: str, names: tuple[str, ...]) -> dict[str, Callable[..., Step]]:
    """What can be measured on `device`, by the name in reports, of those asked for."""
    known: dict[str, tuple[str, Callable[..., Step]]] = {
        "torch eager, SDPA": ("eager", eager),
        "CUDA graph, cuBLAS, SDPA": ("graph", graphed),
        "CUDA graph, cuBLAS, attention by cuBLAS": ("graph", graphed_batched),
        "Hugging Face, StaticCache": ("hf", hugging_face),
        "torch.compile": ("compile", Compiled()),
    }
    return {
        title: make
        for title, (name, make) in known.items()
        if name in names and (name != "graph" or device == "cuda")
    }


@torch.inference_mode()
def measure(
    make: Callable[..., Step], model: TorchLlama, context: int, repeats: int
) -> Times | Skipped:
    """Time per token of one alternative; whatever it raises is a reason to skip it."""
    try:
        step = make(model, context)
        step()  # compiles, allocates
        once = min(_timed(step, 1, 3, model.device))
        steps = max(1, min(_MOST_STEPS, int(_SECONDS / once)))
        return Times.of(seconds / steps for seconds in _timed(step, steps, repeats, model.device))
    except Exception as error:  # other people's code, in any version
        lines = str(error).strip().splitlines() or [""]
        return Skipped(f"{type(error).__name__}: {lines[0][:160]}")


def _timed(step: Step, steps: int, repeats: int, device: str) -> Iterator[float]:
    """Seconds of `steps` steps in a row, several times."""
    for _ in range(repeats):
        if device == "cpu":
            started = time.perf_counter()
            for _ in range(steps):
                step()
            yield time.perf_counter() - started
            continue
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        for _ in range(steps):
            step()
        end.record()
        end.synchronize()
        yield begin.elapsed_time(end) / 1e3
