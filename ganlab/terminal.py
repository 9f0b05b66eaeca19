"""Text from files and other programs as terminals and logs may show it, its control characters escaped."""

from __future__ import annotations

import logging
from typing import Any


def printable(text: object) -> str:
    r"""The text on one line, with every character that is not printable as its escape sequence in Python.

    A newline becomes `\n` and an escape character `\x1b`, so that text from a file can neither start a line of its own
    nor move the cursor, and `U+202E` becomes `\u202e`, so that it cannot turn the rest of the line around.
    """
    characters = str(text)
    if characters.isprintable():
        return characters
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in characters)


def printable_traceback(text: str) -> str:
    """A traceback, each of its lines printable, and indented: a message of several lines starts none of its own."""
    return "\n".join(f"  {printable(line)}" for line in text.rstrip("\n").split("\n"))


class LogFormatter(logging.Formatter):
    """Each message on one printable line, and tracebacks below."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        return printable_traceback(super().formatException(ei))
