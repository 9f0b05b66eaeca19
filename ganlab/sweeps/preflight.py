"""Checks before a sweep starts whether every job would be refused."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from ganlab.config.run_config import ResolvedConfig
from ganlab.errors import ConfigError, GanlabError
from ganlab.leaderboard.table import plural
from ganlab.sweeps.plan import PlannedJob
from ganlab.training.signals import block_stop_signals


def refuse_if_all_invalid(planned: Sequence[PlannedJob], processes: Any) -> None:
    """Refuse a new sweep if the config of every job is invalid. One valid job is enough for the sweep to start.

    A separate process checks the configs, as the jobs do, because the launcher does not import torch.

    Raises:
        ConfigError: every config is invalid; the message is that of the first job.
    """
    if any(p.state != "new" for p in planned):
        return
    receiver, sender = processes.Pipe(duplex=False)
    configs = [p.config for p in planned]
    process = processes.Process(target=_send_refusal, args=(configs, sender), name="preflight")
    with block_stop_signals():
        process.start()
    sender.close()
    refusal = None
    with receiver, suppress(EOFError):  # the checking process crashed; the jobs will report why
        refusal = receiver.recv()
    process.join()
    process.close()
    if refusal:
        others = f" (and {plural(len(planned) - 1, 'other job')} also refused)" if len(planned) > 1 else ""
        raise ConfigError(refusal + others)


def _send_refusal(configs: Sequence[ResolvedConfig], sender: Connection) -> None:
    """Send `first_refusal`; the target of the checking process."""
    logging.disable()  # the jobs will log the same
    sender.send(first_refusal(configs))


def first_refusal(configs: Sequence[ResolvedConfig]) -> str | None:
    """Return the error message of the first config if all are invalid, else None."""
    from ganlab import build

    refusals = []
    for config in configs:
        try:
            build.check(config.validate())
        except GanlabError as error:
            refusals.append(str(error))
        else:
            return None
    return refusals[0]
