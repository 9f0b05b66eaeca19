"""What can end a run early, each with the exit code that the command line gives it."""

from __future__ import annotations


class GanlabError(Exception):
    """An error whose message is meant for the user: one line, no traceback."""

    exit_code = 1
    status = "failed"  # what `result.json` says of a run that ends so


class OperationalError(GanlabError):
    """The machine let the run down: disk, network."""


class Refused(GanlabError):
    """The run was asked for something that cannot be done."""

    exit_code = 2


class ConfigError(Refused):
    """A key, value or choice of the config that does not fit."""


class DataError(Refused):
    """Data that cannot be had or read."""


class CheckpointError(Refused):
    """A checkpoint that is missing, damaged, or of another run."""


class Diverged(GanlabError):
    """A loss left the range of finite numbers."""

    exit_code = 3
    status = "diverged"


class Stopped(GanlabError):
    """A signal asked the run to stop."""

    status = "stopped"

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number
