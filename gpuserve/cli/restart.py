"""Drain a model, stop its engine and start it again."""

import argparse
from typing import Any

from gpuserve.cli import verbs


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    verbs.configure(parser)


def run(args: argparse.Namespace) -> int:
    """Ask for it and wait until it is done."""
    return verbs.ask(args, "restart", _done)


def _done(model: dict[str, Any], before: dict[str, Any]) -> bool:
    return bool(model["ready"] and model["starts"] > before["starts"])
