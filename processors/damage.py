"""Damaged bytes: what reading them raises, and what is said of it in one line."""

from __future__ import annotations

import lzma
import struct
import zlib

import cramjam
import uproot

__all__ = ["READ_ERRORS", "told"]

READ_ERRORS = (
    *(OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, NameError, SyntaxError),
    *(ArithmeticError, AssertionError, RuntimeError, MemoryError, BufferError),
    *(struct.error, zlib.error, lzma.LZMAError, cramjam.CompressionError, cramjam.DecompressionError),
    uproot.DeserializationError,
)
"""What uproot, awkward and the decompressors raise on damaged bytes: they document no common base class.

RuntimeError has RecursionError and NotImplementedError in it; uproot compiles classes from a file's own description of them, which
is where NameError and SyntaxError come from.
"""

LONGEST = 300
"""Characters of a message that are shown."""
KNOWN = ("in file ", "for file path ", "while reading")
"""How lines of uproot's messages begin that say what stands before them already, or where in uproot it was."""


def told(error: BaseException) -> str:
    """Return what an error of reading says in one line, with its kind where it says nothing or only a name."""
    # uproot's own errors of this kind dump all that they have read before.
    said = error.message if isinstance(error, uproot.DeserializationError) else str(error)
    lines = [line.strip() for line in str(said).splitlines()]
    text = " ".join(" ".join(line for line in lines if line and not line.startswith(KNOWN)).split())
    if isinstance(error, MemoryError):
        text = f"more memory is asked for than there is {text}".strip()
    if not text or isinstance(error, LookupError | AssertionError | AttributeError | RecursionError):
        text = f"{type(error).__name__} {text}".strip()
    return text if len(text) <= LONGEST else f"{text[:LONGEST].rstrip()} ..."
