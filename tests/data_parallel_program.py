"""`python -m ganlab` in double precision and without pictures; tests/test_data_parallel.py starts it."""

from __future__ import annotations

import math
import sys
from typing import Any

import torch
from torch import Tensor

from ganlab import build
from ganlab.__main__ import main
from ganlab.data.batches import to_model_range
from ganlab.figures import NoPictures
from ganlab.training.step import TrainingStep

build_replica, train_step = build.build_replica, TrainingStep.__call__


def build_core_in_double_precision(*arguments: Any) -> build.Replica:
    core = build_replica(*arguments)
    core.training_step.batches.data = to_model_range(core.training_step.batches.data).double()
    return core


def diverge_once(training_step: TrainingStep, step: int, lr_factor: float) -> dict[str, Tensor]:
    numbers = train_step(training_step, step, lr_factor)
    if step == 4 and lr_factor == 1:
        torch.nn.init.constant_(training_step.generator_parameters[0], math.inf)
    return numbers


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    build.build_replica = build_core_in_double_precision
    build.PointPictures = build.ImagePictures = lambda *_: NoPictures()
    if "watchdog=roll_back" in sys.argv:
        TrainingStep.__call__ = diverge_once
    main()
