"""AMK: Llama-family models compiled into one persistent kernel."""
