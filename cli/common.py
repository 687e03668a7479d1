"""What the commands share: how errors end a command, where people's text goes, options that several parse."""

from __future__ import annotations

import functools
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec

import click
from adcgs.errors import AdcError, OptionError

if TYPE_CHECKING:
    from rich.console import Console

P = ParamSpec("P")

EXIT_REFUSED = 2
EXIT_INTERRUPTED = 130


def handle_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Turn expected failures of a command into one line on stderr and an exit status.

    2 for whatever is refused (an ``AdcError``, a file that cannot be read or written, too little memory),
    130 for Ctrl-C. With ``--json`` (a parameter ``as_json``) stdout carries ``{"error": {"code",
    "message"}}`` as well. Anything else is a bug and keeps its traceback.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        as_json = bool(kwargs.get("as_json", False))
        try:
            command(*args, **kwargs)
            sys.stdout.flush()
        except AdcError as error:
            _refuse(error.code, str(error), as_json)
        except BrokenPipeError:
            # The reader of our output (head, less) has gone: nothing is wrong, and nothing can be printed.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            _refuse("io-error", f"{where}{error.strerror or error}", as_json)
        except (MemoryError, RuntimeError) as error:
            if not _lacks_memory(error):
                raise
            _refuse("out-of-memory", "out of memory; try a smaller --size or a larger --downscale", as_json)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(EXIT_INTERRUPTED)

    return run


def _lacks_memory(error: Exception) -> bool:
    """Torch says so by a RuntimeError: on a GPU of a class of its own, on a CPU by its allocator's name alone."""
    named = type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in str(error)
    return isinstance(error, MemoryError) or named


class Command(click.Command):
    """A command whose usage errors are one line, as all its others are."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> Any:
        """As click's, which says a usage error in three lines."""
        words = sys.argv[1:] if args is None else list(args)
        try:
            status = super().main(args, *rest, **(options | {"standalone_mode": False}))
        except click.ClickException as error:
            message = f"{error.format_message().rstrip('.')}; --help says what there is"
            _refuse("bad-option", message, "--json" in words)
        sys.exit(status if isinstance(status, int) else 0)


class Number(click.FloatRange):
    """A range of finite numbers; click's has NaN, which no comparison refuses."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """As click's."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not finite.", param, ctx)
        return number


def _refuse(code: str, message: str, as_json: bool) -> NoReturn:
    line = " ".join(message.split())
    print(f"error: {line}", file=sys.stderr)
    if as_json:
        print_json({"error": {"code": code, "message": line}})
    sys.exit(EXIT_REFUSED)


def print_json(document: object) -> None:
    """One JSON document on stdout; NaN and infinity, which JSON lacks, are a bug and raise ValueError."""
    sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")


@functools.cache
def console() -> Console:
    """Where progress and notes for people go: stderr, so that stdout can be piped."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False)  # a path may have brackets


@contextmanager
def phase(text: str) -> Iterator[Callable[[str], None]]:
    """Shows what is being done while it is done; gives a function that changes the words.

    On a terminal a line with a spinner; elsewhere (a log file, CI) one plain line when the phase begins.
    """
    if console().is_terminal:
        from rich.text import Text

        with console().status(Text(text)) as status:  # a plain string would be read as markup
            yield lambda words: status.update(Text(words))
    else:
        console().print(text, soft_wrap=True)
        yield lambda words: None


def parse_background(text: str) -> tuple[float, float, float]:
    """``white``, ``black`` or ``R,G,B`` with numbers in [0, 1].

    Raises:
        OptionError: ``bad-background``.
    """
    named = {"white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0)}
    if text.strip().lower() in named:
        return named[text.strip().lower()]
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError:
        red = green = blue = float("nan")
    if not all(0.0 <= channel <= 1.0 for channel in (red, green, blue)):
        problem = f"--background {text!r}: give white, black or R,G,B with numbers in 0..1"
        raise OptionError("bad-background", problem)
    return red, green, blue


_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}


def parse_size(text: str) -> int:
    """Bytes of ``500KB``, ``0.5 MB``, ``400KiB`` or ``500000``.

    Raises:
        OptionError: ``bad-size``.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([a-z]*)", text.strip().lower(), re.ASCII)
    size = float(match[1]) * _UNITS.get(match[2], 0) if match else 0.0
    if not 1 <= size < 1e15:
        raise OptionError("bad-size", f"--target-size {text!r}: give a size such as 500KB, 0.5MB, 400KiB or 500000")
    return round(size)
