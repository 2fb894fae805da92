"""What a `[[model]]` takes over from `[engine]`: the rule, for tables and for values alike."""

from collections.abc import Mapping
from typing import Any

# Each decides an engine's memory; beside another they contradict each other.
MEMORY = ("memory", "gpu_memory_utilization", "kv_cache_memory_bytes", "demand")


def with_defaults(model: Mapping[str, Any], engine: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of *model*, and of *engine* those that the model does not decide itself.

    A model's own memory statement replaces the default one as a whole. Its own demand is nearer
    to it than a default max_num_seqs or max_model_len, so it sets these too. Both hold stated
    keys only; `env` and `extra_args`, which add up, are for the caller.
    """
    given = dict(engine)
    if any(key in model for key in MEMORY):
        for key in MEMORY:
            given.pop(key, None)
    if "demand" in model:
        given.pop("max_num_seqs", None)
        given.pop("max_model_len", None)
    return {**given, **model}
