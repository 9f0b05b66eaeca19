"""A score describes itself: what was measured, by what, on what; and only like scores are ranked together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from ganlab.errors import DataError

Better = Literal["lower", "higher"]
PROTOCOL = ("metric", "extractor", "extractor_hash", "dataset_hash", "split", "num_real", "num_fake", "weights")


@dataclass(frozen=True)
class Score:
    """One metric of one generator.

    Attributes:
        value: the mean over the seeds.
        error: the standard deviation over the seeds; of one seed, the metric's own standard error where it has one.
        floor: the score of `num_fake` other real examples in place of samples; None: the dataset has too few.
        better: which values are.
        extractor, extractor_hash: what the features came from; `coordinates` for points as they are.
        dataset_hash: of the real examples; of memorisation, 8 digits of the training set's and 8 of the held-out set's.
        split: `train` or `held_out`, which those are from.
        num_real, num_fake: how many of each.
        weights: `ema` or `raw`; None: the samples are of another program.
        step: of the checkpoint; None: likewise.
        seeds: of the samples.
    """

    metric: str
    value: float
    error: float | None
    floor: float | None
    better: Better
    extractor: str
    extractor_hash: str
    dataset_hash: str
    split: str
    num_real: int
    num_fake: int
    weights: str | None
    step: int | None
    seeds: tuple[int, ...]

    def plain(self) -> dict[str, Any]:
        """As numbers, strings and lists, for a file."""
        return {**asdict(self), "seeds": list(self.seeds)}

    @classmethod
    def read(cls, tree: Mapping[str, Any]) -> Score:
        """From a file.

        Raises:
            DataError: a field is missing.
        """
        missing = [field.name for field in fields(cls) if field.name not in tree]
        if missing:
            raise DataError(f"score {tree.get('metric', '?')}: lacks {', '.join(missing)}")
        known = {field.name: tree[field.name] for field in fields(cls)}
        return cls(**{**known, "seeds": tuple(tree["seeds"])})

    def beats(self, other: Score | None) -> bool:
        """Whether this score is the better one.

        Raises:
            DataError: they are unlike.
        """
        if other is None:
            return True
        refuse_unlike([self, other])
        return self.value < other.value if self.better == "lower" else self.value > other.value


def refuse_unlike(scores: Sequence[Score]) -> None:
    """Scores may be ranked or plotted together only if all that decides them, but for the generator, is the same.

    Raises:
        DataError: with the first field that differs and two values of it.
    """
    for name in PROTOCOL:
        found = {getattr(score, name): None for score in scores}
        if len(found) > 1:
            first, second, *_ = found
            raise DataError(f"scores cannot be ranked together: {name} is {first} in one and {second} in another")


def unlike(before: Mapping[str, Mapping[str, Any]], scores: Mapping[str, Score]) -> dict[str, str]:
    """Which metrics were measured otherwise before, by scores as a file has them, and what differs."""
    found = {}
    for name in [name for name in scores if name in before]:
        try:
            refuse_unlike([Score.read(before[name]), scores[name]])
        except DataError as error:
            found[name] = str(error)
    return found


def comparisons(scores: Mapping[str, Score]) -> list[str]:
    """What was compared, one line for most of the metrics and one for each group of others, which it begins with."""
    groups: dict[str, list[str]] = {}
    for name, score in scores.items():
        groups.setdefault(_comparison(score), []).append(name)
    usual = max(groups, key=lambda told: len(groups[told]), default="")
    rest = [f"{', '.join(names)}: {told}" for told, names in groups.items() if told != usual]
    return [usual, *rest] if groups else []


def _comparison(score: Score) -> str:
    """Numbers and sources of the samples and of the real examples."""
    generator = "" if score.weights is None else f" of step {score.step}, {score.weights} weights"
    samples = f"{score.num_fake:,} samples{generator} ({len(score.seeds)} seed{'s' * (len(score.seeds) > 1)})"
    needed = score.num_fake + score.num_real
    no_floor = f"; no floor: it needs {needed:,} real examples" if score.floor is None else ""
    return f"{samples} against {score.num_real:,} real ({score.split}){no_floor}"
