"""Training from Python, without the pipeline."""
