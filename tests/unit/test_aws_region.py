"""Which region a site on AWS is in."""

import pytest

from lampstand.site import Aws
from lampstand.targets.aws.cloud import open_cloud


@pytest.mark.parametrize(("written", "region"), [(None, "eu-west-1"), ("eu-north-1", "eu-north-1")])
def test_the_site_file_comes_before_the_environment(
    monkeypatch: pytest.MonkeyPatch, written: str | None, region: str
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    assert open_cloud(Aws(region=written)).region == region
