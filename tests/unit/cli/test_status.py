"""What people see of `gpuserve status`."""

from typing import Any

from gpuserve.cli.status import lines
from gpuserve.units import GIB


def status(actual: dict[str, Any]) -> dict[str, Any]:
    model = {
        "name": "coder",
        "state": "Ready",
        "ready": True,
        "wanted": True,
        "since_s": 5.0,
        "pid": 1,
        "gpus": [0],
        "restarts": 0,
        "reason": None,
        "last_error": None,
        "memory": {
            "predicted": {
                "weights_bytes": 17 * GIB,
                "kv_cache_bytes": 31 * GIB,
                "cuda_graph_bytes": GIB // 4,
                "kv_cache_tokens": 131_072,
            },
            "actual": actual,
        },
    }
    return {
        "router": {"url": "http://127.0.0.1:8000"},
        "profile": "/p.toml",
        "faults": [],
        "stopping": False,
        "upstreams": [],
        "models": [model],
    }


def test_what_an_engine_holds_stands_beside_what_was_predicted() -> None:
    told = lines(status({"weights_bytes": 16 * GIB, "kv_cache_bytes": 32 * GIB}))
    assert (
        "memory of coder: weights 16.00 GiB (predicted 17.00 GiB), "
        "KV cache 32.00 GiB (predicted 31.00 GiB)"
    ) in told


def test_nothing_is_told_of_an_engine_that_said_nothing() -> None:
    assert not any(line.startswith("memory of") for line in lines(status({})))


def test_graphs_that_the_release_does_not_pay_from_the_budget_are_called_so() -> None:
    model = status({})["models"][0]
    model["memory"] = {
        "actual": {"cuda_graph_bytes": GIB // 4, "non_torch_bytes": GIB // 2},
        "predicted": {"cuda_graph_bytes": 0, "non_torch_bytes": GIB // 4},
    }
    (line,) = [x for x in lines({**status({}), "models": [model]}) if x.startswith("memory of")]
    assert line == (
        "memory of coder: CUDA graphs 0.25 GiB (planned outside of the budget), "
        "libraries 0.50 GiB (predicted 0.25 GiB)"
    )
