"""Scores with their protocol: metric, features, data, sample counts. Only scores of equal protocol are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from ganlab.errors import DataError

Better = Literal["lower", "higher"]
PROTOCOL = ("metric", "extractor", "extractor_hash", "dataset_hash", "split", "num_real", "num_fake", "weights")


@dataclass(frozen=True)
class Score:
    """The value of one metric for one generator.

    Attributes:
        value: mean over the seeds.
        error: standard deviation over the seeds; with one seed, the metric's own standard error if it has one.
        floor: score of `num_fake` other real examples in place of samples; None if the dataset has too few.
        better: whether lower or higher values are better.
        extractor, extractor_hash: source of the features; `coordinates` for points.
        dataset_hash: hash of the real examples; for memorisation, 8 digits each for the training and held-out sets.
        split: split of the real examples, `train` or `held_out`.
        num_real, num_fake: number of real examples and of samples.
        weights: `ema` or `raw`; None if the samples come from another program.
        step: step of the checkpoint; None if the samples come from another program.
        seeds: seeds of the samples.
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
        """Return the score as plain numbers, strings and lists, for a file."""
        return {**asdict(self), "seeds": list(self.seeds)}

    @classmethod
    def read(cls, tree: Mapping[str, Any]) -> Score:
        """Create a score from the plain values of a file.

        Raises:
            DataError: a field is missing.
        """
        missing = [field.name for field in fields(cls) if field.name not in tree]
        if missing:
            raise DataError(f"score {tree.get('metric', '?')}: missing {', '.join(missing)}")
        known = {field.name: tree[field.name] for field in fields(cls)}
        return cls(**{**known, "seeds": tuple(tree["seeds"])})

    def beats(self, other: Score | None) -> bool:
        """Whether this score is better than another.

        Raises:
            DataError: their protocols differ.
        """
        if other is None:
            return True
        refuse_unlike([self, other])
        return self.value < other.value if self.better == "lower" else self.value > other.value


def refuse_unlike(scores: Sequence[Score]) -> None:
    """Refuse to rank or plot scores together unless their protocols are equal.

    Raises:
        DataError: the protocols differ; the message names the first field that differs and two of its values.
    """
    for name in PROTOCOL:
        found = {getattr(score, name): None for score in scores}
        if len(found) > 1:
            first, second, *_ = found
            raise DataError(f"scores cannot be ranked together: {name} is {first} in one and {second} in another")


def changed_protocols(before: Mapping[str, Mapping[str, Any]], scores: Mapping[str, Score]) -> dict[str, str]:
    """Return metric -> difference, for the metrics whose protocol differs from earlier scores, read from a file."""
    found = {}
    for name in [name for name in scores if name in before]:
        try:
            refuse_unlike([Score.read(before[name]), scores[name]])
        except DataError as error:
            found[name] = str(error)
    return found


def comparisons(scores: Mapping[str, Score]) -> list[str]:
    """Describe what was compared: one line for most metrics, and one, with their names, for each other group."""
    groups: dict[str, list[str]] = {}
    for name, score in scores.items():
        groups.setdefault(_comparison(score), []).append(name)
    usual = max(groups, key=lambda comparison: len(groups[comparison]), default="")
    rest = [f"{', '.join(names)}: {comparison}" for comparison, names in groups.items() if comparison != usual]
    return [usual, *rest] if groups else []


def _comparison(score: Score) -> str:
    """Describe the number and source of the samples and of the real examples."""
    generator = "" if score.weights is None else f" of step {score.step}, {score.weights} weights"
    samples = f"{score.num_fake:,} samples{generator} ({len(score.seeds)} seed{'s' * (len(score.seeds) > 1)})"
    needed = score.num_fake + score.num_real
    no_floor = f"; no floor: it needs {needed:,} real examples" if score.floor is None else ""
    return f"{samples} against {score.num_real:,} real ({score.split}){no_floor}"
