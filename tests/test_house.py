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

from hunch.workflow.stamps import ROOT_SOURCES

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("hdf5", "samples", "processors", "models", "analysis", "config", "workflow", "cli")
BASE = {"documents", "errors", "files", "hdf5", "lock", "pieces", "tabular", "table", "folds", "workers", "__version__"}
ALLOWED = {
    "errors": set(),
    "lock": {"errors", "files"},
    "pieces": {"files"},
    "workers": set(),
    "hdf5": {"errors"},
    "files": {"documents", "errors"},
    "documents": {"errors", "tabular"},
    "tabular": set(),
    "table": {"documents", "errors", "files", "hdf5", "tabular"},
    "folds": {"errors", "files", "table"},
    "models": BASE,
    "analysis": BASE,
    "samples": BASE,
    "processors": BASE | {"models"},
    "config": BASE | {"samples", "processors", "models", "analysis"},
    "workflow": BASE | {"samples", "processors", "models", "analysis", "config"},
    "cli": BASE | {"samples", "processors", "models", "analysis", "config", "workflow"},
    "__main__": {"cli"},
}
"""Module or room of the package -> what it may import of the rest (docs: the house's table)."""
BASE_MODULES = {"documents", "errors", "files", "lock", "pieces", "tabular", "table", "folds", "workers"}
ROOT_MODULES = BASE_MODULES | {"__init__", "__main__"}
TOP = "the files at the top"
SUB_ROOMS = {
    "analysis": (
        ("spectra",),
        ("fits",),
        ("regions", "ranges", "p_values"),
        ("significance",),
        ("goodness",),
        ("checks",),
        ("limits",),
        ("figures",),
        (TOP,),
    ),
    "models": (
        (TOP,),
        ("train",),
        ("distance",),
        ("density",),
        ("classical",),
        ("autoencoders",),
        ("energy",),
        ("contrastive",),
        ("export",),
    ),
    "workflow": ((TOP,), ("explore",)),
}
"""Room -> its sub-rooms, floor by floor from below; a file imports from its own sub-room and from floors below it."""
REGISTRY = {"space", "scorer"}
"""Files at the top of `models/` that look methods up by name, from above all of them."""


def sources() -> list[Path]:
    return [*sorted(ROOT.glob("*.py")), *(p for room in ROOMS for p in sorted((ROOT / room).rglob("*.py")))]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(["hunch", *(p for p in parts if p != "__init__")])


def imports_of(source: str, package: tuple[str, ...]) -> tuple[set[tuple[str, ...]], set[str]]:
    """Return what a module of `package` (its folders) imports of the package, and its absolute imports of the package.

    The first are paths from the root, with the name where a folder is imported from: ("models", "density", "quak").
    """
    inside: set[tuple[str, ...]] = set()
    absolute: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            absolute |= {a.name for a in node.names if a.name.split(".")[0] in {"hunch", *ROOMS, *ALLOWED}}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            if (node.module or "").split(".")[0] in {"hunch", *ROOMS, *ALLOWED}:
                absolute.add(node.module or "")
        elif isinstance(node, ast.ImportFrom):
            kept = len(package) + 1 - node.level
            if kept < 0:
                absolute.add("." * node.level + (node.module or ""))
                continue
            base = (*package[:kept], *(node.module.split(".") if node.module else ()))
            inside |= {base} if node.module else {(*base, a.name) for a in node.names}
    return inside, absolute


def package_of(path: Path) -> tuple[str, ...]:
    return path.relative_to(ROOT).parent.parts


def test_the_reader_of_imports_sees_every_kind() -> None:
    source = (
        "from ...models.quak import Quak\nfrom ... import table\ndef f():\n    from hunch.samples import simulate\n"
    )
    assert imports_of(source, ("analysis", "fits")) == ({("models", "quak"), ("table",)}, {"hunch.samples"})
    assert imports_of("from .config import Analysis\nimport hunch", ()) == ({("config",)}, {"hunch"})
    assert imports_of("from ..a import b", ()) == (set(), {"..a"})


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_imports_run_one_way_and_are_relative(path: Path) -> None:
    package = package_of(path)
    inside, absolute = imports_of(path.read_text(encoding="utf-8"), package)
    place = package[0] if package else path.stem
    others = {name[0] for name in inside} - {place}
    assert others <= ALLOWED.get(place, set()), f"{path.name} imports {others - ALLOWED.get(place, set())}"
    assert absolute == set(), f"{path.name}: imports of the package inside it are relative"


