"""A fit report as lines for people: verdict, one bar for each GPU, the arithmetic, what is short.

Pure: gives plain text and, for those who colour it, the style of each line. `check --json` is
`report_json`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gpuserve.errors import Problem
from gpuserve.memory.explain import Term
from gpuserve.memory.fraction import reserved_on
from gpuserve.memory.report import FitReport, Footprint, GpuShare, Grant, Verdict
from gpuserve.plan import Launch
from gpuserve.readings import Gpu
from gpuserve.units import GIB, MIB, gib

_BAR_CELLS = 40
# One sign for each engine on a GPU, then for what is free and what is too much.
_SIGNS = "#=+*%@"
_FREE, _OVER = ".", "!"
# A variable whose name holds one of these is a secret, and is shown as _HIDDEN.
_SECRET_WORDS = ("TOKEN", "KEY", "SECRET", "PASSWORD")
_HIDDEN = "***"
_MEANINGS: dict[Verdict, str] = {
    "fits": "fits",
    "tight": "fits, but tight: less than one full-length request to spare",
    "risky": "fits by the estimate, but risky: within the margin of error it would not",
    "not_now": "fits this machine, but not now: others hold memory",
    "does_not_fit": "does not fit",
    "invalid": "invalid: see the problems",
}
_STYLES: dict[Verdict, str] = {
    "fits": "green",
    "tight": "yellow",
    "risky": "yellow",
    "not_now": "yellow",
    "does_not_fit": "red",
    "invalid": "red",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text and how to show it: a colour, "bold", "dim", or empty."""

    text: str
    style: str = ""


def report_lines(report: FitReport, *, title: str) -> Iterator[Line]:
    """Yield what `check` prints for *report*; problems are printed elsewhere, as talk."""
    yield Line(f"{title}: {_MEANINGS[report.verdict]}", _STYLES[report.verdict])
    if not report.grants:
        return
    yield Line("")
    for share in report.gpus:
        yield from _gpu_lines(share, report.grants)
    if report.device == "cpu":
        yield from _host_lines(report)
    yield Line("")
    yield from _table(report)
    yield Line("")
    for grant in report.grants:
        yield from _arithmetic(grant)


def explain_lines(name: str, terms: Sequence[Term]) -> Iterator[Line]:
    """Yield what `check --explain` prints: a figure, its formula and its source, term by term."""
    yield Line(name, "bold")
    if not terms:
        yield Line("  nothing was planned for it: see the problems")
    for term in terms:
        size = "" if term.size_bytes is None else exact_size(term.size_bytes)
        yield Line(f"  {term.name:<24}{size:>14}   {term.how}")
        yield Line(f"  {'':<24}{'':>14}   {term.source}", "dim")


def exact_size(count_bytes: int) -> str:
    """Return GiB, MiB, or plain bytes, whichever shows the figure."""
    if count_bytes < 10 * MIB:
        return f"{count_bytes:,} B"
    return gib(count_bytes) if count_bytes >= GIB // 100 else f"{count_bytes / MIB:.1f} MiB"


def report_json(
    report: FitReport, launches: Sequence[Launch], problems: Sequence[Problem]
) -> dict[str, Any]:
    """Return the document of `check --json`."""
    by_name = {launch.name: launch for launch in launches}
    return {
        "verdict": report.verdict,
        "device": report.device,
        "host": {
            "ram_total_bytes": report.host.ram_total_bytes,
            "ram_available_bytes": report.host.ram_available_bytes,
            "cpus": report.host.cpus,
        },
        "gpus": [_gpu_json(share) for share in report.gpus],
        "models": [_model_json(grant, by_name.get(grant.model)) for grant in report.grants],
        "shortfalls": [
            {**asdict(short), "short_bytes": short.short_bytes} for short in report.shortfalls
        ],
        "problems": [asdict(problem) for problem in problems],
    }


def _gpu_json(share: GpuShare) -> dict[str, Any]:
    return {
        "index": share.gpu.index,
        "name": share.gpu.name,
        "total_bytes": share.gpu.total_bytes,
        "free_bytes": share.gpu.free_bytes,
        "reserved_bytes": share.reserved_bytes,
        "left_bytes": share.left_bytes,
    }


def _model_json(grant: Grant, launch: Launch | None) -> dict[str, Any]:
    predicted = None if grant.footprint is None else asdict(grant.footprint)
    return {
        "name": grant.model,
        "gpus": list(grant.gpus),
        "verdict": grant.verdict,
        "gpu_memory_utilization": grant.gpu_memory_utilization,
        "kv_cache_space_gib": grant.kv_cache_space_gib,
        "max_model_len": grant.max_model_len,
        "max_num_seqs": grant.max_num_seqs,
        "max_num_batched_tokens": grant.max_num_batched_tokens,
        "budget_bytes": grant.budget_bytes,
        "reserved_bytes": grant.reserved_bytes,
        "predicted": predicted,
        "argv": [] if launch is None else list(launch.argv),
        "env": {} if launch is None else _shown(launch.env),
    }


