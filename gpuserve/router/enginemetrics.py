"""What the engines were planned to take and what they took, in Prometheus' text format.

Of the routing table, so it is not added up over workers. Labels are names out of the profile.
"""

from collections.abc import Iterator

from gpuserve.router.metrics import escaped
from gpuserve.routing.table import RoutingTable

_BYTES = "_bytes"
_COUNTS = {
    "kv_cache_tokens": "Tokens that the KV cache of an engine holds.",
    "max_concurrency": "Requests of full length that the KV cache of an engine holds.",
}


def engine_metrics(table: RoutingTable | None) -> str:
    """Return the memory of every engine, predicted and actual; empty without one."""
    if table is None:
        return ""
    return "".join(f"{line}\n" for line in _lines(table))


def _lines(table: RoutingTable) -> Iterator[str]:
    shown = [(u.name, figure) for u in table.upstreams for figure in u.figures]
    sizes = [(name, f) for name, f in shown if f.name.endswith(_BYTES)]
    if sizes:
        yield "# HELP gpuserve_engine_memory_bytes Memory of an engine on each of its GPUs."
        yield "# TYPE gpuserve_engine_memory_bytes gauge"
    for name, figure in sizes:
        part = figure.name.removesuffix(_BYTES)
        yield (
            f'gpuserve_engine_memory_bytes{{model="{escaped(name)}",part="{part}",'
            f'kind="{figure.kind}"}} {figure.value}'
        )
    for key, text in _COUNTS.items():
        counted = [(name, f) for name, f in shown if f.name == key]
        if counted:
            yield f"# HELP gpuserve_engine_{key} {text}"
            yield f"# TYPE gpuserve_engine_{key} gauge"
        for name, figure in counted:
            labels = f'model="{escaped(name)}",kind="{figure.kind}"'
            yield f"gpuserve_engine_{key}{{{labels}}} {figure.value}"
