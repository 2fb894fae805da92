"""Values survive the files that processes share."""

import pytest

from gpuserve import jsonvalues
from gpuserve.plan import Capabilities
from gpuserve.profile.spec import RoutingSpec
from gpuserve.routing.table import RoutingTable, Upstream


def test_a_table_is_read_as_it_was_written() -> None:
    upstream = Upstream(
        name="a",
        names=("a", "b"),
        url="http://engine",
        socket="/run/x.sock",
        capabilities=Capabilities(chat=True, max_model_len=4096),
        retry_after_s=1.5,
    )
    table = RoutingTable(
        instance="i", generation=3, routing=RoutingSpec(code="a"), upstreams=(upstream,)
    )
    assert jsonvalues.loads(RoutingTable, jsonvalues.dumps(table)) == table


def test_unknown_keys_are_ignored_and_missing_ones_said() -> None:
    text = '{"auto": "auto", "novel": 1, "code": null}'
    assert jsonvalues.loads(RoutingSpec, text) == RoutingSpec()
    with pytest.raises(ValueError, match="instance"):
        jsonvalues.loads(RoutingTable, "{}")


@pytest.mark.parametrize(
    "text", ["", "[", "[]", "3", '{"auto": 5}', '{"code": []}', '{"auto": null}']
)
def test_what_does_not_match_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        jsonvalues.loads(RoutingSpec, text)
