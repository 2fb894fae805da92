"""Warnings about engines that fit: what is to spare against what may be missing, and waste."""

from collections.abc import Iterator, Sequence

from gpuserve.errors import Problem
from gpuserve.memory.engine import Engine
from gpuserve.memory.report import Grant
from gpuserve.units import GIB, gib

# Below this nobody would change a setting for it.
_WORTH_SAYING_BYTES = GIB


def cautions(engines: Sequence[Engine], grants: Sequence[Grant]) -> Iterator[Problem]:
    """Yield what is worth knowing about engines that fit: how closely, and what takes much."""
    for engine, grant in zip(engines, grants, strict=True):
        yield from _closeness(engine, grant)
        if engine.videos > _WORTH_SAYING_BYTES:
            yield Problem(
                where=f"model[{engine.spec.index}].max_model_len",
                message=f'"{engine.spec.name}" takes {gib(engine.videos)} for profiling a video '
                f"as long as a request ({engine.max_model_len} tokens)",
                hint="without videos it does not: extra_args = "
                '["--limit-mm-per-prompt", \'{"video": 0}\']; a shorter max_model_len helps too',
                warning=True,
            )


def _closeness(engine: Engine, grant: Grant) -> Iterator[Problem]:
    if grant.verdict not in {"tight", "risky"} or engine.kv is None:
        return
    name = engine.spec.name
    if grant.verdict == "tight":
        message = (
            f'"{name}" fits, but with less than one request of full length to spare '
            f"({gib(engine.request_bytes)}) beyond the margin of error"
        )
    else:
        message = (
            f'"{name}" fits by the estimate, but not if it takes '
            f"{gib(engine.margin_bytes)} more, which is within the margin of error"
        )
    yield Problem(
        where=f"model[{engine.spec.index}]",
        message=message,
        hint="a shorter context, fewer requests at once, or fp8 KV cache make room",
        warning=True,
    )
