"""The layers of the package: imports lead downwards only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import ganlab

PACKAGE = Path(ganlab.__file__).parent
# From the top. A room may import from the floors below; files of one folder may import each other.
FLOORS = (
    ("__main__", "compare", "evaluate", "sample"),
    ("hydra_callbacks",),
    ("sweeps",),
    ("train",),
    ("trained_generator",),
    ("build",),
    ("leaderboard", "training"),
    ("figures",),
    ("metrics", "sampling"),
    ("runs", "game"),
    ("data", "augment", "penalties"),
    ("models", "optimizers", "trackers", "watchdog", "schedules", "losses"),
    ("rng",),
    ("config",),
    ("files",),
    ("errors",),
)
FLOOR = {room: len(FLOORS) - number for number, rooms in enumerate(FLOORS) for room in rooms}


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(file: Path) -> Iterator[str]:
    """Yield the names that a file imports, at any level, except imports for type checking only."""
    tree = ast.parse(file.read_text())
    for_types = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_of(name: str) -> Path | None:
    """Return the file of an imported module or name; None if it is outside ganlab, or the package itself."""
    parts = name.split(".")
    if parts[0] != "ganlab":
        return None
    for end in range(len(parts), 1, -1):
        path = PACKAGE.joinpath(*parts[1:end])
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file
    return None


FILES = [file for file in PACKAGE.rglob("*.py") if file != PACKAGE / "__init__.py"]  # which Python imports first
ARROWS = {(file, found) for file in FILES for name in imports(file) if (found := module_of(name)) is not None}


def test_every_room_has_a_floor_and_there_are_few_of_them() -> None:
    rooms = {room_of(file) for file in FILES}
    assert rooms == set(FLOOR)
    assert len([path for path in PACKAGE.iterdir() if path.name != "__pycache__"]) <= 30


def test_imports_lead_downwards() -> None:
    upwards = {
        f"{file.relative_to(PACKAGE)} imports {found.relative_to(PACKAGE)}"
        for file, found in ARROWS
        if room_of(file) != room_of(found) and FLOOR[room_of(file)] <= FLOOR[room_of(found)]
    }
    assert not upwards


def test_no_files_import_each_other_in_a_circle() -> None:
    below = {file: {found for other, found in ARROWS if other == file and found != file} for file, _ in ARROWS}
    while leaves := {file for file, others in below.items() if not others & below.keys()}:
        below = {file: others for file, others in below.items() if file not in leaves}
    assert sorted(str(file.relative_to(PACKAGE)) for file in below) == []
