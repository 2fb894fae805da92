"""A profile's file becomes a Profile, or every reason why not with its place."""

from pathlib import Path

import pytest

from gpuserve.errors import ExitStatus, Problem, ProfileError
from gpuserve.profile.load import load, load_text, read
from gpuserve.profile.spec import Demand, LimitsSpec, Patience, RoutingSpec, ServerSpec
from gpuserve.profile.tomlfile import LARGEST_BYTES
from gpuserve.units import GIB, MIB

MODEL = '[[model]]\nname = "coder"\nmodel = "org/coder"\n'


def problems_of(text: str) -> tuple[Problem, ...]:
    with pytest.raises(ProfileError) as caught:
        load_text(text, path="/etc/gpuserve/p.toml")
    return caught.value.problems


def only_problem(text: str) -> Problem:
    (problem,) = problems_of(text)
    return problem


def test_the_smallest_profile_gets_every_default() -> None:
    profile = load_text(MODEL, path="/etc/gpuserve/p.toml")
    (model,) = profile.models
    assert profile.path == "/etc/gpuserve/p.toml"
    assert profile.server == ServerSpec()
    assert profile.device == "auto"
    assert profile.routing == RoutingSpec()
    assert (model.name, model.model, model.vllm) == ("coder", "org/coder", "vllm")
    assert model.patience == Patience()
    assert model.memory_bytes is None


def test_the_profile_of_the_contract_is_read_whole() -> None:
    profile = load_text(
        """
[server]
host = "127.0.0.1"
port = 8001
workers = 2
[engine]
device = "cuda"
start_timeout_s = 600
extra_args = ["--seed", "1"]
env = { A = "engine", B = "engine" }
[[model]]
name = "coder"
aliases = ["deepseek-coder", "TheBloke/deepseek-coder-33B-instruct-AWQ"]
model = "TheBloke/deepseek-coder-33B-instruct-AWQ"
gpus = [0]
port = 9001
max_model_len = 16384
memory = "50 GiB"
stop_timeout_s = 5
extra_args = ["--no-enable-log-requests"]
env = { B = "model" }
[[model]]
name = "general"
model = "TheBloke/Mistral-7B-Instruct-v0.2-AWQ"
demand = { context_tokens = 8192, concurrency = 8 }
[[upstream]]
name = "embeddings"
url = "http://127.0.0.1:8088/"
models = ["bge-m3"]
gpus = [0]
reserve = "3 GiB"
[routing]
code = "coder"
general = "general"
default = "bge-m3"
""",
        path="p.toml",
    )
    coder, general = profile.models
    assert profile.server == ServerSpec(host="127.0.0.1", port=8001, workers=2)
    assert coder.memory_bytes == 50 * GIB
    assert coder.extra_args == ("--seed", "1", "--no-enable-log-requests")
    assert dict(coder.env) == {"A": "engine", "B": "model"}
    assert coder.patience == Patience(start_timeout_s=600, stop_timeout_s=5)
    assert general.demand == Demand(context_tokens=8192, concurrency=8)
    assert (general.max_num_seqs, general.max_model_len) == (8, 8192)
    assert profile.upstreams[0].url == "http://127.0.0.1:8088"
    assert profile.upstreams[0].reserve_bytes == 3 * GIB
    assert profile.routing.default == "bge-m3"
    assert Path(profile.path).is_absolute()


def test_limits_are_sizes_and_follow_each_other() -> None:
    text = MODEL + '[limits]\nmax_body_bytes = "64 MiB"\nhead_timeout_s = 5\n'
    text += '[server]\nworkers = 5\nallowed_origins = ["https://chat.example.com", "*"]'
    profile = load_text(text, path="/p.toml")
    assert profile.limits == LimitsSpec(
        max_body_bytes=64 * MIB, max_buffered_bytes=320 * MIB, head_timeout_s=5
    )
    assert profile.server.allowed_origins == ("https://chat.example.com", "*")


def test_a_route_for_the_unsure_falls_back_to_general() -> None:
    profile = load_text(MODEL + '[routing]\ncode = "coder"\ngeneral = "coder"', path="/etc/p.toml")
    assert profile.routing.default == "coder"


