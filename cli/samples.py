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

OPTIONS = {
    **dict.fromkeys(("radius", "jet_radius", "R"), "jet-radius"),
    **dict.fromkeys(("eta", "jet_eta", "max_abs_eta"), "jet-eta"),
    **dict.fromkeys(("sqrt_s", "energy", "ecm"), "sqrt-s"),
}
"""What one may look for among the parameters of a process -> the option that it is."""


@click.command()
@click.argument("process", metavar="PROCESS")
@click.option("-n", "--events", type=click.IntRange(min=1), required=True, help="Accepted events.")
@click.option("-o", "--output", type=ANALYSIS, required=True, help="Event file to write (ROOT).")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The same seed gives the same events."
)
@click.option("--workers", type=click.IntRange(min=1), default=None, help="Processes [default: all cores].")
@click.option("--min-jet-pt", type=float, default=None, help="pT of the leading jet, GeV [default: 1200].")
@click.option(
    "--jet-pt",
    type=(float, float),
    default=None,
    metavar="LOW HIGH",
    help="Single jets: window of the jet's pT, GeV [default: 550 650]; HIGH may be inf.",
)
@click.option("--jet-radius", type=float, default=None, help="Radius of the anti-kT jets [default: 1.0].")
@click.option(
    "--jet-eta",
    type=float,
    default=None,
    help="Single jets: largest |eta| of the jet [default: 2.5 less the radius]; up to 3.0 less the radius.",
)
@click.option("--sqrt-s", default="13 TeV", show_default=True, metavar="ENERGY", help="Of the protons: 14 TeV, 14000.")
@click.option(
    "--multiple-interactions/--no-multiple-interactions",
    default=True,
    help="Whether further partons of the same protons collide [default: they do].",
)
@click.option(
    "--set",
    "parameters",
    multiple=True,
    metavar="NAME=GEV",
    help="A mass of the process, or what else it has: --set m_zprime=4000; of jet_w and jet_top also a range: --set m_w=40:200.",
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
    jet_radius: float | None,
    jet_eta: float | None,
    sqrt_s: str,
    multiple_interactions: bool,
    parameters: tuple[str, ...],
) -> None:
    """Simulate PROCESS with Pythia 8 and a fast detector.

    \b
    Events:      qcd, zprime_xy, zprime_qqq, zprime_tt, wprime_wz, zprime_svj
                 (--set m_zprime, m_x, m_y, m_wprime)
    Single jets: jet_qcd, jet_top, jet_w, jet_hh4j, jet_svj, one jet an event of
                 the file
                 (--set m_top, m_w, m_H, m_h; --set m_w=40:200 of jet_w and
                 m_top=90:250 of jet_top: masses flat over a range)
    Semi-visible jets (zprime_svj, jet_svj): dark mesons of mass m_dark, invisible
                 with the probability r_inv (--set m_zprime, m_dark, r_inv=0.3,
                 and alpha_dark, the dark coupling at 1 TeV)
    Whole events that fire a lepton trigger of 23 GeV, told as electrons, muons,
    jets and missing momentum: event_sm (W, QCD, Z, ttbar), event_a4l,
    event_lqbtau, event_h0tautau, event_htaunu
                 (--set m_A, m_LQ, m_h0, m_hch)
    Whole events in the manner of the DarkMachines challenge, with photons and
    b-tags: the Standard Model in a channel, event_channel1_sm (Z, W, ttbar, bb),
    event_channel2b_sm (ttbar, Drell-Yan, WW, WZ, ZZ), and signals, event_glgl,
    event_sqsq, event_stop2b, event_stlp, event_chaneut, event_monojet,
    event_zp_mutau, event_zh_inv
                 (--set m_gluino, m_squark, m_stop, m_cha, m_neut, m_zprime,
                 m_dm, m_H)

    The jets are anti-kT, R = 1.0, single ones within |eta| < 1.5; those of top, W and H hold all quarks of the hadronic decay (--set
    min_quarks=1: that many of them), semi-visible ones a dark quark. Commands with one -n make samples of equal size. QCD jets to train on, of pT > 450 GeV:
    hunch simulate jet_qcd --jet-pt 450 inf. The settings of the top-tagging reference sample (arXiv:1902.09914):
    --sqrt-s 14TeV --jet-radius 0.8 --jet-eta 2 --no-multiple-interactions. Whole events have jets of R = 0.4 and no options of jets; the leptons of
    their QCD are those of b and c hadrons, and there are no fakes and no pile-up.
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
            jet_radius=jet_radius,
            jet_eta=jet_eta,
            sqrt_s=energy(sqrt_s),
            multiple_interactions=multiple_interactions,
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


def energy(text: str) -> float:
    """Read an energy with or without its unit: in GeV."""
    from ..config.quantities import in_unit

    value = in_unit(text, "GeV", "--sqrt-s")
    try:
        return float(value)
    except ValueError as error:
        raise HunchError(f"--sqrt-s {shown(text)}: an energy is expected, as in 14TeV or 14000 (GeV)") from error


def masses(parameters: tuple[str, ...]) -> dict[str, float | tuple[float, float]] | None:
    """Read NAME=GEV and NAME=LOW:HIGH pairs."""
    result: dict[str, float | tuple[float, float]] = {}
    for text in parameters:
        name, _, value = text.partition("=")
        try:
            edges = [float(part) for part in value.split(":")]
        except ValueError:
            edges = []
        if len(edges) not in (1, 2) or not all(map(math.isfinite, edges)):
            raise HunchError(
                f"--set {shown(text)}: NAME=GEV is expected, as in --set m_zprime=4000, or a range, as in --set m_w=40:200"
            )
        if name in ("pt_min", "pt_max", "jet_pt", "min_jet_pt"):
            raise HunchError(
                f"--set {shown(text)}: a jet's pT is --jet-pt LOW HIGH of single jets, --min-jet-pt of whole events"
            )
        if name in OPTIONS:
            raise HunchError(f"--set {shown(text)}: that is an option of its own, --{OPTIONS[name]}")
        result[name] = edges[0] if len(edges) == 1 else (edges[0], edges[1])
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


@convert.command()
@click.argument("source", type=ANALYSIS, metavar="IN.h5")
@click.argument("target", type=ANALYSIS, metavar="OUT.root")
@click.option(
    "--jet",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Rank of the jet in its event: 1, the leading one.",
)
@click.option(
    "--numbers",
    type=click.IntRange(min=4, max=5),
    default=4,
    show_default=True,
    help="Numbers a constituent: E, px, py, pz and, of 5, one that is left out.",
)
@click.option(
    "--truth",
    type=click.IntRange(min=0, max=1),
    default=None,
    help="truth_signal of every jet: the format has no label.",
)
@click.pass_obj
def vaejet(obj: dict[str, Any], source: Path, target: Path, *, jet: int, numbers: int, truth: int | None) -> None:
    """Convert the test sets of arXiv:2007.01850: objects/jets/constituents, lists of (E, px, py, pz), one jet an event."""
    from ..samples import convert_vaejet

    with only_writer(event_file(target)):
        report = convert_vaejet(source, target, jet=jet, numbers=numbers, truth=truth, progress=obj["progress"])
    say(f"{target}: {report.n_events} jets, {counted(report)}")


@convert.command()
@click.argument("source", type=ANALYSIS, metavar="IN.h5")
@click.argument("target", type=ANALYSIS, metavar="OUT.root")
@click.option(
    "--truth",
    type=click.IntRange(min=0, max=1),
    default=None,
    help="truth_signal of every event: the format has no label.",
)
@click.pass_obj
def adc2021(obj: dict[str, Any], source: Path, target: Path, *, truth: int | None) -> None:
    """Convert the data of arXiv:2107.02157: MET, 4 electrons, 4 muons, 10 jets of (pT, eta, phi, class) an event."""
    from ..samples import convert_adc2021

    with only_writer(event_file(target)):
        report = convert_adc2021(source, target, truth=truth, progress=obj["progress"])
    say(f"{target}: {report.n_events} events, {counted(report)}")


@convert.command()
@click.argument("source", type=ANALYSIS, metavar="IN.csv|IN.root")
@click.argument("target", type=ANALYSIS, metavar="OUT.root|OUT.csv")
@click.option(
    "--unit",
    type=click.Choice(["MeV", "GeV"]),
    default=None,
    help="To ROOT: of energies and momenta [default: MeV; an error where they are far too small for it].",
)
@click.option(
    "--truth",
    type=click.IntRange(min=0, max=1),
    default=None,
    help="To ROOT: truth_signal of every event: the format has no label.",
)
@click.option(
    "--numbers",
    type=click.IntRange(min=3, max=4),
    default=None,
    help="To CSV: numbers an object; 4: E, pT, eta, phi with 5 leading fields, 3: no E and 3 fields [default: 4 where there are masses].",
)
@click.option("--process", "name", default=None, help="To CSV: the processID of every event [default: events].")
@click.pass_obj
def phenoml(
    obj: dict[str, Any],
    source: Path,
    target: Path,
    *,
    unit: str | None,
    truth: int | None,
    numbers: int | None,
    name: str | None,
) -> None:
    """Convert the CSV of phenoML and DarkMachines (MeV, .gz too) to an event file, or back where OUT ends in .csv or .csv.gz.

    A line is an event: eventID;processID;weight;MET;METphi;obj,E,pt,eta,phi;... or weight;MET;METphi;obj,pt,eta,phi;...
    """
    from ..samples import convert_phenoml, write_phenoml

    back = target.name.endswith((".csv", ".csv.gz"))
    given = {"--unit": unit, "--truth": truth} if back else {"--numbers": numbers, "--process": name}
    for option, value in given.items():
        if value is not None:
            raise HunchError(f"{option}: is of the way to {'an event file' if back else 'CSV'}, and {target} is not")
    if back:
        with only_writer(target):
            report = write_phenoml(source, target, numbers=numbers, process=name or "events", progress=obj["progress"])
        say(f"{target}: {report.n_events} events, {report.key}")
        return
    with only_writer(event_file(target)):
        report = convert_phenoml(source, target, unit=unit, truth=truth, progress=obj["progress"])
    say(f"{target}: {report.n_events} events, {counted(report)}")


def counted(report: ConversionReport) -> str:
    """Return what is said of the events of a conversion: their labels, those without a particle, those sorted, and those left out."""
    labels = "no label" if report.n_signal is None else f"{report.n_signal} with truth_signal = 1"
    empty = f", {report.n_empty} without a particle" if report.n_empty else ""
    unordered = f", {report.n_unordered} with objects out of order, sorted" if report.n_unordered else ""
    return labels + empty + unordered + (f", {report.n_malformed} malformed and left out" if report.n_malformed else "")
