"""A hunt for other programs: histograms in ROOT with a datacard for combine, and tables for HEPData.

The datacard says what the pyhf workspace says. combine interpolates shapes a little differently between one sigma, so that
limits agree closely and not to the last digit.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import InputError, printable
from ...files import make_folder, private_folder, write_aside
from ...table import Observable
from ..fits.log_p import SMALLEST
from ..fits.minuit_fit import fit_with_minuit
from ..significance.bumphunt import BumpHunt
from .backgrounds import width_of
from .cls import Limits
from .model import LimitModel, region_names
from .names import renamed, valid_names

__all__ = ["write_datacard", "write_hepdata", "write_histograms"]

Floats = npt.NDArray[np.float64]
MISSING = "-"  # HEPData's own sign for no value


def write_datacard(model: LimitModel, folder: str | Path) -> tuple[Path, Path]:
    """Write `datacard_<mass>.txt` for combine and the `histograms_<mass>.root` it names; returns both.

    Bins have the names of the workspace's channels; comments say which region each is. Histograms
    `<bin>/{data_obs,signal,background}` hold events a bin, GeV, with `_<nuisance>{Up,Down}` at one sigma, of a background's
    free parameter at one statistical error: its column holds the width of its constraint in these, which is next to none.
    r = 1 is the number of signal events that the card's first line gives. A `-1` rate is the histogram's integral.
    """
    import uproot

    channels = list(model.channels.values())
    root_file = Path(folder) / f"histograms_{model.mass:g}.root"
    lines = {name: ["lnN", *log_normal(up, down)] for name, (up, down) in model.factors.items()}
    lines |= {name: ["shape", *["1", "-"] * len(channels)] for name in model.shapes}
    with write_aside(root_file) as aside, uproot.recreate(aside) as file:
        for r, (channel, background) in enumerate(zip(channels, model.backgrounds, strict=True)):
            centre = np.exp(background.basis @ background.centre + background.offset)
            file[f"{channel}/data_obs"] = (model.counts[r], model.edges)
            file[f"{channel}/signal"] = (model.signal[r], model.edges)
            file[f"{channel}/background"] = (centre, model.edges)
            for name, (high, low) in model.shapes.items():
                file[f"{channel}/signal_{name}Up"] = (high[r], model.edges)
                file[f"{channel}/signal_{name}Down"] = (low[r], model.edges)
            for k, width in enumerate(width_of(background).tolist()):
                name = f"{channel}_background_{k}"
                cells = ["-"] * (2 * len(channels))
                cells[2 * r + 1] = f"{width:.6g}"
                lines[name] = ["shape", *cells]
                for side, sign in (("Up", 1.0), ("Down", -1.0)):
                    moved = centre * np.exp(sign * background.basis[:, k])
                    file[f"{channel}/background_{name}{side}"] = (moved, model.edges)
    columns = [(channel, process) for channel in channels for process in ("signal", "background")]
    rule = "-" * 60
    text = [
        f"# resonance at {model.mass:g} GeV: r = 1 is {model.unit:.10g} signal events at all masses in all regions",
        *(f"# {line}" for line in renamed(model.channels)),
        f"imax {len(channels)}  number of channels",
        "jmax 1  number of processes minus 1",
        f"kmax {len(lines)}  number of nuisance parameters",
        rule,
        f"shapes * * {root_file.name} $CHANNEL/$PROCESS $CHANNEL/$PROCESS_$SYSTEMATIC",
        rule,
        row("bin", channels),
        row("observation", [f"{total:.0f}" for total in model.counts.sum(axis=1)]),
        rule,
        row("bin", [c for c, _ in columns]),
        row("process", [p for _, p in columns]),
        row("process", ["0" if p == "signal" else "1" for _, p in columns]),
        row("rate", ["-1"] * len(columns)),
        rule,
        *(row(f"{name} {kind}", cells) for name, (kind, *cells) in lines.items()),
    ]
    card = Path(folder) / f"datacard_{model.mass:g}.txt"
    with write_aside(card) as aside:
        aside.write_text("\n".join(text) + "\n", encoding="utf-8")
    return card, root_file


def log_normal(up: Floats, down: Floats) -> list[str]:
    """Return the cells of an lnN line, signal and background of each region, from factors (regions,) at +1 and -1 sigma."""
    cells = []
    for high, low in zip(up.tolist(), down.tolist(), strict=True):
        symmetric = abs(high * low - 1) < 1e-9
        cells += ["-" if high == low == 1 else f"{high:.8g}" if symmetric else f"{low:.8g}/{high:.8g}", "-"]
    return cells


def row(name: str, cells: Sequence[str]) -> str:
    """Return one line of a datacard in aligned columns."""
    return " ".join([f"{name:<32}", *(f"{c:<16}" for c in cells)]).rstrip()


def write_histograms(found: BumpHunt, path: str | Path, *, names: Sequence[str] | None = None) -> Path:
    """Write every region's whole spectrum to a ROOT file: `<bin>/data_obs` and `<bin>/background`, events a bin, GeV.

    <bin> is the region's name as datacards have it (`valid_names`).
    """
    import uproot

    valid = valid_names(region_names(found, names))
    with write_aside(path) as aside, uproot.recreate(aside) as file:
        for r, name in enumerate(valid.values()):
            file[f"{name}/data_obs"] = (found.counts[r].astype(np.float64), found.edges)
            file[f"{name}/background"] = (found.background.expected[r], found.edges)
    return Path(path)


def write_hepdata(
    found: BumpHunt, folder: str | Path, *, names: Sequence[str] | None = None, limits: Limits | None = None
) -> list[Path]:
    """Write `submission.yaml` and one YAML table a region's spectrum, for the p-value scan and for the limits; returns the files.

    Written with hepdata_lib, in a folder beside `folder` whose files then replace those of the same name. Where a fit failed
    the scan holds `-`; a mass without a limit is left out and counted in the table's description; where no mass has one there is
    no table of limits. Raises InputError where hepdata_lib is not installed.
    """
    lib = hepdata_library()
    regions = region_names(found, names)
    valid = valid_names(regions)
    regions = tuple(printable(name) for name in regions)
    tables = [
        spectrum_table(lib, found, r, name, of)
        for r, (name, of) in enumerate(zip(regions, valid.values(), strict=True))
    ]
    tables.append(scan_table(lib, found, regions))
    if limits is not None and np.isfinite(limits.expected).all(axis=1).any():
        tables.append(limit_table(lib, found, limits))
    target = Path(folder)
    make_folder(target)
    # Submission.create_files leaves an archive in the working directory: the tables are written one by one instead
    with private_folder(target) as aside:
        head = (
            f"---\ncomment: A search for a resonance in spectra of {found.settings.observable.text}, made with hunch.\n"
        )
        (aside / "submission.yaml").write_text(head, encoding="utf-8")
        for table in tables:
            table.write_yaml(str(aside))
        return [file.replace(target / file.name) for file in sorted(aside.iterdir())]


def hepdata_library() -> Any:
    """Import hepdata_lib, or say how to get it."""
    try:
        return importlib.import_module("hepdata_lib")
    except ModuleNotFoundError as error:
        raise InputError(f"tables for HEPData need {error.name}: pip install hepdata_lib") from error


def new_table(lib: Any, name: str, description: str, observable: str, sqrt_s: float) -> Any:
    """Return an empty table with the keywords that HEPData searches by."""
    table = lib.Table(name)
    table.description = description
    table.location = "Made by hunch; give the figure or table of the paper here"
    table.keywords["observables"] = [observable]
    table.keywords["cmenergies"] = [sqrt_s]
    table.keywords["phrases"] = ["resonance search"]
    return table


def column(lib: Any, name: str, values: Sequence[Any] | Floats, *, units: str = "", **qualifiers: float | str) -> Any:
    """Return a dependent variable; what is not finite becomes HEPData's sign for no value."""
    variable = lib.Variable(name, is_independent=False, is_binned=False, units=units, zero_uncertainties_warning=False)
    variable.digits = 6
    variable.values = [float(v) if np.isfinite(v) else MISSING for v in values]
    for key, value in qualifiers.items():
        variable.add_qualifier(key.replace("_", " "), value)
    return variable


