"""Executable meanings of the dialects, as numpy functions for xdsl.interpreter."""
