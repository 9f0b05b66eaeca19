"""Numbers with a range, to annotate signatures with: the signatures are the schema of the config."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt

Count = Annotated[int, Ge(1), Le(10**9)]
NonNegativeInt = Annotated[int, Ge(0)]
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Momentum = Annotated[float, Ge(0), Lt(1)]
Fraction = Annotated[float, Ge(0), Le(1)]
Epochs = Annotated[float, Gt(0), Le(1e9)]  # between two events, fractions allowed
Seed = Annotated[int, Ge(0), Lt(2**63)]
