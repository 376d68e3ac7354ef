"""Specifications that run: `python -m spec.promotion`."""
