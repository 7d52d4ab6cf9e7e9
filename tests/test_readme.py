"""What the README says is so: its code runs, its analyses are read, its tables and examples match the program."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import click
import pytest
import yaml
from pydantic import BaseModel

from hunch.cli import cli
from hunch.config import OWN_KEYS, Analysis, read_analysis
from hunch.models.scorer import SCORERS, scorer_class, scorer_fields
from hunch.processors.representations import REPRESENTATIONS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


def keys(model: type[BaseModel], prefix: str = "") -> dict[str, object]:
    """Return every key of the schema, dotted, with its default."""
    found: dict[str, object] = {}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= keys(field.annotation, f"{prefix}{name}.")
        else:
            found[prefix + name] = "required" if field.is_required() else field.get_default(call_default_factory=True)
    return found


@pytest.mark.parametrize("block", blocks("python"), ids=lambda b: b.strip().splitlines()[1])
def test_python_runs(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})


@pytest.mark.parametrize(
    "block", blocks("yaml"), ids=["minimal", "tables", "exposure", "energies", "classical", "representations", "events"]
)
def test_analyses_are_read(block: str, tmp_path: Path) -> None:
    samples = yaml.safe_load(block)["samples"]
    named = [file for kind in ("priors", "signals") for files in samples.get(kind, {}).values() for file in files]
    for name in (*samples["data"], *samples.get("background", []), *samples.get("exposure", []), *named):
        (tmp_path / name).touch()
    path = tmp_path / "analysis.yaml"
    path.write_text(block, encoding="utf-8")
    assert read_analysis(path).output == str(tmp_path / "out")


def test_every_key_is_in_the_table_with_its_default() -> None:
    section = README.split("## Configuration")[1].split("\n## ")[0]
    stated = {}
    for names, default in re.findall(r"^\| (`[a-z].*?) \| (.*?) \|", section, flags=re.MULTILINE):
        for name in re.findall(r"`([\w.]+)`", names):
            stated[name] = default
    expected = keys(Analysis)
    assert set(stated) == set(expected)
    for name, default in expected.items():
        said = stated[name].strip("`")
        if default is None or default == {}:
            assert said.startswith("none"), name
        elif isinstance(default, dict):
            assert {"name": said} == default, name
        elif isinstance(default, bool):
            assert said == str(default).lower(), name
        elif isinstance(default, float | int):
            assert float(said) == default, name
        else:
            assert said == default, name


def rows_of(heading: str) -> dict[str, list[str]]:
    """Return a table of the section on representations and methods: first cell -> the others."""
    section = README.split("## Representations and methods")[1].split("\n## ")[0]
    table = section.split(f"| {heading} |")[1].split("\n\n")[0]
    lines = [line.strip("|").split(" | ") for line in table.splitlines() if line.startswith("| `")]
    return {cells[0].strip(" `"): [cell.strip() for cell in cells[1:]] for cells in lines}


def test_every_representation_and_every_method_has_a_row_with_its_fields() -> None:
    representations, methods = rows_of("representation"), rows_of("method")
    assert list(representations) == list(REPRESENTATIONS)
    for name, (kind, _, fields) in representations.items():
        assert kind == REPRESENTATIONS[name].kind
        known = {field.name for field in dataclasses.fields(REPRESENTATIONS[name])}
        assert set(re.findall(r"`(\w+)`", fields)) <= known
    assert list(methods) == list(SCORERS)
    for name, (takes, _, fields) in methods.items():
        assert takes.split(", ") == list(scorer_class(name).takes)
        stated = dict(re.findall(r"`(\w+)` \((.*?)\)", fields))
        own = {key: field.default for key, field in scorer_fields(scorer_class(name)).items() if key not in OWN_KEYS}
        assert stated.keys() == own.keys()
        for key, default in own.items():
            said = "none" if default is None else str(default).lower() if isinstance(default, bool) else str(default)
            said = ", ".join(default) if isinstance(default, tuple) else said
            assert stated[key] == said, (name, key)


def test_every_command_has_an_example_in_order() -> None:
    shown = re.findall(r"^hunch (\w+)", "\n".join(blocks("bash")), flags=re.MULTILINE)
    commands = list(cli.commands)
    assert set(shown) == set(commands)
    for line in re.findall(r"^hunch (.*)$", "\n".join(blocks("bash")), flags=re.MULTILINE):
        options = set(re.findall(r"(?<!\S)--?[a-z][\w-]*", line))
        command: click.Command = cli.commands[line.split()[0]]
        if isinstance(command, click.Group):
            command = command.commands[line.split()[1]]
        assert options <= {o for p in command.params for o in (*p.opts, *p.secondary_opts)}, line


def test_linked_files_exist() -> None:
    for page in ("README.md", "CONTRIBUTING.md", "docs/conventions.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert ((ROOT / page).parent / target).exists(), f"{page} links {target}"
