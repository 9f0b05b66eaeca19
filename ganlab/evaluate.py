"""Score a trained generator, or samples of another program: `python -m ganlab.evaluate run=FOLDER`."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from ganlab.config import command_line, run_config
from ganlab.config.ranges import NumSamples, SmallCount
from ganlab.config.terminal import printable
from ganlab.errors import ConfigError, DataError
from ganlab.files import replace_file
from ganlab.runs.folder import read_result
from ganlab.training.memory import keep_freed_memory

if TYPE_CHECKING:
    from ganlab.data.dataset import Dataset
    from ganlab.metrics.evaluator import Evaluator, Source
    from ganlab.runs.scores import Score

log = logging.getLogger(__name__)

NUM = NUM_REAL = 10_000  # default numbers of samples and real examples
GROUPS = ("dataset",)  # config groups whose keys the command accepts


def evaluate(
    run: str | None = None,
    data: str | None = None,
    dataset: str | None = None,
    metrics: Sequence[str] | None = None,
    extractor: str = "auto",
    num: NumSamples | None = None,
    num_real: NumSamples | None = None,
    split: Literal["train", "held_out"] = "train",
    seeds: SmallCount = 1,
    weights: Literal["ema", "raw"] | None = None,
    checkpoint: str = "last",
    device: str = "auto",
    out: str | None = None,
    trust: Sequence[str] = (),
    overrides: Sequence[str] = (),
) -> None:
    """Score a trained generator, or samples of another program.

    python -m ganlab.evaluate run=FOLDER [weights=ema|raw] [checkpoint=best|last|STEP] [seeds=3]
                              ['trust=[my_module]']
    python -m ganlab.evaluate data=FOLDER|FILE dataset=mnist5 [dataset.KEY=VALUE ...]
        both: ['metrics=[fid,kid]'] [extractor=auto] [num=10000] [num_real=10000] [split=train|held_out] [device=auto]
              [out=scores.json]

    metrics   names of the metrics; default: all that suit the data.
    extractor feature extractor for images: auto, domain (a classifier of the data, trained once), random, pixels,
              inception, or the dotted name of your own network.
    num       number of samples per seed; default: up to 10,000. If data= has more, a random subset is used.
    num_real  maximum number of real examples; default: up to 10,000.
              The floor is the score of `num` other real examples in place of samples. If the dataset has too few,
              the defaults are lowered; numbers that you set are kept, possibly without a floor.
    split     the split that the real examples come from.
    seeds     number of seeds; with more than one, scores are a mean and a standard deviation.
    data      a folder of images, or a .npy or .npz of images [N, C, H, W], [N, H, W, C] or, for greyscale, [N, H, W],
              as bytes or floats in [0, 1], or of points [N, D].
    out       output file; default: scores.json in the folder of the run.
    """
    if (run is None) == (data is None):
        raise ConfigError("give either run=FOLDER or data=FOLDER")
    if (data is None) != (dataset is None):
        raise ConfigError(
            "dataset=NAME: must be given with data=, and only then; with run=, the dataset is that of the run"
        )
    if overrides and data is None:
        raise ConfigError(f"{overrides[0]}: allowed only with data=; with run=, the dataset is that of the run")
    if data is not None and (weights is not None or checkpoint != "last" or seeds != 1):
        raise ConfigError("weights=, checkpoint= and seeds=: allowed only with run=; the samples of data= are fixed")
    if run is not None:
        subject = of_run(run, weights, checkpoint, device, tuple(trust))
    else:
        subject = of_file(str(data), str(dataset), overrides)
    if num is not None and subject.num is not None and num > subject.num:
        raise DataError(f"num={num}: must be at most {subject.num}, the number of samples in data={data}")
    evaluator = build_evaluator(subject, metrics, extractor, num, num_real, split, seeds, device)
    scores = evaluator.evaluate(subject.source, subject.weights, subject.step)
    print(table(scores, evaluator.extractor.about))
    target = Path(out) if out else Path(run) / "scores.json" if run else None
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        replace_file(target, (json.dumps([s.plain() for s in scores.values()], indent=2) + "\n").encode())
        print(f"Written to {printable(target)}")


def build_evaluator(
    subject: Subject,
    metrics: Sequence[str] | None,
    extractor: str,
    num: int | None,
    num_real: int | None,
    split: Literal["train", "held_out"],
    seeds: int,
    device: str,
) -> Evaluator:
    """Load the data of the subject's dataset and prepare the metrics; the arguments are those of `evaluate`."""
    from ganlab.data.dataset import load_held_out
    from ganlab.metrics.evaluator import Evaluator, Sizes, sizes_with_floor
    from ganlab.metrics.extractors import extractor_of
    from ganlab.training import devices

    subject.dataset.check()
    train, held_out = subject.dataset.load(), load_held_out(subject.dataset)
    if subject.dataset_hash not in (None, train.fingerprint):
        log.warning(
            "WARNING: the run was trained on other data (%s) than dataset %s now contains (%s, %s)",
            *(subject.dataset_hash, subject.dataset.name, train.fingerprint, train.source),
        )
    if split == "held_out" and held_out is None:
        raise DataError(f"split=held_out: dataset {subject.dataset.name} has no held-out set, or its files are missing")
    examples = held_out if split == "held_out" and held_out else train
    default = Sizes(min(NUM, subject.num or NUM), NUM_REAL)
    evaluator = Evaluator(
        subject.dataset,
        examples,
        extractor_of(extractor, subject.dataset, devices.resolve(device), [extractor.partition(".")[0]]),
        metrics,
        num_classes=subject.num_classes,
        **sizes_with_floor(subject.dataset, len(examples), default, num, num_real)._asdict(),
        split=split,
        seeds=range(seeds),
        quick=False,
        memory=(train, held_out) if held_out else None,
    )
    if not evaluator.names:
        raise DataError(
            "no metrics are measured; name them, as in 'metrics=[fid,kid]', or omit metrics= to measure all that suit "
            "the data"
        )
    return evaluator