def mass_column(lib: Any, values: Sequence[Any], observable: Observable, *, is_binned: bool) -> Any:
    """Return the independent variable: bins of the observable, or resonance masses."""
    name = observable.text if is_binned else f"Resonance mass (peak of reconstructed {observable.text})"
    variable = lib.Variable(name, is_independent=True, is_binned=is_binned, units=observable.unit)
    variable.digits = 7
    variable.values = values
    return variable


def spectrum_table(lib: Any, found: BumpHunt, region: int, name: str, valid: str) -> Any:
    """Return one region's counts and background fit with the fit's error; valid: its name in that of the table and its file."""
    settings = found.settings
    order = int(found.background.order[region])
    table = new_table(
        lib,
        f"spectrum_{valid}",
        f"Events a bin in {name} and the background-only fit ({settings.family}, {order} shape parameters).",
        "N",
        settings.sqrt_s,
    )
    edges = found.edges.tolist()
    table.add_variable(mass_column(lib, list(itertools.pairwise(edges)), settings.observable, is_binned=True))
    table.add_variable(column(lib, "Events observed", found.counts[region], region=name))
    background = column(lib, "Background fit", found.background.expected[region], region=name)
    fit = fit_with_minuit(
        found.counts[region],
        found.edges,
        order,
        sqrt_s=settings.sqrt_s,
        family=settings.family,
        columns=found.columns(region),
    )
    if fit.valid:
        error = lib.Uncertainty("fit", is_symmetric=True)
        error.values = (fit.expected * np.sqrt(np.maximum(np.diag(fit.log_covariance), 0.0))).tolist()
        background.add_uncertainty(error)
    table.add_variable(background)
    return table


