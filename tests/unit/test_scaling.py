"""Numbers that `scale` changes."""

import pytest

from lampstand.errors import UsageError
from lampstand.site import Site
from lampstand.targets.scaling import merged, scaled

SITE = Site.model_validate(
    {"site": "shop", "app": {"workers": {"mail": "php mail.php"}}, "web": {"servers": 2}}
)


def test_numbers_edges_and_workers() -> None:
    wanted = merged(
        SITE, {}, {"web": "6", "database.replicas": "3", "edge+": "tokyo", "edge-": "iad", "worker.mail": "2"}
    )
    found = scaled(SITE, wanted)
    assert found.web.servers == 6
    assert found.database.replicas == 3
    assert [e.name for e in found.cdn.edges] == ["fra", "tokyo"]
    assert (found.app.workers["mail"].run, found.app.workers["mail"].count) == (("php", "mail.php"), 2)
    assert scaled(SITE, {}) is SITE


def test_later_changes_are_laid_over_earlier_ones() -> None:
    first = merged(SITE, {}, {"web": "6", "edge+": "tokyo"})
    second = merged(SITE, first, {"edge-": "tokyo,fra", "database.replicas": "0"})
    assert second == {"web": "6", "edges": "iad", "database.replicas": "0"}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("webs", "3", "cannot be scaled"),
        ("web", "many", "not a number"),
        ("web", "0", "refuses"),
        ("edge-", "nowhere", "no edge"),
        ("worker.none", "1", "cannot be scaled"),
    ],
)
def test_what_is_refused(name: str, value: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        merged(SITE, {}, {name: value})
