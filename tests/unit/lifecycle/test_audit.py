"""One decision, as a line of JSON and as a sentence."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuserve.lifecycle import audit
from gpuserve.lifecycle.audit import NOTIFIABLE, TOLD_BY_DEFAULT, Entry, entered, entry_of, line_of
from gpuserve.lifecycle.backoff import jittered
from gpuserve.lifecycle.drift import drift
from gpuserve.lifecycle.states import STATES

ENTRY = Entry(
    at_unix_s=1767237164.5,
    event="stopping",
    model="coder",
    before="Ready",
    after="Stopping",
    why="requests run and nothing moves",
    cause="wedged",
    figures={"after_s": 12.25, "running": 3, "free_bytes": 3 << 29},
)
texts = st.none() | st.text(max_size=20)


def test_a_sentence_says_what_why_and_with_which_figures() -> None:
    assert ENTRY.sentence() == (
        "coder: Ready -> Stopping (after 12.2 s, running 3, free 1.50 GiB): "
        "requests run and nothing moves"
    )
    assert Entry(at_unix_s=0, event="router_replaced").sentence() == "router replaced"
    crashed = replace(ENTRY, event="crash_loop", after="Failed", figures={})
    assert crashed.what == "Ready -> Failed, crash loop"


@given(model=texts, before=texts, after=texts, why=texts, cause=texts, at_s=st.floats(0, 4e9))
def test_a_line_is_read_back_as_what_it_was(
    model: str | None, before: str | None, after: str | None, why: str, cause: str, at_s: float
) -> None:
    entry = Entry(
        at_unix_s=round(at_s, 3), event="e", model=model, before=before, after=after,
        why=why, cause=cause, figures={"n": 1},
    )  # fmt: skip
    line = line_of(entry, "2026-01-01T00:00:00.000Z")
    assert line.count(b"\n") == 1
    assert entry_of(line) == entry


@given(st.binary(max_size=60) | st.builds(json.dumps, st.dictionaries(st.text(), st.integers())))
def test_any_other_line_is_no_entry_and_no_fault(line: bytes | str) -> None:
    data = line if isinstance(line, bytes) else line.encode()
    assert entry_of(data) is None


def test_every_event_that_can_be_chosen_is_one_that_is_recorded() -> None:
    package = Path(audit.__file__).parents[1]
    texts = "".join(p.read_text() for p in (package / "controller").glob("*.py"))
    recorded = set(re.findall(r'"([a-z_]+)"', texts)) | {entered(s.__name__) for s in STATES}
    assert set(NOTIFIABLE) - recorded == set()
    assert set(TOLD_BY_DEFAULT) <= set(NOTIFIABLE)


def test_states_become_words() -> None:
    assert [entered(name) for name in ("Ready", "BackingOff")] == ["ready", "backing_off"]


@given(st.floats(0.01, 1e4), st.floats(0, 1))
def test_jitter_stays_within_a_fifth(delay_s: float, chance: float) -> None:
    assert 0.799 * delay_s <= jittered(delay_s, chance) <= 1.201 * delay_s


@pytest.mark.parametrize(
    ("predicted", "actual", "told"),
    [
        ({"kv_cache_tokens": 1000}, {"kv_cache_tokens": 900}, "900 KV tokens, 1,000 KV tokens"),
        ({"weights_bytes": 10 << 30}, {"weights_bytes": 12 << 30}, "weights 12.00 GiB"),
        ({"kv_cache_tokens": 1000}, {"kv_cache_tokens": 960}, None),
        ({"kv_cache_tokens": 1000}, {"kv_cache_tokens": 2000}, None),
        ({}, {"kv_cache_tokens": 1}, None),
        ({"kv_cache_tokens": 1000}, {}, None),
    ],
)
def test_only_what_harms_is_a_drift(
    predicted: dict[str, float], actual: dict[str, float], told: str | None
) -> None:
    why = drift(predicted, actual)
    assert (why is None) == (told is None)
    assert told is None or (why is not None and told in (why.text or ""))


def test_memory_of_others_that_came_free_while_it_measured_is_told() -> None:
    planned = {"kv_cache_tokens": 1000, "non_torch_bytes": 1 << 28, "margin_bytes": 1 << 30}
    why = drift(planned, {"kv_cache_tokens": 9000, "non_torch_bytes": -(11 << 30)})
    assert why is not None
    assert "11.25 GiB that others held came free while it measured" in (why.text or "")
    assert "until it is restarted" in (why.text or "")
    assert why.figures == {"freed_beside_bytes": (45 << 28)}
    # What is within the margin is no news, nor is an engine that was charged for nothing.
    assert drift(planned, {"non_torch_bytes": -(1 << 28)}) is None
    assert drift(planned, {"non_torch_bytes": 0}) is None
    assert drift({"margin_bytes": 1}, {"non_torch_bytes": -(11 << 30)}) is None


def test_a_cache_that_is_too_small_is_told_with_what_made_it_so() -> None:
    planned = {
        "kv_cache_tokens": 1000,
        "kv_cache_bytes": 10 << 30,
        "non_torch_bytes": 1 << 28,
        "margin_bytes": 1 << 30,
    }
    short = drift(planned, {"kv_cache_tokens": 800, "non_torch_bytes": 9 << 28})
    assert short is not None
    assert (short.text or "").startswith("800 KV tokens, 1,000 KV tokens planned (-20%); 2.00 GiB ")
    assert "others on the GPU took while it measured" in (short.text or "")
    usual = drift(planned, {"kv_cache_tokens": 800, "non_torch_bytes": 1 << 28})
    assert usual is not None
    assert "others" not in (usual.text or "")
    assert drift(planned, {"kv_cache_tokens": 1000, "non_torch_bytes": 9 << 28}) is None


def test_a_drift_within_the_margin_of_the_plan_is_none() -> None:
    planned = {
        "kv_cache_tokens": 1000,
        "kv_cache_bytes": 10 << 30,
        "weights_bytes": 4 << 30,
        "margin_bytes": 1 << 30,
    }
    assert drift(planned, {"kv_cache_tokens": 901, "weights_bytes": 5 << 30}) is None
    short = drift(planned, {"kv_cache_tokens": 899})
    assert short is not None
    assert "899 KV tokens, 1,000 KV tokens planned (-10%)" in (short.text or "")
    assert drift(planned, {"weights_bytes": (5 << 30) + 1}) is not None
    short = drift(planned | {"first_start_bytes": 3 << 28}, {"kv_cache_tokens": 899})
    assert short is not None
    assert (short.text or "").endswith("(-10%); a start without a compile cache has 0.75 GiB less")
