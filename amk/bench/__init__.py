"""Measuring a model on a device: its ceiling, its tokens, what else runs there, and the report."""
