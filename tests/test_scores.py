"""Scores record their protocol, and are ranked together only if it is equal."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ganlab.errors import DataError
from ganlab.runs.scores import PROTOCOL, Score, changed_protocols, comparisons, refuse_unlike

SCORE = Score(
    metric="fid",
    value=3.0,
    error=None,
    floor=1.0,
    better="lower",
    extractor="domain",
    extractor_hash="abc",
    dataset_hash="def",
    split="train",
    num_real=5000,
    num_fake=2500,
    weights="ema",
    step=100,
    seeds=(0,),
)


@pytest.mark.parametrize("name", PROTOCOL)
def test_unlike_scores_are_refused_with_the_field_that_differs(name: str) -> None:
    other = replace(SCORE, **{name: 7})
    with pytest.raises(DataError, match=rf"{name} is {getattr(SCORE, name)} in one and 7 in another"):
        refuse_unlike([SCORE, other])
    with pytest.raises(DataError, match=name):
        SCORE.beats(other)


def test_scores_of_other_generators_are_alike() -> None:
    other = replace(SCORE, value=9.0, step=200, error=0.1, seeds=(0, 1), floor=1.1)
    refuse_unlike([SCORE, other])
    assert SCORE.beats(other)


def test_better_is_what_the_metric_says() -> None:
    assert SCORE.beats(None)
    assert SCORE.beats(replace(SCORE, value=4.0))
    assert not SCORE.beats(SCORE)
    assert not replace(SCORE, better="higher").beats(replace(SCORE, better="higher", value=4.0))


def test_a_score_survives_a_file() -> None:
    assert Score.read(json.loads(json.dumps(SCORE.plain()))) == SCORE
    with pytest.raises(DataError, match="score fid: missing num_fake"):
        Score.read({name: value for name, value in SCORE.plain().items() if name != "num_fake"})


def test_what_most_metrics_compare_is_told_first() -> None:
    copies = replace(SCORE, metric="memorisation", num_real=60_000, floor=None)
    first, second = comparisons({"memorisation": copies, "fid": SCORE, "kid": replace(SCORE, metric="kid")})
    assert first == "2,500 samples of step 100, ema weights (1 seed) against 5,000 real (train)"
    assert second.startswith("memorisation: 2,500 samples of step 100")
    assert second.endswith("against 60,000 real (train); no floor: it needs 62,500 real examples")
    assert comparisons({}) == []


def test_what_was_measured_otherwise_before_is_named() -> None:
    before = {"fid": replace(SCORE, num_fake=9).plain(), "kid": replace(SCORE, metric="kid").plain()}
    [(name, reason)] = changed_protocols(before, {"fid": SCORE, "kid": replace(SCORE, metric="kid")}).items()
    assert name == "fid"
    assert "num_fake is 9 in one and 2500 in another" in reason
