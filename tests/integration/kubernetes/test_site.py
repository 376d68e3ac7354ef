"""A site on three nodes: brought up and scaled."""

import shutil
import uuid
from collections.abc import Iterator

import httpx
import pytest

from tests.integration.kubernetes.cluster import ROOT, TESTBED, Cluster, run
from tests.integration.kubernetes.site import KubernetesSite, Visitors
from tests.support import eventually

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def site(
    cluster: Cluster, base_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KubernetesSite]:
    """The example; each test leaves it well."""
    assert base_image
    folder = tmp_path_factory.mktemp("site")
    made = KubernetesSite(cluster, f"test-{uuid.uuid4().hex[:8]}", folder / "app", folder / "state")
    shutil.copytree(ROOT / "examples/guestbook-php", made.project)
    file = made.project / "lampstand.yaml"
    text = file.read_text().replace("site: guestbook-php", f"site: {made.name}")
    text = text.replace("edges: [fra, iad]", "edges: [fra]")
    targets = f"\ntargets: {{kubernetes: {{load: {TESTBED / 'load.sh'}, uploads_class: network}}}}\n"
    file.write_text(text + targets)
    try:
        made.lampstand("up")
        eventually(made.well, 120, 0.5)
        yield made
    finally:
        made.tried("down", "--delete-data")
        for tag in run("docker", "images", "-q", f"lampstand/{made.name}-web").split():
            run("docker", "rmi", "--force", tag)


def test_visitors_get_the_page_and_nothing_is_left_to_do(site: KubernetesSite) -> None:
    assert "Guestbook" in httpx.get(site.url, timeout=10).text
    assert httpx.get(f"{site.url}/healthz", timeout=10).status_code == 200
    assert "nothing" in site.lampstand("plan").lower()


def test_servers_come_and_go_and_no_visitor_notices(site: KubernetesSite) -> None:
    with Visitors(site.url) as visitors:
        for servers in (6, 2):
            site.lampstand("scale", f"web={servers}")
            eventually(
                lambda n=servers: len(site.get("pods", "-l", "lampstand.org/kind=web")["items"]) == n, 120, 1
            )
    assert len(visitors.answers) > 100
    assert visitors.failed == []
    eventually(site.well, 120, 0.5)
