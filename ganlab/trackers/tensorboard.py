"""The TensorBoard tracker."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from ganlab.errors import ConfigError
from ganlab.trackers import RunInfo, summary


class TensorBoard:
    """Writes event files into the run's folder, for `tensorboard --logdir outputs`.

    Raises:
        ConfigError: the package is not installed.
    """

    start_timeout = finish_timeout = 10.0

    def __init__(self) -> None:
        if find_spec("tensorboard") is None:
            raise ConfigError('tracker=tensorboard: TensorBoard is not installed; pip install "ganlab[tensorboard]"')
        self.writer: Any = None

    def start(self, run: RunInfo) -> None:
        self.folder = run.folder / "tensorboard"
        if self.folder.is_dir():
            self._begin(after=run.step)
        else:
            self._begin()
            self._write("config", run.config, step=0)

    def _begin(self, after: int | None = None) -> None:
        """Open an event file; events in earlier files are hidden from step `after` + 1 on."""
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(self.folder), purge_step=None if after is None else after + 1)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)

    def picture(self, name: str, file: Path, step: int) -> None:
        from PIL import Image
        from tensorboard.compat.proto.summary_pb2 import Summary

        with Image.open(file) as picture:
            width, height = picture.size
        # add_image would decode the file and lose animations, and add_video needs moviepy
        image = Summary.Image(width=width, height=height, colorspace=3, encoded_image_string=file.read_bytes())
        self.writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)

    def rewind(self, step: int) -> None:
        self.writer.close()
        self._begin(after=step)

    def finish(self, exit_code: int, result: Mapping[str, Any], best: Path | None) -> None:
        if self.writer is not None:
            self._write("result", summary(result), result["step"])
            self.writer.close()

    def _write(self, name: str, values: Mapping[str, Any], step: int) -> None:
        """Write values as a Markdown code block, indented by four spaces."""
        text = yaml.safe_dump(dict(values), sort_keys=False)
        self.writer.add_text(name, "".join(f"    {line}" for line in text.splitlines(keepends=True)), step)
