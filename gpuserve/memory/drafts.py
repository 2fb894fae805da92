"""The model that guesses tokens ahead: what it adds to weights and cache.

A draft of its own (a small model, EAGLE) has its own checkpoint; MTP layers are in the target's.
"""

from dataclasses import dataclass, replace

from gpuserve.memory.architecture import Architecture
from gpuserve.memory.engineargs import Speculation
from gpuserve.memory.weights import weights_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What speculation adds on one rank; `architecture` None: nothing, or not known.

    `tokens` are guessed at a time. `unknown`: a draft model is asked for whose shape is not
    known, so that sizes are too small.
    """

    tokens: int = 0
    architecture: Architecture | None = None
    weights_bytes: int = 0
    unknown: bool = False


def draft_of(
    asked: Speculation | None,
    target: Architecture,
    draft: Architecture | None,
    *,
    draft_bytes: int | None = None,
    tensor_parallel_size: int = 1,
) -> Draft:
    """Return what *asked* adds to *target*; *draft* is the shape of the model that it names.

    `draft_bytes` is the sum of the draft's tensors where its files are here.
    """
    if asked is None:
        return Draft()
    if asked.model is not None:
        if draft is None:
            return Draft(tokens=asked.tokens, unknown=True)
        own = weights_bytes(
            draft, tensor_parallel_size=tensor_parallel_size, checkpoint_bytes=draft_bytes
        )
        return Draft(tokens=asked.tokens, architecture=draft, weights_bytes=own)
    if not asked.own_layers:
        return Draft(tokens=asked.tokens)
    layer = target.all_layers[-1]
    count = max(1, target.draft_layers)
    mtp = replace(
        target, stack=(layer,) * count, layers=count, tower=None, tied_embeddings=True, vocab=64
    )
    # Its layers, and a projection that joins the hidden state with the next token's embedding;
    # embedding and head are the target's (deepseek_mtp.py, qwen3_next_mtp.py).
    joined = count * 2 * target.hidden * target.hidden * target.param_bytes
    own = weights_bytes(mtp, tensor_parallel_size=tensor_parallel_size) + joined
    return Draft(tokens=asked.tokens, architecture=mtp, weights_bytes=own)
