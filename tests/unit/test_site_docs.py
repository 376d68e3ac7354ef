"""The models, the JSON Schema, the page and the examples say the same."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from lampstand.site import Site
from lampstand.site.__main__ import PUBLISHED
from lampstand.site.docs import Option, json_schema, markdown, option_docs
from lampstand.site.explain import find_option
from lampstand.site.tree import parse

PROJECT = Path(__file__).parents[2]
OPTIONS = option_docs()


@pytest.fixture(scope="module")
def validator() -> Any:  # noqa: ANN401 - jsonschema has no types
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.key)
def test_every_example_loads(option: Option, validator: Any) -> None:  # noqa: ANN401
    node, findings = parse(option.whole_example, "example.yaml")
    tree = node.plain()
    assert findings == []
    Site.model_validate(tree)
    validator.validate(tree)
    # It is an example of this option, not of another one.
    steps = tuple(0 if step == "[]" else "example" if step == "NAME" else step for step in option.path)
    assert node.deepest(steps)[0] == steps
    assert find_option(steps) == option


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.key)
def test_every_option_is_explained(option: Option) -> None:
    assert option.description.endswith((".", ")", "?")) or "." in option.description
    assert option.kind
    assert option.example.split(":")[0] == option.path[-1]


def test_the_defaults_are_a_site_file_too(validator: Any) -> None:  # noqa: ANN401
    written = Site().model_dump(mode="json", exclude_none=True)
    validator.validate(written)
    assert Site.model_validate(written) == Site()


TREES: list[object] = [
    {},
    None,
    {"x-note": [1, {"a": None}], "app": {"x-more": 1, "jobs": {"x-base": {"what": "ever"}}}},
    {"app": None, "cdn": {"edges": []}},
    {"app": {"env": {"A": 1, "B": True, "C": 1.5, "D": "x"}, "static": "/s/*", "uploads": "up"}},
    {"app": {"build": ["npm", "ci"], "workers": {"mail": "php w.php"}}},
    {
        "cdn": {
            "rules": [
                {"query": "none"},
                {"query": {"keep": []}},
                {"redirect": "/x"},
                {"match": ["/a", "*"], "methods": "GET"},
            ]
        }
    },
    {"tls": "local", "storage": "bucket-1", "balancer": {"rate_limit": "5/m"}},
]


@pytest.mark.parametrize("tree", TREES, ids=str)
def test_the_schema_accepts_what_the_models_accept(tree: object, validator: Any) -> None:  # noqa: ANN401
    node, _ = parse(json.dumps(tree), "f")
    Site.model_validate(node.plain() or {})
    validator.validate(tree)


WRONG: list[dict[str, object]] = [
    {"sight": 1},
    {"site": "My Shop"},
    {"web": {"servers": "2"}},
    {"web": {"servers": 0}},
    {"web": [1]},
    {"protected": "yes"},
    {"cdn": {"rules": [{"ttl": 30}]}},
    {"cdn": {"rules": [{"query": "some"}]}},
    {"cdn": {"rules": [{"headers": {"a b": "x"}}]}},
    {"database": {"memory": 5}},
    {"app": {"jobs": {"n": {}}}},
    {"app": {"jobs": {"N": {"run": "x"}}}},
    {"app": {"env": {"A-B": "1"}}},
    {"app": {"runtime": "ruby"}},
    {"deploy": {"canary": 10}},
    {"targets": {"local": {"ports": {"edge-fra": 70000}}}},
]


@pytest.mark.parametrize("tree", WRONG, ids=str)
def test_both_refuse(tree: dict[str, object], validator: Any) -> None:  # noqa: ANN401
    with pytest.raises(ValidationError):
        Site.model_validate(tree)
    assert not validator.is_valid(tree)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_files_are_current(name: str) -> None:
    text = (PROJECT / name).read_text(encoding="utf-8")
    assert text == PUBLISHED[name](), "run `python -m lampstand.site` in the project's folder"


def test_the_page_has_every_option() -> None:
    page = markdown()
    assert all(f"## {option.key}\n" in page for option in OPTIONS)
