"""The key in VCL is the key of the pure model."""

import uuid
from string import ascii_letters

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lampstand.site import Site
from lampstand.tiers.edge.rules import behaviours, fetched_url, key_url
from tests.edge_support import Answer, RunningEdge

NAMES = st.sampled_from(["a", "b", "B", "ab", "a[]", "page", "utm_x", "gclid", "z.z", "%61", "a+b", ""])
VALUES = st.text(ascii_letters + "0129-_.~%=+,:;/?@!$'()*[]|", max_size=4)
PARAMETERS = st.builds(
    lambda n, eq, v: f"{n}{eq}{v if eq else ''}", NAMES, st.sampled_from(["", "="]), VALUES
)
QUERIES = st.lists(PARAMETERS, max_size=7).map("&".join)
POLICY = behaviours(Site.model_validate({"site": "rfc"}))[-1].query


SETTINGS = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@SETTINGS
@given(QUERIES)
def test_the_edge_and_the_model_agree(edge: RunningEdge, query: str) -> None:
    path = f"/{uuid.uuid4().hex}"
    edge.origin.script(path, Answer(headers=[("Cache-Control", "max-age=60")]))
    url = f"{path}?{query}"
    assert edge.ask(url).answer == 1
    assert edge.origin.requests[path][0].target == fetched_url(url, POLICY)
    assert edge.ask(key_url(url, POLICY)).cache == "hit"
    purged = edge.purge(key_url(url, POLICY))
    assert b'"purged": 1' in purged.body
