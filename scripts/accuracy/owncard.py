"""What was measured on a card of our own, beside what gpuserve predicts: a section of the page."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gpuserve.memory.activation import HOPPER_CONTEXT_BYTES
from gpuserve.memory.engine import Engine
from gpuserve.units import GIB, MIB
from scripts.accuracy.known import known_of
from scripts.accuracy.predict import Prediction, predictions
from scripts.accuracy.startups import DATA, Startup

MEASURED = DATA / "h100" / "measured.json"
_RELEASE = "0.26.0"
_ROW = set(Startup.__dataclass_fields__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One start: what gpuserve predicts of it, and everything that was measured."""

    made: Prediction
    measured: dict[str, Any]

    @property
    def engine(self) -> Engine:
        """The engine as gpuserve plans it."""
        return self.made.engine

    @property
    def first(self) -> bool:
        """Whether nothing was in the compile cache."""
        return bool(self.measured["after"] == "first start")

    @property
    def activation_gib(self) -> float:
        """The peak of this start, with what a first one takes besides."""
        return (self.engine.activation + self.engine.first_start * self.first) / GIB

    @property
    def kv_gib(self) -> float:
        """The cache of this start."""
        kv = self.made.kv_gib
        assert kv is not None  # card and fraction are known
        return kv - self.engine.first_start * self.first / GIB

    @property
    def tokens(self) -> int:
        """The tokens of that cache."""
        assert self.engine.kv is not None
        return self.engine.kv.capacity(int(self.kv_gib * GIB), self.measured["max_model_len"])[0]

    @property
    def planned_gib(self) -> float:
        """What is charged to the card: the budget, and what is outside of it."""
        known = self.made.known
        assert known.total_bytes is not None
        assert known.fraction is not None
        return (known.total_bytes * known.fraction + self.engine.context) / GIB


def measured() -> dict[str, Any]:
    """Return what was recorded."""
    found: dict[str, Any] = json.loads(MEASURED.read_text(encoding="utf-8"))
    return found


def starts() -> list[Start]:
    """Return the starts, in their order."""
    found = measured()
    rows = [
        Startup(
            **{key: value for key, value in row.items() if key in _ROW},
            id=1000 + n,
            outcome="started",
            source="own card",
            vllm_version=_RELEASE,
            gpu_type="H100 80GB HBM3",
            gpu_total_gib=found["card"]["cuda_total_bytes"] / GIB,
            num_gpus=1,
        )
        for n, row in enumerate(found["starts"])
    ]
    made = predictions(rows)
    assert len(made) == len(rows)
    assert all(known_of(row).total_bytes == found["card"]["cuda_total_bytes"] for row in rows)
    return [Start(made=one, measured=row) for one, row in zip(made, found["starts"], strict=True)]


