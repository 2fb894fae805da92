"""The command line and environment of an engine, against what vLLM's parser takes."""

from dataclasses import replace
from pathlib import Path

import pytest

from gpuserve.controller.policies import waiter_of
from gpuserve.launch import keepalive_s, served_names
from gpuserve.memory.engine import ModelFacts
from gpuserve.memory.fraction import charged_bytes
from gpuserve.plan import Launch
from gpuserve.planning import Executable, make_plan
from gpuserve.profile.spec import Demand, ModelSpec, Profile, RoutingSpec
from gpuserve.units import GIB
from tests.unit.memory.models import MISTRAL, QWEN_7B, awq, card, machine, model, profile

RUN_DIR = Path("/run/gpuserve")


def launched(
    spec: ModelSpec, *, routing: RoutingSpec | None = None, cpu: bool = False, here: bool = False
) -> Launch:
    other = model("other", memory_bytes=20 * GIB)
    given: Profile = profile(spec, other) if not cpu else profile(spec)
    given = replace(given, routing=routing or RoutingSpec())
    facts = {
        name: ModelFacts(architecture=awq(MISTRAL), here=here) for name in (spec.name, "other")
    }
    plan = make_plan(
        given,
        machine(card(), card(index=1)) if not cpu else machine(),
        device="cpu" if cpu else "cuda",
        facts=facts,
        executables={"vllm": Executable(path="/opt/bin/vllm", version="0.33.0")},
        run_dir=RUN_DIR,
    )
    return next(launch for launch in plan.launches if launch.name == spec.name)


def value(launch: Launch, flag: str) -> str:
    return launch.argv[launch.argv.index(flag) + 1]


def test_an_engine_without_a_port_listens_on_a_socket_in_the_run_directory() -> None:
    launch = launched(model("coder", memory_bytes=20 * GIB))
    assert launch.argv[:3] == ("/opt/bin/vllm", "serve", "org/coder")
    assert value(launch, "--uds") == "/run/gpuserve/engines/coder.sock" == launch.socket
    assert "--port" not in launch.argv
    assert launch.vllm_version == "0.33.0"


def test_an_engine_with_a_port_listens_on_loopback() -> None:
    launch = launched(model("coder", memory_bytes=20 * GIB, port=9001))
    assert (value(launch, "--host"), value(launch, "--port")) == ("127.0.0.1", "9001")
    assert launch.socket is None
    assert "--uds" not in launch.argv


def test_what_the_plan_rests_on_is_always_written() -> None:
    launch = launched(model("coder", demand=Demand(context_tokens=8192, concurrency=4)))
    assert value(launch, "--max-model-len") == "8192"
    assert value(launch, "--max-num-seqs") == "4"
    assert value(launch, "--max-num-batched-tokens") == "2048"
    fraction = float(value(launch, "--gpu-memory-utilization"))
    total = card().total_bytes
    assert launch.budget_bytes == pytest.approx(fraction * total, abs=1)
    assert launch.budget_bytes + launch.context_bytes == launch.reserved_bytes


def test_names_end_with_the_automatic_one_only_where_routing_leads() -> None:
    spec = model("coder", memory_bytes=20 * GIB, aliases=("deepseek",))
    routed = launched(spec, routing=RoutingSpec(code="deepseek", general="other", default="other"))
    at = routed.argv.index("--served-model-name")
    assert routed.argv[at + 1 : at + 4] == ("coder", "deepseek", "auto")
    assert served_names(routed.argv) == ("coder", "deepseek", "auto")
    assert served_names(("vllm", "serve", "m")) == ()
    assert keepalive_s(routed.env) == 75
    assert keepalive_s([("VLLM_HTTP_TIMEOUT_KEEP_ALIVE", "soon")]) is None
    alone = launched(spec)
    assert served_names(alone.argv) == ("coder", "deepseek")
    at = alone.argv.index("--served-model-name")
    assert alone.argv[at + 1 : at + 4] == ("coder", "deepseek", "--gpu-memory-utilization")


def test_every_setting_of_a_model_is_written_once_and_extra_arguments_come_last() -> None:
    spec = model(
        "coder",
        memory_bytes=20 * GIB,
        dtype="bfloat16",
        quantization="awq",
        kv_cache_dtype="fp8",
        block_size=32,
        enforce_eager=True,
        enable_prefix_caching=False,
        load_format="safetensors",
        cpu_offload_gb=1.5,
        trust_remote_code=True,
        revision="main",
        tokenizer="org/tokenizer",
        chat_template="/t.jinja",
        tool_call_parser="hermes",
        enable_auto_tool_choice=True,
        reasoning_parser="qwen3",
        extra_args=("--seed", "1"),
    )
    launch = launched(spec)
    for flag, expected in {
        "--dtype": "bfloat16",
        "--quantization": "awq",
        "--kv-cache-dtype": "fp8",
        "--block-size": "32",
        "--load-format": "safetensors",
        "--cpu-offload-gb": "1.5",
        "--revision": "main",
        "--tokenizer": "org/tokenizer",
        "--chat-template": "/t.jinja",
        "--tool-call-parser": "hermes",
        "--reasoning-parser": "qwen3",
    }.items():
        assert value(launch, flag) == expected
    switches = {
        "--enforce-eager",
        "--trust-remote-code",
        "--enable-auto-tool-choice",
        "--no-enable-prefix-caching",
    }
    assert switches <= set(launch.argv)
    assert launch.argv[-2:] == ("--seed", "1")
    flags = [word for word in launch.argv if word.startswith("--")]
    assert len(flags) == len(set(flags))
    assert launch.capabilities.tools is True


