"""Warnings about engines that fit, but closely: what is to spare, against what may be missing."""

from collections.abc import Iterator, Sequence

from gpuserve.errors import Problem
from gpuserve.memory.engine import Engine
from gpuserve.memory.report import Grant
from gpuserve.units import gib


def cautions(engines: Sequence[Engine], grants: Sequence[Grant]) -> Iterator[Problem]:
    """Yield one warning for each engine whose verdict is tight or risky."""
    for engine, grant in zip(engines, grants, strict=True):
        if grant.verdict not in {"tight", "risky"} or engine.kv is None:
            continue
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
