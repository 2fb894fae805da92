"""A profile as commented TOML, from an option: what `gpuserve plan --write` writes."""

import json
from collections.abc import Iterator
from itertools import groupby

from gpuserve.memory.report import Grant
from gpuserve.profile.spec import ModelSpec
from gpuserve.sizing.options import Option
from gpuserve.units import gib


def profile_text(option: Option) -> str:
    """Return the profile of *option*, which fits; every figure that was found is a comment."""
    return "\n".join(_lines(option)) + "\n"


def _lines(option: Option) -> Iterator[str]:
    report = option.report
    cards = groupby(gpu.gpu.name for gpu in report.gpus)
    box = ", ".join(f"{len(list(group))} x {name}" for name, group in cards)
    yield f"# Planned for {box}."
    for share in report.gpus:
        yield (
            f"# GPU {share.gpu.index}: {gib(share.reserved_bytes)} of "
            f"{gib(share.gpu.total_bytes)} reserved, {gib(share.left_bytes)} left."
        )
    yield "#"
    yield "#   gpuserve check THIS_FILE     proves it again, on the machine that it runs on"
    grants = {grant.model: grant for grant in report.grants}
    for spec in option.profile.models:
        yield ""
        yield from _model(spec, grants[spec.name])
    routing = option.profile.routing
    if routing.code is not None:
        yield ""
        yield "[routing]"
        for key in ("code", "general", "default"):
            yield f"{key} = {_text(getattr(routing, key))}"


def _model(spec: ModelSpec, grant: Grant) -> Iterator[str]:
    footprint = grant.footprint
    yield "[[model]]"
    yield f"name = {_text(spec.name)}"
    yield f"model = {_text(spec.model)}"
    if footprint is not None:
        yield (
            f"# {gib(footprint.weights_bytes)} of weights, {gib(footprint.kv_cache_bytes)} of KV "
            f"cache ({footprint.kv_bytes_per_token:,} B per token)"
        )
        yield f"# on each of its GPUs, {gib(grant.reserved_bytes)} in all."
    if spec.tensor_parallel_size > 1:
        yield f"tensor_parallel_size = {spec.tensor_parallel_size}"
    yield f"gpus = [{', '.join(map(str, grant.gpus))}]"
    if spec.quantization is not None:
        yield f"quantization = {_text(spec.quantization)}"
    if spec.kv_cache_dtype is not None:
        yield f"kv_cache_dtype = {_text(spec.kv_cache_dtype)}"
    demand = spec.demand
    if demand is not None:
        yield f"max_model_len = {demand.context_tokens}"
        yield (
            f"demand = {{ context_tokens = {demand.context_tokens}, "
            f"concurrency = {demand.concurrency} }}"
        )


def _text(value: str) -> str:
    # JSON's escapes are TOML's (toml.io, basic strings), but for DEL, which no name holds.
    return json.dumps(value, ensure_ascii=False)
