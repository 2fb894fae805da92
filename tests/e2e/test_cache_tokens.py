"""The cache of models whose layers differ, as real vLLM counts it, against the prediction.

Half a minute for each, so only with `scripts/test --all`; the unit tests hold the same figures as
they were read once.
"""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from gpuserve.machine.vllm import find_vllm
from gpuserve.memory.architecture import read_architecture
from gpuserve.memory.kv import kv_shape
from gpuserve.memory.release import parse_release
from gpuserve.units import GIB

LENGTH, BATCHED, PATIENCE_S = 2048, 512, 300
COUNTED = re.compile(r"KV cache size: ([\d,]+) tokens.*?tokens per request: ([\d.]+)x")
COMMON = {
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "hidden_size": 256,
    "intermediate_size": 512,
    "vocab_size": 512,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-6,
    "torch_dtype": "bfloat16",
}
MODELS: dict[str, dict[str, Any]] = {
    "gemma2": {
        "architectures": ["Gemma2ForCausalLM"],
        "model_type": "gemma2",
        "num_hidden_layers": 5,
        "sliding_window": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": 64,
        "tie_word_embeddings": True,
    },
    "granite4": {
        "architectures": ["GraniteMoeHybridForCausalLM"],
        "model_type": "granitemoehybrid",
        "num_hidden_layers": 4,
        "layer_types": ["mamba", "mamba", "attention", "mamba"],
        "mamba_n_heads": 8,
        "mamba_d_head": 64,
        "mamba_d_state": 64,
        "mamba_n_groups": 1,
        "mamba_d_conv": 4,
        "mamba_expand": 2,
        "num_local_experts": 0,
        "num_experts_per_tok": 0,
        "shared_intermediate_size": 512,
        "position_embedding_type": "nope",
        "tie_word_embeddings": True,
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_vllm_counts_the_tokens_that_were_predicted(
    name: str, vllm_python: Path, tiny_models: Path, tmp_path: Path
) -> None:
    config = {**COMMON, **MODELS[name]}
    folder = tmp_path / name
    folder.mkdir()
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).write_bytes((tiny_models / "coder" / file).read_bytes())
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    vllm = vllm_python.with_name("vllm")
    tokens, requests = counted(vllm, folder, tmp_path)
    shape = kv_shape(
        read_architecture(config),
        max_num_batched_tokens=BATCHED,
        release=parse_release(find_vllm(str(vllm)).version),
        cpu=True,
    )
    predicted = shape.capacity(GIB, LENGTH)
    assert predicted[0] == tokens
    assert predicted[1] == pytest.approx(requests, abs=0.006)


def counted(vllm: Path, folder: Path, scratch: Path) -> tuple[int, float]:
    """Start vLLM on *folder* with a cache of 1 GiB until it has said what that holds."""
    log = scratch / "vllm.log"
    command = [str(vllm), "serve", str(folder), "--load-format", "dummy", "--enforce-eager"]
    command += ["--uds", str(scratch / "s"), "--max-num-seqs", "8"]
    command += ["--max-model-len", str(LENGTH), "--max-num-batched-tokens", str(BATCHED)]
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
    }
    with log.open("wb") as output:
        engine = subprocess.Popen(
            command, stdout=output, stderr=output, env=environment, start_new_session=True
        )
    try:
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until and engine.poll() is None:
            match = COUNTED.search(log.read_text(errors="replace"))
            if match is not None:
                return int(match[1].replace(",", "")), float(match[2])
            time.sleep(0.2)
        pytest.fail(log.read_text(errors="replace")[-4000:])
    finally:
        os.killpg(engine.pid, signal.SIGKILL)
        engine.wait()
