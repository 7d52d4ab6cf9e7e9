"""What several commands share: an analysis file told from others, one stage run, the answer in a few lines."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from ..errors import HunchError

__all__ = ["ANALYSIS", "answer", "cores", "is_analysis", "refuse", "stage_command", "yaml_keys"]

ANALYSIS = click.Path(path_type=Path)


def answer(result: dict[str, Any]) -> str:
    """Return the answer of a search in a few lines."""
    best = result["best"]
    mass = f"{best['mass']:.0f}" if best["mass"] >= 100 else f"{best['mass']:.3g}"
    if "no_significance" in best:
        return (
            f"largest excess at {mass} GeV\n"
            f"local:  p = {best['p_local']:.2g}, {best['z_local']:.2f} sigma from a fit that fails\n"
            f"global: none, {best['no_significance']}"
        )
    sign = "<" if best["p_global_is_bound"] else "="
    more = "more than " if best["p_global_is_bound"] else ""
    return (
        f"largest excess at {mass} GeV\n"
        f"local:  p = {best['p_local']:.2g}, {best['z_local']:.2f} sigma\n"
        f"global: p {sign} {best['p_global']:.2g}, {more}{best['z_global']:.2f} sigma "
        f"({best['pseudo_experiments']} pseudo-experiments)"
    )


def cores() -> int:
    """Return the cores this process may use."""

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def refuse(options: dict[str, Any], why: str) -> None:
    """Name the options that were given and may not be."""
    flags = {"representation": "--as"}
    given = [flags.get(name, f"--{name.replace('_', '-')}") for name, value in options.items() if value is not None]
    if given:
        raise HunchError(f"{', '.join(given)}: {why}")


def is_analysis(file: str) -> bool:
    """Tell an analysis from a coffea fileset in YAML: it has the keys `samples` and `output`."""
    return {"samples", "output"} <= yaml_keys(file)


def yaml_keys(file: str) -> set[str]:
    """Return the top keys of a YAML file, none where it is no such file."""
    import yaml

    path = Path(file)
    if path.suffix not in {".yaml", ".yml"} or not path.is_file():
        return set()
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return set()
    return {str(key) for key in content} if isinstance(content, dict) else set()


def stage_command(obj: dict[str, Any], analysis: Path, stage: str, *, force: bool) -> None:
    """Run one stage of an analysis and say whether it did anything."""
    from ..config import read_analysis
    from ..workflow.stages import run_stage

    settings = read_analysis(analysis)
    ran = run_stage(settings, stage, force=force, progress=obj["progress"])
    click.echo(f"{stage}: {'done' if ran else 'up to date'} in {settings.output}")
