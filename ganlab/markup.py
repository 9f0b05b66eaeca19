"""HTML with untrusted text in it, and the content policy of a page."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from markupsafe import Markup

from ganlab.terminal import printable


class Html(Markup):
    """HTML that escapes any other string that is formatted into it, added to it or joined by it.

    `Html("<td>{}</td>").format(name)` escapes the name; control characters in it become visible. `Html(name)` would
    take the name for HTML, so ruff allows only literals there (S704).
    """

    @classmethod
    def escape(cls, s: Any, /) -> Html:
        return super().escape(s if hasattr(s, "__html__") else printable(s))


def content_policy(style: str, script: str | None = None) -> str:
    """The Content-Security-Policy of a page that loads nothing and runs its own script alone.

    Args:
        style, script: the content of the page's only `<style>` and `<script>`, which the policy names by their hashes.
            Browsers then ignore every other one, and all `style=` and `onclick=` attributes.
    """
    scripts = [] if script is None else [f"script-src {_source(script)}"]
    parts = ["default-src 'none'", "img-src data:", f"style-src {_source(style)}", *scripts]
    return "; ".join([*parts, "base-uri 'none'", "form-action 'none'"])


def _source(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
