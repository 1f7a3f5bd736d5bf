"""AMK: Llama-family models compiled into one persistent kernel.

```python
import amk

with amk.compile("path/to/model") as model:
    ids = model.tokenizer.encode("The moon is")
    for token in model.generate(ids, max_new_tokens=32):
        print(model.tokenizer.decode([token]), end="", flush=True)
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amk.errors import AmkError

if TYPE_CHECKING:
    from amk.frontend.checkpoint import open_checkpoint
    from amk.runtime.model import CompiledModel, compile

__all__ = ["AmkError", "CompiledModel", "compile", "open_checkpoint"]

_HOMES = {
    "CompiledModel": "amk.runtime.model",
    "compile": "amk.runtime.model",
    "open_checkpoint": "amk.frontend.checkpoint",
}


def __getattr__(name: str) -> Any:
    # Imported on first use: `import amk` is part of the start of every tool.
    if name not in _HOMES:
        raise AttributeError(f"module 'amk' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
