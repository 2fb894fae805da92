"""Which of vLLM's two model runners an engine gets, and what that decides about CUDA graphs."""

from collections.abc import Mapping

from gpuserve.memory.architecture import Architecture
from gpuserve.memory.engineargs import EngineArgs
from gpuserve.memory.layers import Experts, Recurrent
from gpuserve.memory.release import Release, graphs_inside_budget

# Of the mixtures of experts these alone, by default (vllm/config/vllm.py of 0.26 to 0.28,
# DEFAULT_V2_MODEL_RUNNER_ARCHITECTURES).
_SECOND_WITH_EXPERTS = frozenset({"deepseek_v2", "granitemoe", "qwen2_moe"})
_NO = frozenset({"0", "false"})


def pays_graphs_from_budget(
    arch: Architecture,
    arguments: EngineArgs,
    environment: Mapping[str, str],
    release: Release | None,
) -> bool:
    """Return whether CUDA graphs are inside fraction x total, not on top of it.

    *environment* is the engine's own; two of vLLM's variables decide it (vllm/envs.py).
    """
    if environment.get("VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS") == "0":
        return False
    second = _second_runner(arch, arguments)
    stated = environment.get("VLLM_USE_V2_MODEL_RUNNER")
    if stated is not None:
        second = stated.strip().lower() not in _NO
    return graphs_inside_budget(release, second_runner=second)


def _second_runner(arch: Architecture, arguments: EngineArgs) -> bool:
    """What 0.26 to 0.28 choose by themselves: for dense models that generate, and few others."""
    if arch.embeddings or arch.encoder:
        return False
    if arguments.speculation is not None and not (
        arguments.speculation.own_layers or arguments.speculation.model is not None
    ):
        return False  # guessing from the prompt (ngram) stays with the first one
    layers = arch.all_layers
    if any(isinstance(layer.mixer, Recurrent) for layer in layers):
        return False
    return arch.model_type in _SECOND_WITH_EXPERTS or not any(
        isinstance(layer.mlp, Experts) for layer in layers
    )
