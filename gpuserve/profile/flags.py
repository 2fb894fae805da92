"""vLLM's flags that `extra_args` may not repeat, and what to write instead.

gpuserve writes these itself, from a key of the profile or from its plan; a second value would
silently win and make the memory plan or the router wrong. Names as in vLLM 0.33
(`vllm/engine/arg_utils.py`, `vllm/entrypoints/openai/cli_args.py`), with their short forms.
"""

from collections.abc import Mapping, Sequence

_OWN = "gpuserve chooses it; {}"
_KEYS = {
    "dtype": ("--dtype",),
    "kv_cache_dtype": ("--kv-cache-dtype",),
    "max_num_seqs": ("--max-num-seqs",),
    "max_num_batched_tokens": ("--max-num-batched-tokens",),
    "max_model_len": ("--max-model-len",),
    "enforce_eager": ("--enforce-eager", "--no-enforce-eager"),
    "load_format": ("--load-format",),
    "trust_remote_code": ("--trust-remote-code", "--no-trust-remote-code"),
    "gpu_memory_utilization": ("--gpu-memory-utilization", "--device-memory-utilization"),
    "kv_cache_memory_bytes": ("--kv-cache-memory-bytes", "--kv-cache-memory"),
    "quantization": ("--quantization", "-q"),
    "block_size": ("--block-size",),
    "tensor_parallel_size": ("--tensor-parallel-size", "-tp"),
    "pipeline_parallel_size": ("--pipeline-parallel-size", "-pp"),
    "enable_prefix_caching": ("--enable-prefix-caching", "--no-enable-prefix-caching"),
    "cpu_offload_gb": ("--cpu-offload-gb",),
    "revision": ("--revision",),
    "tokenizer": ("--tokenizer",),
    "chat_template": ("--chat-template",),
    "tool_call_parser": ("--tool-call-parser",),
    "enable_auto_tool_choice": ("--enable-auto-tool-choice", "--no-enable-auto-tool-choice"),
    "reasoning_parser": ("--reasoning-parser",),
}
_ROUTER_SPEAKS_HTTP = "the router reaches the engine over plain HTTP on this machine"
_ONE_ENGINE = "one [[model]] is one engine; its GPUs follow from tensor_parallel_size"

REFUSED: Mapping[str, str] = {
    **{flag: f"write `{key}` instead" for key, flags in _KEYS.items() for flag in flags},
    "--model": "write `model` instead",
    "--served-model-name": "write `name` and `aliases` instead",
    "--port": "write `port` instead; without it the engine gets a Unix socket",
    "--host": _OWN.format("engines listen on loopback or a Unix socket"),
    "--uds": _OWN.format("without `port` the engine gets a socket in the run directory"),
    "--device-ids": "write `gpus` instead",
    "--api-key": "the router would not know the key; engines are not reachable from outside",
    "--ssl-keyfile": _ROUTER_SPEAKS_HTTP,
    "--ssl-certfile": _ROUTER_SPEAKS_HTTP,
    "--root-path": _ROUTER_SPEAKS_HTTP,
    "--data-parallel-size": _ONE_ENGINE,
    "-dp": _ONE_ENGINE,
    "--headless": "the router needs the engine's HTTP server",
}

_SAME_CACHE = "set it in gpuserve's own environment: both must look in the same cache"

# Likewise for `env`.
REFUSED_VARIABLES: Mapping[str, str] = {
    "HF_HOME": _SAME_CACHE,
    "HF_HUB_CACHE": _SAME_CACHE,
    "CUDA_VISIBLE_DEVICES": "write `gpus` instead",
    "CUDA_DEVICE_ORDER": "GPUs are counted in PCI bus order",
    "VLLM_CPU_KVCACHE_SPACE": "write `memory` or `kv_cache_memory_bytes` instead",
    "VLLM_API_KEY": "the router would not know the key; engines are not reachable from outside",
}


def refused_flags(words: Sequence[str]) -> list[tuple[int, str, str]]:
    """Return (index, flag, what to do instead) for each word of *words* that is refused.

    vLLM's parser takes `--max_model_len` for `--max-model-len` and values after `=`.
    """
    found = []
    for index, word in enumerate(words):
        flag = word.split("=", 1)[0]
        if flag.startswith("--"):
            flag = "--" + flag[2:].replace("_", "-")
        if flag in REFUSED:
            found.append((index, flag, REFUSED[flag]))
    return found
