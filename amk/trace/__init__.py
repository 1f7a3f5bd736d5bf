"""What the workers of an instrumented program did: records, a summary, and a trace to look at."""
