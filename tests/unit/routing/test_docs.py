"""docs/routing.md against the code that it describes."""

import re
from pathlib import Path

import pytest

from gpuserve.profile.load import load_text
from gpuserve.profile.routetables import RouteTable, RoutingTable
from gpuserve.router import metrics
from gpuserve.router.counts import Counts
from gpuserve.routing.language import LANGUAGES

TEXT = (Path(__file__).parents[3] / "docs" / "routing.md").read_text(encoding="utf-8")
PROFILES = re.findall(r"^```toml\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", PROFILES, ids=range(len(PROFILES)))
def test_its_profiles_are_valid(text: str) -> None:
    if "regex" in text:
        pytest.importorskip("re2")
    assert load_text(text, path="/p.toml").routing.code is not None


def test_it_has_every_key() -> None:
    for key in (*RouteTable.model_fields, *RoutingTable.model_fields):
        assert f"`{key}`" in TEXT or re.search(rf"^{key} =", TEXT, re.MULTILINE), key


def test_it_has_the_languages_that_can_be_told() -> None:
    (row,) = re.findall(r"^\| `language` \|.*\|(.*)\|$", TEXT, re.MULTILINE)
    assert row.split() == [f"`{code}`" for code in sorted(LANGUAGES)]


def test_its_metrics_exist() -> None:
    named = re.findall(r"^\| `(gpuserve_\w+)`", TEXT, re.MULTILINE)
    known = metrics.Metrics().render({}, Counts().render())
    assert len(named) == 7
    for name in named:
        assert f"# TYPE {name} counter" in known
