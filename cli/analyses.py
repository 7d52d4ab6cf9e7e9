"""What several commands share: an analysis file told from others, one stage run, the answer in a few lines."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..documents import read_yaml
from ..errors import HunchError, shown
from ..table import Observable
from .terminal import say

if TYPE_CHECKING:
    from ..config import Analysis

__all__ = [
    "ANALYSIS",
    "analysis_of",
    "answer",
    "cores",
    "is_analysis",
    "overriding",
    "refuse",
    "set_values",
    "stage_command",
    "yaml_keys",
]

ANALYSIS = click.Path(path_type=Path)
Command = TypeVar("Command", bound=Callable[..., Any])


def overriding(command: Command) -> Command:
    """Add --as and --set to a command: what is put in place of the analysis file's own keys."""
    command = click.option(
        "--set",
        "values",
        multiple=True,
        metavar="KEY=VALUE",
        help="A key in place of the file's: regions.fraction=0.1.",
    )(command)
    return click.option(
        "--as",
        "representation",
        default=None,
        metavar="NAME",
        help="The representation: features, images, constituents, objects.",
    )(command)


def analysis_of(path: Path, representation: str | None, values: tuple[str, ...]) -> Analysis:
    """Read an analysis file with what --as and --set put in place of its keys."""
    from ..config import read_analysis

    return read_analysis(path, [*([] if representation is None else [f"representation={representation}"]), *values])


def set_values(values: tuple[str, ...]) -> dict[str, Any]:
    """Return KEY=VALUE pairs, values as YAML reads them; raises HunchError for what is no pair, and for a key given twice."""
    from ..config import yaml_value

    found: dict[str, Any] = {}
    for text in values:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise HunchError(f"--set {shown(text)}: KEY=VALUE is expected, as in --set pixels=40")
        if key.strip() in found:
            raise HunchError(f"--set {key.strip()}: is given twice")
        found[key.strip()] = yaml_value(value, f"--set {key.strip()}")
    return found


def answer(result: dict[str, Any]) -> str:
    """Return the answer of a search in a few lines."""
    if "counting" in result:
        return counted(result["counting"])
    if "blinded" in result:
        of, window, fixed = Observable(**result["observable"]), result["blinded"]["window"], result["fit_range"]
        return f"blind: {of.span(*window)} is masked\nfit range, fixed: {of.span(fixed['low'], fixed['high'])} ({fixed['chosen']})"
    from ..analysis.fits.log_p import stated_p
    from ..analysis.verdicts import more_experiments

    best = result["best"]
    local = f"p {stated_p(best['p_local'])}, {best['z_local']:.2f} sigma"
    mass = Observable(**result["observable"]).at(best["mass"])
    if "z_of_widths" in result["scan"]:
        mass += f", {100 * best['width']:.2g} % wide"
    if "no_significance" in best:
        return (
            f"largest excess at {mass}\nlocal:  {local} from a fit that fails\nglobal: none, {best['no_significance']}"
        )
    second = result.get("second")
    beside = ""
    if second is not None:
        glob = (
            ""
            if second["p_global"] is None
            else f", global p {stated_p(second['p_global'], bound=second['p_global_is_bound'])}"
        )
        at = Observable(**result["observable"]).at(second["mass"])
        beside = f"\nbeside it, with the first in the model: {at}, local p {stated_p(second['p_local'])}{glob}"
    n, bound = best["pseudo_experiments"], best["p_global_is_bound"]
    told = (
        f"largest excess at {mass}\n"
        f"local:  {local}\n"
        f"global: p {stated_p(best['p_global'], bound=bound)}, {'more than ' if bound else ''}{best['z_global']:.2f} sigma "
        f"({n} pseudo-experiments)"
    )
    told += beside
    needed = more_experiments(n) if bound else ""
    return f"{told}\n        none of them shows as much; {needed}" if needed else told


def counted(counting: dict[str, Any]) -> str:
    """Return the answer of a counting experiment in a few lines."""
    from ..analysis.fits.log_p import stated_p

    limits, found = counting["limits"], counting["result"]
    expected = f"expected limit {limits['expected'][2]:.3g} signal events"
    if found is None:
        return f"blind: {counting['expectation']['events']:.4g} events are expected; {expected}"
    return (
        f"{found['observed']} events above the threshold, {found['expected']:.4g} ± {found['statistical_error']:.2g} (stat) "
        f"± {found['systematic_error']:.2g} (syst) expected\n"
        f"p {stated_p(found['p_value'])}, {found['z']:.2f} sigma\n"
        f"limit: below {limits['observed']:.3g} signal events, {expected}"
    )


def cores() -> int:
    """Return the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def refuse(options: dict[str, Any], why: str) -> None:
    """Name the options that were given and may not be."""
    flags = {"representation": "--as", "values": "--set"}
    given = [
        flags.get(name, f"--{name.replace('_', '-')}") for name, value in options.items() if value not in (None, ())
    ]
    if given:
        raise HunchError(f"{', '.join(given)}: {why}")


def is_analysis(file: str) -> bool:
    """Tell an analysis from a coffea fileset in YAML: it has the keys `samples` and `output`."""
    return {"samples", "output"} <= yaml_keys(file)


def yaml_keys(file: str) -> set[str]:
    """Return the top keys of a YAML file, none of a file of another kind; raises InputError for one that is no YAML."""
    path = Path(file)
    if path.suffix not in {".yaml", ".yml"} or not path.is_file():
        return set()
    content = read_yaml(path, typed=False)
    return set(content) if isinstance(content, dict) else set()


def stage_command(obj: dict[str, Any], settings: Analysis, stage: str, *, force: bool) -> None:
    """Run one stage of an analysis and say whether it did anything."""
    from ..workflow.stages import run_stage

    ran = run_stage(settings, stage, force=force, progress=obj["progress"])
    say(f"{stage}: {'done' if ran else 'up to date'} in {settings.output}")
