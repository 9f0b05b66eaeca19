"""Escapes control characters in untrusted text before it reaches a terminal or a log."""

from __future__ import annotations

import logging
from typing import Any


def printable(text: object) -> str:
    r"""Replace every non-printable character by its Python escape sequence.

    A newline becomes `\n` and an escape character `\x1b`, so the text cannot start a line or move the cursor.
    Bidirectional controls such as `\u202e` are escaped too, so it cannot reorder the line.
    """
    characters = str(text)
    if characters.isprintable():
        return characters
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in characters)


def printable_traceback(text: str) -> str:
    """Escape every line of a traceback, and indent it so that no line looks like a log message."""
    return "\n".join(f"  {printable(line)}" for line in text.rstrip("\n").split("\n"))


class LogFormatter(logging.Formatter):
    """Escapes control characters. A message takes one line; a traceback keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        return printable_traceback(super().formatException(ei))