def test_a_demand_is_nearer_than_the_default_for_all_models() -> None:
    text = "[engine]\nmax_num_seqs = 4\n" + MODEL
    text += "demand = { context_tokens = 100, concurrency = 8 }\n"
    assert load_text(text, path="/p.toml").models[0].max_num_seqs == 8


def test_every_problem_is_reported_at_once_with_its_line() -> None:
    problems = problems_of(
        '[server]\nport = 0\n[[model]]\nname = "a"\nmodel = "o/a"\nmax_model_len = "16k"\n'
        '[[model]]\nname = "a"\nmodel = "o/b"\n[routing]\ncode = "b"\ngeneral = "a"\n'
    )
    assert [(problem.where, problem.line) for problem in problems] == [
        ("server.port", 2),
        ("model[0].max_model_len", 6),
        ("model[1].name", 8),
        ("routing.code", 11),
    ]
    assert all(problem.file == "/etc/gpuserve/p.toml" for problem in problems)


@pytest.mark.parametrize(
    ("line", "where", "said", "hint"),
    [
        ('max_model_len = "16k"', "max_model_len", "whole number", "max_model_len = 16000"),
        ('max_model_len = "16K"', "max_model_len", 'found "16K"', "max_model_len = 16384"),
        ("max_model_len = -1", "max_model_len", "expected at least", None),
        ("max-model-len = 1", "max-model-len", "unknown key", "write `max_model_len`"),
        ("max_modell_len = 1", "max_modell_len", "unknown key", "`max_model_len`"),
        ("devices = 1", "devices", "unknown key", "extra_args"),
        ('device = "cpu"', "device", "unknown key", "belongs in [engine]"),
        ('host = "x"', "host", "unknown key", "belongs in [server]"),
        ("replicas = 2", "replicas", "reserved for a later version", None),
        ('memory = "50 GB"', "memory", "ambiguous", None),
        ("memory = 50", "memory", "needs a unit", None),
        ('memory = "50"', "memory", "needs a unit", None),
        ('memory = "0 GiB"', "memory", "larger than zero", None),
        ('kv_cache_memory_bytes = "4"', "kv_cache_memory_bytes", "needs a unit", None),
        ("kv_cache_memory_bytes = 0", "kv_cache_memory_bytes", "more than 0", None),
        ("gpu_memory_utilization = 1.5", "gpu_memory_utilization", "at most 1", None),
        ("gpu_memory_utilization = 0", "gpu_memory_utilization", "more than 0", None),
        ("gpu_memory_utilization = nan", "gpu_memory_utilization", "finite", None),
        ("start_timeout_s = 0", "start_timeout_s", "more than 0", None),
        ("start_timeout_s = inf", "start_timeout_s", "finite", None),
        ("gpus = 0", "gpus", "an array", "write [0]"),
        ("gpus = []", "gpus", "at least one item", None),
        ("gpus = [-1]", "gpus[0]", "at least 0", None),
        ("gpus = [0, 0]", "gpus", "each GPU once", None),
        ("enforce_eager = 1", "enforce_eager", "true or false, found 1", None),
        ('enforce_eager = "true"', "enforce_eager", "true or false", "without quotes"),
        ("port = 70000", "port", "at most 65535, found 70000", None),
        ("port = 8000", "port", "already taken by server.port", "Unix socket"),
        ('dtype = "fp16"', "dtype", '"float16"', None),
        ("dtype = 1979-05-27", "dtype", "found a date", None),
        ('env = { "A B" = "1" }', "env", "environment variable", None),
        ("env = { A = 1 }", "env.A", "a string, found 1", None),
        ('env = { CUDA_VISIBLE_DEVICES = "1" }', "env.CUDA_VISIBLE_DEVICES", "set by", "gpus"),
        ('extra_args = ["--max_model_len=3"]', "extra_args[0]", "--max-model-len", "write `max"),
        ('extra_args = ["-x", "--port", "3"]', "extra_args[1]", "--port", "write `port`"),
        ("tensor_parallel_size = 2\ngpus = [0]", "tensor_parallel_size", "needs 2 GPUs", None),
        ("gpus = [0, 1]", "gpus", "needs 1 GPU, found 2", "tensor_parallel_size = 2"),
        ('aliases = ["auto"]', "aliases[0]", "asks for routing", None),
        ('aliases = ["b", "b"]', "aliases[1]", "stands twice", None),
        ('aliases = ["coder"]', "aliases[0]", "stands twice", None),
        ('aliases = ["a b"]', "aliases[0]", "letters", "HTTP headers"),
        ("demand = { concurrency = 1 }", "demand.context_tokens", "is missing", None),
        ("[model.lora]", "lora", "reserved", None),
    ],
)
def test_a_wrong_line_of_a_model_is_named(
    line: str, where: str, said: str, hint: str | None
) -> None:
    problem = only_problem(MODEL + line)
    assert problem.where == f"model[0].{where}"
    assert said in problem.message
    assert problem.line is not None
    assert problem.line >= 4 or where == "demand.context_tokens"
    if hint is not None:
        assert hint in (problem.hint or "")


