"""What was measured on a second card of our own, beside what `check` had said of it before."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gpuserve.memory.activation import HOPPER_CONTEXT_BYTES
from gpuserve.memory.architecture import read_architecture
from gpuserve.memory.engine import Engine, ModelFacts, resolve
from gpuserve.profile.spec import ModelSpec
from gpuserve.units import GIB, MIB
from scripts.accuracy.startups import DATA

MEASURED = DATA / "h200" / "measured.json"
_RELEASE = (0, 26)
SPOILED = "spoiled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One start as gpuserve plans it now, and everything that was measured."""

    engine: Engine
    measured: dict[str, Any]
    total_bytes: int

    @property
    def name(self) -> str:
        """The model's name."""
        return str(self.measured["name"])

    @property
    def first(self) -> bool:
        """Whether nothing was in the compile cache."""
        return bool(self.measured["after"] == "first start")

    @property
    def budget_bytes(self) -> int:
        """What vLLM's fraction of the card is."""
        return int(self.total_bytes * self.measured["gpu_memory_utilization"])

    @property
    def length(self) -> int:
        """The longest request, in tokens."""
        return int(self.measured["settings"]["max_model_len"])

    @property
    def now(self) -> dict[str, float]:
        """The terms, with the keys of what was printed."""
        engine = self.engine
        assert engine.kv is not None
        more = engine.first_start if self.first else 0
        kv = self.budget_bytes - engine.fixed_bytes - more
        outside = engine.context - HOPPER_CONTEXT_BYTES
        return {
            "weights_gib": engine.weights / GIB,
            "activation_peak_gib": (engine.activation + more) / GIB,
            "non_torch_gib": engine.non_torch / GIB,
            "cudagraph_gib": (engine.graphs or outside) / GIB,
            "available_kv_gib": kv / GIB,
            "kv_cache_tokens": engine.kv.capacity(kv, self.length)[0],
            "charged_gib": (self.budget_bytes + engine.context) / GIB,
        }


def measured() -> dict[str, Any]:
    """Return what was recorded."""
    found: dict[str, Any] = json.loads(MEASURED.read_text(encoding="utf-8"))
    return found


def starts() -> list[Start]:
    """Return the starts, in their order."""
    found = measured()
    made = []
    for row in found["starts"]:
        spec = ModelSpec(index=0, name=row["name"], model="org/model", **row["settings"])
        facts = ModelFacts(
            architecture=read_architecture(found["configs"][row["config"]]),
            release=_RELEASE,
            hopper=True,
        )
        total = found["card"]["cuda_total_bytes"]
        made.append(Start(engine=resolve(spec, facts), measured=row, total_bytes=total))
    return made


def section() -> Iterator[str]:
    """Yield the lines of the section."""
    found = measured()
    made = starts()
    yield "\n## On a second card of our own\n"
    yield _ABOUT
    yield (
        "| model | weights | activation peak | libraries | CUDA graphs | KV cache | KV tokens "
        "| off |"
    )
    yield "|---" * 8 + "|"
    for start in made:
        said, row = start.measured["said_before"], start.measured
        yield (
            f"| {start.name} | {_pair('weights_gib', said, row)} | "
            f"{_pair('activation_peak_gib', said, row)} | {_pair('non_torch_gib', said, row)} | "
            f"{_pair('cudagraph_gib', said, row)} | {_pair('available_kv_gib', said, row)} | "
            f"{said['kv_cache_tokens']:,} / {row['kv_cache_tokens']:,} | {_off(said, row)} |"
        )
    yield _BEFORE
    yield _SPOILED.format(
        freed=found["spoiled"]["freed_beside_bytes"] / GIB,
        grown=found["spoiled"]["grown_beside_bytes"] / GIB,
        planned=found["spoiled"]["charged_gib"],
        held=next(s for s in made if s.measured["after"] == SPOILED).measured["held_mib"]
        * MIB
        / GIB,
    )
    yield _AFTER
    yield "| model | weights | CUDA graphs | KV cache | KV tokens | off |"
    yield "|---" * 6 + "|"
    for start in made:
        said, row, now = start.measured["said_before"], start.measured, start.now
        if abs(now["cudagraph_gib"] - said["cudagraph_gib"]) < _SAME_GIB and (
            abs(now["weights_gib"] - said["weights_gib"]) < _SAME_GIB
        ):
            continue
        if row["after"] == SPOILED:
            continue
        yield (
            f"| {start.name} | {_pair('weights_gib', now, row)} | "
            f"{_pair('cudagraph_gib', now, row)} | {_pair('available_kv_gib', now, row)} | "
            f"{now['kv_cache_tokens']:,} / {row['kv_cache_tokens']:,} | {_off(now, row)} |"
        )
    yield _LEFT
    yield (
        "| model | planned before | planned now | held when ready | held under load | ready after |"
    )
    yield "|---" * 6 + "|"
    for start in made:
        row = start.measured
        load = row.get("held_under_load_mib")
        yield (
            f"| {start.name} | {row['said_before']['charged_gib']:.2f} GiB | "
            f"{start.now['charged_gib']:.2f} GiB | {row['held_mib'] * MIB / GIB:.2f} GiB | "
            f"{f'{load * MIB / GIB:.2f} GiB' if load else ''} | {row['start_s']:.0f} s |"
        )
    again = found["again"]
    yield (
        f"| {again['name']}, {again['after']} | | | {again['held_mib'] * MIB / GIB:.2f} GiB | | "
        f"{again['start_s']:.0f} s |"
    )
    yield _HELD


