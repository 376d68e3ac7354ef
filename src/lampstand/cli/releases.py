"""Releases: deploy, rollback, releases (see lampstand.releases)."""

import typer


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