@pytest.mark.parametrize(
    ("name", "fine"),
    [
        ("coder", True),
        ("Qwen2.5-7B_awq", True),
        ("x" * 64, True),
        ("x" * 65, False),
        ("org/model", False),
        ("..", False),
        ("-x", False),
        ("a b", False),
        ("", False),
        ("a:b", False),
        ("ä", False),
        ("auto", False),
        ("a\\n", False),
    ],
)
def test_a_name_must_serve_as_file_name_and_header(name: str, fine: bool) -> None:
    text = f'[[model]]\nname = "{name}"\nmodel = "o/m"\n'
    if fine:
        assert load_text(text, path="/p.toml").models[0].name == name
    else:
        assert only_problem(text).where == "model[0].name"


@pytest.mark.parametrize(
    ("text", "where", "said"),
    [
        ("[server]\nport = 1\n", "", "names no [[model]]"),
        (MODEL + '[server]\nhost = "::1"', "server.host", "IPv4"),
        (MODEL + '[server]\nhost = "256.1.1.1"', "server.host", "not an IPv4 address"),
        (MODEL + '[server]\nhost = "a b"', "server.host", "IPv4 address or a name"),
        (MODEL + "[server]\nworkers = 0", "server.workers", "expected at least"),
        (MODEL + "[server]\nworkers = true", "server.workers", "whole number, found true"),
        (MODEL + '[engine]\ndevice = "gpu"', "engine.device", '"auto", "cuda" or "cpu"'),
        (MODEL + "[keys]\nx = 1", "keys", "reserved"),
        (MODEL + "[routes]\nx = 1", "routes", "unknown table"),
        (MODEL + "[[route]]\nx = 1", "route[0].x", "unknown key"),
        (MODEL + '[routing]\ncode = "coder"', "routing.general", "is missing"),
        (MODEL + "[routing]\nfallback = 1", "routing.fallback", "an array, found 1"),
        (MODEL + '[routing]\nauto = "coder"', "model[0].name", "asks for routing"),
        (MODEL + '[limits]\nmax_body = "1 MiB"', "limits.max_body", "unknown key"),
        (MODEL + '[limits]\nmax_body_bytes = "1 GB"', "limits.max_body_bytes", "ambiguous"),
        (MODEL + "[limits]\nmax_body_bytes = 0", "limits.max_body_bytes", "more than 0"),
        (MODEL + "[limits]\nhead_timeout_s = 0", "limits.head_timeout_s", "more than 0"),
        (
            MODEL + '[server]\nworkers = 9\n[limits]\nmax_buffered_bytes = "256 MiB"',
            "limits.max_buffered_bytes",
            "each of 9 router processes may hold 28.44 MiB of bodies, and one may have 32",
        ),
        (MODEL + '[server]\nallowed_origins = ["a.b"]', "server.allowed_origins[0]", "origin"),
        (MODEL + '[server]\nallowed_origins = ["https://a/"]', "server.allowed_origins[0]", "/"),
        (MODEL + "[[server]]\nport = 1", "server", "a table, found an array"),
        ('[model]\nname = "x"\nmodel = "o/x"', "model", "an array, found a table"),
        ('model = ["x"]', "model[0]", "a table"),
        ('[[model]]\nname = "x"', "model[0].model", "is missing"),
        ('[[model]]\nmodel = "o/x"', "model[0].name", "is missing"),
        ('[[model]]\nname = "x"\nmodel = "--port"', "model[0].model", "hub id"),
    ],
)
def test_a_wrong_table_is_named(text: str, where: str, said: str) -> None:
    problems = problems_of(text)
    assert where in [problem.where for problem in problems]
    assert any(said in problem.message for problem in problems if problem.where == where)