class Subject(NamedTuple):
    """A source of samples to score, and its properties.

    Attributes:
        dataset: dataset to compare the samples with.
        num_classes: number of classes of the labels; 0: unlabelled.
        num: number of samples available; None: unlimited.
        weights, step: recorded in the scores; None: the source is not a generator.
        dataset_hash: hash of the training examples; None: unknown.
    """

    source: Source
    dataset: Dataset
    num_classes: int = 0
    num: int | None = None
    weights: str | None = None
    step: int | None = None
    dataset_hash: str | None = None


def of_run(run: str, weights: str | None, checkpoint: str, device: str, trust: tuple[str, ...]) -> Subject:
    from ganlab.build import instantiate
    from ganlab.data.dataset import Dataset
    from ganlab.trained_generator import TrainedGenerator

    cfg = run_config.load(run, trust)
    generator = TrainedGenerator.build(cfg, run, weights=weights, checkpoint=checkpoint, device=device)
    dataset = instantiate(cfg, "dataset", Dataset)
    recorded = read_result(Path(run)).get("dataset")
    return Subject(
        generator.sampler,
        dataset,
        num_classes=len(generator.classes),
        weights=generator.weights,
        step=generator.step,
        dataset_hash=recorded.get("hash") if isinstance(recorded, dict) else None,
    )


def of_file(data: str, dataset: str, overrides: Sequence[str]) -> Subject:
    from ganlab.build import instantiate
    from ganlab.data.dataset import Dataset
    from ganlab.data.sample_files import open_samples

    cfg = run_config.compose([f"dataset={dataset}", *overrides])
    reference = instantiate(cfg, "dataset", Dataset)
    samples = open_samples(data, tuple(reference.shape))
    return Subject(samples, reference, num=samples.num)


def table(scores: Mapping[str, Score], about: str) -> str:
    """Format the scores, one line per metric, followed by the sample counts and the extractor."""
    from ganlab.metrics.catalogue import METRICS
    from ganlab.runs.scores import comparisons

    lines = [f"{'metric':18s} {'value':>10s} {'+-':>8s} {'floor':>10s}  better"]
    for name, score in scores.items():
        error = "" if score.error is None else f"{score.error:.2g}"
        floor = "-" if score.floor is None else f"{score.floor:.4g}"
        lines.append(
            f"{name:18s} {score.value:10.4g} {error:>8s} {floor:>10s}  {score.better:6s}  {METRICS[name].about}"
        )
    first = next(iter(scores.values()))
    lines += comparisons(scores)
    lines.append(f"extractor: {about} {first.extractor_hash}".rstrip())
    return "\n".join(map(printable, lines))


def main() -> None:
    keep_freed_memory()
    arguments = sys.argv[1:]
    sys.exit(command_line.run(lambda: command_line.call(evaluate, arguments, GROUPS), arguments))


if __name__ == "__main__":
    main()
