"""Whatever text goes into a YAML file comes out of it, for readers of YAML 1.2 and 1.1 alike."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from lampstand.site.text import dump, flow, scalar
from lampstand.site.tree import parse

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
TREES = st.recursive(
    TEXT | st.integers(-(10**15), 10**15) | st.booleans(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT.filter(bool), inner, max_size=4),
    max_leaves=20,
)
ODD = [
    "it's", 'say "hi"', "a b", "ü€漢字", "$(rm -rf /)", "`x`", "a;b|c&d", "%s", "{{ x }}", "\\n", "\n", "\t", "\u2028",
    "yes", "No", "on", "null", "~", "", "1", "010", "1e3", "1.5", "0x1F", "12:30", "2024-01-01", ".inf", "-", "- a",
    "?", "*.css", "&a", "!x", "@daily", "# no", "a # b", "a: b", "a:", ":a", "[a]", "{a: b}", "---", "...", "<<", "=",
    " a", "a ", "😀", "\x7f", "\x85", "\xa0", "\ufeff", "30s", "128MB", "10%", "20/s", "10.0.0.0/8", "1_000", "0o17",
]  # fmt: skip


def read(text: str, version: str) -> object:
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.version = version
    return yaml.load(text)


@pytest.mark.parametrize("text", ODD)
@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_odd_text_comes_back(text: str, version: str) -> None:
    assert read(f"a: {scalar(text)}\n", version) == {"a": text}
    assert read(f"{scalar(text)}: 1\n", version) == {text: 1}
    assert read(flow([{"a": [text]}]), version) == [{"a": [text]}]


@given(TEXT)
def test_all_text_comes_back(text: str) -> None:
    node, findings = parse(f"{{a: {scalar(text)}}}", "f")
    assert findings == []
    assert node.plain() == {"a": text}


@given(TREES)
def test_trees_come_back(tree: object) -> None:
    assert read(dump(tree), "1.2") == tree
    assert read(flow(tree), "1.2") == tree


def test_what_people_read_stays_readable() -> None:
    tree = {
        "site": "shop",
        "app": {"root": "public", "env": {}},
        "cdn": {"edges": ["fra", "iad"], "rules": [{"ttl": "1y", "on": True}]},
    }
    assert dump(tree) == (
        "site: shop\napp:\n  root: public\n  env: {}\ncdn:\n  edges: [fra, iad]\n  rules:\n    - ttl: 1y\n"
        '      "on": true\n'
    )
