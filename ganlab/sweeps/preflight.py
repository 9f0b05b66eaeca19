"""What can be told of a sweep before any job is started: whether all of them would be refused."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from omegaconf import DictConfig

from ganlab.errors import ConfigError, GanlabError
from ganlab.leaderboard.table import plural
from ganlab.sweeps.plan import Planned, without_hydra
from ganlab.training.signals import block_stop_signals


def refuse_if_all_would_be(planned: Sequence[Planned], processes: Any) -> None:
    """Refuse a sweep, all of it new, of which each job's config is refused; with one job that is sound, let it pass.

    The configs are checked in a process as the jobs are, since the launcher does without torch.

    Raises:
        ConfigError: with what is wrong with the first job.
    """
    if any(p.state != "new" for p in planned):
        return
    receiver, sender = processes.Pipe(duplex=False)
    configs = [without_hydra(p.config) for p in planned]
    process = processes.Process(target=_send_refusal, args=(configs, sender), name="forecast")
    with block_stop_signals():
        process.start()
    sender.close()
    refusal = None
    with receiver, suppress(EOFError):  # the process crashed; the jobs will say why
        refusal = receiver.recv()
    process.join()
    process.close()
    if refusal:
        others = f" (and {plural(len(planned) - 1, 'other job')} refused likewise)" if len(planned) > 1 else ""
        raise ConfigError(refusal + others)


def _send_refusal(configs: Sequence[DictConfig], sender: Connection) -> None:
    """Send the message that the first config is refused with if all are, else None."""
    from ganlab import build

    logging.disable()  # the jobs will say the same
    refusals = []
    for config in configs:
        try:
            build.check(config)
        except GanlabError as error:
            refusals.append(str(error))
            continue
        sender.send(None)
        return
    sender.send(refusals[0])
