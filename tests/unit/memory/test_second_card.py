"""What `check` had said before, and what it says now, against starts on one H200 (vLLM 0.26)."""

import pytest

from gpuserve.machine.checkpoint import catalogue_facts
from gpuserve.memory.architecture import read_architecture
from gpuserve.units import GIB, MIB
from scripts.accuracy.secondcard import SPOILED, Start, measured, starts

SOUND = [start for start in starts() if start.measured["after"] != SPOILED]
TERMS = {
    "weights_gib": 0.04,
    "activation_peak_gib": 0.09,
    "non_torch_gib": 0.04,
    "cudagraph_gib": 0.04,
    "available_kv_gib": 0.12,
}


@pytest.mark.parametrize("start", SOUND, ids=lambda s: s.name)
def test_every_term_is_what_vllm_printed(start: Start) -> None:
    for key, allowed in TERMS.items():
        assert start.now[key] == pytest.approx(start.measured[key], abs=allowed), key
    assert start.now["kv_cache_tokens"] == pytest.approx(
        start.measured["kv_cache_tokens"], rel=0.033
    )


@pytest.mark.parametrize("start", SOUND, ids=lambda s: s.name)
def test_what_was_said_before_the_first_start_was_inside_its_margin(start: Start) -> None:
    said, row = start.measured["said_before"], start.measured
    assert abs(said["available_kv_gib"] - row["available_kv_gib"]) < said["margin_gib"] / 4
    assert row["held_under_load_mib"] * MIB / GIB < said["charged_gib"] + said["margin_gib"]
    # Nothing of the catalogue or of a fit went into it that is not in the record.
    assert said["kv_cache_tokens"] == pytest.approx(start.now["kv_cache_tokens"], rel=0.02)


@pytest.mark.parametrize("start", SOUND, ids=lambda s: s.name)
def test_no_engine_holds_more_under_load_than_its_plan_and_its_margin(start: Start) -> None:
    now, margin_gib = start.now["charged_gib"], start.engine.margin_bytes / GIB
    assert start.measured["held_mib"] * MIB / GIB < now + 0.12
    assert start.measured["held_under_load_mib"] * MIB / GIB < now + margin_gib


def test_a_spoiled_start_holds_what_came_free_beside_it() -> None:
    found = measured()["spoiled"]
    (start,) = (s for s in starts() if s.measured["after"] == SPOILED)
    row = start.measured
    assert start.now["weights_gib"] == pytest.approx(row["weights_gib"], abs=0.01)
    assert start.now["activation_peak_gib"] == pytest.approx(row["activation_peak_gib"], abs=0.05)
    moved_gib = (found["freed_beside_bytes"] - found["grown_beside_bytes"]) / GIB
    assert row["non_torch_gib"] == pytest.approx(0.22 - moved_gib, abs=0.01)
    more_gib = row["available_kv_gib"] - start.now["available_kv_gib"]
    assert more_gib == pytest.approx(moved_gib, abs=0.25)


def test_the_total_of_the_card_is_nvmls_less_what_is_reserved() -> None:
    card = measured()["card"]
    assert card["nvml_total_bytes"] - card["nvml_reserved_bytes"] == card["cuda_total_bytes"]


def test_gemma_3_by_name_has_the_rotary_tables_of_its_config() -> None:
    found = catalogue_facts("google/gemma-3-4b", None).architecture
    assert found is not None
    (window,) = (s for s in starts() if s.name == "window")
    recorded = read_architecture(measured()["configs"][window.measured["config"]])
    assert found.rotary_len == recorded.rotary_len == 9 * 131_072
    assert found.derived_len == recorded.derived_len == 131_072
