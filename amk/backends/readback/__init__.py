"""Reads a printed CUDA file back and proves that it is the schedule that was verified.

The reader shares nothing with the printer: `parse` makes a syntax tree by a grammar of its own,
`lanes` runs the control flow for all workers at once, `columns` compares integer expressions with
the columns of the verified table, `task` and `product` compare the bodies with the kernels, and
`obligations` follows the barriers between them.
"""

from __future__ import annotations

from amk.backends.readback.check import Report, check_program

__all__ = ["Report", "check_program"]