def test_two_kinds_of_memory_contradict_each_other() -> None:
    for line in (
        'memory = "5 GiB"\ngpu_memory_utilization = 0.5',
        'memory = "5 GiB"\nkv_cache_memory_bytes = "1 GiB"',
        "gpu_memory_utilization = 0.5\ndemand = { context_tokens = 1, concurrency = 1 }",
    ):
        assert "contradict" in only_problem(MODEL + line).message


def test_a_fraction_may_stand_beside_a_fixed_kv_size_as_vllm_wants_it() -> None:
    text = MODEL + 'gpu_memory_utilization = 0.5\nkv_cache_memory_bytes = "1 GiB"'
    assert load_text(text, path="/p.toml").models[0].kv_cache_memory_bytes == GIB


def test_a_demand_must_fit_what_the_model_states() -> None:
    demand = "demand = { context_tokens = 200, concurrency = 8 }\n"
    longer, more = problems_of(MODEL + "max_model_len = 100\nmax_num_seqs = 4\n" + demand)
    assert "longer than max_model_len 100" in longer.message
    assert "more than max_num_seqs 4" in more.message


@pytest.mark.parametrize(
    "url",
    ["localhost:80", "ftp://x", "http://", "http://x:99999", "http://u:p@x", "http://x?a=1", "x"],
)
def test_an_upstream_needs_an_http_url(url: str) -> None:
    text = f'[[upstream]]\nname = "e"\nurl = "{url}"\nmodels = ["m"]\n'
    problem = only_problem(text)
    assert (problem.where, problem.line) == ("upstream[0].url", 3)


def test_an_upstream_url_leaves_out_v1() -> None:
    text = '[[upstream]]\nname = "e"\nurl = "http://x/v1/"\nmodels = ["m"]\n'
    assert "leave out /v1" in (only_problem(text).hint or "")


def test_an_upstream_may_not_be_the_endpoint_itself() -> None:
    text = '[[upstream]]\nname = "e"\nurl = "http://127.0.0.1:8000"\nmodels = ["m"]\n'
    assert "server.port" in only_problem(text).message


def test_a_model_and_an_upstream_may_not_share_a_name() -> None:
    text = MODEL + '[[upstream]]\nname = "e"\nurl = "http://x"\nmodels = ["e", "coder"]\n'
    problem = only_problem(text)
    assert (problem.where, problem.line) == ("upstream[0].models[1]", 7)


def test_an_upstreams_own_name_is_no_route() -> None:
    text = '[[upstream]]\nname = "e"\nurl = "http://x"\nmodels = ["m"]\n'
    text += '[routing]\ncode = "e"\ngeneral = "m"\n'
    assert only_problem(text).where == "routing.code"


def test_what_an_upstream_holds_is_held_on_some_gpu() -> None:
    text = '[[upstream]]\nname = "e"\nurl = "http://x"\nmodels = ["m"]\nreserve = "1 GiB"\n'
    assert "`gpus` is missing" in only_problem(text).message


@pytest.mark.parametrize(
    "text",
    [
        MODEL + "max_num_batched_tokens = 4\nmax_num_seqs = 8\n",
        MODEL + "max_num_batched_tokens = 4\ndemand = { context_tokens = 9, concurrency = 8 }\n",
        "[engine]\nmax_num_seqs = 8\n" + MODEL + "max_num_batched_tokens = 4\n",
    ],
)
def test_a_step_has_room_for_every_sequence(text: str) -> None:
    problem = only_problem(text)
    assert problem.where == "model[0].max_num_batched_tokens"
    assert "8 sequences" in problem.message


