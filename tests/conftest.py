"""Every test under tests/integration starts engines, so it carries the marker without writing it."""

from pathlib import Path

import pytest

INTEGRATION = Path(__file__).parent / "integration"
BY_FOLDER = {"docker", "kubernetes", "aws"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks tests by the folder they lie in."""
    for item in items:
        if item.path.is_relative_to(INTEGRATION):
            item.add_marker("integration")
            target = item.path.relative_to(INTEGRATION).parts[0]
            if target in BY_FOLDER:
                item.add_marker(target)
