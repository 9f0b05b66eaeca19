"""The report of a run, a self-contained HTML page."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ganlab.errors import CheckpointError, DataError
from ganlab.figures.markup import Html, content_policy
from ganlab.files import replace_file
from ganlab.metrics.catalogue import METRICS
from ganlab.runs.folder import RunFolder
from ganlab.runs.scores import Score, comparisons

HERE = Path(__file__).parent
ORDER = ("final", "real", "training", "before", "curves")
ABSENT = "-"
PAGES = Environment(
    loader=FileSystemLoader(HERE), autoescape=True, finalize=Html.escape, undefined=StrictUndefined, trim_blocks=True
)


def write(run: RunFolder) -> Path:
    """Write `report.html`: the result of the run, its scores, figures, last metrics and config.

    Result, records and config may come from a damaged or hostile file, so values of the wrong type are shown as text.
    """
    style = Html((HERE / "report.css").read_text())  # noqa: S704 - our own file
    dataset, scores = _mapping(run.result.get("dataset")), _mapping(run.result.get("scores"))
    page = PAGES.get_template("report.html.jinja").render(
        policy=content_policy(style),
        style=style,
        title=f"{format_value(dataset.get('name'))}, seed {format_value(run.result.get('seed'))}",
        folder=run.path,
        summary=list(_summary(run.result)),
        scores=[_score(name, _mapping(score)) for name, score in scores.items()],
        protocol=_protocol(scores),
        pictures=list(_pictures(run.figures)),
        record=list(_leaves(_last_record(run))),
        config=(run.path / ".hydra" / "config.yaml").read_text(errors="replace").rstrip().split("\n"),
    )
    file = run.path / "report.html"
    replace_file(file, page.encode())
    return file


def format_value(value: Any) -> str:
    """A float with four digits, a string unchanged, None as a dash, anything else as JSON."""
    if value is None:
        return ABSENT
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return value if isinstance(value, str) else json.dumps(value)


def _summary(result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield from _leaves({name: value for name, value in result.items() if name not in ("scores", "best")})
    if best := _mapping(result.get("best")):
        metric, value, step = (format_value(best.get(name)) for name in ("metric", "value", "step"))
        yield "best checkpoint", f"{metric} {value} at step {step}"


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield (name, text) for every value that is not None; nested names are joined by spaces."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name} ")
        elif value is not None:
            yield f"{prefix}{name}", format_value(value)


def _score(name: str, score: Mapping[str, Any]) -> dict[str, str]:
    about = METRICS[name].about if name in METRICS else ABSENT
    return {"name": name, "about": about, **{key: format_value(score.get(key)) for key in ("value", "floor", "better")}}


def _protocol(scores: Mapping[str, Any]) -> list[str]:
    """How the scores were measured: sample counts, splits and extractors."""
    try:
        read = {name: Score.read(score) for name, score in scores.items()}
        lines = comparisons(read)
    except (DataError, TypeError, ValueError, AttributeError) as error:
        return [f"The measurement details cannot be read: {error}"]
    names = (f"{score.extractor} {score.extractor_hash}".strip() for score in read.values())  # coordinates: no hash
    floor = "The floor is the same metric for real examples in place of samples"
    return [*lines, f"extractor: {', '.join(dict.fromkeys(names))}. {floor}."]


def _last_record(run: RunFolder) -> Mapping[str, Any]:
    try:
        return next(reversed(run.history()), {})
    except (CheckpointError, TypeError, AttributeError) as error:
        return {"cannot be read": str(error)}


def _pictures(folder: Path) -> Iterator[dict[str, str]]:
    for file in (*(folder / f"{name}.png" for name in ORDER), folder / "training.gif"):
        if file.is_file():
            kind = file.suffix.removeprefix(".")
            data = base64.b64encode(file.read_bytes()).decode()
            caption = "training, animated" if kind == "gif" else file.stem
            yield {"caption": caption, "source": f"data:image/{kind};base64,{data}"}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
