"""How far a run has come, for people: a bar on a terminal with log lines above it, elsewhere log lines alone."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 5.0


class Progress:
    """What is shown of a run.

    Args:
        bar: over its steps.
        last_step: of the run.
    """

    def __init__(self, bar: tqdm, last_step: int) -> None:
        self.bar, self.last_step = bar, last_step
        self.last_line = time.monotonic()

    def go_to(self, step: int) -> None:
        """Have made so many steps, which may be fewer than before."""
        self.bar.update(step - self.bar.n)

    def show(self, step: int, epoch: float, numbers: Mapping[str, str], at_once: bool) -> None:
        """Show these numbers; in a log line only if the last one was some seconds ago, or `at_once`."""
        self.bar.set_postfix({"epoch": f"{epoch:g}", **numbers}, refresh=False)
        if at_once or step == self.last_step or time.monotonic() - self.last_line > SECONDS_BETWEEN_LINES:
            self.last_line = time.monotonic()
            shown = "  ".join(f"{name} {value}" for name, value in numbers.items())
            log.info("epoch %g  step %d/%d  %s", epoch, step, self.last_step, shown)


@contextmanager
def progress(step: int, last_step: int) -> Iterator[Progress]:
    """From the step that a run is at to its last one."""
    with tqdm(total=last_step, initial=step, unit="step", disable=None, dynamic_ncols=True) as bar:
        if bar.disable:
            yield Progress(bar, last_step)
        else:
            with logging_redirect_tqdm(tqdm_class=tqdm):
                yield Progress(bar, last_step)
