"""Measured caches: what a pin is bound to, when it counts, and what one is made of.

With `--kv-cache-memory-bytes` vLLM takes exactly that and measures nothing
(v1/worker/gpu_worker.py, determine_available_memory): the next start cannot be charged for a
neighbour. It then keeps nothing back for a change of its own needs either, so a pin is dropped
as soon as the release, a card or a setting differs.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from hashlib import sha256
from typing import Literal

from gpuserve.errors import Problem
from gpuserve.memory.engine import ModelFacts, resolve
from gpuserve.memory.report import Footprint
from gpuserve.profile.spec import ModelSpec, Pin, Profile
from gpuserve.readings import Gpu
from gpuserve.units import GIB

# What neither changes the memory of an engine nor who it runs beside.
_ELSEWHERE = frozenset(
    {"index", "name", "aliases", "gpus", "port", "vllm", "pinned", "patience", "chat_template"}
    | {"memory_bytes", "gpu_memory_utilization", "kv_cache_memory_bytes", "demand"}
    | {"tool_call_parser", "enable_auto_tool_choice", "reasoning_parser"}
)
# vLLM's log gives GiB with two decimals, so a figure from it may be this much too large.
_LOG_ERROR_BYTES = GIB // 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a running engine says of its cache: bytes by its log, tokens by its metrics."""

    kv_cache_bytes: int | None
    kv_cache_tokens: int | None


def settings_of(spec: ModelSpec, facts: ModelFacts) -> str:
    """Return a digest of every setting of *spec* that its memory depends on, defaults filled in."""
    engine = resolve(spec, facts)
    values = {
        field.name: getattr(spec, field.name)
        for field in fields(spec)
        if field.name not in _ELSEWHERE
    }
    values |= {
        "max_model_len": engine.max_model_len,
        "max_num_seqs": engine.max_num_seqs,
        "max_num_batched_tokens": engine.max_num_batched_tokens,
    }
    text = json.dumps(values, sort_keys=True, default=str)
    return sha256(text.encode()).hexdigest()[:16]


def with_pins(
    profile: Profile,
    facts: Mapping[str, ModelFacts],
    gpus: Sequence[Gpu],
    versions: Mapping[str, str | None],
    device: Literal["cuda", "cpu"],
) -> tuple[Profile, tuple[Problem, ...]]:
    """Return *profile* with every pin that counts as its model's size, and a warning for the rest.

    *versions* maps what a model's `vllm` says to the release found there; for hardware that is
    not here it is empty, and the release is not compared.
    """
    models, problems = [], []
    for spec in profile.models:
        pin = spec.pinned
        why = None if pin is None else _stale(spec, pin, facts[spec.name], gpus, versions, device)
        if pin is None or why is not None:
            models.append(spec)
        else:
            models.append(
                replace(
                    spec,
                    kv_cache_memory_bytes=pin.kv_cache_memory_bytes,
                    memory_bytes=None,
                    gpu_memory_utilization=None,
                )
            )
        if why is not None:
            problems.append(
                Problem(
                    where=f"model[{spec.index}].pinned",
                    message=f"the pin does not count: {why}",
                    hint="start without it, then measure again with `gpuserve pin`",
                    warning=True,
                )
            )
    return replace(profile, models=tuple(models)), tuple(problems)


def pin_of(
    spec: ModelSpec,
    facts: ModelFacts,
    footprint: Footprint | None,
    measured: Measured,
    *,
    version: str,
    cards: Sequence[str],
) -> Pin | None:
    """Return the pin of an engine that runs, None where it did not say how large its cache is.

    The tokens are exact where a token has one size: then they give the bytes. The log's figure
    is rounded, and is taken down by what it may be too large.
    """
    size = _exact_bytes(footprint, measured)
    if size is None and measured.kv_cache_bytes is not None:
        size = measured.kv_cache_bytes - _LOG_ERROR_BYTES
    if size is None or size <= 0:
        return None
    return Pin(
        kv_cache_memory_bytes=size,
        vllm=version,
        cards=tuple(cards),
        settings=settings_of(spec, facts),
    )


def _exact_bytes(footprint: Footprint | None, measured: Measured) -> int | None:
    if footprint is None or measured.kv_cache_tokens is None:
        return None
    size = footprint.kv_bytes_per_token * measured.kv_cache_tokens
    logged = measured.kv_cache_bytes
    # Of a hybrid model tokens are no pool size; the log then says something else.
    if logged is not None and abs(size - logged) > 3 * _LOG_ERROR_BYTES:
        return None
    return size


def _stale(
    spec: ModelSpec,
    pin: Pin,
    facts: ModelFacts,
    gpus: Sequence[Gpu],
    versions: Mapping[str, str | None],
    device: Literal["cuda", "cpu"],
) -> str | None:
    if device == "cpu":
        return "it is of a GPU, and this plan is for a CPU box"
    version = versions.get(spec.vllm)
    if version is not None and version != pin.vllm:
        return f"it was measured with vLLM {pin.vllm}, and {version} is here"
    ours = {gpu.name for gpu in gpus if spec.gpus is None or gpu.index in spec.gpus}
    if spec.gpus is None and len(ours) > 1 and ours & set(pin.cards):
        return "this box has cards of several kinds: name the model's with `gpus`"
    if ours - set(pin.cards):
        return f"it was measured on {', '.join(pin.cards)}, and this is {', '.join(sorted(ours))}"
    if settings_of(spec, facts) != pin.settings:
        return "a setting of the model has changed since it was measured"
    return None
