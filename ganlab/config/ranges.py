"""Numbers with a range, to annotate signatures with: the signatures are the schema of the config.

Upper ends lie far above all that makes sense; they are there so that a slip of the keyboard is told at once, not after
the memory or the numbers have run out.
"""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt

PositiveInt = Annotated[int, Ge(1), Le(10**9)]
NumExamples = Annotated[int, Ge(1), Le(10**8)]
NumSamples = Annotated[int, Ge(10), Le(10**6)]  # that a score is told from
Width = Annotated[int, Ge(1), Le(2**14)]  # units, channels, numbers of a latent or of an embedding
Side = Annotated[int, Ge(1), Le(2**13)]  # pixels
SmallCount = Annotated[int, Ge(1), Le(1000)]  # of what is made one by one
SmallCountOrZero = Annotated[int, Ge(0), Le(1000)]
Positive = Annotated[float, Gt(0)]
Factor = Annotated[float, Gt(0), Le(1000)]  # of numbers that are about 1 without it
Noise = Annotated[float, Ge(0), Le(1000)]  # a standard deviation, the data being of the size of 1
Weight = Annotated[float, Ge(0), Le(1e6)]  # of a term in what is minimised
Seconds = Annotated[float, Gt(0), Le(1e6)]
Momentum = Annotated[float, Ge(0), Lt(1)]
Fraction = Annotated[float, Ge(0), Le(1)]
Epochs = Annotated[float, Gt(0), Le(1e9)]  # between two events, fractions allowed
Seed = Annotated[int, Ge(0), Lt(2**63)]
