"""One origin and one edge for all conformance tests; each test has paths of its own.

What must wait until an answer has become old is a scenario: a function in `SCENARIOS`. All of a module run at the same
time in threads, so that a hundred waits of a second take two; a test then reports each.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from lampstand.site import Site
from tests.edge_support import Origin, RunningEdge, edges

Scenario = Callable[[RunningEdge], None]


@pytest.fixture(scope="session")
def origin() -> Iterator[Origin]:
    """The scriptable origin."""
    server = Origin()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def edge(origin: Origin) -> Iterator[RunningEdge]:
    """The edge of a default site."""
    with edges(Site.model_validate({"site": "rfc", "cdn": {"edges": ["fra"]}}), [origin]) as running:
        yield running["edge-fra"]


@pytest.fixture(scope="module")
def outcomes(edge: RunningEdge, request: pytest.FixtureRequest) -> Iterator[dict[str, Future[None]]]:
    """What became of each scenario of the module."""
    scenarios: dict[str, Scenario] = request.module.SCENARIOS
    with ThreadPoolExecutor(48) as pool:
        yield {name: pool.submit(scenario, edge) for name, scenario in scenarios.items()}
