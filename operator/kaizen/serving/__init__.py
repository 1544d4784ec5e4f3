"""The model server: a verified model directory answers the Open Inference Protocol and counts what it sees.

At start it imports NumPy and the web stack only: no scikit-learn, SciPy, pandas, nor Treelite's Python package.
"""
