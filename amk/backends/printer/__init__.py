"""Prints a verified `task.schedule` as one self-contained program, for CUDA and for the host."""
