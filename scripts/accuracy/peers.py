"""Other people's rules, applied to the same starts.

- documents: weights = billions of parameters x bytes (0.5 for 4 bit), in GiB; a token takes
  2 x hidden x 2 bytes of cache; everything else is cache (a common quick guide).
- GPUStack: weights x 1.2 + 2 GiB for everything but the cache (gpustack/scheduler/calculator).
- weights / 0.9: what is loaded, and a ninth of it for the rest.
- checkpoint size: what `accelerate estimate-memory` and hf-mem print; both need the hub, so the
  figure is computed here from the same shapes.
"""

from collections.abc import Callable
from dataclasses import dataclass

from gpuserve.units import GIB
from scripts.accuracy.predict import Pair, Prediction, actual_kv_gib

_BITS = {"awq": 4, "gptq": 4, "mxfp4": 4, "nvfp4": 4}


@dataclass(frozen=True, slots=True)
class Peer:
    """A rule: weights and everything but the cache, in GiB; bytes of a token, None: it has none."""

    name: str
    weights: Callable[[Prediction], float]
    fixed: Callable[[float], float]
    token_bytes: Callable[[Prediction], float] | None


def _parameters(one: Prediction) -> float:
    """Weights at 16 bit, halved: the number of parameters, as a model card has it."""
    from dataclasses import replace

    from gpuserve.memory.weights import weights_bytes

    arch = one.known.facts.architecture
    assert arch is not None  # predictions() keeps no other
    return weights_bytes(replace(arch, quantization=None)) / 2


def _by_bits(one: Prediction) -> float:
    arch = one.known.facts.architecture
    quant = arch.quantization if arch is not None else None
    bits = 16 if quant is None else _BITS.get(quant.method, quant.bits)
    return _parameters(one) * bits / 8 / 1e9 / one.known.spec.tensor_parallel_size


def _checkpoint(one: Prediction) -> float:
    from gpuserve.memory.engine import rank_weights_bytes

    known = one.known
    assert known.facts.architecture is not None  # predictions() keeps no other
    return rank_weights_bytes(known.spec, known.facts, known.facts.architecture) / GIB


def _by_hidden(one: Prediction) -> float:
    arch = one.known.facts.architecture
    return 2 * arch.hidden * 2 if arch is not None else 0.0


PEERS = (
    Peer("quick guides", _by_bits, lambda weights: weights, _by_hidden),
    Peer("GPUStack", _checkpoint, lambda weights: weights * 1.2 + 2, None),
    Peer("weights / 0.9", _checkpoint, lambda weights: weights / 0.9, None),
    Peer("checkpoint size", _checkpoint, lambda weights: weights, None),
)


def peer_pairs(peer: Peer, made: list[Prediction], term: str) -> list[Pair]:
    """Return what *peer* says for *term*, [] for a term that it has no rule for."""
    found = []
    for one in made:
        both = _both(peer, one, term)
        if both is not None:
            found.append(Pair(row=one.row, predicted=both[0], actual=both[1]))
    return found


def _both(peer: Peer, one: Prediction, term: str) -> tuple[float, float] | None:
    row, known = one.row, one.known
    if term == "weights, GiB" and row.weights_gib is not None:
        return peer.weights(one), row.weights_gib
    actual = actual_kv_gib(one)
    if term == "KV cache, GiB" and actual is not None:
        if known.total_bytes is None or known.fraction is None:
            return None
        budget = known.total_bytes * known.fraction / GIB
        return budget - peer.fixed(peer.weights(one)), actual
    if term == "KV tokens of given bytes" and peer.token_bytes is not None:
        tokens, given = row.tokens, row.available_kv_gib
        if tokens is None or given is None or given <= 0:
            return None
        return given * GIB / peer.token_bytes(one), tokens
    return None
