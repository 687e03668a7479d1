"""The one family of errors that users meet.

Every refusal has a stable, machine-readable ``code`` (kebab-case; those of files are listed in
``bitstream_spec/SPEC.md``) and a message of one line that names the file, the field and
the remedy. The commands print that line and exit with 2; anything that is not an ``AdcError`` is a bug.
"""

from __future__ import annotations


class AdcError(Exception):
    """Base of all expected failures.

    Args:
        code: stable kebab-case identifier, such as ``"truncated"``.
        message: one line for a person; says which file and field, and what to do about it.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class BitstreamError(AdcError):
    """A ``.adc`` file, or a part of one, is refused."""


class SceneError(AdcError):
    """A capture on disk is refused."""


class TrainingError(AdcError):
    """Training cannot start or go on (a checkpoint that does not fit, a NaN, a bad option)."""


class OptionError(AdcError):
    """The user asked for something that cannot be done (a view that does not exist, a bad size)."""
