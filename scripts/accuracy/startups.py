"""One start of vLLM as its log tells it, and what the operator knew before."""

import json
from dataclasses import dataclass, fields
from pathlib import Path

DATA = Path(__file__).resolve().parents[2] / "tests" / "data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Startup:
    """A row of tests/data/*.jsonl; None: the log does not say. Sizes are GiB of one rank.

    `model` is the name in the log, `model_id` one of the same shape.
    """

    id: int
    outcome: str
    source: str
    notes: str = ""
    engine: str = "V1"
    vllm_version: str | None = None
    model: str | None = None
    model_id: str | None = None
    model_inferred: bool = False
    dtype: str | None = None
    quantization: str | None = None
    gpu_type: str | None = None
    gpu_total_gib: float | None = None
    num_gpus: int | None = None
    tensor_parallel_size: int | None = None
    pipeline_parallel_size: int | None = None
    gpu_memory_utilization: float | None = None
    util_is_default: bool = False
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    kv_cache_dtype: str | None = None
    enforce_eager: bool | None = None
    weights_gib: float | None = None
    activation_peak_gib: float | None = None
    non_torch_gib: float | None = None
    consumed_gib: float | None = None
    cudagraph_gib: float | None = None
    cudagraph_est_gib: float | None = None
    available_kv_gib: float | None = None
    gpu_blocks: int | None = None
    block_size: int | None = None
    kv_cache_tokens: int | None = None
    max_concurrency: float | None = None
    max_concurrency_len: int | None = None
    free_on_startup_gib: float | None = None

    @property
    def started(self) -> bool:
        """Whether vLLM came up."""
        return self.outcome == "started"

    @property
    def tokens(self) -> int | None:
        """The tokens that the cache holds, as printed or as blocks."""
        if self.kv_cache_tokens is not None:
            return self.kv_cache_tokens
        if self.gpu_blocks is not None:
            return self.gpu_blocks * (self.block_size or 16)
        return None


def load(path: Path) -> list[Startup]:
    """Return the starts of a file with one JSON object a line.

    Raises ValueError, with the line, for a row that lacks what every row has.
    """
    names = {field.name for field in fields(Startup)}
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            found.append(Startup(**{k: v for k, v in row.items() if k in names and v is not None}))
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{path}:{number}: {error}") from error
    return found
