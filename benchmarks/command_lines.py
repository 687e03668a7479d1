"""What all benchmarks' command lines share: usage errors and refusals in one line, Ctrl-C, counts and minutes."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from typing import NoReturn

from adcgs.cli.common import EXIT_INTERRUPTED, EXIT_REFUSED, handle_errors


class Parser(argparse.ArgumentParser):
    """Of a benchmark's command line: a usage error is one line, as the commands' are, and --help has a docstring's."""

    def __init__(self, description: str | None, prog: str | None = None) -> None:
        super().__init__(prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str) -> NoReturn:
        """As argparse's, which says the usage in several lines first."""
        self.exit(EXIT_REFUSED, f"error: {' '.join(message.split())}; --help says what there is\n")


def positive(text: str) -> int:
    """An argument that counts something."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 10**9):
        raise argparse.ArgumentTypeError(f"'{text}' is no number from 1 on")
    return int(text)


def minutes(text: str) -> float:
    """An argument that says how long to train."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of minutes above 0")
    return value


def one_line(program: Callable[[], None]) -> None:
    """Run a program as the commands are: what it refuses, or cannot read or write, is one line and exit status 2."""
    handle_errors(program)()


def interruptible(program: Callable[[], None]) -> None:
    """Run a program, as :func:`one_line` does, that Ctrl-C may stop: its commands save what they have, and the same
    line goes on.
    """

    def run() -> None:
        try:
            program()
        except KeyboardInterrupt:
            print("interrupted; the same line goes on from here", file=sys.stderr)
            sys.exit(EXIT_INTERRUPTED)

    one_line(run)
