"""What is named before a namespace is deleted."""

from lampstand.targets.kubernetes.deployment import of_others


def test_what_others_put_into_the_namespace_is_named() -> None:
    items = [
        {"metadata": {"name": "web", "labels": {"lampstand.org/site": "shop"}}},
        {"metadata": {"name": "registry"}},
        {"metadata": {"name": "blog", "labels": {"lampstand.org/site": "blog"}}},
        {"metadata": {"name": "web-abc", "ownerReferences": [{"kind": "ReplicaSet"}]}},
        {"metadata": {"name": "kube-root-ca.crt"}},
        {"metadata": {"name": "default-token-x"}, "type": "kubernetes.io/service-account-token"},
    ]
    assert of_others(items, "shop") == ["registry", "blog"]
