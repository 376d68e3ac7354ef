"""Releases: one immutable version of the application, with its assets, that web servers run."""
