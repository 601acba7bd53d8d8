"""vLLM in process: many organisms on one engine. Importing this package imports no vLLM."""
