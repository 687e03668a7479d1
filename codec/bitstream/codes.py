"""Why a file is refused: every code that a :class:`~adcgs.BitstreamError` can carry, and what it means.

Codes are part of the format's contract (``bitstream_spec/SPEC.md`` lists them): they are added to, never
renamed.
"""

from __future__ import annotations

CODES: dict[str, str] = {
    "truncated": "the data end before something that they announced",
    "bad-magic": "the first eight bytes are not those of an .adc file",
    "unsupported-version": "the major version, or a flag, is one that this reader does not know",
    "crc-mismatch": "stored and computed CRC-32 differ: the bytes were damaged",
    "count-exceeds-data": "a count or length is larger than the bytes that remain can hold",
    "limit-exceeded": "a value is beyond the format's declared maximum",
    "bad-number": "a variable-length integer is longer than ten bytes or not in its shortest form",
    "unknown-section": "a required section of a kind that this reader does not know",
    "duplicate-section": "the same kind of section appears twice",
    "missing-section": "a section that is needed is not in the file",
    "trailing-garbage": "bytes follow where the data should have ended",
    "bad-header": "a field of the header is out of its range or inconsistent",
    "length-mismatch": "a section's length is not what the configuration says it must be",
    "not-finite": "a NaN or an infinity where a number is needed",
    "bad-camera": "a camera of the cameras section is impossible",
    "bad-name": "a name is not printable text, or would escape the folder it is written to",
    "bad-index": "an index points outside of its table",
    "bad-networks": "the networks section's encoding is unknown or inconsistent",
    "bad-stream": "the stream of eight-bit weights does not decode to what was announced",
    "bad-entropy-config": "the header's settings are none that an entropy model can have",
    "bad-entropy-parameters": "the entropy section is damaged",
    "missing-component": "a coded component is not in the file and cannot be done without",
    "unknown-component": "a coded component that the configuration does not have",
    "bad-count": "a number of symbols that no file can have",
    "corrupt-stream": "an entropy-coded stream holds what no encoder writes",
    "positions-truncated": "the positions section ends before its points do",
    "positions-malformed": "the positions section holds what no encoder writes",
}
"""Stable kebab-case code to one sentence; no reader of a file raises another."""
