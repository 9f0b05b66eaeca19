"""Selection of the device."""

from __future__ import annotations

import logging
import warnings

import torch

from ganlab.errors import ConfigError
from ganlab.training import torchrun
from ganlab.training.gpus import gpu_files, visible_gpus

log = logging.getLogger(__name__)


def resolve(name: str) -> torch.device:
    """Return the device for `auto`, `cpu`, `cuda`, `cuda:N` or `mps`; `auto` prefers a GPU.

    Raises:
        ConfigError: this machine has no such device, or several processes cannot train on it.
    """
    kind, _, index = name.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (name != kind and not (kind == "cuda" and index.isdecimal())):
        raise ConfigError(f"device={name}: must be 'auto', 'cpu', 'cuda', 'cuda:N' for GPU number N, or 'mps'")
    with warnings.catch_warnings():  # see `warn_of_broken_cuda`
        warnings.simplefilter("ignore")
        is_available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if kind == "auto":
        kind = next(kind for kind, available in is_available.items() if available)
    if not is_available[kind]:
        allowed = " or ".join(f"device={kind}" for kind, available in is_available.items() if available)
        raise ConfigError(f"device={name}: no {kind.upper()} device found; use {allowed}")
    if torchrun.is_data_parallel() and kind != "cpu":
        raise ConfigError(f"device={name}: torchrun trains on CPUs only; use device=cpu")
    if not index:
        return torch.device(kind)
    num_gpus = torch.cuda.device_count()
    if int(index) >= num_gpus:
        raise ConfigError(f"device={name}: no such GPU; must be at most cuda:{num_gpus - 1}")
    return torch.device("cuda", int(index))


def warn_of_broken_cuda(name: str, device: torch.device) -> None:
    """Warn if `auto` has selected the CPU of a machine with a GPU that PyTorch cannot use.

    Args:
        name: the device in the config.
        device: the device that was selected.
    """
    if name != "auto" or device.type != "cpu" or not visible_gpus():
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.is_available()
    reasons = [" ".join(str(warning.message).split()) for warning in caught]
    reasons += [f"PyTorch finds no GPU, but {file} exists" for file in gpu_files()]
    if reasons:
        log.warning(
            "WARNING: device=auto: using the CPU, because CUDA does not work: %s; device=cpu avoids this warning",
            reasons[0],
        )
