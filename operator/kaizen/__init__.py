"""Kaizen keeps machine-learning models good in production on Kubernetes."""

__version__ = "0.1.0"