# Of two figures that are printed with two decimals.
_SAME_GIB = 0.005


def _pair(key: str, predicted: dict[str, Any], printed: dict[str, Any]) -> str:
    return f"{predicted[key]:.2f} / {printed[key]:.2f}"


def _off(predicted: dict[str, Any], printed: dict[str, Any]) -> str:
    if printed["after"] == SPOILED:
        return SPOILED
    return f"{predicted['kv_cache_tokens'] / printed['kv_cache_tokens'] - 1:+.1%}"


_ABOUT = """\
One H200, driver 580.159.04, vLLM 0.26.0: Mistral-7B with an FP8 cache (general), Qwen2.5-14B with
512 sequences (large), Gemma 3 4B's text part, read from safetensors (window), deepseek-coder-33b in
AWQ (coder), Qwen2.5-7B with `enforce_eager` (eager) and OLMoE-1B-7B, an architecture that gpuserve
does not know (mixture); coder and eager in a second run. `check` said all of this before the first
of them was started there; what the card above had shown was in it, nothing of this one. Said
before / printed, GiB, with what a first start takes; [what was recorded](../tests/data/h200).
"""
_BEFORE = """\

The largest errors are of the start in eager mode, 0.11 GiB too little of a small cache, and of CUDA
graphs, which are outside of the budget there: 0.33 GiB too little for 512 sequences.
"""
_SPOILED = """\
The start of mixture measured somebody else's memory, and that was gpuserve's fault: a reload ended
window meanwhile. The stop waited for the start, but not longer than `drain_timeout_s`, 5 s there.
{freed:.2f} GiB came free, the others took {grown:.2f} GiB more under load, and mixture made the
difference its cache: it held {held:.2f} GiB where {planned:.2f} were planned. Now no planned stop
frees memory beside a start, whatever `drain_timeout_s` says, a reload lets the old engine serve
until then, and an engine that has become too large in such a way is told of (`memory_drift`). Its
weights and its peak are as good a test as the others', its cache is none.
"""
_AFTER = """\
What this card corrected, so that the figures below are no test of it:

- Gemma 3's windowed layers have a rotary table of their own, and its length has the rope factor
  inside already (vllm/model_executor/models/gemma3.py, vllm/config/model.py).
- On compute capability 9.0 a graph of decoding holds the parts of FlashAttention 3, 32 for each
  sequence and head, in 32 bit (vllm/v1/attention/backends/flash_attn.py).
"""
_LEFT = """\

Left as it is: eager's peak is the sampler's alone, and the 80 MiB that are planned on top of it
were not there; general and coder took them and a little more, and one model is no rule.
"""
_HELD = """\

Under load is after 40 requests of 2,300 tokens at once for each: every engine then held 0.5 to
1.1 GiB more than when it was ready. That is inside each plan's margin, and more than the other card
showed. What neighbours grow by while an engine measures is charged to it: a start beside engines
that have not been under load yet may find that much less cache, or none, and is tried again then.
No start ran out of memory on this card, and none was refused.
"""
