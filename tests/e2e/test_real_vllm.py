"""The main job on real vLLM, in order: ask, break, stop. conftest.py says why in this order."""

import http.client
import json
import re
import select
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from scripts.leftovers import Traces, is_alive, named
from tests.e2e.conftest import write_tiny_models
from tests.e2e.instance import READY_S, Instance, until

# Not shorter: with vLLM 0.32 on a processor with AMX, a first request of fewer than about eight
# tokens ends the worker with SIGILL.
CODE = "Fix this:\n```python\ndef add(a, b):\n    retrun a + b\n```"
PROSE = "What should I see on a weekend in Lisbon?"
BLOCK_TOKENS = 128  # vLLM's default block size on CPU (vllm/platforms/cpu.py)


def user(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


@pytest.fixture
def client(instance: Instance) -> Iterator[openai.OpenAI]:
    url = f"{instance.url}/v1"
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=60) as client:
        yield client


def test_tiny_models_are_the_same_bytes_each_time(
    vllm_python: Path, tiny_models: Path, tmp_path: Path
) -> None:
    write_tiny_models(vllm_python, tmp_path)
    first = {p.relative_to(tiny_models): p.read_bytes() for p in tiny_models.rglob("*.*")}
    again = {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.rglob("*.*")}
    assert first == again
    assert Path("coder/model.safetensors") in first
    assert first[Path("coder/model.safetensors")] != first[Path("general/model.safetensors")]


def test_check_says_that_two_tiny_models_fit_this_box(place: Instance) -> None:
    shown = json.loads(place.must("check", str(place.profile), "--json"))
    assert shown["verdict"] == "fits", shown
    assert shown["gpus"] == []
    assert [model["name"] for model in shown["models"]] == ["coder", "general"]
    for model in shown["models"]:
        assert model["argv"][1] == "serve"
        assert model["predicted"]["weights_bytes"] > 0


def test_status_says_that_both_models_are_ready(instance: Instance) -> None:
    status = instance.status()
    assert status["router"]["url"] == instance.url
    for model in status["models"]:
        assert model["state"] == "Ready"
        assert model["ready"] is True
        assert model["restarts"] == 0
        assert model["port"] is None
        assert psutil.pid_exists(model["pid"])


def test_a_second_up_in_the_same_run_directory_says_who_runs(instance: Instance) -> None:
    second = instance.gpuserve("up", str(instance.profile), "--detach")
    assert second.returncode != 0
    assert "Traceback" not in second.stderr
    assert instance.gpuserve("status").returncode == 0


def test_a_chat_answer_comes_from_the_model_that_was_named(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="code-alias", messages=user(PROSE), max_tokens=8
    )
    assert raw.headers["x-gpuserve-model"] == "coder"
    assert raw.headers["x-gpuserve-route"] == "explicit"
    answer = raw.parse()
    assert answer.usage is not None
    assert 0 < answer.usage.completion_tokens <= 8


def test_a_streamed_answer_is_the_same_text_in_many_chunks(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(
        model="general", messages=user(PROSE), max_tokens=16, temperature=0
    )
    stream = client.chat.completions.create(
        model="general", messages=user(PROSE), max_tokens=16, temperature=0, stream=True
    )
    pieces = [
        c.choices[0].delta.content for c in stream if c.choices and c.choices[0].delta.content
    ]
    assert len(pieces) > 1
    assert "".join(pieces) == whole.choices[0].message.content


@pytest.mark.parametrize(
    ("prompt", "model", "route"), [(CODE, "coder", "code"), (PROSE, "general", "general")]
)
@pytest.mark.parametrize("stream", [False, True])
def test_auto_goes_where_the_prompt_belongs_and_says_why(
    client: openai.OpenAI, prompt: str, model: str, route: str, stream: bool
) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="auto", messages=user(prompt), max_tokens=4, stream=stream
    )
    assert raw.headers["x-gpuserve-model"] == model
    assert raw.headers["x-gpuserve-route"] == route
    assert raw.headers["x-gpuserve-reason"]
    assert raw.headers["x-request-id"]
    answer = raw.parse()
    if isinstance(answer, openai.Stream):
        assert len(list(answer)) > 1
    else:
        assert answer.model == model


