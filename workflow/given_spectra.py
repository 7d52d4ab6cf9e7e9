"""A hunt in spectra that others made, from their files to a folder with the answer; and limits, checks and report of a folder."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from jinja2 import UndefinedError

from .. import __version__
from ..analysis.checks.all_checks import validate
from ..analysis.counting_page import write_counting_report
from ..analysis.figures.check_figures import write_validation
from ..analysis.limit_files import write_limits
from ..analysis.limits.model import shares
from ..analysis.limits.signals import Signal, hunt_of, limits_of, notes_of
from ..analysis.page import write_report
from ..analysis.provenance import versions
from ..analysis.results import draw_spectrum_figures, spectrum_result
from ..analysis.significance.bumphunt import BumpHunt, HuntSettings
from ..analysis.spectra.files import read_spectra
from ..analysis.spectra.signal_shape import SignalShape
from ..analysis.spectra.units import read_luminosity
from ..analysis.spectrum_hunt import hunt_spectra
from ..documents import read_json
from ..errors import HunchError, shown
from ..files import finite, remove, require_place, write_json
from ..lock import writing
from ..pieces import Pieces
from .layout import FOLDERS
from .of_result import belongs, beside, check_result, stamp_of_result
from .older import mark_older, unmark
from .stamps import source_hash

__all__ = ["hunt_files", "limit_folder", "read_result", "report_folder", "validate_folder"]

log = logging.getLogger(__name__)
RESULT_KEYS = ("best", "scan", "fit_range", "regions", "signal_shape", "observable", "configuration")
"""What the result.json of every hunt holds."""
COUNT_KEYS = ("counting", "samples", "configuration", "representation", "score", "notes")
"""What that of a counting experiment holds."""
ANEW = "hunch run or hunch hunt writes it anew"
DAMAGE = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, UndefinedError)
"""What comes of a result that lacks something, or holds it in another form."""
MANY = 8
"""Regions from which Fisher's method, when nobody chose it, is worth a note: a signal of one region drowns in the sum."""


def hunt_files(
    sources: Sequence[str],
    output: Path,
    *,
    unit: str | None = None,
    mass_unit: str | None = None,
    luminosity: str | None = None,
    width: float = 0.035,
    fit_range: tuple[float, float] | None = None,
    masses: tuple[float, float] | None = None,
    progress: bool = True,
    **settings: Any,
) -> dict[str, Any]:
    """Hunt in spectra that others made; write figures, report.html and, last, result.json into a folder of their own.

    unit, luminosity: of the values, and mass_unit, as people write them; width: of the signal, a Gaussian, relative to its mass;
    fit_range, masses: [low, high] GeV; settings: fields of HuntSettings. Nothing is written where the input is wrong. A killed hunt
    goes on where it was; raises HunchError where another run uses the folder.
    """
    if output.exists() and not output.is_dir():
        raise HunchError(f"-o {output}: is a file; a folder is written")
    require_place(output)
    with writing(output, within=FOLDERS):
        if (output / ".stages").exists():
            raise HunchError(
                f"-o {output}: holds an analysis of hunch run, whose result.json stays; name another folder"
            )
        given = (sources, output, unit, mass_unit, luminosity, width, fit_range, masses, HuntSettings(**settings))
        return hunt_held(*given, chosen="combination" in settings, progress=progress)


