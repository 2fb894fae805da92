from gpuserve.router.links import Tally
from gpuserve.router.metrics import Metrics, summed


def test_the_sum_adds_each_series_and_keeps_odd_labels() -> None:
    odd = 'a"b\\c'
    workers = [Metrics(), Metrics()]
    for worker in workers:
        worker.requests.labels(odd, "code", "2xx").inc(2)
        worker.first_byte_s.labels("m").observe(0.02)
    workers[1].fallbacks.labels("m").inc()
    text = summed(
        [workers[0].render({"m": Tally(in_flight=1)}), workers[1].render({"m": Tally(in_flight=2)})]
    )
    series = (
        'gpuserve_router_requests_total{model="a\\"b\\\\c",route="code",status="2xx"} 4.0',
        'gpuserve_router_fallbacks_total{model="m"} 1.0',
        'gpuserve_router_in_flight{model="m"} 3.0',
        'gpuserve_router_first_byte_seconds_bucket{le="0.025",model="m"} 2.0',
        'gpuserve_router_first_byte_seconds_count{model="m"} 2.0',
        "gpuserve_router_workers 2.0",
    )
    for line in series:
        assert line in text.splitlines()
    assert summed([text]) == text  # what comes out reads like what went in


def test_counters_say_what_they_count() -> None:
    text = summed([Metrics().render({})])
    assert "# TYPE gpuserve_router_requests_total counter" in text
    assert "# HELP gpuserve_router_aborts_total " in text
    assert "_created" not in text
