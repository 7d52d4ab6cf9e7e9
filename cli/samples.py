"""Commands that make event files: simulate, fetch, convert."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import HunchError, shown
from ..lock import only_writer
from .analyses import ANALYSIS, cores
from .terminal import say

if TYPE_CHECKING:
    from ..samples import ConversionReport

__all__ = ["convert", "fetch", "simulate"]


@click.command()
@click.argument("process", metavar="PROCESS")
@click.option("-n", "--events", type=click.IntRange(min=1), required=True, help="Accepted events.")
@click.option("-o", "--output", type=ANALYSIS, required=True, help="Event file to write (ROOT).")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The same seed gives the same events."
)
@click.option("--workers", type=click.IntRange(min=1), default=None, help="Processes [default: all cores].")
@click.option("--min-jet-pt", type=float, default=None, help="pT of the leading R = 1.0 jet, GeV [default: 1200].")
@click.option(
    "--jet-pt",
    type=(float, float),
    default=None,
    metavar="LOW HIGH",
    help="Single jets: window of the jet's pT, GeV [default: 550 650].",
)
@click.option(
    "--set", "parameters", multiple=True, metavar="NAME=GEV", help="A mass of the process: --set m_zprime=4000."
)
@click.pass_obj
def simulate(
    obj: dict[str, Any],
    process: str,
    *,
    events: int,
    output: Path,
    seed: int,
    workers: int | None,
    min_jet_pt: float | None,
    jet_pt: tuple[float, float] | None,
    parameters: tuple[str, ...],
) -> None:
    """Simulate PROCESS with Pythia 8 and a fast detector.

    \b
    Events:      qcd, zprime_xy, zprime_qqq, zprime_tt, wprime_wz
                 (--set m_zprime, m_x, m_y, m_wprime)
    Single jets: jet_qcd, jet_top, jet_w, one jet an event of the file
                 (--set m_top, m_w)

    The jets are anti-kT, R = 1.0, |eta| < 1.5; those of top and W hold all quarks of the hadronic decay (--set
    min_quarks=1: that many of them). Three commands with one -n make samples of equal size.
    """
    from ..samples import simulate as simulate_events

    with only_writer(event_file(output)):
        report = simulate_events(
            process,
            events,
            output,
            seed=seed,
            workers=workers or cores(),
            min_jet_pt=min_jet_pt,
            jet_pt=jet_pt,
            parameters=masses(parameters),
            progress=obj["progress"],
        )
    say(
        f"{report.path}: {report.accepted} events of {report.tries} tried, {report.accepted / report.seconds:.0f} a second"
    )


def event_file(output: Path) -> Path:
    """Return the name of an event file; raises HunchError where it is none."""
    if output.suffix != ".root":
        raise HunchError(f"{output}: event files are written as ROOT; a name that ends in .root is expected")
    return output


def masses(parameters: tuple[str, ...]) -> dict[str, float] | None:
    """Read NAME=GEV pairs."""
    result = {}
    for text in parameters:
        name, equals, value = text.partition("=")
        try:
            result[name] = float(value)
        except ValueError:
            equals = ""
        if not equals or not math.isfinite(result[name]):
            raise HunchError(f"--set {shown(text)}: NAME=GEV is expected, as in --set m_zprime=4000")
    return result or None


@click.command()
@click.argument("name", metavar="NAME")
@click.option(
    "-o", "--output", type=ANALYSIS, default=Path("data"), show_default=True, help="Folder to put the files in."
)
@click.pass_obj
def fetch(obj: dict[str, Any], name: str, *, output: Path) -> None:
    """Download a public record by NAME, checksums taken from the record; an interrupted download resumes."""
    from ..samples import fetch as fetch_record

    with only_writer(output / re.sub(r"[^A-Za-z0-9_.-]", "_", name)):
        for path in fetch_record(name, output, progress=obj["progress"]):
            say(path)


@click.group()
def convert() -> None:
    """Turn a foreign format into event files."""


@convert.command()
@click.argument("source", type=ANALYSIS, metavar="IN.h5")
@click.argument("target", type=ANALYSIS, metavar="OUT.root")
@click.option("--key", default=None, help="The table's key in the HDF5 file [default: the only one].")
@click.pass_obj
def lhco(obj: dict[str, Any], source: Path, target: Path, *, key: str | None) -> None:
    """Convert the LHC Olympics format: 700 x (pT, eta, phi) and a label a row."""
    from ..samples import convert_lhco

    with only_writer(event_file(target)):
        report = convert_lhco(source, target, key=key, progress=obj["progress"])
    say(f"{target}: {report.n_events} events, {counted(report)}")


@convert.command()
@click.argument("source", type=ANALYSIS, metavar="IN.h5")
@click.argument("target", type=ANALYSIS, metavar="OUT.root")
@click.option("--key", default=None, help="The table's key in the HDF5 file [default: the only one].")
@click.pass_obj
def toptag(obj: dict[str, Any], source: Path, target: Path, *, key: str | None) -> None:
    """Convert the top-tagging reference data: 200 x (E, PX, PY, PZ) and is_signal_new a row, one jet an event."""
    from ..samples import convert_toptag

    with only_writer(event_file(target)):
        report = convert_toptag(source, target, key=key, progress=obj["progress"])
    say(f"{target}: {report.n_events} jets, {counted(report)}")


def counted(report: ConversionReport) -> str:
    """Return what is said of the events of a conversion: their labels, and those without a particle."""
    labels = "no label" if report.n_signal is None else f"{report.n_signal} with truth_signal = 1"
    return labels + (f", {report.n_empty} without a particle" if report.n_empty else "")