def hunt_held(
    sources: Sequence[str],
    output: Path,
    unit: str | None,
    mass_unit: str | None,
    luminosity: str | None,
    width: float,
    fit_range: tuple[float, float] | None,
    masses: tuple[float, float] | None,
    hunting: HuntSettings,
    *,
    chosen: bool,
    progress: bool,
) -> dict[str, Any]:
    """Hunt as `hunt_files` does, in a folder that is held; chosen: whether somebody chose the combination."""
    given = read_spectra(
        sources,
        sqrt_s=hunting.sqrt_s,
        unit=unit,
        mass_unit=mass_unit,
        luminosity=None if luminosity is None else read_luminosity(luminosity),
    )
    notes = list(given.notes)
    if len(given.spectra) >= MANY and not chosen:
        notes.append(
            f"{len(given.spectra)} regions are combined by Fisher's method, in which a signal of one of them drowns: regions "
            "of a mosaic want --combination simes"
        )
    for note in notes:
        log.warning("%s", note)
    shape = SignalShape(width=width, source="Gaussian of stated width")
    mark_older(output)
    try:
        found = hunt_spectra(
            given.spectra,
            shape=shape,
            settings=hunting,
            fit_range=fit_range,
            masses=masses,
            progress=progress,
            pieces=kept_pieces(output, "hunt"),
        )
    except HunchError:  # the answer of before stays
        unmark(output)
        remove(output / ".spectra" / "pieces")
        if (output / ".spectra").is_dir() and not any((output / ".spectra").iterdir()):
            (output / ".spectra").rmdir()
        raise
    answer = spectrum_result(found)
    result = {
        "hunch": __version__,
        "versions": versions(),
        "seed": hunting.seed,
        "configuration": {
            "spectra": [str(source) for source in sources],
            "unit": unit,
            "mass_unit": mass_unit,
            "luminosity": luminosity,
            "width": width,
            "fit_range": fit_range,
            "masses": masses,
            **{k: v for k, v in dataclasses.asdict(hunting).items() if k != "lowest_orders"},
        },
        **answer,
        "cutflow": {**given.cutflow, **answer["cutflow"]},
        "notes": [*notes, *answer["notes"]],
    }
    result = dict(finite(result))
    for name in ("report.html", "result.json", "limits.json", "limits", "validation.json", "validation"):
        remove(output / name)
    for stale in output.glob("figures/spectrum_*.p[dn][fg]"):
        stale.unlink()
    draw_spectrum_figures(found, output / "figures")
    write_report(output / "report.html", result, output / "figures")
    write_json(output / "result.json", result)
    stamp_of_result(output, "hunt")
    remove(output / ".spectra" / "pieces")
    return result


def kept_pieces(output: Path, name: str) -> Pieces:
    """Return where the finished pieces of a hunt, of limits or of checks are kept until all of it is done."""
    return Pieces(beside(output) / "pieces" / name, source_hash("analysis", "workflow"))


def validate_folder(output: Path, *, progress: bool = True, **numbers: Any) -> dict[str, Any]:
    """Make every check of a hunt in given spectra from its result.json; numbers as in `validate_analysis`."""
    refuse_analysis(output)
    with writing(output, within=FOLDERS):
        found, names = hunt_in(output)
        check_result(output)
        with describing(output / "result.json"):
            seed = int(read_result(output)["seed"])
        mark_older(output)
        pieces = kept_pieces(output, "validate")
        made = validate(found, names, seed=seed, progress=progress, pieces=pieces, **numbers)
        checks: dict[str, Any] = finite(made.as_dict())
        remove(output / "validation.json")
        write_validation(made, output)
        write_json(output / "validation.json", checks)
        stamp_of_result(output, "validate")
        report_folder(output)
        remove(output / ".spectra" / "pieces")
    return checks


def limit_folder(
    output: Path, *, efficiencies: Sequence[float] | None = None, luminosity: float | None = None, points: int = 12
) -> dict[str, Any]:
    """Set limits in the spectra of a hunt from its result.json; write limits.json, the folder limits and the report anew.

    efficiencies: share of the signal in each region, [1] where there is one; luminosity: fb^-1. Raises InputError where
    several regions have none.
    """
    refuse_analysis(output)
    with writing(output, within=FOLDERS):
        found, names = hunt_in(output)
        check_result(output)
        share = shares(efficiencies, len(names), 1)[0]
        mark_older(output)
        pieces = kept_pieces(output, "limits")
        signals = [Signal("signal", share)]
        set_on = limits_of(found, signals, names=names, points=points, luminosity=luminosity, pieces=pieces)
        notes = notes_of(set_on, signals, found.settings.observable)
        for note in notes:
            log.warning("%s", note)
        remove(output / "limits.json")
        remove(output / "limits")
        written: dict[str, Any] = finite(
            {"signals": write_limits(found, set_on, output / "limits", names=names), "notes": notes}
        )
        write_json(output / "limits.json", written)
        stamp_of_result(output, "limits")
        report_folder(output)
        remove(output / ".spectra" / "pieces")
    return written


