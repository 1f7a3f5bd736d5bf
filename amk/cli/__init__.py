"""Command line tools. Each module has `main(argv) -> int`, which returns the exit status."""