def floor_of(room: str, sub_room: str) -> int:
    return next(i for i, floor in enumerate(SUB_ROOMS[room]) if sub_room in floor)


def sub_room_of(room: str, name: tuple[str, ...]) -> str:
    return name[1] if len(name) > 1 and (ROOT / room / name[1]).is_dir() else TOP


@pytest.mark.parametrize("room", SUB_ROOMS)
def test_imports_inside_a_room_run_down_its_floors(room: str) -> None:
    found = {p.name for p in (ROOT / room).iterdir() if (p / "__init__.py").is_file()}
    assert found | {TOP} == {name for floor in SUB_ROOMS[room] for name in floor}
    for path in sorted((ROOT / room).rglob("*.py")):
        if path.name == "__init__.py" or (room == "models" and path.stem in REGISTRY):
            continue
        package = package_of(path)
        own = sub_room_of(room, package)
        for name in imports_of(path.read_text(encoding="utf-8"), package)[0]:
            if name[0] != room or name == (room,):
                continue
            other = sub_room_of(room, name)
            where = f"{path.relative_to(ROOT)} imports {'.'.join(name)}"
            assert other == own or floor_of(room, other) < floor_of(room, own), where


def test_no_module_has_the_name_of_what_its_package_hands_on() -> None:
    for room in ROOMS:
        module = importlib.import_module(f"hunch.{room}")
        beside = {p.stem for p in (ROOT / room).glob("*.py")} | {p.name for p in (ROOT / room).iterdir() if p.is_dir()}
        assert beside & set(module.__all__) == set(), room


def test_root_imports_no_room_until_it_is_asked_for() -> None:
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    imported = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert [n for n in ast.walk(tree) if isinstance(n, ast.Import)] == []
    assert imported == {"typing", "importlib"}
    script = "import sys, hunch; print(*sorted(m for m in sys.modules if m.startswith('hunch')), '|', *dir(hunch), '|', hunch.table)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    loaded, offered, table = done.stdout.split("|")
    assert loaded.split() == ["hunch"]
    assert {"models", "analysis", "processors", "samples", "workflow"} < set(offered.split())
    assert "'hunch.table'" in table
    with pytest.raises(AttributeError, match="no attribute 'modles'; rooms: analysis"):
        importlib.import_module("hunch").modles  # noqa: B018 - the attribute is what is asked for


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_offers_what_it_hands_on_and_nothing_else(room: str) -> None:
    module = importlib.import_module(f"hunch.{room}")
    assert dir(module) == sorted(module.__all__)


def test_packages_are_the_folders_with_init() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        named = tomllib.load(file)["tool"]["setuptools"]["packages"]
    folders = (p.parent for room in ROOMS for p in (ROOT / room).rglob("__init__.py"))
    found = ["hunch", *(".".join(["hunch", *p.relative_to(ROOT).parts]) for p in folders)]
    assert sorted(named) == sorted(found)
    assert len(named) == len(set(named))


def test_nothing_else_ships_from_the_root() -> None:
    assert {p.stem for p in ROOT.glob("*.py")} == ROOT_MODULES


def test_sub_rooms_hold_no_rooms_and_tests_are_no_package() -> None:
    deep = [p for room in ROOMS for p in (ROOT / room).rglob("*.py") if len(p.relative_to(ROOT).parts) > 3]
    assert deep == []
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_json_and_yaml_are_read_and_folders_made_in_one_place() -> None:
    """Their libraries take what is not to be taken: NaN, keys given twice, aliases without end; and say it without the file."""
    own = re.compile(r"\bjson\.loads?\(|\byaml\.(safe_)?(load|compose|parse)|\.mkdir\(.*parents")
    # the child that reads HDF5 is spoken to in JSON, through pipes
    looked_at = [p for p in sources() if p.name not in {"documents.py", "files.py"} and p.parent.name != "hdf5"]
    strangers = {p.name for p in looked_at if own.search(p.read_text(encoding="utf-8"))}
    assert strangers == set()


def test_a_stage_runs_again_where_any_module_of_the_root_has_changed() -> None:
    assert {*ROOT_SOURCES} == BASE_MODULES


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
