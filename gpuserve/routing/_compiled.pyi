# What the compiled part offers: native/module.c; compiled.py makes a Scan.
from collections.abc import Sequence
from typing import final

def plain_body(
    raw: bytes, /
) -> tuple[str, bool, int, int, str, tuple[str, ...], str, str] | None: ...

@final
class Scan:
    def __new__(
        cls,
        *,
        words: Sequence[tuple[str, int, int, int, int]],
        pairs: Sequence[tuple[int, int, str, int, int, int]],
        groups: Sequence[int],
        further: Sequence[float],
        marks: Sequence[tuple[str, float]],
        other_marks: Sequence[int],
        fixed: Sequence[tuple[str, str, int, bool, bool]],
        prose: Sequence[str],
        parts: Sequence[tuple[int, int]],
        prefixes: Sequence[str],
        signs: Sequence[tuple[int, str, float]],
        whole: tuple[int, ...],
        real: tuple[float, ...],
    ) -> Scan: ...
    def verdict(
        self,
        last: str,
        is_short: bool,
        before: str | None,
        reply: str | None,
        earlier: tuple[str, ...],
        system: str | None,
        tool: str | None,
        /,
    ) -> tuple[float, tuple[str, ...]] | None: ...
