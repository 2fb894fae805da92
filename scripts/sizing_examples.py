# ruff: noqa: E501 - sentences and rows of a page
"""Writes docs/sizing-examples.md: figures from well-known guides beside what `plan` computes.

python -m scripts.sizing_examples            rewrite it
python -m scripts.sizing_examples --check    exit 1 if it is not current
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gpuserve.machine.checkpoint import catalogue_facts
from gpuserve.machine.machinefile import parse_gpu_shorthand
from gpuserve.memory.architecture import Architecture
from gpuserve.memory.engine import ModelFacts, resolve
from gpuserve.memory.quantization import Quantization
from gpuserve.sizing.options import AWQ, Option, options
from gpuserve.sizing.question import Ask, Known, profile_of
from gpuserve.units import GIB, gib

PAGE = Path(__file__).resolve().parent.parent / "docs" / "sizing-examples.md"
BIG = "RTX PRO 6000 Blackwell"
CODER, GENERAL = "TheBloke/deepseek-coder-33B-instruct-AWQ", "TheBloke/Mistral-7B-Instruct-v0.2-AWQ"
CODER_8 = "TheBloke/deepseek-coder-33B-instruct-GPTQ@gptq-8bit-128g-actorder_True"
GENERAL_8 = "TheBloke/Mistral-7B-Instruct-v0.2-GPTQ@gptq-8bit-128g-actorder_True"
CODER_16, GENERAL_16 = (
    "deepseek-ai/deepseek-coder-33b-instruct",
    "mistralai/Mistral-7B-Instruct-v0.2",
)


@dataclass(frozen=True)
class Case:
    """One claim of a guide: what it says, what to ask, on which cards, and why they differ."""

    title: str
    says: str
    asks: Sequence[tuple[str, int, int]]  # model, context, concurrency
    cards: str
    why: str


GUIDE = (
    Case(
        "1: coder 33B AWQ + Mistral 7B AWQ",
        "50 + 20 of 96 GB: fits",
        [(CODER, 16384, 8), (GENERAL, 16384, 8)],
        BIG,
        "Fits. The sizes follow from the demand, not from a multiple of the weights.",
    ),
    Case(
        "the same, 32K for Mistral",
        "not asked",
        [(CODER, 16384, 8), (GENERAL, 32768, 8)],
        BIG,
        "Fits too: what decides is context x concurrency.",
    ),
    Case(
        "2: coder 33B AWQ + Qwen2.5 14B AWQ",
        "50 + 30 of 96 GB: fits, tight",
        [(CODER, 16384, 8), ("Qwen/Qwen2.5-14B-Instruct-AWQ", 16384, 8)],
        BIG,
        "Fits; `max_num_batched_tokens` does not change the cache.",
    ),
    Case(
        "3: Qwen2.5 Coder 32B AWQ + Qwen2.5 7B",
        "50 + 18 of 96 GB: fits",
        [("Qwen/Qwen2.5-Coder-32B-Instruct-AWQ", 16384, 8), ("Qwen/Qwen2.5-7B-Instruct", 32768, 8)],
        BIG,
        "Fits. 18 GB for the 7B is its AWQ size with cache; in BF16 the weights alone are 14.2 GiB.",
    ),
    Case(
        "FP16 on both",
        "75 + 25 GB: does not fit",
        [(CODER_16, 16384, 8), (GENERAL_16, 16384, 8)],
        BIG,
        "True of this demand.",
    ),
    Case(
        "FP16 on both, 2 requests each",
        "does not fit",
        [(CODER_16, 16384, 2), (GENERAL_16, 16384, 2)],
        BIG,
        "It fits closely: the verdict depends on the demand.",
    ),
    Case(
        "8 bit on both",
        "60 + 28 GB: no batching",
        [(CODER_8, 16384, 8), (GENERAL_8, 16384, 8)],
        BIG,
        "Eight requests of 16K each are a batch.",
    ),
    Case(
        "the coder alone",
        "50 GB",
        [(CODER, 16384, 8)],
        BIG,
        "The rest of the card holds more requests.",
    ),
)
FOUR = (
    Case(
        "four models on one card",
        "one card for four models, if the arithmetic is done",
        [
            ("Qwen/Qwen2.5-Coder-32B-Instruct-AWQ", 16384, 4),
            ("Qwen/Qwen2.5-7B-Instruct-AWQ", 16384, 4),
            ("Qwen/Qwen3-4B-AWQ", 16384, 4),
            ("Qwen/Qwen2.5-0.5B-Instruct", 16384, 4),
        ],
        BIG,
        "Each model is charged weights, cache for its demand, and a context outside its budget.",
    ),
)
# "LLM Inference Scenario Analysis": model, bits of a weight, card, context, users, its GB per GPU.
COLUMNS: Sequence[tuple[str, int, str, int, int, float]] = (
    ("meta-llama/Llama-2-7b", 8, "NVIDIA T4", 2048, 4, 8.2),
    ("meta-llama/Llama-2-7b", 16, "NVIDIA A100 40GB", 2048, 8, 18.7),
    ("meta-llama/Llama-2-13b", 16, "NVIDIA A100 80GB", 4096, 16, 45.2),
    ("meta-llama/Llama-2-13b", 16, "NVIDIA A100 80GB", 8192, 4, 68.4),
    ("meta-llama/Llama-2-7b", 16, "NVIDIA A100 40GB:2", 8192, 8, 31.6),
    ("mistralai/Mixtral-8x7B", 16, "NVIDIA H100 80GB", 16384, 6, 52.1),
    ("meta-llama/Llama-2-7b", 8, "NVIDIA A100 40GB:4", 512, 32, 9.8),
    ("meta-llama/Llama-2-13b", 8, "NVIDIA A100 80GB:2", 1024, 24, 18.9),
    ("meta-llama/Llama-2-7b", 4, "NVIDIA T4:8", 512, 64, 4.2),
)


def page() -> str:
    """Return the text of the page."""
    return "\n".join(_page()) + "\n"


def _page() -> Iterator[str]:
    yield "# Worked examples"
    yield ""
    yield "Written by `python -m scripts.sizing_examples` from what `gpuserve plan` computes. Weights and KV"
    yield "cache are exact arithmetic; activation, graphs and libraries are estimates. Sizes are GiB:"
    yield "what drivers count in, and 7 % larger than the GB of a label."
    yield ""
    yield "## Two models on one 96 GB card"
    yield ""
    yield 'The claims are those of the "VRAM Calculation Reference & Quick Setup Guide". A 96 GB card'
    yield f"holds {gib(parse_gpu_shorthand(BIG).gpus[0].total_bytes)} for CUDA."
    yield ""
    yield from _cases(GUIDE)
    yield ""
    yield "Its rules, and why they are not used:"
    yield ""
    yield from _rules()
    yield ""
    yield "## Ten requests of 32K on two L4"
    yield ""
    yield from _ten_requests()
    yield ""
    yield "## Four models on one card"
    yield ""
    yield from _cases(FOUR)
    yield ""
    yield "## The memory columns of a scenario analysis"
    yield ""
    yield 'The figures are those of "LLM Inference Scenario Analysis", per GPU; ours are weights, cache'
    yield "for the stated users and context, and the rest, on one GPU."
    yield ""
    yield from _columns()


def _cases(cases: Sequence[Case]) -> Iterator[str]:
    yield "| scenario | the guide says | weights + KV + rest, each model | reserved | left | verdict | why |"
    yield "|---|---|---|---|---|---|---|"
    for case in cases:
        option = _as_asked(case.asks, case.cards)
        share = option.report.gpus[0]
        each = "; ".join(_parts(model, context, many) for model, context, many in case.asks)
        yield (
            f"| {case.title} | {case.says} | {each} | {share.reserved_bytes / GIB:.2f} | "
            f"{share.left_bytes / GIB:.2f} | {option.verdict.replace('_', ' ')} | {case.why} |"
        )


def _rules() -> Iterator[str]:
    coder = catalogue_facts(CODER, None).architecture
    assert coder is not None
    engine = resolve(
        profile_of([Ask(model=CODER, context_tokens=16384, concurrency=8)]).models[0],
        ModelFacts(architecture=coder),
    )
    assert engine.kv is not None
    naive = 2 * coder.hidden * 2
    yield (
        f'- "KV cache per token = 2 x hidden size x 2" is {naive:,} B for the 33B coder. It forgets '
        f"its {coder.layers} layers and that {coder.heads} heads share {coder.kv_heads}: "
        f"{engine.kv.bytes_per_token:,} B."
    )
    yield '- "Halving max_num_seqs halves the KV cache": it does not change the pool, only who may use it.'
    yield (
        '- "Billions of parameters x bytes / 1024³" divides billions by a power of two: '
        "33 x 2 / 1024³ is not 66."
    )
    yield (
        "- Two engines at `--gpu-memory-utilization 0.88` on one card: the first takes 88 % of it, and "
        "vLLM wants the second 88 % free as well when it starts. It refuses to start."
    )


def _ten_requests() -> Iterator[str]:
    model = "Qwen/Qwen2.5-7B-Instruct"
    ask = Ask(model=model, context_tokens=32768, concurrency=10)
    known = _known(model)
    engine = resolve(profile_of([ask]).models[0], known.facts)
    assert engine.kv is not None
    claimed = 54
    yield (
        f'"GPU Capacity Analysis for 10 Concurrent 32K Requests" calls two L4 insufficient: about '
        f"{claimed} GB of cache for 320K tokens. Its own measurement says otherwise: 96,720 tokens in "
        f"5.17 GiB are {5.17 * GIB / 96720:,.0f} B per token, and {engine.kv.bytes_per_token:,} B is "
        f"what the shape gives. Ten requests of 32,768 tokens need "
        f"{gib(engine.promise_bytes)}, not {claimed} GB."
    )
    yield ""
    yield "| on 2 x NVIDIA L4 | verdict | left on each GPU | full-length requests |"
    yield "|---|---|---|---|"
    for option in options([ask], {model: known}, parse_gpu_shorthand("NVIDIA L4:2")):
        changes = " and ".join(option.changes) or "one card, unquantized"
        left = " / ".join(dict.fromkeys(f"{s.left_bytes / GIB:.2f}" for s in option.report.gpus))
        most = "" if option.most is None else f"{option.most:.1f}"
        if option.report.shortfalls:
            lacks = max(s.short_bytes for s in option.report.shortfalls)
            left = f"short by {lacks / GIB:.2f}"
        yield f"| {changes} | {option.verdict.replace('_', ' ')} | {left} | {most} |"
    yield ""
    yield "With tensor parallel 2 it fits, unquantized. The box of that analysis runs a model on each"
    yield "card; then 4-bit weights and an FP8 cache hold ten requests on each."


def _columns() -> Iterator[str]:
    yield "| model | weights | on | context x users | it says | weights | KV cache | rest | together | of the card |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for model, bits, cards, context, users, said in COLUMNS:
        facts = ModelFacts(architecture=_packed(model, bits))
        ask = Ask(model=model, context_tokens=context, concurrency=users)
        engine = resolve(profile_of([ask]).models[0], facts)
        rest = engine.fixed_bytes - engine.weights + engine.context
        together = engine.weights + engine.promise_bytes + rest
        total = parse_gpu_shorthand(cards).gpus[0].total_bytes
        share = together / total
        fit = f"{share:.0%}" if share <= 1 else f"{share:.0%}: does not fit"
        yield (
            f"| {model.partition('/')[2]} | {bits} bit | {cards.replace('NVIDIA ', '')} | "
            f"{context:,} x {users} | {said} GB | {engine.weights / GIB:.1f} | "
            f"{engine.promise_bytes / GIB:.1f} | {rest / GIB:.1f} | {together / GIB:.1f} GiB | {fit} |"
        )
    yield ""
    yield "Where the analysis is lower, it leaves out cache: Llama 2 has no grouped heads at 7B and 13B,"
    yield "so a token takes 0.5 and 0.8 MiB. Mixtral 8x7B has 46.7 billion parameters: 87 GiB in FP16 do"
    yield "not fit one H100, whatever the batch. Its throughput figures are sometimes per user times batch"
    yield "and sometimes times users, so they are not compared."


def _packed(model: str, bits: int) -> Architecture:
    arch = catalogue_facts(model, None).architecture
    assert arch is not None
    kinds = {
        16: None,
        8: Quantization(method="gptq", bits=8, group_size=128, zero_points=True),
        4: AWQ,
    }
    return replace(arch, quantization=kinds[bits])


def _parts(model: str, context: int, many: int) -> str:
    ask = Ask(model=model, context_tokens=context, concurrency=many)
    engine = resolve(profile_of([ask]).models[0], _known(model).facts)
    rest = engine.fixed_bytes - engine.weights + engine.context
    return (
        f"{engine.weights / GIB:.2f} + {engine.promise_bytes / GIB:.2f} + {rest / GIB:.2f} "
        f"({many} x {context // 1024}K)"
    )


def _as_asked(asks: Sequence[tuple[str, int, int]], cards: str) -> Option:
    made = [Ask(model=m, context_tokens=c, concurrency=n) for m, c, n in asks]
    known = {ask.model: _known(ask.model) for ask in made}
    return options(made, known, parse_gpu_shorthand(cards))[0]


def _known(model: str) -> Known:
    repository, _, revision = model.partition("@")
    facts = catalogue_facts(repository, revision or None)
    assert facts.architecture is not None, model
    packed = catalogue_facts(f"{repository}-AWQ", None)
    return Known(
        facts=facts,
        packed=(f"{repository}-AWQ", packed) if packed.architecture is not None else None,
    )


def main() -> int:
    text = page()
    if "--check" in sys.argv[1:]:
        current = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
        if current != text:
            print(
                f"{PAGE.name} is not current: run python -m scripts.sizing_examples",
                file=sys.stderr,
            )
        return int(current != text)
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
