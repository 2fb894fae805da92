"""What counts as progress in the text of vLLM's metrics."""

from gpuserve.machine.probe import _numbers

IDLE = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="coder"} 1.0
vllm:num_requests_waiting{engine="0",model_name="coder"} 0.0
vllm:kv_cache_usage_perc{engine="0",model_name="coder"} 0.0125
vllm:iteration_tokens_total_sum{engine="0",model_name="coder"} 40.0
vllm:generation_tokens_total{engine="0",model_name="coder"} 25.0
vllm:prefix_cache_queries_total{engine="0",model_name="coder"} 15.0
process_cpu_seconds_total 12.5
"""


def test_a_step_of_a_long_prefill_shows_in_the_use_of_the_cache_alone() -> None:
    after = IDLE.replace("0.0125", "0.0250")
    assert _numbers(IDLE) != _numbers(after)


def test_processor_time_is_no_progress_because_a_hung_engine_spins_too() -> None:
    assert _numbers(IDLE) == _numbers(IDLE.replace("12.5", "99.5"))


def test_what_is_no_number_is_passed_over() -> None:
    assert _numbers("vllm:num_requests_running nan\nvllm:generation_tokens_total\n\0") == {}
