"""Recorded on one H200 with vLLM 0.26.0: a start beside which memory came free, and sound ones."""

from pathlib import Path

import pytest

from gpuserve.controller.status import actual
from gpuserve.lifecycle.drift import drift
from gpuserve.lifecycle.logline import allocation_of
from gpuserve.units import GIB
from scripts.accuracy.secondcard import SPOILED, Start, starts

LOGS = Path(__file__).parents[2] / "data" / "h200"
BYTES = {
    "weights_bytes": "weights_gib",
    "activation_bytes": "activation_peak_gib",
    "non_torch_bytes": "non_torch_gib",
    "kv_cache_bytes": "available_kv_gib",
}


def allocated(name: str) -> dict[str, float]:
    """Return what the log says of the last start in it."""
    found: dict[str, float] = {}
    for line in (LOGS / f"{name}.log").read_text(encoding="utf-8").splitlines():
        found |= allocation_of(line)
    return found


def planned(start: Start) -> dict[str, float]:
    engine = start.engine
    footprint = engine.footprint(start.budget_bytes - engine.fixed_bytes)
    assert footprint is not None
    return {
        "weights_bytes": footprint.weights_bytes,
        "non_torch_bytes": footprint.non_torch_bytes,
        "kv_cache_bytes": footprint.kv_cache_bytes,
        "kv_cache_tokens": footprint.kv_cache_tokens,
        "margin_bytes": footprint.margin_bytes,
    }


@pytest.mark.parametrize("start", starts(), ids=lambda s: s.name)
def test_every_term_that_vllm_measured_is_read(start: Start) -> None:
    found = actual(allocated(start.name), {})
    for key, name in BYTES.items():
        assert found[key] == pytest.approx(start.measured[name] * GIB, abs=1), key
    assert found["kv_cache_tokens"] == start.measured["kv_cache_tokens"]


@pytest.mark.parametrize("start", starts(), ids=lambda s: s.name)
def test_a_start_beside_which_memory_came_free_is_told_of_and_no_other(start: Start) -> None:
    why = drift(planned(start), actual(allocated(start.name), {}))
    if start.measured["after"] == SPOILED:
        assert why is not None
        assert "11.40 GiB that others held came free" in (why.text or "")
    else:
        assert why is None


def test_newer_releases_say_it_in_one_term_with_the_weights() -> None:
    # The wording of 0.32 (v1/worker/gpu_worker.py), the figures of the start above.
    found = allocation_of("Model loading took 12.89 GiB memory and 0.219266 seconds")
    found |= allocation_of(
        "Free memory on device (69.91/139.8 GiB) on startup. Desired GPU memory utilization is "
        "(0.118, 16.5 GiB). Actual usage is -1.26 GiB for consumed memory (weights + non-torch), "
        "0.63 GiB for peak activation, and 0.17 GiB for CUDAGraph memory. Replace"
    )
    assert actual(found, {})["non_torch_bytes"] == pytest.approx(-14.15 * GIB, abs=1)