def test_completions_answer(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="coder", prompt="def add(", max_tokens=4)
    assert answer.choices[0].finish_reason in ("length", "stop")


def test_responses_answer(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="general", input=PROSE, max_output_tokens=16)
    assert answer.status in ("completed", "incomplete")


def test_messages_answer_in_their_own_shape(instance: Instance) -> None:
    body = {"model": "general", "max_tokens": 4, "messages": user(PROSE)}
    answer = instance.post("/v1/messages", body)
    assert answer.status == 200, answer.body
    assert answer.json()["type"] == "message"
    assert answer.headers["x-gpuserve-model"] == "general"


def test_tokenize_counts_with_the_named_models_tokenizer(instance: Instance) -> None:
    counts = {
        name: instance.post("/tokenize", {"model": name, "prompt": "return return"}).json()["count"]
        for name in ("coder", "general")
    }
    assert 0 < counts["coder"] < counts["general"]  # only coder's tokenizer has seen "return"


def test_models_lists_names_aliases_and_auto(client: openai.OpenAI) -> None:
    assert {"coder", "code-alias", "general", "auto"} <= {m.id for m in client.models.list()}


def test_an_unknown_model_is_refused_with_the_known_ones(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="coder") as caught:
        client.chat.completions.create(model="codr", messages=user(PROSE))
    assert caught.value.type


def test_json_that_is_none_is_refused_in_the_apis_shape(instance: Instance) -> None:
    answer = instance.request("POST", "/v1/chat/completions", b'{"model": "coder", ')
    assert answer.status == 400
    assert answer.json()["error"]["message"]


def test_a_prompt_beyond_the_context_is_refused_and_not_cut(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="general", messages=user("river " * 2000))


def test_healthz_and_readyz_agree_that_all_is_well(instance: Instance) -> None:
    assert instance.get("/healthz").status == 200
    assert instance.get("/readyz").status == 200


def test_the_predicted_cache_is_what_vllm_allocated(instance: Instance) -> None:
    predicted = json.loads(instance.must("check", str(instance.profile), "--json"))["models"]
    for model in predicted:
        log = instance.must("logs", model["name"], "-n", "10000")
        said = re.search(r"CPU KV cache size: ([\d,]+) tokens", log)
        assert said is not None, log[-2000:]
        tokens = int(said[1].replace(",", ""))
        assert abs(model["predicted"]["kv_cache_tokens"] - tokens) <= BLOCK_TOKENS


ASKED_BY_ROUTING: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": CODE}], "max_tokens": 4}),
    ("/v1/completions", {"prompt": CODE, "max_tokens": 4}),
    ("/v1/responses", {"input": CODE, "max_output_tokens": 4}),
    ("/v1/messages", {"messages": [{"role": "user", "content": CODE}], "max_tokens": 4}),
]


@pytest.mark.parametrize(("path", "body"), ASKED_BY_ROUTING)
@pytest.mark.parametrize("asked", ["code-alias", "auto"])
def test_an_engine_answers_to_every_name_and_signs_with_its_own(
    instance: Instance, path: str, body: dict[str, Any], asked: str
) -> None:
    # What the router relies on when it passes bodies on as they came.
    answer = instance.ask_engine("coder", "POST", path, {"model": asked, **body})
    assert answer.status == 200, answer.body
    assert answer.json()["model"] == "coder"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_an_engine_signs_each_chunk_of_a_stream_with_its_own_name(
    instance: Instance, path: str
) -> None:
    body = {"model": "auto", "stream": True, **dict(ASKED_BY_ROUTING)[path]}
    answer = instance.ask_engine("coder", "POST", path, body)
    events = [line[6:] for line in answer.body.splitlines() if line.startswith(b"data: {")]
    assert {json.loads(event)["model"] for event in events} == {"coder"}


