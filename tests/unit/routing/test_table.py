import pickle
from dataclasses import fields, replace
from typing import Any

from gpuserve import jsonvalues
from gpuserve.plan import Capabilities, Launch
from gpuserve.profile.spec import (
    LimitsSpec,
    ModelSpec,
    Patience,
    Profile,
    RouteSpec,
    RoutingSpec,
    ServerSpec,
    UpstreamSpec,
)
from gpuserve.routing.explain import explain, supposed_table
from gpuserve.routing.listing import model_cards, readiness
from gpuserve.routing.table import EngineWord, RoutingTable, table_of

PROFILE = Profile(
    path="/p.toml",
    server=ServerSpec(),
    device="auto",
    models=(
        ModelSpec(index=0, name="coder", model="a/b", aliases=("deepseek",), max_model_len=512),
        ModelSpec(index=1, name="chat", model="c/d"),
    ),
    upstreams=(UpstreamSpec(index=0, name="tei", url="http://e:1", models=("bge", "rank")),),
    routing=RoutingSpec(code="coder", general="chat", default="chat"),
)


def launch(name: str, **given: Any) -> Launch:
    empty: dict[str, Any] = {field.name: None for field in fields(Launch) if field.name != "name"}
    empty |= {"argv": (), "env": (), "gpus": (), "gate": (), "aliases": (), "patience": Patience()}
    empty |= {"budget_bytes": 0, "context_bytes": 0, "reserved_bytes": 0, "gate_needs": ()}
    return Launch(name=name, **(empty | {"capabilities": Capabilities()} | given))


def made(**states: EngineWord) -> RoutingTable:
    return table_of(
        PROFILE,
        instance="box",
        generation=7,
        launches=(
            launch("coder", socket="/run/coder.sock", aliases=("deepseek",)),
            launch("chat", port=9001, capabilities=Capabilities(chat=True)),
        ),
        states=states,
    )


def test_a_table_carries_what_the_controller_says_about_each_engine() -> None:
    word = EngineWord(state="Starting", routable=False, reason="weights", retry_after_s=3.0)
    coder, chat, tei = made(coder=word).upstreams
    assert coder.names == ("coder", "deepseek")
    assert (coder.socket, coder.state, coder.routable) == ("/run/coder.sock", "Starting", False)
    assert (coder.reason, coder.retry_after_s) == ("weights", 3.0)
    assert (chat.url, chat.socket, chat.state) == ("http://127.0.0.1:9001", None, "Stopped")
    assert chat.capabilities.chat is True
    assert (tei.names, tei.url, tei.managed) == (("bge", "rank"), "http://e:1", False)
    assert (tei.state, tei.routable) == ("External", True)


def test_a_table_survives_its_file() -> None:
    table = made(coder=EngineWord(state="Ready", routable=True))
    assert jsonvalues.loads(RoutingTable, jsonvalues.dumps(table)) == table


def test_a_table_goes_to_another_process_after_it_was_used() -> None:
    rule = RouteSpec(index=0, name="r", model="chat", keywords=("x",))
    table = replace(made(), routing=replace(PROFILE.routing, rules=(rule,)))
    assert len(table.rules) == 1
    copy = pickle.loads(pickle.dumps(table))
    assert copy == table
    assert len(copy.rules) == 1


def test_a_worker_has_its_share_of_what_all_may_hold() -> None:
    profile = replace(
        PROFILE,
        server=ServerSpec(workers=3, allowed_origins=("https://a",)),
        limits=LimitsSpec(max_body_bytes=10, max_buffered_bytes=100, head_timeout_s=1),
    )
    table = table_of(profile, instance="b", generation=1, launches=(), states={})
    assert table.limits == replace(profile.limits, max_buffered_bytes=33)
    assert table.allowed_origins == ("https://a",)


def test_a_table_of_a_later_controller_is_newer_whatever_it_counts() -> None:
    old, new = made(), replace(made(), epoch=100.0, generation=1)
    assert old.version < replace(old, generation=8).version < new.version
    given = table_of(PROFILE, instance="b", generation=1, launches=(), states={}, epoch=100.0)
    assert given.version == new.version


def test_a_card_says_why_its_model_does_not_answer() -> None:
    word = EngineWord(state="Failed", routable=False, reason="out of memory")
    coder, *_, chat = model_cards(made(coder=word), created=5)[:3]
    assert (coder["state"], coder["reason"]) == ("Failed", "out of memory")
    assert "reason" not in chat


def test_cards_list_every_public_name_and_auto() -> None:
    cards = model_cards(made(), created=5)
    assert [c["id"] for c in cards] == ["coder", "deepseek", "chat", "bge", "rank", "auto"]
    assert cards[1]["root"] == "coder"
    assert cards[4]["owned_by"] == "tei"
    assert {c["created"] for c in cards} == {5}


def test_readiness_is_the_routes_and_not_every_model() -> None:
    ready = EngineWord(state="Ready", routable=True)
    assert readiness(made(coder=ready, chat=ready), frozenset())[0] == 200
    status, body = readiness(made(chat=ready), frozenset())
    assert (status, body["dark"]) == (503, {"code": "coder: Stopped"})


def test_a_decision_is_explained_by_the_models_of_the_profile() -> None:
    told = explain(
        {"messages": [{"role": "user", "content": "fix my regex"}]}, supposed_table(PROFILE)
    )
    assert (told["route"], told["model"], told["decided_by"]) == ("code", "coder", "classifier")
    assert 0.5 < told["score"] <= 1
    assert any(sign.startswith("regex") for sign in told["signs"])
    named = explain({"model": "deepseek", "prompt": "x"}, supposed_table(PROFILE))
    assert (named["route"], named["model"], named["score"]) == ("explicit", "coder", None)
    assert "error" in explain({"model": "nope"}, supposed_table(PROFILE))


def test_without_a_profile_the_routes_are_code_and_general() -> None:
    told = explain({"prompt": "a poem about love"}, supposed_table())
    assert (told["route"], told["model"]) == ("general", "general")
