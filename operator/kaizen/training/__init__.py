"""Runs in the training Pod and in the terminal: data in, a judged and packaged model out; one module per step."""
