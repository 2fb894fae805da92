"""Predicted and actual memory stand side by side in what Prometheus scrapes."""

from prometheus_client.parser import text_string_to_metric_families

from gpuserve.profile.spec import RoutingSpec
from gpuserve.router.enginemetrics import engine_metrics
from gpuserve.routing.table import Figure, RoutingTable, Upstream


def table(*upstreams: Upstream) -> RoutingTable:
    return RoutingTable(instance="i", generation=1, routing=RoutingSpec(), upstreams=upstreams)


def test_every_figure_has_its_model_its_part_and_its_kind() -> None:
    figures = (
        Figure(kind="predicted", name="weights_bytes", value=17),
        Figure(kind="actual", name="weights_bytes", value=18),
        Figure(kind="actual", name="kv_cache_tokens", value=4096),
        Figure(kind="predicted", name="max_concurrency", value=2.5),
    )
    named = Upstream(name='od"d', names=("x",), url="http://x", figures=figures)
    families = {f.name: f for f in text_string_to_metric_families(engine_metrics(table(named)))}
    assert {
        (s.labels["model"], s.labels["part"], s.labels["kind"], s.value)
        for s in families["gpuserve_engine_memory_bytes"].samples
    } == {('od"d', "weights", "predicted", 17), ('od"d', "weights", "actual", 18)}
    (tokens,) = families["gpuserve_engine_kv_cache_tokens"].samples
    assert (tokens.labels["kind"], tokens.value) == ("actual", 4096)
    (requests,) = families["gpuserve_engine_max_concurrency"].samples
    assert requests.value == 2.5


def test_nothing_is_shown_of_what_says_nothing() -> None:
    assert engine_metrics(None) == ""
    assert engine_metrics(table(Upstream(name="a", names=("a",), url="http://x"))) == ""
