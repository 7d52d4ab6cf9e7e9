"""The house: imports run one way, packages are folders, names handed on exist, docstring examples hold."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("samples", "processors", "models", "analysis")
BASE = {"errors", "table", "__version__"}
ALLOWED = {
    "errors": set(),
    "table": {"errors"},
    "models": BASE,
    "analysis": BASE,
    "samples": BASE,
    "processors": BASE | {"models"},
    "config": BASE | set(ROOMS),
    "workflow": BASE | set(ROOMS) | {"config"},
    "cli": BASE | set(ROOMS) | {"config", "workflow"},
}
"""Module or room of the package -> what it may import of the rest (docs: the house's table)."""
ROOT_MODULES = {"__init__", "errors", "table", "config", "workflow", "cli"}


def sources() -> list[Path]:
    return [*sorted(ROOT.glob("*.py")), *(p for room in ROOMS for p in sorted((ROOT / room).glob("*.py")))]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(["hunch", *(p for p in parts if p != "__init__")])


def imports_of(source: str, *, in_room: bool) -> tuple[set[str], set[str]]:
    """Return what a module imports of the package (first part of the name), and its absolute imports of the package."""
    inside: set[str] = set()
    absolute: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            absolute |= {a.name for a in node.names if a.name.split(".")[0] in {"hunch", *ROOMS, *ALLOWED}}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            if (node.module or "").split(".")[0] in {"hunch", *ROOMS, *ALLOWED}:
                absolute.add(node.module or "")
        elif isinstance(node, ast.ImportFrom):
            if node.level == (2 if in_room else 1):
                inside |= {node.module.split(".")[0]} if node.module else {a.name for a in node.names}
            elif node.level > 2 or not in_room:
                absolute.add("." * node.level + (node.module or ""))
    return inside, absolute


def test_the_reader_of_imports_sees_every_kind() -> None:
    source = "from ..models.quak import Quak\nfrom .. import table\ndef f():\n    from hunch.samples import simulate\n"
    assert imports_of(source, in_room=True) == ({"models", "table"}, {"hunch.samples"})
    assert imports_of("from .config import Analysis\nimport hunch", in_room=False) == ({"config"}, {"hunch"})


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_imports_run_one_way_and_are_relative(path: Path) -> None:
    in_room = path.parent != ROOT
    inside, absolute = imports_of(path.read_text(encoding="utf-8"), in_room=in_room)
    place = path.parent.name if in_room else path.stem
    assert inside <= ALLOWED.get(place, set()), f"{path.name} imports {inside - ALLOWED.get(place, set())}"
    assert absolute == set(), f"{path.name}: imports of the package inside it are relative"


def test_root_imports_no_room() -> None:
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    assert [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)] == []


def test_packages_are_the_folders_with_init() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        named = tomllib.load(file)["tool"]["setuptools"]["packages"]
    found = ["hunch", *(f"hunch.{p.parent.name}" for p in ROOT.glob("*/__init__.py"))]
    assert sorted(named) == sorted(found)
    assert len(named) == len(set(named))


def test_nothing_else_ships_from_the_root() -> None:
    assert {p.stem for p in ROOT.glob("*.py")} == ROOT_MODULES


def test_rooms_are_flat_and_tests_are_no_package() -> None:
    nested = [p for room in ROOMS for p in (ROOT / room).rglob("*.py") if p.parent != ROOT / room]
    assert nested == []
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_no_catch_all_modules_and_no_long_files() -> None:
    assert [p for p in sources() if p.stem in {"utils", "helpers", "common", "misc", "tools"}] == []
    long = {p.name: n for p in sources() if (n := len(p.read_text(encoding="utf-8").splitlines())) > 800}
    assert long == {}


@pytest.mark.parametrize("room", ROOMS)
def test_names_handed_on_exist_are_sorted_and_are_all(room: str) -> None:
    module = importlib.import_module(f"hunch.{room}")
    names = list(module.__all__)
    assert [n for n in names if not hasattr(module, n)] == []
    # constants, classes, functions: the order of the linter's isort-style sort
    assert names == sorted(names, key=lambda n: (not n.isupper(), not n[0].isupper(), n))
    tree = ast.parse((ROOT / room / "__init__.py").read_text(encoding="utf-8"))
    handed = {a.asname or a.name for n in tree.body if isinstance(n, ast.ImportFrom) and n.level for a in n.names}
    assert handed == set(names)


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_own_all_resolves_and_examples_hold(path: Path) -> None:
    module = importlib.import_module(module_name(path))
    assert [n for n in getattr(module, "__all__", []) if not hasattr(module, n)] == []
    assert module.__doc__
    failed, _ = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert failed == 0


def test_some_examples_are_run() -> None:
    found = [e for p in sources() for e in re.findall(r"^\s*>>> ", p.read_text(encoding="utf-8"), re.MULTILINE)]
    assert found


def test_models_load_nothing_of_root() -> None:
    script = "import sys, hunch.models; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    loaded = set(done.stdout.split())
    assert "torch" in loaded
    assert loaded & {"coffea", "fastjet", "uproot", "awkward", "hist", "iminuit", "pyhf", "pythia8mc"} == set()


def test_version_is_one() -> None:
    import hunch

    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|rc\d+)?", hunch.__version__)
    with (ROOT / "pyproject.toml").open("rb") as file:
        assert tomllib.load(file)["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "hunch.__version__"}
