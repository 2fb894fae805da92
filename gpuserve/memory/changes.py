"""Changes to one model that make room, each as a ladder from the strongest to the mildest."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from gpuserve.memory.engine import Engine, ModelFacts, resolve
from gpuserve.memory.quantization import Quantization
from gpuserve.profile.spec import Demand, ModelSpec
from gpuserve.units import gib

# Contexts are proposed in steps of this, as people state them.
_CONTEXT_STEP = 1024
# Below this a prompt takes so many steps that its first token is late.
_FEWEST_BATCHED_TOKENS = 256
_AWQ = Quantization(method="awq", bits=4, group_size=128, zero_points=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A model changed, and the change in words with its figures."""

    spec: ModelSpec
    facts: ModelFacts
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """Every size of one change: `at(1)` makes the most room, `at(steps)` the least.

    `cost` is what it takes from whoever uses the model: an order, not a measure.
    """

    cost: int
    steps: int
    at: Callable[[int], Variant]


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """What changes may count on: a CPU box or not, and how many GPUs."""

    cpu: bool
    gpus: int


Holds = Callable[[Variant], bool]
Kind = Callable[[ModelSpec, ModelFacts, Box], Ladder | None]


def shorter(spec: ModelSpec, facts: ModelFacts, box: Box) -> Ladder | None:
    """A shorter context."""
    tokens = resolve(spec, facts, cpu=box.cpu).promise_tokens
    name = "demand.context_tokens" if spec.demand else "max_model_len"

    def at(n: int) -> Variant:
        length = n * _CONTEXT_STEP
        demand = spec.demand and replace(spec.demand, context_tokens=length)
        changed = replace(spec, demand=demand, max_model_len=length)
        return Variant(spec=changed, facts=facts, words=f"{name} = {length} instead of {tokens}")

    return _ladder(6, (tokens - 1) // _CONTEXT_STEP, at)


def fewer(spec: ModelSpec, facts: ModelFacts, _: Box) -> Ladder | None:
    """Fewer requests at once, of those that were promised."""
    demand = spec.demand
    if demand is None:
        return None

    def at(n: int) -> Variant:
        words = f"demand.concurrency = {n} instead of {demand.concurrency}"
        return Variant(spec=crowd(spec, demand, n), facts=facts, words=words)

    return _ladder(6, demand.concurrency - 1, at)


def crowd(spec: ModelSpec, demand: Demand, concurrency: int) -> ModelSpec:
    """Return *spec*, whose demand is *demand*, promised to *concurrency* requests at once."""
    return replace(spec, demand=replace(demand, concurrency=concurrency), max_num_seqs=concurrency)


def packed_cache(spec: ModelSpec, facts: ModelFacts, box: Box) -> Ladder | None:
    """A cache of 8 bit."""
    if spec.kv_cache_dtype not in {None, "auto"}:
        return None
    before = resolve(spec, facts, cpu=box.cpu).promise_bytes
    changed = replace(spec, kv_cache_dtype="fp8")
    after = resolve(changed, facts, cpu=box.cpu).promise_bytes
    if after >= before:
        return None
    words = (
        f'kv_cache_dtype = "fp8": {gib(after)} of KV cache instead of {gib(before)}, where the '
        "card and its attention backend read it"
    )
    return _single(3, Variant(spec=changed, facts=facts, words=words))


def smaller_batch(spec: ModelSpec, facts: ModelFacts, box: Box) -> Ladder | None:
    """Fewer tokens in a step: less activation memory, and long prompts take longer."""
    arch = facts.architecture
    engine = resolve(spec, facts, cpu=box.cpu)
    if arch is None or arch.embeddings:  # a pooling model takes its prompts whole
        return None
    least = max(_FEWEST_BATCHED_TOKENS, engine.max_num_seqs)
    sizes = [size for size in (256, 512, 1024, 2048, 4096, 8192, 16384) if size >= least]
    sizes = [size for size in sizes if size < engine.max_num_batched_tokens]

    def at(n: int) -> Variant:
        changed = replace(spec, max_num_batched_tokens=sizes[n - 1])
        words = (
            f"max_num_batched_tokens = {sizes[n - 1]} instead of {engine.max_num_batched_tokens}"
            f"{_fixed(engine, changed, facts, box)}"
        )
        return Variant(spec=changed, facts=facts, words=words)

    return _ladder(2, len(sizes), at)


def fewer_sequences(spec: ModelSpec, facts: ModelFacts, box: Box) -> Ladder | None:
    """Fewer sequences in a step, never below what was promised: fewer graphs and logits."""
    engine = resolve(spec, facts, cpu=box.cpu)
    least = spec.demand.concurrency if spec.demand else 1
    sizes = [size for size in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512) if size >= least]
    sizes = [size for size in sizes if size < engine.max_num_seqs]

    def at(n: int) -> Variant:
        changed = replace(spec, max_num_seqs=sizes[n - 1])
        words = (
            f"max_num_seqs = {sizes[n - 1]} instead of {engine.max_num_seqs}"
            f"{_fixed(engine, changed, facts, box)}"
        )
        return Variant(spec=changed, facts=facts, words=words)

    return _ladder(3, len(sizes), at)


