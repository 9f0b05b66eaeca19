"""Hostile text for the files of a run, and checks that pages, logs and terminals show it as text."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import yaml

PARTS = {
    "element": "</title></style></table><script>document.title = 'injected'</script>",
    "attribute": '"><img src=x onerror=alert(1)>',
    "quote": "' onmouseover='alert(1)",
    "entity": "&lt;b&gt;",
    "newline": "\nINJECTED\r\nINJECTED\u2028INJECTED",
    "colour": "\x1b[31m",
    "title": "\x1b]0;title\x07",
    "c1": "\x9b31m\x85",
    "direction": "\u202e\u2066",
    "surrogate": "\udcff",  # how Python decodes a file name that is not UTF-8
}
TEXT = "".join(PARTS.values())
VALUES = (TEXT, [TEXT], -math.inf)  # values of many types, so that some are never of the expected type


def variants(tree: Any, value: Any, text: str = TEXT) -> Iterator[Any]:
    """Yield copies of the tree, each with one value or inner node replaced, or with the text appended to one key."""
    if isinstance(tree, dict):
        for key, inner in tree.items():
            yield {**tree, key: value}
            yield {f"{key}{text}" if other == key else other: content for other, content in tree.items()}
            for changed in variants(inner, value, text):
                yield {**tree, key: changed}
    elif isinstance(tree, list):
        for index, inner in enumerate(tree):
            for changed in (value, *variants(inner, value, text)):
                yield [*tree[:index], changed, *tree[index + 1 :]]


def strings_replaced(tree: Any, text: str) -> Any:
    """Return the tree with the text appended to every string."""
    if isinstance(tree, dict):
        return {key: strings_replaced(value, text) for key, value in tree.items()}
    if isinstance(tree, list):
        return [strings_replaced(value, text) for value in tree]
    return f"{tree}{text}" if isinstance(tree, str) else tree


def all_variants(tree: Any, values: Iterable[Any] = VALUES) -> Iterator[Any]:
    """Yield all variants with these values, and the tree with each part of the text appended to every string."""
    for value in values:
        yield from variants(tree, value)
    for text in PARTS.values():
        yield strings_replaced(tree, text)


def read(file: Path) -> Any:
    text = file.read_text()
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines()]
    return yaml.safe_load(text) if file.suffix == ".yaml" else json.loads(text)


def replace(file: Path, tree: Any) -> None:
    if file.suffix == ".jsonl":
        file.write_text("".join(json.dumps(record) + "\n" for record in tree))
    else:
        file.write_text(yaml.safe_dump(tree) if file.suffix == ".yaml" else json.dumps(tree))


class Page(HTMLParser):
    """The elements, attributes and sources of one or more pages, which injected markup would change.

    Attributes:
        attributes: (element, attribute) pairs, and (element, "") for each element.
        sources: values of `src` and `href`, without the content of data URLs.
        policy: content of the `meta` element that comes first in the head.
    """

    def __init__(self, *pages: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: set[tuple[str, str]] = set()
        self.sources: set[str] = set()
        self.policy = ""
        for page in pages:
            self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes |= {(tag, ""), *((tag, name) for name, _ in attrs)}
        self.sources |= {str(value).partition(",")[0] for name, value in attrs if name in ("src", "href")}
        if self.elements == ["html", "head", "meta"]:
            self.policy = dict(attrs).get("content") or ""


def assert_same_markup(page: str, harmless: Page) -> None:
    """Check that a page has no element, attribute, script, style or source that pages of harmless runs lack."""
    found = Page(page)
    assert found.attributes <= harmless.attributes
    assert found.sources <= harmless.sources
    assert found.policy == harmless.policy
    assert found.elements.count("style") == 1
    assert found.elements.count("script") <= 1


def assert_policy_allows_own_code_alone(page: str) -> None:
    parser = Page(page)
    policy = {name: values for name, *values in (part.split() for part in parser.policy.split(";"))}
    assert policy.pop("default-src") == ["'none'"]
    assert policy.pop("img-src") == ["data:"]
    assert policy.pop("base-uri") == policy.pop("form-action") == ["'none'"]
    for code in ("script", "style"):
        contents = page.split(f"<{code}>")[1:]
        digests = [hashlib.sha256(c.split(f"</{code}>")[0].encode()).digest() for c in contents]
        assert policy.pop(f"{code}-src", []) == [f"'sha256-{base64.b64encode(d).decode()}'" for d in digests]
    assert not policy
    assert not {(tag, name) for tag, name in parser.attributes if name == "style" or name.startswith("on")}


def assert_printable(output: str) -> None:
    """Check that there are no control characters except newlines, and no line starts with text from a file."""
    assert output.replace("\n", "").isprintable()
    assert not [line for line in output.split("\n") if line.startswith("INJECTED")]
