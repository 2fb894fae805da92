"""What a new profile changes, and what it leaves alone, on cards that are not here."""

from dataclasses import replace
from pathlib import Path

import pytest

from gpuserve.memory.engine import ModelFacts
from gpuserve.plan import Plan
from gpuserve.plandiff import as_held, compare, with_engine_of, with_held_launches, with_held_memory
from gpuserve.planning import Executable, make_plan
from gpuserve.profile.spec import (
    Demand,
    ModelSpec,
    OnEventSpec,
    Patience,
    Profile,
    RoutingSpec,
    ServerSpec,
)
from gpuserve.readings import Machine
from gpuserve.units import GIB
from tests.unit.memory.models import MISTRAL, awq, card, machine, model, profile

BOX = machine(card(), card(index=1))
CODER = model("coder", memory_bytes=30 * GIB, gpus=(0,))
GENERAL = model("general", demand=Demand(context_tokens=8192, concurrency=4))


def planned(given: Profile, box: Machine = BOX, *, version: str = "0.33.0") -> Plan:
    facts = {spec.name: ModelFacts(architecture=awq(MISTRAL)) for spec in given.models}
    return make_plan(
        given,
        box,
        device="cuda",
        facts=facts,
        executables={"vllm": Executable(path="/opt/vllm", version=version)},
        run_dir=Path("/run/gpuserve"),
    )


def reloaded(running: Plan, given: Profile, box: Machine = BOX) -> Plan:
    seen = with_held_memory(box, given, running)
    return with_held_launches(planned(as_held(given, running), seen), given, running)


OLD = planned(profile(CODER, GENERAL))


def test_the_same_profile_changes_nothing_whatever_its_order() -> None:
    assert compare(OLD, OLD).nothing
    turned = compare(OLD, planned(profile(GENERAL, CODER)))
    assert turned.nothing
    assert set(turned.untouched) == {"coder", "general"}


def test_models_are_added_removed_and_changed() -> None:
    new = planned(profile(replace(CODER, max_num_seqs=7), model("helper", memory_bytes=20 * GIB)))
    diff = compare(OLD, new)
    assert (diff.added, diff.removed, diff.untouched) == (("helper",), ("general",), ())
    (change,) = diff.changed
    assert (change.name, change.what) == ("coder", ("max_num_seqs not stated -> 7",))


@pytest.mark.parametrize(
    "service",
    [
        {"routing": RoutingSpec(code="coder", general="general")},
        {"server": ServerSpec(allowed_origins=("*",))},
        {"on_event": (OnEventSpec(index=0, events=("failed",), url="https://h/SECRET"),)},
    ],
)
def test_what_is_not_the_engines_touches_none(service: dict[str, object]) -> None:
    new = planned(replace(profile(CODER, GENERAL), **service))  # type: ignore[arg-type]
    diff = compare(OLD, new)
    assert (diff.changed, diff.pending, diff.restart) == ((), (), ())
    assert [change.name for change in diff.service] == list(service)
    assert "SECRET" not in repr(diff)


def test_names_and_patience_touch_no_engine() -> None:
    spec = replace(CODER, aliases=("c",), patience=Patience(drain_timeout_s=5))
    diff = compare(OLD, planned(profile(spec, GENERAL)))
    assert (diff.changed, diff.pending) == ((), ())
    assert diff.service[0].what == ("aliases [] -> [c]", "drain_timeout_s 30 -> 5")


@pytest.mark.parametrize(
    "server", [ServerSpec(port=1), ServerSpec(host="a"), ServerSpec(workers=2)]
)
def test_the_socket_of_the_keeper_needs_a_full_restart(server: ServerSpec) -> None:
    diff = compare(OLD, planned(replace(profile(CODER, GENERAL), server=server)))
    assert len(diff.restart) == 1
    assert diff.restart[0].startswith("[server] ")


def test_another_vllm_at_the_same_place_waits_for_the_next_start() -> None:
    diff = compare(OLD, planned(profile(CODER, GENERAL), version="0.34.0"))
    assert (diff.changed, len(diff.pending)) == ((), 2)
    assert "vLLM 0.33.0 -> 0.34.0" in diff.pending[0].what


def test_secrets_of_the_environment_are_not_told() -> None:
    diff = compare(OLD, planned(profile(replace(CODER, env=(("TOKEN", "SECRET"),)), GENERAL)))
    assert diff.changed[0].what == ("env TOKEN",)


SHARING = (model("coder"), model("general"))


def test_engines_that_share_what_is_left_keep_their_share_while_readings_change() -> None:
    old = planned(profile(*SHARING))
    fuller = machine(card(free_gib=93.9), card(index=1, free_gib=93.1))
    new = reloaded(old, profile(*SHARING), fuller)
    assert new.report.verdict in ("fits", "tight", "risky")
    assert compare(old, new).nothing
    assert new.launches == old.launches
    assert not compare(old, planned(profile(*SHARING), fuller)).nothing, "by itself it would move"


def test_one_more_that_does_not_fit_beside_them_changes_their_share_and_says_so() -> None:
    one = machine(card())
    old = planned(profile(*SHARING), one)
    more: tuple[ModelSpec, ...] = (*SHARING, model("helper", memory_bytes=20 * GIB))
    assert reloaded(old, profile(*more), one).report.verdict not in ("fits", "tight", "risky")
    diff = compare(old, planned(profile(*more), one))
    assert [change.name for change in diff.changed] == ["coder", "general"]
    assert "its share of the memory" in diff.changed[0].what[0]


def test_one_more_beside_engines_with_stated_memory_moves_nobody() -> None:
    """Alone, placement might put `general` elsewhere for the sake of the third."""
    third = model("third", memory_bytes=60 * GIB)
    new = reloaded(OLD, profile(CODER, GENERAL, third))
    diff = compare(OLD, new)
    assert (diff.added, diff.changed) == (("third",), ())


def test_the_way_back_restores_one_engine_and_leaves_the_rest() -> None:
    new = planned(profile(replace(CODER, max_num_seqs=7), replace(GENERAL, max_num_seqs=9)))
    back = with_engine_of(new, OLD, "coder")
    diff = compare(OLD, back)
    assert [change.name for change in diff.changed] == ["general"]
    assert diff.untouched == ("coder",)
    assert {g.model for g in back.report.grants} == {"coder", "general"}