def scan_table(lib: Any, found: BumpHunt, names: Sequence[str]) -> Any:
    """Return local p of each region and combined, and the combined z, against mass."""
    table = new_table(
        lib,
        "p_value_scan",
        "Signed local p-values (a deficit has p above 0.5) against mass; no look-elsewhere effect in them. "
        f"A p-value of {SMALLEST:.0e} stands for smaller ones too, the significance does not.",
        "P-VALUE",
        found.settings.sqrt_s,
    )
    table.add_variable(mass_column(lib, found.masses.tolist(), found.settings.observable, is_binned=False))
    for r, name in enumerate(names):
        p = np.where(found.scan.converged[r], found.scan.p[r], np.nan)
        table.add_variable(column(lib, "Local p-value", p, region=name))
    combination = found.settings.combination
    table.add_variable(column(lib, "Local p-value", found.combined, region="all", combination=combination))
    table.add_variable(column(lib, "Local significance", found.z_combined, region="all", combination=combination))
    return table


def limit_table(lib: Any, found: BumpHunt, limits: Limits) -> Any:
    """Return observed and expected limits against mass, the bands as errors of the expected one."""
    kept = np.isfinite(limits.expected).all(axis=1)
    if limits.observed_fb is None or limits.expected_fb is None:
        name, units, observed, expected = "signal events", "", limits.observed, limits.expected
    else:
        name, units = "cross section x branching fraction x efficiency", "fb"
        observed, expected = limits.observed_fb, limits.expected_fb
    few = int((kept & ~limits.asymptotic).sum())
    by = f", and the limit is by {limits.experiments} pseudo-experiments" if few else ""
    table = new_table(
        lib,
        "limits",
        f"Upper limits at {limits.confidence:.0%} confidence level (CLs, asymptotic) on {name}. {int((~kept).sum())} masses "
        f"have no limit and are left out; at {few} the window expects fewer than 10 background events{by}. Nuisances of the signal: {limits.errors.text}.",
        "SIG" if units else "N",
        found.settings.sqrt_s,
    )
    table.add_variable(mass_column(lib, limits.masses[kept].tolist(), found.settings.observable, is_binned=False))
    extra: dict[str, float | str] = {"confidence_level": f"{limits.confidence:.0%}"}
    if limits.luminosity is not None:
        extra["luminosity_in_fb-1"] = limits.luminosity
    if not limits.blind:
        table.add_variable(column(lib, f"Observed limit on {name}", observed[kept], units=units, **extra))
    central = expected[kept]
    middle = column(lib, f"Expected limit on {name}", central[:, 2], units=units, **extra)
    for label, low, high in (("1 sigma", 1, 3), ("2 sigma", 0, 4)):
        band = lib.Uncertainty(label, is_symmetric=False)
        band.values = [(float(r[low] - r[2]), float(r[high] - r[2])) for r in central]
        middle.add_uncertainty(band)
    table.add_variable(middle)
    return table
