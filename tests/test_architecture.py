"""The rooms: imports run downwards, there are no cycles, and every file says its idea."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import scratchcard

ROOT = Path(scratchcard.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
ORDER = [
    {"types", "words", "row", "earlier", "atomic", "fields"},
    {"masks"},
    {"networks"},
    {"training"},
    {"methods"},
    {"study"},
    {"cli"},
]
"""Rooms from the ground up; evidence stands beside them, the two faces (__init__, __main__) above."""
FORBIDDEN = {"utils", "util", "common", "helper", "helpers", "manager", "engine", "process", "misc", "base"}
TYPE_ONLY = {"study.workers": {"study.study", "study.connectivity"}, "study.jobs": {"study.study"}}
"""Imports for annotations alone that would otherwise point upwards or close a cycle."""


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in FILES if path.parent != ROOT or not path.stem.startswith("__")}


def imports(path: Path, types_only: bool = False, inside: bool = True) -> Iterator[str]:
    """Modules of scratchcard that a file imports; in functions too if `inside`; or in TYPE_CHECKING blocks alone."""

    def walk(nodes: list[ast.stmt], checking: bool) -> Iterator[ast.stmt]:
        for node in nodes:
            if isinstance(node, ast.Import | ast.ImportFrom):
                if checking == types_only:
                    yield node
                continue
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not inside:
                continue
            here = checking or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
            yield from walk([part for part in ast.iter_child_nodes(node) if isinstance(part, ast.stmt)], here)

    for node in walk(ast.parse(path.read_text()).body, False):
        assert not isinstance(node, ast.ImportFrom) or node.level == 0, f"{path}: imports are absolute"
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "scratchcard":
                longest = max((n for n in range(1, len(parts) + 1) if ".".join(parts[1:n]) in MODULES), default=1)
                yield ".".join(parts[1:longest])


def height(module: str) -> int:
    room = module.partition(".")[0]
    return next(at for at, rooms in enumerate(ORDER) if room in rooms)


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_downwards(module: str) -> None:
    used = set(imports(MODULES[module])) - {""}
    if module.startswith("evidence"):
        assert {name.partition(".")[0] for name in used} <= {"row", "words", "earlier", "atomic", "evidence"}
        return
    allowed = {"evidence"} if module.startswith("cli") else set()
    upwards = {n for n in used if n.partition(".")[0] not in allowed and height(n) > height(module)}
    assert not upwards


def test_every_room_has_a_place_in_the_order() -> None:
    assert {name.partition(".")[0] for name in MODULES} == set().union(*ORDER, {"evidence"})


def test_type_only_imports_are_listed() -> None:
    found = {module: set(imports(path, types_only=True)) for module, path in MODULES.items()}
    assert {module: used for module, used in found.items() if used} == TYPE_ONLY


def test_there_are_no_cycles() -> None:
    graph = {module: set(imports(path)) & MODULES.keys() - {module} for module, path in MODULES.items()}
    while free := [module for module, used in graph.items() if not used & graph.keys()]:
        for module in free:
            del graph[module]
    assert not graph, f"these files import each other in a circle: {sorted(graph)}"


@pytest.mark.parametrize(
    "module", [name for name in MODULES if name.startswith(("evidence", "row", "words", "atomic", "fields"))]
)
def test_evidence_never_imports_torch(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert "torch" not in {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_file_says_its_idea_in_its_first_sentence(path: Path) -> None:
    said = ast.get_docstring(ast.parse(path.read_text()))
    assert said, "no docstring"
    sentence = said.partition("\n\n")[0]
    assert sentence[0].isupper() or sentence[0] in "`'\"" or sentence.startswith("scratchcard")
    assert sentence.rstrip().endswith((".", "?", ":", '"')), sentence


def test_no_file_has_a_name_that_means_nothing() -> None:
    assert not FORBIDDEN & {part for name in MODULES for part in name.split(".")}


def test_files_are_short() -> None:
    lines = {name_of(path): len(path.read_text().splitlines()) for path in FILES}
    assert max(lines.values()) <= 400
    longer = [name for name, number in lines.items() if number > 300]
    assert len(longer) <= len(lines) // 10, longer


@pytest.mark.parametrize("name", scratchcard.__all__)
def test_every_public_name_resolves_and_is_documented(name: str) -> None:
    value = getattr(scratchcard, name)
    if isinstance(value, dict):
        assert value
        return
    said = inspect.getdoc(value)
    assert said
    assert not said.startswith(f"{name}("), "a dataclass without a docstring of its own"


def test_public_names_are_the_ones_that_type_checkers_see() -> None:
    tree = ast.parse((ROOT / "__init__.py").read_text())
    seen = {alias.asname for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen - {None} == set(scratchcard.__all__)


def test_an_unknown_public_name_is_told_with_the_known_ones() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'Stduy'.*Study"):
        _ = scratchcard.Stduy  # pyright: ignore[reportAttributeAccessIssue]


def test_importing_scratchcard_does_not_wait_for_torch() -> None:
    code = "import sys, scratchcard; scratchcard.report, scratchcard.judge; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
