"""Locates the config files and lists the options of each group."""

from __future__ import annotations

from pathlib import Path

CONFIG_NAME = "config"


def conf_dir() -> Path:
    """Return the folder of config files: inside the package once installed, beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    packaged = package / "conf"
    return packaged if packaged.is_dir() else package.parent / "conf"


def options_of(group: str) -> list[str]:
    """Return the options of a group that ship with ganlab."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))
