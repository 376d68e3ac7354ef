"""Lampstand: a complete LAMP site from one file, on real engines."""

__version__ = "0.1.0.dev0"
