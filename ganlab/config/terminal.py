"""Untrusted text for terminals and logs: control characters are escaped."""

from __future__ import annotations

import logging
from typing import Any


def printable(text: object) -> str:
    r"""The text with every non-printable character replaced by its Python escape sequence.

    A newline becomes `\n` and an escape character `\x1b`, so the text cannot start a line or move the cursor.
    Bidirectional controls such as `\u202e` are escaped too, so it cannot reorder the line.
    """
    characters = str(text)
    if characters.isprintable():
        return characters
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in characters)


def printable_traceback(text: str) -> str:
    """A traceback with every line escaped, and indented so that none looks like a log message."""
    return "\n".join(f"  {printable(line)}" for line in text.rstrip("\n").split("\n"))


class LogFormatter(logging.Formatter):
    """Escapes control characters: a message takes one line, a traceback keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        return printable_traceback(super().formatException(ei))
