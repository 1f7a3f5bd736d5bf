"""The dialects of AMK: nn, tile and task."""
