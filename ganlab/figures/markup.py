"""HTML with untrusted text in it, and the Content-Security-Policy of a page."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from markupsafe import Markup

from ganlab.config.terminal import printable


class Html(Markup):
    """HTML that escapes every plain string that is formatted into it, added to it or joined by it.

    `Html("<td>{}</td>").format(name)` escapes the name, control characters included. `Html(name)` would treat the name
    as HTML, so ruff allows only literals there (S704).
    """

    @classmethod
    def escape(cls, s: Any, /) -> Html:
        return super().escape(s if hasattr(s, "__html__") else printable(s))


def content_policy(style: str, script: str | None = None) -> str:
    """The Content-Security-Policy of a page that loads nothing and runs only its own script.

    Args:
        style, script: content of the page's only `<style>` and `<script>`, which the policy allows by their hashes.
            Browsers then ignore all others, and attributes such as `style=` and `onclick=`.
    """
    scripts = [] if script is None else [f"script-src {_source(script)}"]
    parts = ["default-src 'none'", "img-src data:", f"style-src {_source(style)}", *scripts]
    return "; ".join([*parts, "base-uri 'none'", "form-action 'none'"])


def _source(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
