"""Notices when training collapses: samples grow alike, modes are lost, or the discriminator is always right."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Protocol, runtime_checkable

from annotated_types import Ge, Le
from pydantic import StringConstraints, with_config
from typing_extensions import TypedDict

from ganlab.config.entries import STRICT
from ganlab.config.ranges import Fraction, Positive, PositiveInt, SmallCountOrZero

MODES = ("modes", "classes")  # scores that count them
HIGHEST = ("diversity", *MODES)
MANY = 4  # of these; fewer come and go while a run begins


@runtime_checkable
class Guard(Protocol):
    """What looks at every record of a run; the config group `watchdog`.

    Attributes:
        stops: whether a collapse ends the run, rather than being warned of.
        roll_backs: how often a run may go back to its last good checkpoint before it ends.
        good_step: the last step at which nothing was amiss.
    """

    stops: bool
    roll_backs: int
    good_step: int

    def look(self, record: Mapping[str, float], saturates: bool) -> str | None:
        """What shows, in what was just logged, that training has collapsed; None: nothing, or what was told before.

        Args:
            saturates: whether large logits of the discriminator leave the generator nothing to learn from.
        """

    def forget(self, scores: Iterable[str]) -> None:
        """Begin anew with scores that are measured otherwise from now on."""

    def state_dict(self) -> Mapping[str, Any]: ...

    def load_state_dict(self, state: Any) -> Any: ...


class NoWatchdog:
    """Looks away; a loss that is no finite number still ends the run."""

    stops = False
    roll_backs = good_step = 0

    def look(self, record: Mapping[str, float], saturates: bool) -> str | None:
        return None

    def forget(self, scores: Iterable[str]) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


@with_config(STRICT)
class WatchdogState(TypedDict):
    highest: dict[Annotated[str, StringConstraints(pattern=f"^({'|'.join(HIGHEST)})$")], Annotated[float, Ge(0)]]
    suspicious: Annotated[int, Ge(0), Le(10**15)]
    good_step: Annotated[int, Ge(0), Le(10**15)]


class Watchdog:
    """Tells a collapse by the diversity of samples, the logits and the number of modes.

    Args:
        diversity: samples have grown alike when theirs is below this share of the highest so far, or of 1, that of the
            data, if it is less.
        logit_gap: the discriminator is always right when it has been, with logits so far apart.
        modes: modes, or classes, are lost when there are fewer than this share of the most so far, which are 4 or more.
        patience: records in a row that must show one of the first two.
        stops, roll_backs: what the run is to do then; see Guard.
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

    def look(self, record: Mapping[str, float], saturates: bool) -> str | None:
        lost, sign = self._lost(record), self._sign(record, saturates)
        for name in HIGHEST:
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
        for name in MODES:
            highest = self.highest.get(name, 0.0)
            if highest >= MANY and record.get(name, highest) < self.modes * highest:
                return f"{record[name]:g} {name} are left of {highest:g}"
        return None

    def _sign(self, record: Mapping[str, float], saturates: bool) -> str | None:
        highest = self.highest.get("diversity", 0.0)
        usual = min(1.0, highest)  # a spread beyond that of the data is nothing to keep to
        if record.get("diversity", usual) < self.diversity * usual:
            return f"samples have grown alike, their diversity is {record['diversity']:.3f} and was {highest:.3f}"
        if saturates and record["accuracy"] > 0.999 and record["logit_gap"] > self.logit_gap:
            return f"the discriminator is always right, its logits lie {record['logit_gap']:.0f} apart"
        return None

    def state_dict(self) -> WatchdogState:
        return {"highest": dict(self.highest), "suspicious": self.suspicious, "good_step": self.good_step}

    def load_state_dict(self, state: WatchdogState) -> None:
        self.highest, self.suspicious, self.good_step = dict(state["highest"]), state["suspicious"], state["good_step"]