def refuse_analysis(output: Path) -> None:
    """Refuse the folder of a whole analysis, which knows more than its spectra, and what is no folder of a result."""
    if not (output / "result.json").is_file():
        read_any_result(output)
    if (output / ".stages").exists():
        raise HunchError(f"{output}: is the folder of a hunch run; give its YAML file in place of it")


def report_folder(output: Path) -> None:
    """Write report.html of a folder: its result, and those limits and checks in it that were made of this very result."""
    result = read_any_result(output)
    figures: dict[str, Path] = {}
    # limits of an analysis are a stage, which was checked before
    analysis = (output / ".stages").exists()
    for name, command in (("limits", "limits"), ("validation", "validate")):
        path = output / f"{name}.json"
        if belongs(output, command) if command == "validate" or not analysis else path.is_file():
            found = read_json(path, remedy=f"hunch {command} writes it anew")
            if not isinstance(found, dict):
                raise HunchError(
                    f"{path}: holds a {type(found).__name__}, no result of hunch {command}, which writes it anew"
                )
            result[name] = found
    with describing(
        output / "result.json", *(output / f"{name}.json" for name in ("limits", "validation") if name in result)
    ):
        if "counting" in result:
            write_counting_report(output / "report.html", result, output / "figures")
            return
        if "validation" in result:
            figures |= {f"validation_{name}": output / "validation" / f"{name}.png" for name in ("pulls", "global_p")}
        for name in result.get("limits", {}).get("signals", ()):
            if Path(name).name != name:
                raise HunchError(
                    f"{output / 'limits.json'}: a signal is named {shown(name)}, which is no name of a folder"
                )
            figures[f"limits_{name}"] = output / "limits" / name / "limits.png"
        write_report(output / "report.html", result, output / "figures", figures)


@contextlib.contextmanager
def describing(*paths: Path) -> Iterator[None]:
    """Turn what goes wrong with the content of a result into a HunchError that names its files."""
    try:
        yield
    except DAMAGE as error:
        said = f"{type(error).__name__}: {shown(str(error), limit=200)}"
        named = ", ".join(map(str, paths))
        raise HunchError(f"{named}: damaged, or written by another version of hunch ({said}); {ANEW}") from error


def hunt_in(output: Path) -> tuple[BumpHunt, tuple[str, ...]]:
    """Return the hunt that result.json of a folder describes, and the names of its regions; raises HunchError for a damaged one."""
    result = read_result(output)
    with describing(output / "result.json"):
        return hunt_of(result)


def read_result(output: Path) -> dict[str, Any]:
    """Read the result.json of a hunt for a bump; raises HunchError where it is missing, damaged or none of ours."""
    found = read_any_result(output)
    if "counting" in found:
        raise HunchError(
            f"{output / 'result.json'}: is that of a counting experiment; the result of a hunt is expected"
        )
    return found


def read_any_result(output: Path) -> dict[str, Any]:
    """Read an output folder's result.json, of a hunt or a count; raises HunchError where it is missing, damaged or none of ours."""
    path = output / "result.json"
    if not path.is_file():
        raise HunchError(f"{path}: not there yet; hunch run or hunch hunt first")
    found = read_json(path, remedy=ANEW)
    keys = COUNT_KEYS if isinstance(found, dict) and "counting" in found else RESULT_KEYS
    missing = [key for key in keys if not isinstance(found, dict) or key not in found]
    if missing:
        raise HunchError(f"{path}: no result of hunch run or hunch hunt; missing: {', '.join(missing)}")
    return cast("dict[str, Any]", found)
