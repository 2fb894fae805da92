"""What the fast path counts adds up with what aiohttp's side counts."""

from gpuserve.plan import Capabilities
from gpuserve.router.counts import Buckets, Counts
from gpuserve.router.links import Tally
from gpuserve.router.metrics import Metrics
from gpuserve.routing.choose import Choice, Refusal
from gpuserve.routing.table import Upstream

M = Upstream(name="m", names=("m",), url="http://localhost", capabilities=Capabilities())


def test_a_duration_counts_in_its_bucket_and_in_all_wider_ones() -> None:
    buckets = Buckets((0.1, 1.0))
    for seconds in (0.05, 0.1, 0.5, 3.0):
        buckets.observe(seconds)
    assert list(buckets.samples("x", 'model="m"')) == [
        'x_bucket{model="m",le="0.1"} 2.0',
        'x_bucket{model="m",le="1.0"} 3.0',
        'x_bucket{model="m",le="+Inf"} 4.0',
        'x_count{model="m"} 4.0',
        'x_sum{model="m"} 3.65',
    ]


def test_both_sides_are_one_figure() -> None:
    slow, fast = Metrics(), Counts()
    choice = Choice(upstream=M, route="explicit", reason="", model='odd"name')
    slow.answered(choice, 200)
    slow.aborts.labels(choice.model, "client").inc()
    slow.decision_s.observe(0.0001)
    slow.first_byte_s.labels(choice.model).observe(0.2)
    slow.added_s.observe(0.0001)
    slow.refused(Refusal(status=404, code="x", message="x"))
    model = fast.model(choice.model)
    model.route("explicit")[1] += 2
    model.client_left += 1
    model.first_byte_s.observe(0.2)
    fast.decided_by("explicit", "explicit")[0] += 2
    fast.decision_s.observe(0.0001)
    fast.added_s.observe(0.0001)
    fast.refuse(Refusal(status=404, code="x", message="x"))
    text = slow.render({"m": Tally(dialled=1, reused=5, retries=2)}, fast.render())
    lines = text.splitlines()
    for line in (
        'gpuserve_router_requests_total{model="odd\\"name",route="explicit",status="2xx"} 3.0',
        'gpuserve_router_requests_total{model="",route="none",status="4xx"} 2.0',
        'gpuserve_router_aborts_total{cause="client",model="odd\\"name"} 2.0',
        'gpuserve_router_decisions_total{route="explicit",step="explicit"} 3.0',
        "gpuserve_router_decision_seconds_count 2.0",
        "gpuserve_router_added_seconds_count 2.0",
        'gpuserve_router_first_byte_seconds_count{model="odd\\"name"} 2.0',
        'gpuserve_router_first_byte_seconds_bucket{le="0.25",model="odd\\"name"} 2.0',
        'gpuserve_router_upstream_connections_total{kind="new",upstream="m"} 1.0',
        'gpuserve_router_upstream_connections_total{kind="reused",upstream="m"} 5.0',
        'gpuserve_router_retries_total{upstream="m"} 2.0',
        "gpuserve_router_workers 1.0",
    ):
        assert line in lines, (line, text)
    kinds = [line for line in lines if line.startswith("# TYPE")]
    assert len(kinds) == len({line.split()[2] for line in kinds})
    assert "# TYPE gpuserve_router_retries_total counter" in kinds
    assert not [line for line in lines if line.startswith("# HELP") and len(line.split()) < 5]
