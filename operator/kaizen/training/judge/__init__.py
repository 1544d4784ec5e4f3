"""Is the model good enough? Evaluation with intervals, and every gate."""