def test_an_engine_lists_every_name_and_the_router_knows_them(instance: Instance) -> None:
    listed = instance.ask_engine("coder", "GET", "/v1/models").json()["data"]
    assert [card["id"] for card in listed] == ["coder", "code-alias", "auto"]
    table = json.loads((instance.run_dir / "routing.json").read_bytes())
    served = {u["name"]: u["served_names"] for u in table["upstreams"]}
    assert served == {"coder": ["coder", "code-alias", "auto"], "general": ["general", "auto"]}


@pytest.mark.parametrize("stream", [True, False])
def test_an_engine_stops_working_for_a_client_that_left(instance: Instance, stream: bool) -> None:
    # Many answers at once: the engine is at it for a while, however idle the box is and however
    # late it answers what it is asked meanwhile.
    answers, tokens = 64, 1000
    body = {"model": "coder", "prompt": "on and on and on", "stream": stream, "n": answers}
    body |= {"max_tokens": tokens, "ignore_eos": True}
    asking = http.client.HTTPConnection("127.0.0.1", instance.port, timeout=60)
    with closing(asking):
        kind = {"content-type": "application/json"}
        asking.request("POST", "/v1/completions", json.dumps(body), kind)
        if stream:
            assert asking.getresponse().read(10)

        def runs() -> bool:
            early = not stream and select.select([asking.sock], [], [], 0)[0]
            assert not early, asking.getresponse().read()
            return instance.running("coder") > 0

        until(runs, "the engine runs the request")
        before = instance.generated("coder")
    until(lambda: instance.running("coder") == 0, "the engine has dropped the request")
    assert instance.generated("coder") - before < answers * tokens * 7 // 8


def long_stream(client: openai.OpenAI, model: str) -> openai.Stream[ChatCompletionChunk]:
    """Begin an answer that takes some seconds, and read its first chunk."""
    stream = client.chat.completions.create(
        model=model,
        messages=user(PROSE),
        max_tokens=400,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"ignore_eos": True},
    )
    next(stream)
    return stream


def test_a_killed_controller_leaves_engines_and_a_stream_alone(
    instance: Instance, client: openai.OpenAI
) -> None:
    before = {m["name"]: (m["pid"], m["starts"]) for m in instance.status()["models"]}
    (controller,) = (p for p in named(instance.run_dir) if "gpuserve.controller" in p.cmdline())
    stream = long_stream(client, "general")
    controller.kill()
    chunks = list(stream)
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 400
    until(lambda: instance.gpuserve("status").returncode == 0, "the next one has adopted both")
    assert {m["name"]: (m["pid"], m["starts"]) for m in instance.status()["models"]} == before


def test_a_drain_lets_the_stream_finish_and_refuses_what_is_new(
    instance: Instance, client: openai.OpenAI
) -> None:
    before = instance.model("general")["pid"]
    stream = long_stream(client, "general")
    instance.must("drain", "general", "--no-wait")
    refused = instance.post("/v1/completions", {"model": "general", "prompt": PROSE})
    assert refused.status == 503
    assert refused.headers["retry-after"]
    chunks = list(stream)
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 400
    instance.must("start", "general")
    assert instance.model("general")["pid"] == before
    answer = instance.post("/v1/completions", {"model": "general", "prompt": PROSE})
    assert answer.status == 200


