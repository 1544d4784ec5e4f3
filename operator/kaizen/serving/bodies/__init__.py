"""Bodies of the Open Inference Protocol v2 and of v1: from bytes to columns, and from answers to bytes.  Pure."""