def test_a_parser_for_tools_is_enough_to_give_tools() -> None:
    model = load_text(MODEL + 'tool_call_parser = "hermes"', path="/p.toml").models[0]
    assert model.enable_auto_tool_choice
    off = MODEL + 'tool_call_parser = "hermes"\nenable_auto_tool_choice = false'
    assert not load_text(off, path="/p.toml").models[0].enable_auto_tool_choice
    assert (
        "needs a tool_call_parser" in only_problem(MODEL + "enable_auto_tool_choice = true").message
    )


def test_gpus_on_a_cpu_box_are_refused() -> None:
    assert only_problem('[engine]\ndevice = "cpu"\n' + MODEL + "gpus = [0]").line == 6


def test_an_alias_does_not_hide_another_models_name() -> None:
    text = MODEL + 'aliases = ["other"]\n[[model]]\nname = "other"\nmodel = "o/o"\n'
    problem = only_problem(text)
    assert problem.where == "model[0].aliases[0]"
    assert "model[1]" in problem.message


def test_a_directory_is_found_beside_the_profile(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    for written in ("tiny", "./tiny", str(tmp_path / "tiny")):
        text = f'[[model]]\nname = "a"\nmodel = "{written}"\n'
        model = load_text(text, path=str(tmp_path / "p.toml")).models[0]
        assert Path(model.model) == tmp_path / "tiny"


def test_an_executable_is_looked_up_beside_the_profile_then_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, profile = tmp_path / "here", tmp_path / "profiles" / "p.toml"
    for directory in (here, profile.parent):
        directory.mkdir()
    (here / "bin").mkdir()
    (here / "bin" / "vllm").touch()
    monkeypatch.chdir(here)
    text = MODEL + 'vllm = "bin/vllm"\n'
    assert load_text(text, path=str(profile)).models[0].vllm == str(here / "bin" / "vllm")
    (profile.parent / "bin").mkdir()
    (profile.parent / "bin" / "vllm").touch()
    beside = str(profile.parent / "bin" / "vllm")
    assert load_text(text, path=str(profile)).models[0].vllm == beside


def test_a_chat_template_is_a_file_or_the_text_itself(tmp_path: Path) -> None:
    inline = MODEL + 'chat_template = "{{ messages }}"\n'
    assert load_text(inline, path="/p.toml").models[0].chat_template == "{{ messages }}"
    file = MODEL + 'chat_template = "chat.jinja"\n'
    model = load_text(file, path=str(tmp_path / "p.toml")).models[0]
    assert model.chat_template == str(tmp_path / "chat.jinja")


def refused_file(path: Path) -> Problem:
    with pytest.raises(ProfileError) as caught:
        load(path)
    assert caught.value.exit_status == ExitStatus.CONFIG
    (problem,) = caught.value.problems
    assert problem.file == str(path)
    return problem


def test_a_missing_file_names_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "cpu-demo.toml").touch()
    problem = refused_file(tmp_path / "cpu_demo.toml")
    assert problem.message == "no such file"
    assert "cpu-demo.toml" in (problem.hint or "")


def test_a_directory_is_not_a_profile(tmp_path: Path) -> None:
    (tmp_path / "a.toml").touch()
    problem = refused_file(tmp_path)
    assert "a directory" in problem.message
    assert "a.toml" in (problem.hint or "")


def test_a_file_that_is_not_utf8_names_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_bytes(b"[server]\n# caf\xe9\n")
    problem = refused_file(path)
    assert "0xe9 at offset 14" in problem.message
    assert problem.line == 2


@pytest.mark.parametrize("text", ["", "\n\n", "  "])
def test_an_empty_file_says_so(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.toml"
    path.write_text(text)
    assert refused_file(path).message == "the file is empty"


def test_a_file_of_ten_megabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_bytes(b"#" * 10_000_000)
    message = refused_file(path).message
    assert str(LARGEST_BYTES) in message
    assert "10000000" in message


def test_an_endless_file_is_refused_without_reading_it_all() -> None:
    assert "at most" in refused_file(Path("/dev/zero")).message


def test_a_name_with_a_zero_byte_is_refused() -> None:
    assert "cannot be read" in refused_file(Path("a\0b")).message


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_bytes(b"\xef\xbb\xbf" + MODEL.encode())
    assert load(path).models[0].name == "coder"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("[server]\nport = \n", 2, "column 8"),
        ("[server]\nport = 1\nport = 2\n", 3, "Cannot overwrite"),
        ('[server]\nhost = "x\n', 2, "Illegal character"),
        ("[server", 1, "Expected"),
        ("a = [1,\n2", 2, "end of document"),
    ],
)
def test_a_syntax_error_has_its_line(text: str, line: int, said: str) -> None:
    problem = only_problem(text)
    assert "not valid TOML" in problem.message
    assert problem.line == line
    assert said in problem.message or said in str(problem)


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 50_000, "a = " + "[" * 5_000 + "]" * 5_000, "a = 1" + "0" * 5_000]
)
def test_what_breaks_a_parser_is_a_problem_of_the_profile(text: str) -> None:
    assert problems_of(text)


