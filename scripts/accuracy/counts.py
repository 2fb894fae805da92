"""Tiny models whose cache real vLLM for CPU has counted, and what is predicted for them."""

import json
from dataclasses import dataclass
from typing import Any

from gpuserve.memory.architecture import read_architecture
from gpuserve.memory.kv import kv_shape
from gpuserve.units import GIB
from scripts.accuracy.startups import DATA

_LENGTH, _BATCHED, _RELEASE = 2048, 512, (0, 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """A row of tests/data/cpu_counts.jsonl."""

    name: str
    config: dict[str, Any]
    kv_cache_tokens: int
    max_concurrency: float

    def predicted(self) -> tuple[int, float]:
        """Return the tokens and requests that gpuserve expects of 1 GiB."""
        arch = read_architecture(self.config)
        shape = kv_shape(arch, max_num_batched_tokens=_BATCHED, release=_RELEASE, cpu=True)
        return shape.capacity(GIB, _LENGTH)


def load_counts() -> list[Counted]:
    """Return every row."""
    lines = (DATA / "cpu_counts.jsonl").read_text(encoding="utf-8").splitlines()
    return [Counted(**json.loads(line)) for line in lines]
