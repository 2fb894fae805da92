"""The rules of a profile that span several keys.

They read the tables as the parser gave them, without the values that `faults` refused: so one
wrong number does not hide a duplicate name. Each rule is a generator of problems.
"""

import re
from collections.abc import Iterator
from math import ceil
from typing import Any
from urllib.parse import urlsplit

from gpuserve.errors import Problem
from gpuserve.profile.defaults import MEMORY, with_defaults
from gpuserve.profile.flags import REFUSED_VARIABLES, refused_flags
from gpuserve.profile.routechecks import check_routes
from gpuserve.profile.source import Source, dotted
from gpuserve.profile.spec import LimitsSpec, RoutingSpec, ServerSpec
from gpuserve.units import MIB, mib, parse_bytes

Tables = dict[str, Any]
_LOOPBACK = {"127.0.0.1", "localhost", "0.0.0.0"}  # noqa: S104 - compared with, not bound
_ON_EVENT = ("command", "url", "headers", "bearer_token_file")
_UPSTREAM_NAME = re.compile(r"upstream\[\d+\]\.name")


def crosscheck(tables: Tables, source: Source) -> list[Problem]:
    """Return every contradiction in *tables*, whose values have the right types."""
    engine = tables.get("engine", {})
    problems = [
        *_served(tables, source),
        *_names(tables, source),
        *_ports(tables, source),
        *_routing(tables, source),
        *_reserves(tables, source),
        *_limits(tables, source),
        *_on_event(tables, source),
        *_memory("engine", engine, source),
        *_arguments("engine", engine, source),
    ]
    for index, model in enumerate(tables.get("model", [])):
        where = f"model[{index}]"
        whole = with_defaults(model, engine)
        problems += _memory(where, model, source)
        problems += _arguments(where, model, source)
        problems += _parallel(where, whole, source)
        problems += _demand(where, whole, source)
        problems += _batch(where, whole, source)
        problems += _tools(where, whole, source)
        problems += _device(where, whole, source)
    return problems


def _served(tables: Tables, source: Source) -> Iterator[Problem]:
    if not tables.get("model") and not tables.get("upstream"):
        hint = 'the smallest profile: [[model]] with name = "…" and model = "…"'
        yield source.problem("", "the profile names no [[model]] and no [[upstream]]", hint)


def _names(tables: Tables, source: Source) -> Iterator[Problem]:
    auto = tables.get("routing", {}).get("auto", RoutingSpec().auto)
    seen: dict[str, str] = {}
    for name, where, owner in _public_names(tables):
        if name == auto:
            message = f'"{name}" is the name that asks for routing'
            yield source.problem(where, message, "choose another name, or set [routing] auto")
        elif name in seen and seen[name] != owner:
            yield source.problem(where, f'"{name}" is already taken by {_at(seen[name], source)}')
        elif name in seen and owner.startswith("model"):
            yield source.problem(where, f'"{name}" stands twice in this model', "leave it out")
        seen.setdefault(name, owner)


def _public_names(tables: Tables) -> list[tuple[str, str, str]]:
    """Return (name, where, owner): canonical names first, so that an alias is the one blamed."""
    found = []
    for kind in ("model", "upstream"):
        for index, table in enumerate(tables.get(kind, [])):
            if "name" in table:
                owner = f"{kind}[{index}]"
                found.append((table["name"], f"{owner}.name", owner))
    for kind, key in (("model", "aliases"), ("upstream", "models")):
        for index, table in enumerate(tables.get(kind, [])):
            for place, name in enumerate(table.get(key, [])):
                owner = f"{kind}[{index}]"
                found.append((name, f"{owner}.{key}[{place}]", owner))
    return found


def _ports(tables: Tables, source: Source) -> Iterator[Problem]:
    seen = {tables.get("server", {}).get("port", ServerSpec().port): "server.port"}
    for index, model in enumerate(tables.get("model", [])):
        port, where = model.get("port"), f"model[{index}].port"
        if port is None:
            continue
        if port in seen:
            owner = seen[port]
            default = "" if source.lines.get(owner) else ", whose default it is"
            message = f"port {port} is already taken by {_at(owner, source)}{default}"
            yield source.problem(where, message, "leave `port` out for a Unix socket")
        seen.setdefault(port, where)
    for index, upstream in enumerate(tables.get("upstream", [])):
        url = urlsplit(upstream.get("url", ""))
        if url.hostname in _LOOPBACK and url.port in seen:
            where = f"upstream[{index}].url"
            yield source.problem(where, f"port {url.port} here is that of {seen[url.port]}")


def _reserves(tables: Tables, source: Source) -> Iterator[Problem]:
    for index, upstream in enumerate(tables.get("upstream", [])):
        if "reserve" in upstream and "gpus" not in upstream:
            message = "`reserve` is held on some GPU: `gpus` is missing"
            yield source.problem(f"upstream[{index}].reserve", message, "for example: gpus = [0]")


def _limits(tables: Tables, source: Source) -> Iterator[Problem]:
    limits = tables.get("limits", {})
    if "max_buffered_bytes" not in limits:
        return
    body_bytes = _size_bytes(limits.get("max_body_bytes", LimitsSpec().max_body_bytes))
    workers = tables.get("server", {}).get("workers", ServerSpec().workers)
    share_bytes = _size_bytes(limits["max_buffered_bytes"]) // workers
    if share_bytes < body_bytes:
        whose = "the router process" if workers == 1 else f"each of {workers} router processes"
        message = f"{whose} may hold {mib(share_bytes)} of bodies, and one may have "
        message += f"{mib(body_bytes)}: it would never be taken"
        hint = f'write max_buffered_bytes = "{mib(ceil(body_bytes / MIB) * workers * MIB)}" or more'
        yield source.problem("limits.max_buffered_bytes", message, hint)


