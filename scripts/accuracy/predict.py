"""What gpuserve and others would have said before a start, beside what vLLM then printed."""

from dataclasses import dataclass

from gpuserve.memory.assess import assess
from gpuserve.memory.engine import Engine, context_bytes, resolve
from gpuserve.profile.spec import Profile, ServerSpec
from gpuserve.readings import Host, Machine
from gpuserve.units import GIB
from scripts.accuracy.known import Known, card_of, known_of
from scripts.accuracy.startups import Startup

_PLENTY = 1 << 50  # of host memory: the logs do not tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One figure of one start: predicted and printed, in the unit of the term."""

    row: Startup
    predicted: float
    actual: float

    @property
    def error(self) -> float:
        """Predicted less actual."""
        return self.predicted - self.actual

    @property
    def relative(self) -> float:
        """The error as a share of what was printed."""
        return self.error / abs(self.actual) if self.actual else float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """A start, what was known before it, and the engine that gpuserve makes of that."""

    row: Startup
    known: Known
    engine: Engine

    @property
    def weights_gib(self) -> float:
        """As vLLM counts: the tensors, and what loading leaves beside them."""
        return self.engine.weights / GIB

    @property
    def graphs_gib(self) -> float:
        """CUDA graphs, whether they are inside the budget of that release or on top of it."""
        outside = self.engine.context - context_bytes(self.known.facts)
        return (self.engine.graphs + outside) / GIB

    @property
    def kv_gib(self) -> float | None:
        """The cache, where card and fraction are known."""
        known = self.known
        if known.total_bytes is None or known.fraction is None or self.engine.kv is None:
            return None
        return known.total_bytes * known.fraction / GIB - self.engine.fixed_bytes / GIB


def verdict_of(known: Known) -> str | None:
    """Return what `check` says about the start alone on its card; None: the card is not known."""
    if known.total_bytes is None or known.fraction is None:
        return None
    profile = Profile(path="/log.toml", server=ServerSpec(), device="cuda", models=(known.spec,))
    host = Host(ram_total_bytes=_PLENTY, ram_available_bytes=_PLENTY, cpus=1)
    machine = Machine(gpus=card_of(known), host=host)
    return assess(profile, {known.spec.name: known.facts}, machine, "cuda").verdict


def predictions(rows: list[Startup]) -> list[Prediction]:
    """Return a prediction for each row whose model's shape is known."""
    found = []
    for row in rows:
        known = known_of(row)
        if known.facts.architecture is not None:
            found.append(Prediction(row=row, known=known, engine=resolve(known.spec, known.facts)))
    return found


def actual_kv_gib(made: Prediction) -> float | None:
    """What vLLM gave to the cache: as printed, or blocks x their size."""
    row = made.row
    if row.available_kv_gib is not None:
        return row.available_kv_gib
    if row.gpu_blocks is not None and made.engine.kv is not None:
        # The release padded rows of 576 elements to 640, unless it was told not to.
        unpadded = 576 / 640 if "MEM_ALIGN_KV_CACHE=0" in row.notes else 1
        return row.gpu_blocks * made.engine.kv.block_bytes * unpadded / GIB
    return None


def pairs(made: list[Prediction], term: str) -> list[Pair]:
    """Return what can be compared for *term*, one of TERMS."""
    found = []
    for one in made:
        both = _TERMS[term](one)
        if both is not None:
            found.append(Pair(row=one.row, predicted=both[0], actual=both[1]))
    return found


_Both = tuple[float, float] | None


def _weights(one: Prediction) -> _Both:
    actual = one.row.weights_gib
    return None if actual is None else (one.weights_gib, actual)


def _kv_gib(one: Prediction) -> _Both:
    predicted, actual = one.kv_gib, actual_kv_gib(one)
    return None if predicted is None or actual is None else (predicted, actual)


def _kv_tokens(one: Prediction) -> _Both:
    """From the bytes that vLLM printed, so that only the arithmetic of the cache is compared."""
    row, kv = one.row, one.engine.kv
    if row.available_kv_gib is None or row.available_kv_gib <= 0 or kv is None:
        return None
    tokens = row.tokens
    if tokens is None:
        return None
    length = row.max_concurrency_len or one.engine.max_model_len or 1
    blocks_tokens, _ = kv.capacity(int(row.available_kv_gib * GIB), length)
    return blocks_tokens, tokens


def _concurrency(one: Prediction) -> _Both:
    row, kv = one.row, one.engine.kv
    if row.max_concurrency is None or row.max_concurrency_len is None or kv is None:
        return None
    if row.available_kv_gib is not None:
        pool = int(row.available_kv_gib * GIB)
    elif row.gpu_blocks is not None:
        pool = row.gpu_blocks * kv.block_bytes
    else:
        return None
    return kv.capacity(pool, row.max_concurrency_len)[1], row.max_concurrency


def _activation(one: Prediction) -> _Both:
    actual = one.row.activation_peak_gib
    return None if actual is None else (one.engine.activation / GIB, actual)


def _graphs(one: Prediction) -> _Both:
    actual = one.row.cudagraph_est_gib
    if actual is None:
        actual = one.row.cudagraph_gib
    return None if actual is None else (one.graphs_gib, actual)


def _non_torch(one: Prediction) -> _Both:
    row = one.row
    actual = row.non_torch_gib
    if actual is None and row.consumed_gib is not None and row.weights_gib is not None:
        actual = row.consumed_gib - row.weights_gib
    if actual is None:
        return None
    return one.engine.non_torch / GIB, actual


_TERMS = {
    "weights, GiB": _weights,
    "KV cache, GiB": _kv_gib,
    "KV tokens of given bytes": _kv_tokens,
    "concurrency": _concurrency,
    "activation peak, GiB": _activation,
    "CUDA graphs, GiB": _graphs,
    "non-torch, GiB": _non_torch,
}
TERMS = tuple(_TERMS)
