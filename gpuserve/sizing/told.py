"""An answer as lines for people and as JSON: the arithmetic first, then the options."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from gpuserve.memory.engine import resolve
from gpuserve.readings import Machine
from gpuserve.render import Line
from gpuserve.sizing.cards import CardAnswer
from gpuserve.sizing.options import Option, best
from gpuserve.sizing.question import Ask, Known, profile_of
from gpuserve.units import gib

_NONE = "none of these fits: fewer requests, a shorter context, or other cards"
_STYLES = {"fits": "green", "tight": "yellow", "risky": "yellow", "not_now": "yellow"}


def question_lines(asks: Sequence[Ask], known: Mapping[str, Known]) -> Iterator[Line]:
    """Yield what each model takes at least, as asked, on one card: weights and cache."""
    for spec, ask in zip(profile_of(asks).models, asks, strict=True):
        engine = resolve(spec, known[ask.model].facts)
        yield Line(f"{ask.model}: {ask.concurrency} x {ask.context_tokens:,} tokens", "bold")
        if engine.kv is None:
            yield Line("  its shape is not known")
            continue
        mark = ", estimated" if engine.estimated else ""
        yield Line(f"  weights   {gib(engine.weights):>12}{mark}")
        yield Line(
            f"  KV cache  {gib(engine.promise_bytes):>12}   {engine.kv.bytes_per_token:,} B per "
            f"token; {gib(engine.request_bytes)} for one request"
        )
        rest = engine.fixed_bytes - engine.weights + engine.context
        yield Line(f"  the rest  {gib(rest):>12}   activation, graphs, libraries, context")


def option_lines(found: Sequence[Option], machine: Machine) -> Iterator[Line]:
    """Yield one row for each option, and which is the one to take."""
    names = ", ".join(f"{gpu.index}: {gpu.name}, {gib(gpu.total_bytes)}" for gpu in machine.gpus)
    yield Line(f"on GPU {names}", "bold")
    rows: list[tuple[str, ...]] = [("", "verdict", "left on each GPU", "holds", "with")]
    rows += [_row(number, option) for number, option in enumerate(found, start=1)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    styles = ["bold", *(_STYLES.get(option.verdict, "red") for option in found)]
    for style, row in zip(styles, rows, strict=True):
        cells = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        yield Line("  ".join(cells).rstrip(), style)
    chosen = best(found)
    if chosen is None:
        busy = any(option.verdict == "not_now" for option in found)
        none = "these GPUs can hold it, but not now: others hold memory" if busy else _NONE
        yield Line(none, "red")
        yield from reason_lines(found)
        return
    how = " and ".join(chosen.changes) or "as asked"
    yield Line(f"take {found.index(chosen) + 1}: {how}", "bold")
    yield from _warning_lines([(str(n), o) for n, o in enumerate(found, start=1) if o.fits])


def reason_lines(found: Sequence[Option]) -> Iterator[Line]:
    """Yield why the first of *found*, which is what was asked, cannot be, and what would help."""
    for problem in found[0].report.problems:
        if not problem.warning:
            yield Line(f"as asked: {problem.message}", "red")
            if problem.hint:
                yield Line(f"  hint: {problem.hint}")


def card_lines(answers: Sequence[CardAnswer]) -> Iterator[Line]:
    """Yield one row for each card that serves the question."""
    rows = [("cards", "memory", "verdict", "left on each GPU", "with")]
    for answer in answers:
        option = answer.option
        rows.append(
            (
                f"{answer.count} x {answer.card}",
                gib(answer.total_bytes),
                option.verdict,
                _left(option),
                (" and ".join(option.changes) or "as asked") + (" *" if _warned(option) else ""),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        cells = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        yield Line("  ".join(cells).rstrip(), "bold" if number == 0 else "")
    warned = next((answer for answer in answers if _warned(answer.option)), None)
    if warned is not None:
        cards = f"{warned.card}:{warned.count}"
        yield Line(f'* with warnings, which --gpu tells, such as --gpu "{cards}"', "yellow")


def _warned(option: Option) -> bool:
    return any(problem.warning for problem in option.report.problems)


def _warning_lines(named: Sequence[tuple[str, Option]]) -> Iterator[Line]:
    """Yield each warning once, with the rows that it is about."""
    about: dict[tuple[str, str | None], list[str]] = {}
    for name, option in named:
        for problem in option.report.problems:
            if problem.warning:
                names = about.setdefault((problem.message, problem.hint), [])
                names += [name] if name not in names else []
    for (message, hint), names in about.items():
        whose = "all" if len(names) == len(named) > 1 else ", ".join(names)
        yield Line(f"warning ({whose}): {message}", "yellow")
        if hint:
            yield Line(f"  hint: {hint}")


def option_json(number: int, option: Option) -> dict[str, Any]:
    """Return *option* as `plan --json` lists it."""
    return {
        "option": number,
        "changes": list(option.changes),
        "verdict": option.verdict,
        "needs_a_checkpoint": option.unnamed,
        "most_requests": option.most,
        "gpus": [
            {
                "index": share.gpu.index,
                "name": share.gpu.name,
                "reserved_bytes": share.reserved_bytes,
                "left_bytes": share.left_bytes,
            }
            for share in option.report.gpus
        ],
        "models": [
            {
                "name": grant.model,
                "gpus": list(grant.gpus),
                "verdict": grant.verdict,
                "gpu_memory_utilization": grant.gpu_memory_utilization,
                "predicted": None if grant.footprint is None else asdict(grant.footprint),
            }
            for grant in option.report.grants
        ],
        "problems": [asdict(problem) for problem in option.report.problems],
    }


def _row(number: int, option: Option) -> tuple[str, ...]:
    changes = " and ".join(option.changes) or "nothing changed"
    if option.unnamed:
        changes += ", which you must name"
    most = "" if option.most is None else f"{option.most:.1f} requests"
    return (str(number), option.verdict, _left(option), most, changes)


def _left(option: Option) -> str:
    shares = option.report.gpus
    short = [s for s in option.report.shortfalls if s.gpu is not None]
    if short:
        lacks = max(short, key=lambda s: s.short_bytes)
        return f"short by {gib(lacks.short_bytes)}"
    return " ".join(dict.fromkeys(gib(share.left_bytes) for share in shares))