def _shown(env: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The environment with what its names call secret left out: reports are passed around."""
    return {name: _HIDDEN if _is_secret(name) else value for name, value in env}


def _is_secret(name: str) -> bool:
    # TOKENIZERS_PARALLELISM and its like hold no token.
    upper = name.upper().replace("TOKENIZER", "")
    return any(word in upper for word in _SECRET_WORDS)


def _gpu_lines(share: GpuShare, grants: Sequence[Grant]) -> Iterator[Line]:
    gpu = share.gpu
    here = [grant for grant in grants if gpu.index in grant.gpus]
    taken = [reserved_on(gpu, grant) for grant in here]
    foreign = max(0, share.reserved_bytes - sum(taken))
    bar = "".join(
        _SIGNS[n % len(_SIGNS)] * _cells(gpu, size_bytes) for n, size_bytes in enumerate(taken)
    )
    bar += "u" * _cells(gpu, foreign)
    over = share.left_bytes < 0
    bar = bar[:_BAR_CELLS] + _OVER if over else bar.ljust(_BAR_CELLS, _FREE)
    left = f"{gib(-share.left_bytes)} too much" if over else f"{gib(share.left_bytes)} left"
    yield Line(f"GPU {gpu.index}  {gpu.name}, {gib(gpu.total_bytes)}", "bold")
    yield Line(f"  [{bar}] {gib(share.reserved_bytes)} reserved, {left}", "red" if over else "")
    signs = [f"{_SIGNS[n % len(_SIGNS)]} {grant.model}" for n, grant in enumerate(here)]
    if foreign:
        signs.append(f"u upstreams {gib(foreign)}")
    held = gpu.total_bytes - gpu.free_bytes
    if held > GIB // 10:
        signs.append(f"{gib(held)} held by others now")
    if signs:
        yield Line("  " + "   ".join(signs), "dim")


def _cells(gpu: Gpu, size_bytes: int) -> int:
    # A demand of any size may be asked about: no more is drawn than the bar shows.
    return round(_BAR_CELLS * min(size_bytes, gpu.total_bytes) / gpu.total_bytes)


def _host_lines(report: FitReport) -> Iterator[Line]:
    host = report.host
    taken = sum(grant.reserved_bytes for grant in report.grants)
    yield Line(
        f"host memory  {gib(host.ram_total_bytes)}, {gib(host.ram_available_bytes)} available, "
        f"{gib(taken)} reserved",
        "bold",
    )


def _table(report: FitReport) -> Iterator[Line]:
    """The figures that people look for, one row for each model."""
    sized = "fraction" if report.device == "cuda" else "cache"
    rows: list[tuple[str, ...]] = [
        ("model", "where", "verdict", sized, "takes", "context", "KV tokens", "requests")
    ]
    rows += [_row(grant) for grant in report.grants]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        cells = [
            text.ljust(width) if column < 3 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield Line("  ".join(cells).rstrip(), "bold" if number == 0 else "")


def _row(grant: Grant) -> tuple[str, ...]:
    where = "GPU " + "+".join(map(str, grant.gpus)) if grant.gpus else "host"
    if grant.gpu_memory_utilization is not None:
        sized = f"{grant.gpu_memory_utilization:.4f}"
    else:
        sized = f"{grant.kv_cache_space_gib} GiB"
    footprint = grant.footprint
    tokens = "?" if footprint is None else f"{footprint.kv_cache_tokens:,}"
    requests = "?" if footprint is None else f"{footprint.max_concurrency:.1f}"
    length = "?" if grant.max_model_len is None else f"{grant.max_model_len:,}"
    takes = gib(grant.reserved_bytes)
    return (grant.model, where, grant.verdict, sized, takes, length, tokens, requests)


def _arithmetic(grant: Grant) -> Iterator[Line]:
    footprint = grant.footprint
    if footprint is None:
        yield Line(f"{grant.model}: its shape is not known, so only its size is planned")
        return
    mark = " (estimated)" if footprint.estimated else ""
    each = " on each GPU" if len(grant.gpus) > 1 else ""
    yield Line(f"{grant.model}{mark}{each}", "bold")
    parts = [
        ("weights", footprint.weights_bytes),
        ("KV cache", footprint.kv_cache_bytes),
        ("activation peak", footprint.activation_bytes),
        ("CUDA graphs", footprint.cuda_graph_bytes),
        ("libraries", footprint.non_torch_bytes),
        ("outside of vLLM's budget", footprint.context_bytes),
    ]
    for name, size in parts:
        if size:
            note = _kv_note(grant, footprint) if name == "KV cache" else ""
            yield Line(f"  {name:<25}{_size(size):>12}{note}")
    yield Line(f"  {'together':<25}{gib(footprint.total_bytes):>12}")


def _size(count_bytes: int) -> str:
    """GiB, but MiB where GiB would show zero."""
    return gib(count_bytes) if count_bytes >= GIB // 100 else f"{count_bytes / MIB:.1f} MiB"


def _kv_note(grant: Grant, footprint: Footprint) -> str:
    return (
        f"   {footprint.kv_bytes_per_token:,} B per token; {footprint.kv_cache_tokens:,} tokens "
        f"= {footprint.max_concurrency:.2f} x {grant.max_model_len or 0:,}"
    )
