"""What engines take of a box without GPUs: stated sizes hold, and ranks count."""

from dataclasses import replace

import pytest

from gpuserve.memory.engine import CPU_PROCESS_BYTES, ModelFacts, resolve
from gpuserve.memory.host import host_grants, least_host_bytes
from gpuserve.profile.spec import Demand
from gpuserve.readings import Host
from gpuserve.units import GIB
from tests.unit.memory.models import (
    MISTRAL,
    QWEN_7B,
    assessed,
    awq,
    footprint_of,
    grant_of,
    machine,
    model,
    profile,
)

TINY = replace(MISTRAL, layers=2, heads=4, kv_heads=2, head_dim=64, hidden=256, intermediate=512)


def test_a_stated_size_smaller_than_the_processes_is_refused_with_what_is_needed() -> None:
    spec = model("a", memory_bytes=GIB, max_model_len=1024)
    report = assessed(profile(spec), {"a": TINY}, machine(), cpu=True)
    assert report.verdict == "does_not_fit"
    (short,) = report.shortfalls
    assert short.available_bytes == GIB == grant_of(report, "a").reserved_bytes
    engine = resolve(spec, ModelFacts(architecture=TINY), cpu=True)
    assert short.needed_bytes == least_host_bytes(engine)
    assert CPU_PROCESS_BYTES + GIB < short.needed_bytes < CPU_PROCESS_BYTES + 2 * GIB
    (problem,) = report.problems
    assert "1.00 GiB is what it may take" in problem.message
    assert problem.hint is not None
    assert 'memory = "3.9 GiB"' in problem.hint


def test_the_size_that_a_shortfall_proposes_fits() -> None:
    spec = model("a", memory_bytes=int(3.9 * GIB) + 1, max_model_len=1024)
    report = assessed(profile(spec), {"a": TINY}, machine(), cpu=True)
    assert report.verdict == "fits"
    assert grant_of(report, "a").reserved_bytes <= 3.9 * GIB
    assert grant_of(report, "a").kv_cache_space_gib == 1


def test_a_stated_share_of_the_host_smaller_than_what_is_needed_is_refused() -> None:
    spec = model("a", gpu_memory_utilization=0.05, max_model_len=1024)
    report = assessed(profile(spec), {"a": TINY}, machine(ram_gib=20), cpu=True)
    assert report.verdict == "does_not_fit"
    assert report.shortfalls[0].available_bytes == GIB


def test_a_promise_is_counted_in_the_whole_gibs_that_it_takes() -> None:
    # 1.5 GiB of cache takes two: a size that holds the promise but not the rounding is short.
    spec = model("a", max_model_len=12288)
    engine = resolve(spec, ModelFacts(architecture=awq(MISTRAL)), cpu=True)
    assert GIB < engine.promise_bytes < 2 * GIB
    exact = engine.context + engine.least_bytes
    stated = replace(spec, memory_bytes=exact + GIB // 100)
    report = assessed(profile(stated), {"a": awq(MISTRAL)}, machine(), cpu=True)
    assert report.verdict == "does_not_fit"
    (short,) = report.shortfalls
    assert short.needed_bytes == engine.context + engine.fixed_bytes + 2 * GIB
    enough = replace(spec, memory_bytes=short.needed_bytes)
    report = assessed(profile(enough), {"a": awq(MISTRAL)}, machine(), cpu=True)
    assert report.shortfalls == ()
    assert grant_of(report, "a").reserved_bytes == short.needed_bytes


def test_a_cache_too_small_for_its_promise_says_what_it_takes() -> None:
    spec = model("a", kv_cache_memory_bytes=GIB, max_model_len=12288)
    report = assessed(profile(spec), {"a": awq(MISTRAL)}, machine(), cpu=True)
    assert report.verdict == "does_not_fit"
    (short,) = report.shortfalls
    assert short.short_bytes == GIB


def test_an_engine_that_states_nothing_waits_for_memory_that_others_hold() -> None:
    held = replace(machine(ram_gib=64).host, ram_available_bytes=5 * GIB)
    report = assessed(
        profile(model("a", max_model_len=12288)),
        {"a": awq(MISTRAL)},
        replace(machine(), host=held),
        cpu=True,
    )
    assert report.verdict == "not_now"
    (short,) = report.shortfalls
    assert short.now
    assert short.available_bytes == 5 * GIB
    assert footprint_of(report, "a").kv_cache_bytes >= 3 * GIB // 2


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_every_rank_may_outgrow_its_median(ranks: int) -> None:
    demand = Demand(context_tokens=1024, concurrency=1)
    spec = model("a", demand=demand, tensor_parallel_size=ranks)
    engine = resolve(spec, ModelFacts(architecture=QWEN_7B), cpu=True)
    needed = least_host_bytes(engine) + ranks * engine.margin_bytes
    for ram, verdict in ((needed - 1, "risky"), (needed, "fits")):
        host = Host(ram_total_bytes=ram, ram_available_bytes=ram, cpus=8)
        (grant,), short = host_grants([engine], host)
        assert short == ()
        assert grant.verdict == verdict
