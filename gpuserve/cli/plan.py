"""Answer without a profile: which cards, how many, which quantization, and what it leaves.

Name one model or several; --context and --concurrency count for all of them, or are given once
for each. Without --gpu or --machine the answer is for the GPUs of this machine, or, where there
is none, for every card of the catalogue. --write puts the answer into a commented profile.

Exit status: 0 it can be served, 1 it cannot, 2 usage, 69 the GPUs cannot be read, 75 it could be
if others did not hold the memory now.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gpuserve.cli.check import print_lines
from gpuserve.errors import ExitStatus, HostUnavailable, UsageError
from gpuserve.readings import Machine
from gpuserve.sizing.cards import card_answers
from gpuserve.sizing.options import Option, best, options
from gpuserve.sizing.question import Ask, Known
from gpuserve.sizing.told import (
    card_lines,
    option_json,
    option_lines,
    question_lines,
    reason_lines,
)
from gpuserve.sizing.written import profile_text

_COUNTS = (1, 2, 4, 8)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add what `plan` takes."""
    parser.add_argument(
        "--model", metavar="MODEL", action="append", required=True, help="hub id or directory"
    )
    parser.add_argument("--context", metavar="TOKENS", type=_count, action="append", required=True)
    parser.add_argument("--concurrency", metavar="N", type=_count, action="append", required=True)
    hardware = parser.add_mutually_exclusive_group()
    hardware.add_argument("--gpu", metavar="CARDS", help='for example "NVIDIA L4:2"')
    hardware.add_argument("--machine", metavar="FILE", type=Path, help="a machine file")
    parser.add_argument("--option", metavar="N", type=_count, help="write this one, not the best")
    parser.add_argument("--write", metavar="PROFILE", type=Path, help="write a profile, new")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print the answer; exit status 1 where nothing that was tried fits."""
    from gpuserve.surveyed import known_models, located, machine_to_plan_for

    asks = _asks([located(model) for model in args.model], args.context, args.concurrency)
    if args.write is not None and args.write.exists():
        raise UsageError(f"{args.write} is there already", hint="name a new file")
    machine = machine_to_plan_for(args.machine, args.gpu, os.environ)
    known = known_models(asks)
    if machine is None or not machine.gpus:
        if args.write is not None or args.option is not None:
            raise UsageError(
                "a profile is written for some hardware, and this machine has no GPU",
                hint='name cards: --gpu "NVIDIA L4:2"',
            )
        return _answer_cards(asks, known, as_json=args.json)
    return _answer_options(args, asks, known, machine)


def _answer_options(
    args: argparse.Namespace, asks: Sequence[Ask], known: dict[str, Known], machine: Machine
) -> int:
    found = options(asks, known, machine)
    chosen = _chosen(args.option, found)
    if args.json:
        _print_json(asks, options=[option_json(n, o) for n, o in enumerate(found, start=1)])
    else:
        print_lines(question_lines(asks, known))
        print()
        print_lines(option_lines(found, machine))
    if args.write is not None:
        if chosen is None:
            what = (
                "needs a checkpoint whose name is not known" if best(found) else "is not among them"
            )
            raise UsageError(
                f"no profile is written: an option that fits {what}",
                hint="name a quantized checkpoint with --model" if best(found) else None,
            )
        _write(args.write, profile_text(chosen))
        print(f"wrote {args.write}; prove it with: gpuserve check {args.write}", file=sys.stderr)
    if best(found) is not None:
        return ExitStatus.DONE
    return ExitStatus.TEMPFAIL if any(o.verdict == "not_now" for o in found) else ExitStatus.NO


def _write(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise HostUnavailable(f"{path} cannot be written: {error.strerror}") from error


def _answer_cards(asks: Sequence[Ask], known: dict[str, Known], *, as_json: bool) -> int:
    from gpuserve.machine.cards import cards
    from gpuserve.machine.machinefile import parse_gpu_shorthand

    boxes = {
        card.name: [parse_gpu_shorthand(f"{card.name}:{count}") for count in _COUNTS]
        for card in cards()
    }
    answers = card_answers(asks, known, boxes)
    if as_json:
        _print_json(
            asks,
            cards=[
                {"card": a.card, "count": a.count, "total_bytes": a.total_bytes}
                | option_json(1, a.option)
                for a in answers
            ],
        )
    else:
        print_lines(question_lines(asks, known))
        print()
        if answers:
            print_lines(card_lines(answers))
        else:
            most = max((box[-1] for box in boxes.values()), key=_memory_bytes)
            print(f"no card serves it, not even {len(most.gpus)} x {most.gpus[0].name}")
            print_lines(reason_lines(options(asks, known, most)))
    return ExitStatus.DONE if answers else ExitStatus.NO


def _memory_bytes(machine: Machine) -> int:
    return sum(gpu.total_bytes for gpu in machine.gpus)


def _asks(models: Sequence[str], contexts: Sequence[int], counts: Sequence[int]) -> list[Ask]:
    for name, given in (("--context", contexts), ("--concurrency", counts)):
        if len(given) not in (1, len(models)):
            raise UsageError(
                f"{len(models)} model(s) and {len(given)} times {name}",
                hint=f"give {name} once for all models, or once for each, in their order",
            )
    if len(set(models)) < len(models):
        raise UsageError("a model is named twice", hint="raise its --concurrency instead")
    many = len(models)
    return [
        Ask(model=model, context_tokens=context, concurrency=count)
        for model, context, count in zip(
            models, _spread(contexts, many), _spread(counts, many), strict=True
        )
    ]


def _spread(given: Sequence[int], many: int) -> list[int]:
    return list(given) * many if len(given) == 1 else list(given)


def _chosen(number: int | None, found: Sequence[Option]) -> Option | None:
    if number is None:
        return best([option for option in found if not option.unnamed])
    if number > len(found):
        raise UsageError(f"there is no option {number}: there are {len(found)}")
    option = found[number - 1]
    if not option.fits or option.unnamed:
        why = "needs a checkpoint whose name is not known" if option.unnamed else "does not fit"
        raise UsageError(f"option {number} {why}", hint="choose another")
    return option


def _print_json(asks: Sequence[Ask], **found: Any) -> None:
    print(json.dumps({"asked": [asdict(ask) for ask in asks], **found}, indent=2))


def _count(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f'expected a whole number, such as 32768, found "{text}"'
        ) from None
    if not 0 < number <= 1 << 30:
        raise argparse.ArgumentTypeError(f"{text} is not between 1 and {1 << 30}")
    return number