@pytest.mark.parametrize(
    "victim", ["engine_core", "api_server", "shim", pytest.param("worker", marks=pytest.mark.slow)]
)
def test_a_killed_engine_comes_back_while_the_other_serves(instance: Instance, victim: str) -> None:
    before = instance.model("coder")
    processes = instance.processes_of("coder")
    neighbour = instance.model("general")["pid"]
    with instance.traffic("general") as answers:
        process: psutil.Process = getattr(instance, victim)("coder")
        process.send_signal(signal.SIGKILL)
        until(
            lambda: instance.model("coder")["restarts"] > before["restarts"],
            "the controller starts the engine again",
        )
        instance.wait_ready()
    assert set(answers) == {"200"}
    after = instance.model("coder")
    assert after["pid"] != before["pid"]
    assert instance.model("general")["pid"] == neighbour
    assert [p for p in processes if is_alive(p)] == []
    answer = instance.post("/v1/completions", {"model": "coder", "prompt": CODE, "max_tokens": 2})
    assert answer.status == 200, answer.body


def test_restart_replaces_one_engine_and_waits_for_it(instance: Instance) -> None:
    before = {model["name"]: model["pid"] for model in instance.status()["models"]}
    instance.must("restart", "general", timeout_s=400)
    after = {model["name"]: model for model in instance.status()["models"]}
    assert after["general"]["state"] == "Ready"
    assert after["general"]["pid"] != before["general"]
    assert after["coder"]["pid"] == before["coder"]


def test_reload_of_routing_and_aliases_touches_no_engine(instance: Instance) -> None:
    before = {m["name"]: m["pid"] for m in instance.status()["models"]}
    with profile_of(instance) as profile:
        text = profile.read_text()
        text = text.replace("code-alias", "alias-of-today")
        profile.write_text(text.replace('default = "general"', 'default = "coder"'))
        diff = json.loads(instance.must("reload", "--json"))["diff"]
        assert (diff["changed"], diff["pending"]) == ([], [])
        body = {"model": "alias-of-today", "messages": user(CODE), "max_tokens": 2}
        answer = instance.post("/v1/chat/completions", body)
        assert answer.status == 200, answer.body
        assert answer.json()["model"] == "coder"
    instance.must("reload")
    assert {m["name"]: m["pid"] for m in instance.status()["models"]} == before


def test_reload_of_one_models_flag_replaces_that_engine_alone(instance: Instance) -> None:
    before = {m["name"]: m["pid"] for m in instance.status()["models"]}
    with profile_of(instance) as profile:
        first, second = profile.read_text().split('name = "general"')
        assert "max_num_seqs = 8" in first
        changed = first.replace("max_num_seqs = 8", "max_num_seqs = 6")
        profile.write_text(changed + 'name = "general"' + second)
        with instance.traffic("general") as answers:
            instance.must("reload", timeout_s=READY_S)
        after = {m["name"]: m["pid"] for m in instance.status()["models"]}
        assert after["general"] == before["general"]
        assert after["coder"] not in (None, before["coder"])
        assert set(answers) == {"200"}, answers
        assert "--max-num-seqs 6" in " ".join(psutil.Process(after["coder"]).cmdline())
    shown = instance.must("events", "coder", "-n", "20")
    assert "the profile has other settings for it" in shown


@contextmanager
def profile_of(instance: Instance) -> Iterator[Path]:
    """The instance's profile, to be changed; afterwards it is as it was."""
    text = instance.profile.read_text()
    try:
        yield instance.profile
    finally:
        instance.profile.write_text(text)


def test_a_stopped_model_refuses_with_when_to_come_back(instance: Instance) -> None:
    instance.must("stop", "coder")
    assert instance.model("coder")["state"] == "Stopped"
    answer = instance.post("/v1/completions", {"model": "coder", "prompt": CODE})
    assert answer.status == 503
    assert answer.headers["retry-after"]
    assert "coder" in answer.json()["error"]["message"]


def test_down_leaves_no_process_no_socket_and_no_lock(instance: Instance) -> None:
    traces = Traces.of(instance.run_dir)
    assert len(traces.processes) >= 5  # keeper, controller, router, shim, vLLM
    instance.must("down")
    assert traces.left(port=instance.port) == []
    assert instance.gpuserve("status").returncode == 3
