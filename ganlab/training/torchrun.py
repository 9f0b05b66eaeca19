"""The processes of a run that `torchrun` has started, as its environment variables describe them."""

from __future__ import annotations

import os


def is_data_parallel() -> bool:
    """Whether torchrun has started this process together with others."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ["WORLD_SIZE"]) > 1


def rank() -> int:
    """Number of this process among all; rank 0 decides and writes."""
    return int(os.environ["RANK"]) if is_data_parallel() else 0
