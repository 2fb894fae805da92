"""Profiles that start and then disappoint are told so."""

from dataclasses import replace

from gpuserve.preconditions.serving import AGENT_TOKENS, serving_problems
from gpuserve.profile.spec import Demand, Profile, RoutingSpec, UpstreamSpec
from tests.unit.memory.models import model, profile

ROUTING = RoutingSpec(code="coder", general="general", default="general")
CODER = model("coder", tool_call_parser="hermes")


def routed(*models: object) -> Profile:
    return replace(profile(*models), routing=ROUTING)  # type: ignore[arg-type]


def places(given: Profile, tokens: int | None) -> list[str]:
    found = serving_problems(given, {"coder": tokens, "general": tokens})
    assert all(p.warning and p.hint for p in found)
    return [p.where for p in found]


def test_a_window_that_no_coding_agent_fits_into() -> None:
    given = routed(CODER, model("general"))
    assert places(given, AGENT_TOKENS - 1) == ["model[0].max_model_len"]
    assert places(given, AGENT_TOKENS) == []
    assert places(given, None) == []
    asked = replace(CODER, demand=Demand(context_tokens=16384, concurrency=8))
    assert places(routed(asked, model("general")), 16384) == ["model[0].demand.context_tokens"]
    assert places(profile(CODER), 2048) == []  # nobody routes


def test_a_profile_without_a_model_that_calls_tools() -> None:
    given = routed(model("coder"), model("general"))
    assert places(given, 65536) == ["model[0].tool_call_parser"]
    assert places(routed(model("coder"), replace(CODER, name="general")), 65536) == []
    elsewhere = UpstreamSpec(index=0, name="x", url="http://10.0.0.1", models=("big",))
    assert places(replace(given, upstreams=(elsewhere,)), 65536) == []