def section() -> Iterator[str]:
    """Yield the lines of the section."""
    found = measured()
    yield "\n## On a card of our own\n"
    yield _ABOUT
    yield (
        "| model | start | weights | activation peak | libraries | CUDA graphs | KV cache | "
        "KV tokens |"
    )
    yield "|---" * 8 + "|"
    for start in starts():
        row, engine = start.measured, start.engine
        graphs = start.made.graphs_gib
        yield (
            f"| {row['name']} | {row['after']} | {start.made.weights_gib:.2f} / "
            f"{row['weights_gib']:.2f} | {start.activation_gib:.2f} / "
            f"{row['activation_peak_gib']:.2f} | {engine.non_torch / GIB:.2f} / "
            f"{row['non_torch_gib']:.2f} | {graphs:.2f} / {row['cudagraph_gib']:.2f} | "
            f"{start.kv_gib:.2f} / {row['available_kv_gib']:.2f} | {start.tokens:,} / "
            f"{row['kv_cache_tokens']:,} |"
        )
    yield _TERMS
    before = found["predicted_before"]["kv_cache_tokens"]
    first = {start.measured["name"]: start.measured for start in starts() if start.first}
    told = ", ".join(
        f"{name} {tokens:,} ({tokens / first[name]['kv_cache_tokens'] - 1:+.1%})"
        for name, tokens in before.items()
    )
    yield f"Before, `check` had said of the tokens of the first starts: {told}.\n"
    yield "| model | start | planned | held when ready | held under load | ready after |"
    yield "|---" * 6 + "|"
    for start in starts():
        row = start.measured
        load = row.get("held_under_load_mib")
        yield (
            f"| {row['name']} | {row['after']} | {start.planned_gib:.2f} GiB | "
            f"{row['held_mib'] * MIB / GIB:.2f} GiB | "
            f"{f'{load * MIB / GIB:.2f} GiB' if load else ''} | {row['start_s']:.0f} s |"
        )
    pinned = found["pinned"]
    yield (
        f"| {pinned['name']} | pinned | | {pinned['held_mib'] * MIB / GIB:.2f} GiB | | "
        f"{pinned['start_s']:.0f} s |"
    )
    yield _HELD
    yield "| what ended | held | memory back after | ready again after |"
    yield "|---|---|---|---|"
    for row in found["memory_back"]:
        again = row["ready_again_s"]
        yield (
            f"| {row['what']} | {row['held_mib'] * MIB / GIB:.2f} GiB | {row['after_s']:.2f} s | "
            f"{f'{again:.0f} s' if again else ''} |"
        )
    context = found["card"]["context_bytes"]
    charged = found["charged_for_others"]
    wanted, left = charged["wanted_gib"], charged["available_kv_gib"]
    yield _CARD.format(
        first=context[0] / MIB, second=context[1] / MIB, planned=HOPPER_CONTEXT_BYTES / MIB
    )
    yield _TOGETHER.format(wanted=wanted, left=left)


_ABOUT = """\
One H100 80GB, driver 580.159.04, vLLM 0.26.0, random weights of the true shapes
(`load_format = "dummy"`): deepseek-coder-33b in AWQ (coder), Mistral-7B (general), and Qwen2.5-7B
(third), which was added while the two served. Predicted / printed, GiB;
[what was recorded](../tests/data/h100).
"""
_TERMS = """
What these starts corrected, so that the figures above are no test of it:

- 0.26 to 0.28 do not pay CUDA graphs of dense models from the budget, but on top of it.
- On compute capability 9.0 AWQ's zero points stand in 16 bit: 0.36 GiB of the coder.
- PyTorch's allocator no longer cuts large blocks to size while it loads: 0.04 GiB of the third.
- A first start, with nothing in the compile cache, holds the embedding twice while a kernel is
  tuned. Its cache is smaller by that, and the next start's is larger.
- Loading AWQ needs more than the weights: the coder took 22.97 GiB on the idle card before 17.36.

`check` plans with the peak of a later start. What a first one takes besides is in the margin, and
one that fails for it is tried again.
"""
_HELD = """
Under load – 40 requests of 2,340 tokens at once – PyTorch keeps what it once needed, and kernels
are loaded as they are used: 0.38 GiB for the coder, which then holds 0.28 GiB more than planned,
and 0.30 for the other. The pinned start measured nothing; that it was 12 s shorter than the one
before is mostly that this one had still compiled kernels of Triton's, for 11 s.
"""
_CARD = """
CUDA's total is NVML's less what it calls reserved, to the byte. A context takes {first:.0f} MiB of
the card, that of the second process {second:.0f}; {planned:.0f} are planned.
"""
_TOGETHER = """\
Two engines that were started at once on purpose beside two tiny ones, without gpuserve, with
{wanted[0]:.2f} and {wanted[1]:.2f} GiB for 13.50 GiB of weights each, found {left[0]:.2f} and
{left[1]:.2f} GiB left for their caches: each was charged for the others. That is what one start at
a time per GPU is for.
"""
