"""`status --json`: what runs, since when, and why not. Plain values of the contract."""

from contextlib import suppress
from typing import Any

from gpuserve.controller.remembered import Remembered
from gpuserve.controller.replica import Replica
from gpuserve.lifecycle.states import Ready, Starting
from gpuserve.memory.report import Footprint
from gpuserve.profile.spec import UpstreamSpec
from gpuserve.units import GIB


def model_status(replica: Replica, remembered: Remembered) -> dict[str, Any]:
    """Return the status of one engine. Times are seconds, memory is bytes per GPU."""
    launch = replica.launch
    found = replica.status() if replica.state.alive else None
    reason = replica.reason
    if isinstance(replica.state, Starting) and found is not None:
        reason = found.phase
    return {
        "name": launch.name,
        "aliases": list(launch.aliases),
        "state": replica.state.name,
        # Not before the routers know: who waits for it sends requests next.
        "ready": isinstance(replica.state, Ready) and replica.routed,
        "wanted": replica.wanted,
        "pid": found.pid if found else None,
        "shim_pid": replica.shim_pid or None,
        "port": launch.port,
        "socket": launch.socket,
        "gpus": list(launch.gpus),
        "restarts": remembered.restarts,
        "starts": remembered.starts,
        "failures": replica.state.failures,
        "since_s": round(replica.phase_s, 3),
        "last_start_s": remembered.last_start_s,
        "reason": reason,
        "cause": replica.cause,
        "last_error": replica.last_error,
        "pending": replica.outdated,
        "vllm_version": launch.vllm_version,
        "dropped_log_lines": found.dropped_lines if found else 0,
        "memory": memory_status(replica),
    }


def memory_status(replica: Replica) -> dict[str, dict[str, Any]]:
    """Return what was planned for one engine and what it holds, in bytes per GPU and tokens."""
    found = replica.status() if replica.state.alive else None
    return {
        "predicted": predicted(replica.launch.predicted),
        "actual": actual(found.allocated if found else {}, replica.cache),
    }


def upstream_status(upstream: UpstreamSpec, why_not: str | None) -> dict[str, Any]:
    """Return what is known of a server that gpuserve only routes to."""
    return {
        "name": upstream.name,
        "url": upstream.url,
        "models": list(upstream.models),
        "reachable": why_not is None,
        "reason": why_not,
    }


def predicted(footprint: Footprint | None) -> dict[str, Any]:
    """Return the plan's prediction, {} where the model's shape is not known."""
    if footprint is None:
        return {}
    return {
        "weights_bytes": footprint.weights_bytes,
        "activation_bytes": footprint.activation_bytes,
        "cuda_graph_bytes": footprint.cuda_graph_bytes,
        "non_torch_bytes": footprint.non_torch_bytes,
        "kv_cache_bytes": footprint.kv_cache_bytes,
        "kv_cache_tokens": footprint.kv_cache_tokens,
        "max_concurrency": round(footprint.max_concurrency, 2),
        "margin_bytes": footprint.margin_bytes,
        "first_start_bytes": footprint.first_start_bytes,
    }


def actual(allocated: dict[str, float], cache: dict[str, str]) -> dict[str, Any]:
    """Return what the engine allocated: by its log, and by the labels of its metrics.

    *cache* are those of vllm:cache_config_info, which mean the same in every release; the
    log's token line does not, for hybrid models (vllm-project/vllm#43308).
    """
    found: dict[str, Any] = {}
    allocated = _by_term(allocated)
    for key, name in (
        ("weights_gib", "weights_bytes"),
        ("activation_gib", "activation_bytes"),
        ("non_torch_gib", "non_torch_bytes"),
        ("kv_cache_gib", "kv_cache_bytes"),
        ("cuda_graph_gib", "cuda_graph_bytes"),
    ):
        if key in allocated:
            found[name] = round(allocated[key] * GIB)
    if "kv_cache_tokens" in allocated:
        found["kv_cache_tokens"] = int(allocated["kv_cache_tokens"])
    if "max_concurrency" in allocated:
        found["max_concurrency"] = allocated["max_concurrency"]
    for label, name, kind in (
        ("kv_cache_size_tokens", "kv_cache_tokens", int),
        ("kv_cache_max_concurrency", "max_concurrency", float),
        ("kv_cache_memory_bytes", "kv_cache_bytes", int),
    ):
        with suppress(KeyError, ValueError):  # absent in older releases, or the word None
            found[name] = kind(float(cache[label]))
    return found


def _by_term(allocated: dict[str, float]) -> dict[str, float]:
    """Take apart what newer releases print together (lifecycle/logline.py)."""
    found = dict(allocated)
    if "consumed_gib" in found and "weights_gib" in found:
        found["non_torch_gib"] = found["consumed_gib"] - found["weights_gib"]
    if "activation_and_graph_gib" in found:
        graphs = found.get("estimated_graph_gib", 0.0)
        found["activation_gib"] = max(0.0, found["activation_and_graph_gib"] - graphs)
    return found