def split(spec: ModelSpec, facts: ModelFacts, box: Box) -> Ladder | None:
    """More GPUs for it, the fewest first."""
    arch = facts.architecture
    if box.cpu or arch is None or spec.gpus is not None or spec.pipeline_parallel_size > 1:
        return None
    counts = [
        ranks
        for ranks in (8, 4, 2)
        if spec.tensor_parallel_size < ranks <= box.gpus and not arch.heads % ranks
    ]

    def at(n: int) -> Variant:
        ranks = counts[n - 1]
        wide = replace(spec, tensor_parallel_size=ranks)
        each = resolve(wide, facts)
        words = (
            f"tensor_parallel_size = {ranks}: {gib(each.least_bytes + each.context)} on each "
            f"of {ranks} GPUs"
        )
        return Variant(spec=wide, facts=facts, words=words)

    return _ladder(4, len(counts), at)


def eager(spec: ModelSpec, facts: ModelFacts, box: Box) -> Ladder | None:
    """No CUDA graphs."""
    graphs = 0 if box.cpu else resolve(spec, facts).graphs
    if not graphs:
        return None
    words = f"enforce_eager = true: without CUDA graphs, {gib(graphs)}, and with slower answers"
    changed = replace(spec, enforce_eager=True)
    return _single(5, Variant(spec=changed, facts=facts, words=words))


def quantized(spec: ModelSpec, facts: ModelFacts, box: Box) -> Ladder | None:
    """A checkpoint of 4 bit."""
    arch = facts.architecture
    if arch is None or arch.quantization is not None or spec.quantization is not None:
        return None
    packed = ModelFacts(architecture=replace(arch, quantization=_AWQ), release=facts.release)
    before = resolve(spec, facts, cpu=box.cpu).weights
    after = resolve(spec, packed, cpu=box.cpu).weights
    words = f"a 4-bit checkpoint (AWQ): {gib(after)} of weights instead of {gib(before)}"
    return _single(8, Variant(spec=spec, facts=packed, words=words))


# In the order in which they are told.
KINDS: tuple[Kind, ...] = (
    *(shorter, fewer, packed_cache, smaller_batch, fewer_sequences),
    *(split, eager, quantized),
)


def mildest(ladder: Ladder | None, holds: Holds) -> Variant | None:
    """Return the mildest step of *ladder* for which *holds*, None where none does."""
    if ladder is None:
        return None
    if not holds(ladder.at(1)):
        return None
    return ladder.at(max(1, largest(ladder.steps, lambda n: holds(ladder.at(n)))))


def mildest_pair(
    first: Ladder, second: Kind, box: Box, holds: Holds
) -> tuple[Variant, Variant] | None:
    """Return a step of *first* and one of *second* upon it, with which *holds*.

    The first is as mild as the strongest second allows, the second as mild as that allows then.
    """

    def strongest(variant: Variant) -> bool:
        ladder = second(variant.spec, variant.facts, box)
        return ladder is not None and holds(ladder.at(1))

    one = mildest(first, strongest)
    two = None if one is None else mildest(second(one.spec, one.facts, box), holds)
    return None if one is None or two is None else (one, two)


def largest(most: int, holds: Callable[[int], bool]) -> int:
    """Return the largest n of 1 to *most* for which *holds*, which is monotone; 0 if none."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if holds(middle):
            low = middle
        else:
            high = middle - 1
    return low


def _fixed(engine: Engine, changed: ModelSpec, facts: ModelFacts, box: Box) -> str:
    """What activation, logits and graphs take then and took before."""
    other = resolve(changed, facts, cpu=box.cpu)
    then, before = other.fixed_bytes - other.weights, engine.fixed_bytes - engine.weights
    return f": {gib(then)} beside weights and cache instead of {gib(before)}"


def _ladder(cost: int, steps: int, at: Callable[[int], Variant]) -> Ladder | None:
    return Ladder(cost=cost, steps=steps, at=at) if steps > 0 else None


def _single(cost: int, variant: Variant) -> Ladder:
    return Ladder(cost=cost, steps=1, at=lambda _: variant)
