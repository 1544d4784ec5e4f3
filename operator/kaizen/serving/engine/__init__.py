"""The engine: a fitted scikit-learn pipeline in a form that answers in microseconds, with scikit-learn's own answers.

`compile` and `parity` run where the model is packaged and need scikit-learn and Treelite.  `runtime` answers in the server
with NumPy and Treelite's native library alone.  In the larger server image `sklearn` answers for whatever is not covered
(`chain` is how), and `onnx` for models that arrive as ONNX.
"""
