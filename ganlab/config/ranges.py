"""Annotations for numbers with a range. Signatures use them, and the signatures are the schema of the config.

Upper bounds are far above any sensible value. They catch typing errors before memory runs out or numbers overflow.
"""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt

PositiveInt = Annotated[int, Ge(1), Le(10**9)]
NumExamples = Annotated[int, Ge(1), Le(10**8)]
NumSamples = Annotated[int, Ge(10), Le(10**6)]  # from which a score is computed
Width = Annotated[int, Ge(1), Le(2**14)]  # units, channels, dimensions of a latent or an embedding
Side = Annotated[int, Ge(1), Le(2**13)]  # pixels
SmallCount = Annotated[int, Ge(1), Le(1000)]  # of things created one by one, such as layers
SmallCountOrZero = Annotated[int, Ge(0), Le(1000)]
Positive = Annotated[float, Gt(0)]
Factor = Annotated[float, Gt(0), Le(1000)]  # multiplies values of order 1
Noise = Annotated[float, Ge(0), Le(1000)]  # standard deviation, for data of order 1
Weight = Annotated[float, Ge(0), Le(1e6)]  # of a term of the loss
Seconds = Annotated[float, Gt(0), Le(1e6)]
Momentum = Annotated[float, Ge(0), Lt(1)]
Fraction = Annotated[float, Ge(0), Le(1)]
Epochs = Annotated[float, Gt(0), Le(1e9)]  # between two events; may be fractional
Seed = Annotated[int, Ge(0), Lt(2**63)]
