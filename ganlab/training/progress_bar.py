"""Display of a run's progress: log lines, and on a terminal also a progress bar."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 5.0


class ProgressBar:
    """A progress bar over the steps of a run, and log lines beside it."""

    def __init__(self, bar: tqdm, last_step: int) -> None:
        self.bar, self.last_step = bar, last_step
        self.last_line = time.monotonic()

    def go_to(self, step: int) -> None:
        """Move the bar to a step, which may be earlier than before."""
        self.bar.update(step - self.bar.n)

    def show(self, step: int, epoch: float, numbers: Mapping[str, str], at_once: bool) -> None:
        """Show numbers on the bar, and in a log line if the last line is some seconds old or `at_once` is set."""
        self.bar.set_postfix({"epoch": f"{epoch:g}", **numbers}, refresh=False)
        if at_once or step == self.last_step or time.monotonic() - self.last_line > SECONDS_BETWEEN_LINES:
            self.last_line = time.monotonic()
            formatted = "  ".join(f"{name} {value}" for name, value in numbers.items())
            log.info("epoch %g  step %d/%d  %s", epoch, step, self.last_step, formatted)


@contextmanager
def progress_bar(step: int, last_step: int) -> Iterator[ProgressBar]:
    """Context manager that displays progress from `step` to `last_step`; the bar is shown only on a terminal."""
    with tqdm(total=last_step, initial=step, unit="step", disable=None, dynamic_ncols=True) as bar:
        if bar.disable:
            yield ProgressBar(bar, last_step)
        else:
            with logging_redirect_tqdm(tqdm_class=tqdm):
                yield ProgressBar(bar, last_step)
