"""The run on one page that needs nothing beside it."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ganlab.metrics.catalogue import METRICS
from ganlab.runs import RunFolder, replace_file
from ganlab.scores import Score, comparisons

ORDER = ("final", "real", "training", "before", "curves")
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #1d2733; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .15rem 1.2rem .15rem 0; vertical-align: top; }
th { font-weight: 600; color: #56657a; white-space: nowrap; } figure { margin: 1rem 0; } figcaption { color: #56657a; }
img { max-width: 100%; } pre { background: #f3f5f8; padding: 1rem; overflow-x: auto; font-size: 13px; }
.pictures { display: flex; flex-wrap: wrap; gap: 1.5rem; align-items: flex-start; }
"""


def write(run: RunFolder, cfg: Mapping[str, Any]) -> Path:
    """`report.html`: how the run ended, its pictures, its last metrics and its config."""
    pictures = [run.figures / f"{name}.png" for name in ORDER] + [run.figures / "training.gif"]
    history = run.history()
    best, plain = run.result["best"], {k: v for k, v in run.result.items() if k not in ("scores", "best")}
    if best:
        plain["best checkpoint"] = f"{best['metric']} {best['value']:.4g} at step {best['step']}"
    title = f"{run.result['dataset']['name']}, seed {run.result['seed']}"
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>ganlab: {html.escape(title)}</title><style>{STYLE}</style></head>
<body>
<h1>{html.escape(title)}</h1>
<p>{html.escape(str(run.path))}</p>
{_table(plain)}
{_scores(run.result["scores"])}
<h2>Pictures</h2><div class="pictures">{"".join(_picture(p) for p in pictures if p.is_file())}</div>
<h2>Last record</h2>{_table(history[-1] if history else {})}
<h2>Config</h2><pre>{html.escape(OmegaConf.to_yaml(OmegaConf.create(dict(cfg))))}</pre>
</body></html>
"""
    file = run.path / "report.html"
    replace_file(file, page.encode())
    return file


def _table(rows: Mapping[str, Any]) -> str:
    """One row a value, and one for each of those inside it; None has no row."""

    def shown(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
        return value if isinstance(value, str) else json.dumps(value)

    def flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(value, Mapping):
            for part, inner in value.items():
                yield from flat(f"{name} {part}", inner)
        elif value is not None:
            yield name, value

    cells = (
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(shown(value))}</td></tr>"
        for row in rows.items()
        for name, value in flat(*row)
    )
    return f"<table>{''.join(cells)}</table>"


def _scores(scores: Mapping[str, Mapping[str, Any]]) -> str:
    """The last scores beside their floors, and what they were measured on."""
    if not scores:
        return ""
    heads = "".join(f"<th>{name}</th>" for name in ("score", "value", "floor", "better", "what it is"))
    rows = "".join(
        f"<tr><th>{name}</th><td>{score['value']:.4g}</td><td>{score['floor']:.4g}</td><td>{score['better']}</td>"
        f"<td>{html.escape(METRICS[name].about)}</td></tr>"
        for name, score in scores.items()
    )
    read = {name: Score.read(score) for name, score in scores.items()}
    one = next(iter(read.values()))
    extractor = f"extractor: {one.extractor} {one.extractor_hash}".rstrip()  # coordinates have no hash
    floor = "The floor is the same metric of real examples in the place of samples"
    told = "".join(f"<p>{html.escape(line)}</p>" for line in (*comparisons(read), f"{extractor}. {floor}."))
    return f"<h2>Scores</h2><table><tr>{heads}</tr>{rows}</table>{told}"


def _picture(file: Path) -> str:
    kind = file.suffix.removeprefix(".")
    data = base64.b64encode(file.read_bytes()).decode()
    caption = "training, animated" if kind == "gif" else file.stem
    source = f"data:image/{kind};base64,{data}"
    return f'<figure><img alt="{caption}" src="{source}"><figcaption>{caption}</figcaption></figure>'
