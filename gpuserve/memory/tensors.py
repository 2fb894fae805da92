"""The tensors of a checkpoint, added up so that a rank's share of them is exact.

A checkpoint lists tensors by name; the names say in which layer a tensor is and whether ranks
divide it (vLLM, model_executor/layers/linear.py: column and row parallel layers are divided,
`ReplicatedLinear`, norms and routers are not).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from gpuserve.memory.stages import stage_bounds

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.(\d{1,4})\.")
_TOWER = re.compile(r"(?:^|\.)(?:visual|vision_tower|vision_model|vision|image_newline|audio)")
_DRAFT = re.compile(r"(?:^|\.)mtp\.")
_EMBEDDING = re.compile(r"(?:^|\.)(?:embed_tokens|wte|word_embeddings|tok_embeddings)\.")
_HEAD = re.compile(r"(?:^|\.)(?:lm_head|output|embed_out)\.weight$")
_KEYS = re.compile(r"\.(?:k_proj|v_proj)\.")
# Not divided: norms, routers, latent down-projections, indexers, and what adds a row's result.
_REPLICATED = re.compile(
    r"norm|layernorm|\.gate\.(?:weight|bias|e_score)|router|q_a_proj|kv_a_proj|indexer"
    r"|shared_expert_gate|(?:o_proj|down_proj|out_proj|dense_4h_to_h)\.bias$|g_idx|rotary"
)


@dataclass(frozen=True, slots=True)
class LayerSums:
    """Bytes of one layer: what ranks divide, keys and values, and what every rank has whole."""

    divided: int = 0
    keys: int = 0
    whole: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSums:
    """The bytes of a checkpoint by where they lie. `layers` in order; the rest around them.

    `drafts` are layers for speculation, which vLLM loads only when it is asked to.
    """

    layers: tuple[LayerSums, ...]
    embedding: int
    head: int
    tower: int
    around: int
    drafts: int

    @property
    def total_bytes(self) -> int:
        """Everything that vLLM loads without speculation, on one GPU."""
        layers = sum(x.divided + x.keys + x.whole for x in self.layers)
        return layers + self.embedding + self.head + self.tower + self.around

    def rank_bytes(
        self,
        *,
        tensor_parallel_size: int,
        pipeline_parallel_size: int,
        kv_heads: int,
        vocab: int,
        headless: bool = False,
    ) -> int:
        """Return the bytes on the fullest rank; `headless` leaves the output head out.

        Keys and values are replicated where there are fewer heads than ranks, vocabularies padded
        to a multiple of 64 when they are divided, and tied embeddings stand on both ends of a
        pipeline.
        """
        tp = tensor_parallel_size
        if tp == 1 and pipeline_parallel_size == 1:
            return self.total_bytes - (self.head if headless else 0)
        shares = min(tp, kv_heads)
        padded = -(-vocab // 64) * 64 / vocab if tp > 1 else 1.0
        stages = []
        for first, after in stage_bounds(len(self.layers), pipeline_parallel_size):
            here = self.layers[first:after]
            size = sum(x.divided / tp + x.keys / shares + x.whole for x in here)
            stages.append(size)
        stages[0] += self.embedding * padded / tp + self.tower / tp
        head = self.head or (self.embedding if pipeline_parallel_size > 1 else 0)
        head = 0 if headless else head
        stages[-1] += head * padded / tp + self.around
        return int(max(stages)) + 1


def add_up(
    tensors: Iterable[tuple[str, str, int]],
    *,
    layers: int,
    tied_embeddings: bool,
    keep_float32: bool,
) -> TensorSums:
    """Return the sums of *tensors*, (name, dtype, bytes) of each.

    Without `keep_float32` a float32 tensor counts half, because vLLM loads it in 16 bit. Layers
    beyond *layers* and those named mtp are drafts. A head that is tied to the embedding is not
    counted.
    """
    sums = [[0, 0, 0] for _ in range(layers)]
    embedding = head = tower = around = drafts = 0
    for name, dtype, size in tensors:
        size = size if keep_float32 or dtype != "F32" else size // 2
        found = _LAYER.search(name)
        if _DRAFT.search(name) or (found and int(found[1]) >= layers and not _TOWER.search(name)):
            drafts += size
        elif _TOWER.search(name):
            tower += size
        elif found:
            sums[int(found[1])][_place(name)] += size
        elif _EMBEDDING.search(name):
            embedding += size
        elif _HEAD.search(name):
            head += 0 if tied_embeddings else size
        else:
            around += size
    return TensorSums(
        layers=tuple(LayerSums(*each) for each in sums),
        embedding=embedding,
        head=head,
        tower=tower,
        around=around,
        drafts=drafts,
    )


def _place(name: str) -> int:
    if _REPLICATED.search(name):
        return 2
    return 1 if _KEYS.search(name) else 0