def test_a_number_too_long_to_print_is_still_named() -> None:
    assert "bits" in only_problem(MODEL + "port = 0x1" + "0" * 5000).message


def test_later_checks_find_file_and_line_through_the_source(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(MODEL + "gpus = [7]\n")
    _, source = read(path)
    problem = source.problem("model[0].gpus", "there is no GPU 7", "this machine has 0 to 1")
    assert (problem.file, problem.line) == (str(path), 4)
    assert source.problem("model[0].port", "…").line == 1
    assert source.problem("", "…").line is None


def test_engine_holds_defaults_that_a_model_may_replace() -> None:
    text = """
[engine]
max_model_len = 16384
block_size = 32
quantization = "awq"
enable_prefix_caching = false
tensor_parallel_size = 2
cpu_offload_gb = 1
memory = "20 GiB"
[[model]]
name = "a"
model = "o/a"
[[model]]
name = "b"
model = "o/b"
max_model_len = 4096
tensor_parallel_size = 1
kv_cache_memory_bytes = "1 GiB"
"""
    a, b = load_text(text, path="/p.toml").models
    assert (a.max_model_len, a.block_size, a.quantization) == (16384, 32, "awq")
    assert (a.enable_prefix_caching, a.tensor_parallel_size, a.cpu_offload_gb) == (False, 2, 1)
    assert (a.memory_bytes, a.kv_cache_memory_bytes) == (20 * GIB, None)
    assert (b.max_model_len, b.tensor_parallel_size, b.quantization) == (4096, 1, "awq")
    assert (b.memory_bytes, b.kv_cache_memory_bytes) == (None, GIB)


def test_a_model_s_own_demand_is_nearer_than_any_default() -> None:
    engine = "[engine]\nmax_model_len = 4096\nmax_num_seqs = 4\ngpu_memory_utilization = 0.5\n"
    own = "demand = { context_tokens = 8192, concurrency = 8 }\n"
    model = load_text(engine + MODEL + own, path="/p.toml").models[0]
    assert (model.max_model_len, model.max_num_seqs) == (8192, 8)
    assert (model.demand, model.gpu_memory_utilization) == (
        Demand(context_tokens=8192, concurrency=8),
        None,
    )


def test_a_default_demand_serves_every_model_that_states_no_memory() -> None:
    text = "[engine]\ndemand = { context_tokens = 8192, concurrency = 8 }\n" + MODEL
    assert load_text(text, path="/p.toml").models[0].max_num_seqs == 8
    assert load_text(text + 'memory = "9 GiB"\n', path="/p.toml").models[0].demand is None


def test_contradictions_between_defaults_and_a_model_name_the_default_s_line() -> None:
    default = "[engine]\ndemand = { context_tokens = 8192, concurrency = 8 }\n"
    problem = only_problem(default + MODEL + "max_model_len = 4096\n")
    assert (problem.where, problem.line) == ("engine.demand.context_tokens", 2)
    assert problem.message.startswith("model[0]: ")
    both = only_problem('[engine]\nmemory = "9 GiB"\ngpu_memory_utilization = 0.5\n' + MODEL)
    assert (both.where, both.line) == ("engine.gpu_memory_utilization", 3)
    incomplete = only_problem("[engine]\ndemand = { context_tokens = 8 }\n" + MODEL)
    assert (incomplete.where, incomplete.line) == ("engine.demand.concurrency", 2)
    ranks = only_problem("[engine]\ntensor_parallel_size = 2\n" + MODEL + "gpus = [0]\n")
    assert (ranks.where, ranks.line) == ("model[0].gpus", 6)


@pytest.mark.parametrize("page", ["", "/tree/main", "?library=vllm"])
def test_a_page_of_the_hub_is_refused_with_the_id_to_write(page: str) -> None:
    url = f"https://huggingface.co/Qwen/Qwen2.5-7B{page}"
    problem = only_problem(f'[[model]]\nname = "a"\nmodel = "{url}"\n')
    assert (problem.line, problem.hint) == (3, 'write "Qwen/Qwen2.5-7B"')


def test_another_url_is_no_model() -> None:
    problem = only_problem('[[model]]\nname = "a"\nmodel = "https://example.org/m.gguf"\n')
    assert "found the URL" in problem.message


def test_a_thousand_workers_are_refused() -> None:
    problem = only_problem("[server]\nworkers = 1000\n" + MODEL)
    assert (problem.line, problem.message) == (2, "expected at most 64, found 1000")
    assert "core" in (problem.hint or "")
    assert load_text("[server]\nworkers = 64\n" + MODEL, path="/p.toml").server.workers == 64


def test_a_text_too_long_for_a_file_name_is_still_a_value() -> None:
    text = MODEL + f'chat_template = "{"x" * 5000}"\n'
    assert load_text(text, path="/p.toml").models[0].chat_template == "/" + "x" * 5000


def test_whoever_is_to_be_told_is_read() -> None:
    profile = load_text(
        MODEL
        + """
[[on_event]]
command = ["page", "--team", "ml"]
events = ["failed"]
[[on_event]]
url = "https://hooks.example.com/T0/SECRET"
headers = { X-Key = "SECRET" }
bearer_token_file = "token"
timeout_s = 3
""",
        path="/etc/gpuserve/p.toml",
    )
    page, hook = profile.on_event
    assert (page.command, page.events, page.target) == (
        ("page", "--team", "ml"),
        ("failed",),
        "page",
    )
    assert {"failed", "crash_loop", "memory_drift", "gpu_lost", "recovered"} <= set(hook.events)
    assert hook.bearer_token_file == "/etc/gpuserve/token"
    assert hook.target == "https://hooks.example.com/…"
    assert "SECRET" not in repr(profile)


@pytest.mark.parametrize(
    ("lines", "where", "words"),
    [
        ("", "on_event[0]", "nobody is told"),
        ('command = ["a"]\nurl = "http://a"', "on_event[0].url", "both"),
        ("command = []", "on_event[0].command", "expected at least"),
        ('url = "ftp://SECRET"', "on_event[0].url", "expected a URL"),
        ('url = "http://a/SEC RET"', "on_event[0].url", "expected a URL"),
        ('command = ["a"]\nevents = ["fialed"]', "on_event[0].events[0]", 'no event "fialed"'),
        ('command = ["a"]\nevents = []', "on_event[0].events", "expected at least"),
        ('command = ["a"]\nheaders = { A = "b" }', "on_event[0].headers", "url is missing"),
        ('url = "http://a"\nheaders = { "A B" = "b" }', "on_event[0].headers", "HTTP header"),
        ('url = "http://a"\nheaders = { A = "SECRET\\n" }', "on_event[0].headers", "cannot stand"),
        ('command = ["a"]\ntimeout_s = 0', "on_event[0].timeout_s", "more than"),
        ('command = ["a"]\nwebhook = "b"', "on_event[0].webhook", "unknown key"),
    ],
)
def test_wrong_words_about_who_is_told_are_refused(lines: str, where: str, words: str) -> None:
    problem = only_problem(MODEL + "[[on_event]]\n" + lines)
    assert problem.where == where
    assert words in problem.message
    assert "SECRET" not in problem.message
    assert "ftp" not in problem.message


def test_more_failures_in_a_row_mean_more_within_the_hour() -> None:
    def hourly(lines: str) -> int:
        (spec,) = load_text(MODEL + lines, path="/p.toml").models
        return spec.patience.hourly_restart_limit

    assert hourly("") == 20
    assert hourly("restart_limit = 100") == 100
    assert hourly("restart_limit = 100\nhourly_restart_limit = 7") == 7
