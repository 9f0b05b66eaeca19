"""Errors that end a run early, each with its exit code and the status in `result.json`."""

from __future__ import annotations


class GanlabError(Exception):
    """An error whose message is meant for the user: one line, no traceback."""

    exit_code = 1
    status = "failed"  # of the run, in `result.json`


class OperationalError(GanlabError):
    """Operational failure: disk, memory, network or a lost process."""


class ProcessLost(OperationalError):
    """Another process of a data parallel run has died."""


class Refused(GanlabError):
    """The request is invalid, so nothing was done."""

    exit_code = 2


class ConfigError(Refused):
    """Invalid key or value in the config."""


class DataError(Refused):
    """Data are missing, unreadable or unsuitable."""


class CheckpointError(Refused):
    """A checkpoint is missing, damaged or belongs to another run."""


class Diverged(GanlabError):
    """Training diverged: a loss or weight is not finite, or the watchdog stopped a collapsed run."""

    exit_code = 3
    status = "diverged"


class Stopped(GanlabError):
    """A signal stopped the run."""

    status = "stopped"

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number
