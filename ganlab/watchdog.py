"""Detects collapsed training: samples become too similar, modes are lost, or the discriminator is always right."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Protocol, runtime_checkable

from annotated_types import Ge, Le
from pydantic import StringConstraints, with_config
from typing_extensions import TypedDict

from ganlab.config.entries import STRICT
from ganlab.config.ranges import Fraction, Positive, PositiveInt, SmallCountOrZero

MODE_COUNTS = ("modes", "classes")  # scores that count modes
TRACKED_SCORES = ("diversity", *MODE_COUNTS)  # scores whose highest value is kept
MIN_MODES = 4  # lower counts fluctuate early in training


@runtime_checkable
class Watchdog(Protocol):
    """Interface of a watchdog, which checks every record of the metrics; the config group `watchdog`.

    Attributes:
        stops: whether a collapse ends the run; otherwise it only causes a warning.
        roll_backs: maximum number of times a run is rolled back to its last good checkpoint before it ends.
        good_step: last step without any sign of collapse.
    """

    stops: bool
    roll_backs: int
    good_step: int

    def check(self, record: Mapping[str, float], saturates: bool) -> str | None:
        """Return the sign of collapse in a new record, or None if there is none or it was already reported.

        Args:
            saturates: whether the generator's gradient vanishes when the discriminator's logits are large.
        """

    def forget(self, scores: Iterable[str]) -> None:
        """Discard the history of scores whose protocol has changed."""

    def state_dict(self) -> Mapping[str, Any]: ...

    def load_state_dict(self, state: Any) -> Any: ...


class NoWatchdog:
    """Detects no collapse; a non-finite loss still ends the run."""

    stops = False
    roll_backs = good_step = 0

    def check(self, record: Mapping[str, float], saturates: bool) -> str | None:
        return None

    def forget(self, scores: Iterable[str]) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


@with_config(STRICT)
class WatchdogState(TypedDict):
    highest: dict[Annotated[str, StringConstraints(pattern=f"^({'|'.join(TRACKED_SCORES)})$")], Annotated[float, Ge(0)]]
    suspicious: Annotated[int, Ge(0), Le(10**15)]
    good_step: Annotated[int, Ge(0), Le(10**15)]


class CollapseWatchdog:
    """Detects collapse from the diversity of samples, the discriminator's logits and the number of modes.

    Args:
        diversity: samples are too similar if their diversity is below this fraction of the highest so far, or of 1, the
            diversity of the data, whichever is lower.
        logit_gap: the discriminator is always right if its accuracy is above 0.999 and its logit gap above this value.
        modes: modes, or classes, are lost if their number is below this fraction of the highest so far, once that is at
            least 4.
        patience: number of consecutive records that must show one of the first two signs.
        stops, roll_backs: action on a collapse; see `Watchdog`.
    """

    def __init__(
        self,
        diversity: Fraction = 0.2,
        logit_gap: Positive = 20.0,
        modes: Fraction = 0.5,
        patience: PositiveInt = 3,
        stops: bool = False,
        roll_backs: SmallCountOrZero = 0,
    ) -> None:
        self.diversity, self.logit_gap, self.modes, self.patience = diversity, logit_gap, modes, patience
        self.stops, self.roll_backs = stops, roll_backs
        self.highest: dict[str, float] = {}
        self.suspicious = self.good_step = 0

    def check(self, record: Mapping[str, float], saturates: bool) -> str | None:
        lost, sign = self._lost(record), self._sign(record, saturates)
        for name in TRACKED_SCORES:
            if name in record:
                self.highest[name] = max(record[name], self.highest.get(name, 0.0))
        self.suspicious = self.suspicious + 1 if sign else 0
        if not (sign or lost):
            self.good_step = int(record["step"])
        return lost or (sign if self.suspicious == self.patience else None)

    def forget(self, scores: Iterable[str]) -> None:
        for name in scores:
            self.highest.pop(name, None)

    def _lost(self, record: Mapping[str, float]) -> str | None:
        for name in MODE_COUNTS:
            highest = self.highest.get(name, 0.0)
            if highest >= MIN_MODES and record.get(name, highest) < self.modes * highest:
                return f"only {record[name]:g} of {highest:g} {name} are left"
        return None

    def _sign(self, record: Mapping[str, float], saturates: bool) -> str | None:
        highest = self.highest.get("diversity", 0.0)
        reference = min(1.0, highest)  # samples more diverse than the data are no reference
        if record.get("diversity", reference) < self.diversity * reference:
            return f"samples are too similar: diversity fell from {highest:.3f} to {record['diversity']:.3f}"
        if saturates and record["accuracy"] > 0.999 and record["logit_gap"] > self.logit_gap:
            gap = f"the gap between real and fake logits is {record['logit_gap']:.0f}"
            return f"the discriminator is always right: {gap}"
        return None

    def state_dict(self) -> WatchdogState:
        return {"highest": dict(self.highest), "suspicious": self.suspicious, "good_step": self.good_step}

    def load_state_dict(self, state: WatchdogState) -> None:
        self.highest, self.suspicious, self.good_step = dict(state["highest"]), state["suspicious"], state["good_step"]