def _on_event(tables: Tables, source: Source) -> Iterator[Problem]:
    for index in range(len(tables.get("on_event", []))):
        where = f"on_event[{index}]"
        # Also what has a fault of its own is stated.
        table = {key for key in _ON_EVENT if f"{where}.{key}" in source.lines}
        if "command" in table and "url" in table:
            message = "command and url are both given; one [[on_event]] tells one of them"
            yield source.problem(f"{where}.url", message, "write another [[on_event]] for it")
        elif "command" not in table and "url" not in table:
            yield source.problem(where, "nobody is told: expected command = […] or url = …")
        for key in ("headers", "bearer_token_file"):
            if key in table and "url" not in table:
                yield source.problem(f"{where}.{key}", f"{key} is for a webhook: url is missing")


def _size_bytes(value: int | str) -> int:
    return parse_bytes(value) if isinstance(value, str) else value


def _routing(tables: Tables, source: Source) -> Iterator[Problem]:
    # An upstream's own name is for the operator; requests name its models.
    names = {name for name, where, _ in _public_names(tables) if not _UPSTREAM_NAME.match(where)}
    return check_routes(tables, names, source)


def _parallel(where: str, model: Tables, source: Source) -> Iterator[Problem]:
    tensor = model.get("tensor_parallel_size", 1)
    pipeline = model.get("pipeline_parallel_size", 1)
    gpus = model.get("gpus")
    if gpus is None or len(gpus) == tensor * pipeline:
        return
    sizes = f"tensor_parallel_size {tensor}"
    if pipeline > 1:
        sizes += f" x pipeline_parallel_size {pipeline}"
    needed = tensor * pipeline
    message = f"{sizes} needs {needed} GPU{'s' if needed > 1 else ''}, found {len(gpus)} in `gpus`"
    hint = f"write tensor_parallel_size = {len(gpus)}, or name {needed} GPU(s)"
    # A default that serves the others is not to blame.
    own = f"{where}.tensor_parallel_size" in source.lines
    key = "tensor_parallel_size" if own else "gpus"
    yield source.problem(f"{where}.{key}", message, hint)


def _memory(where: str, model: Tables, source: Source) -> Iterator[Problem]:
    stated = [key for key in MEMORY if key in model]
    # vLLM itself takes a fraction beside a fixed KV size: the fraction then only rules its
    # check at start (vLLM, v1/worker/gpu_worker.py).
    if len(stated) < 2 or stated == ["gpu_memory_utilization", "kv_cache_memory_bytes"]:
        return
    message = f"{' and '.join(f'`{key}`' for key in stated)} contradict each other"
    hint = "each decides the engine's memory: keep one"
    yield source.problem(f"{where}.{stated[-1]}", message, hint)


def _demand(where: str, model: Tables, source: Source) -> Iterator[Problem]:
    demand = model.get("demand", {})
    if not demand:
        return
    tokens, concurrency = demand["context_tokens"], demand["concurrency"]
    longest, seqs = model.get("max_model_len"), model.get("max_num_seqs")
    if longest is not None and tokens > longest:
        message = f"demand of {tokens} tokens is longer than max_model_len {longest}"
        yield source.problem(f"{where}.demand.context_tokens", message)
    if seqs is not None and concurrency > seqs:
        message = f"demand of {concurrency} sequences is more than max_num_seqs {seqs}"
        hint = "leave max_num_seqs out: the demand sets it"
        yield source.problem(f"{where}.demand.concurrency", message, hint)


def _batch(where: str, model: Tables, source: Source) -> Iterator[Problem]:
    tokens = model.get("max_num_batched_tokens")
    seqs = model.get("max_num_seqs", model.get("demand", {}).get("concurrency"))
    # vLLM refuses to start then (config/scheduler.py).
    if tokens is not None and seqs is not None and tokens < seqs:
        message = f"max_num_batched_tokens {tokens} is less than the {seqs} sequences at once"
        hint = "each running sequence takes at least one token of a step"
        yield source.problem(f"{where}.max_num_batched_tokens", message, hint)


def _tools(where: str, model: Tables, source: Source) -> Iterator[Problem]:
    # vLLM refuses to start then (entrypoints, cli_args.py).
    if model.get("enable_auto_tool_choice") and "tool_call_parser" not in model:
        message = "enable_auto_tool_choice needs a tool_call_parser"
        hint = "name the parser of this model family, such as hermes or mistral"
        yield source.problem(f"{where}.enable_auto_tool_choice", message, hint)


def _arguments(where: str, table: Tables, source: Source) -> Iterator[Problem]:
    for index, flag, hint in refused_flags(table.get("extra_args", [])):
        message = f"{flag} may not stand in extra_args"
        yield source.problem(f"{where}.extra_args[{index}]", message, hint)
    for name in table.get("env", {}):
        if name in REFUSED_VARIABLES:
            message = f"{name} is set by gpuserve and may not stand in env"
            place = f"{where}.{dotted(('env', name))}"
            yield source.problem(place, message, REFUSED_VARIABLES[name])


def _device(where: str, model: Tables, source: Source) -> Iterator[Problem]:
    if model.get("device") == "cpu" and "gpus" in model:
        yield source.problem(f"{where}.gpus", 'GPUs are named, but [engine] device is "cpu"')


def _at(where: str, source: Source) -> str:
    line = source.lines.get(where)
    return f"{where} (line {line})" if line else where