def test_tensor_parallel_engines_see_their_gpus_in_bus_order() -> None:
    launch = launched(model("coder", memory_bytes=20 * GIB, gpus=(0, 1), tensor_parallel_size=2))
    assert value(launch, "--tensor-parallel-size") == "2"
    env = dict(launch.env)
    assert env["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert launch.gate == ("gpu0", "gpu1")


def test_engines_see_only_gpus_that_are_left_to_us_by_their_place_in_the_machine() -> None:
    plan = make_plan(
        profile(model("m")),
        replace(machine(card(index=2)), hidden_gpus=(0, 1)),
        device="cuda",
        facts={"m": ModelFacts(architecture=QWEN_7B)},
        executables={},
        run_dir=RUN_DIR,
    )
    assert dict(plan.launches[0].env)["CUDA_VISIBLE_DEVICES"] == "2"


def test_the_gate_asks_of_each_card_its_own_share() -> None:
    """vLLM wants fraction x total of each card, and the cards may differ."""
    cards = (card(22.03), card(44.39, index=1))
    spec = model("m", gpus=(0, 1), tensor_parallel_size=2, gpu_memory_utilization=0.8)
    plan = make_plan(
        profile(spec),
        machine(*cards),
        device="cuda",
        facts={"m": ModelFacts(architecture=QWEN_7B)},
        executables={},
        run_dir=RUN_DIR,
    )
    (launch,) = plan.launches
    context = launch.context_bytes
    assert launch.gate_needs == tuple(charged_bytes(gpu, 0.8) + context for gpu in cards)
    assert launch.gate_needs[0] == launch.reserved_bytes
    waiter = waiter_of(launch)
    assert waiter.needs == tuple(zip(("gpu0", "gpu1"), launch.gate_needs, strict=True))


def test_the_gate_asks_for_a_fixed_cache_that_is_larger_than_its_fraction() -> None:
    spec = model("coder", kv_cache_memory_bytes=30 * GIB, gpu_memory_utilization=0.1)
    launch = launched(spec)
    assert launch.gate_needs == (launch.reserved_bytes,)
    assert launch.reserved_bytes > 30 * GIB


def test_a_fixed_cache_keeps_a_fraction_for_the_start_check() -> None:
    launch = launched(model("coder", kv_cache_memory_bytes=4 * GIB))
    assert value(launch, "--kv-cache-memory-bytes") == str(4 * GIB)
    assert 0 < float(value(launch, "--gpu-memory-utilization")) < 0.2
    assert launch.predicted is not None
    assert launch.predicted.kv_cache_bytes == 4 * GIB


def test_a_cpu_engine_gets_its_cache_by_environment_and_no_fraction() -> None:
    spec = model("coder", kv_cache_memory_bytes=3 * GIB // 2, max_model_len=1024)
    launch = launched(spec, cpu=True)
    assert dict(launch.env)["VLLM_CPU_KVCACHE_SPACE"] == "2"
    assert "CUDA_VISIBLE_DEVICES" not in dict(launch.env)
    assert "--gpu-memory-utilization" not in launch.argv
    assert "--kv-cache-memory-bytes" not in launch.argv
    assert launch.gate == ("cpu",)
    assert launch.gate_needs == (launch.reserved_bytes,)


def test_the_profile_s_environment_wins_over_the_defaults() -> None:
    spec = model("coder", memory_bytes=20 * GIB, env=(("NO_COLOR", "0"), ("MINE", "x")))
    env = dict(launched(spec).env)
    assert (env["NO_COLOR"], env["MINE"]) == ("0", "x")
    assert env["VLLM_NO_USAGE_STATS"] == "1"


def test_weights_that_are_not_here_are_named_and_the_hub_stays_reachable() -> None:
    absent = launched(model("coder", memory_bytes=20 * GIB, revision="v2"))
    assert (absent.weights, absent.revision) == ("org/coder", "v2")
    assert "HF_HUB_OFFLINE" not in dict(absent.env)
    present = launched(model("coder", memory_bytes=20 * GIB), here=True)
    assert present.weights is None
    assert dict(present.env)["HF_HUB_OFFLINE"] == "1"


def test_a_template_in_the_profile_makes_a_base_model_chat() -> None:
    base = replace(QWEN_7B, chat_template=False)
    facts = {"m": ModelFacts(architecture=base)}
    for template, expected in ((None, False), ("/t.jinja", True)):
        plan = make_plan(
            profile(model("m", chat_template=template)),
            machine(card()),
            device="cuda",
            facts=facts,
            executables={},
            run_dir=RUN_DIR,
        )
        assert plan.launches[0].capabilities.chat is expected
