"""A hunt in spectra that others made, from their files to a folder with the answer; and limits, checks and report of a folder."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from .. import __version__
from ..analysis.blinded_hunt import BlindedHunt, blinded_result, hunt_blinded, stored_range
from ..analysis.blinded_page import draw_blinded, write_blinded_report
from ..analysis.checks.all_checks import validate
from ..analysis.counting_page import write_counting_report
from ..analysis.figures.check_figures import write_validation
from ..analysis.goodness.fit_quality import fit_qualities, significance_refused
from ..analysis.limit_files import write_limits
from ..analysis.limits.model import shares
from ..analysis.limits.signal_errors import SignalErrors
from ..analysis.limits.signals import Signal, hunt_of, limits_of, notes_of, widths_note
from ..analysis.page import write_report
from ..analysis.provenance import versions
from ..analysis.results import draw_expected, draw_spectrum_figures, spectrum_result
from ..analysis.significance.bumphunt import BumpHunt
from ..analysis.significance.expected import checked_shares, checked_yields, expected_discovery
from ..analysis.significance.procedure import HuntSettings
from ..analysis.significance.widths import Width, hunted_widths
from ..analysis.spectra.files import read_spectra
from ..analysis.spectra.signal_shape import SignalShape
from ..analysis.spectra.units import read_luminosity
from ..analysis.spectrum_hunt import SpectrumHunt, hunt_spectra
from ..documents import read_json
from ..errors import HunchError, shown
from ..files import finite, remove, require_place, write_json
from ..lock import writing
from ..pieces import Pieces
from .layout import FOLDERS
from .of_result import ANEW, belongs, beside, check_result, describing, stamp_of_result
from .older import mark_older, unmark
from .stamps import source_hash
from .unblinding import blinded_window, other_options, other_spectra, read_blinded

__all__ = ["hunt_files", "limit_folder", "read_result", "report_again", "report_folder", "validate_folder"]

log = logging.getLogger(__name__)
RESULT_KEYS = ("best", "scan", "fit_range", "regions", "signal_shape", "observable", "configuration")
"""What the result.json of every hunt holds."""
COUNT_KEYS = ("counting", "samples", "configuration", "representation", "score", "notes")
"""What that of a counting experiment holds."""
OF_OPEN = ("after_first", "pseudo_experiments")
"""Settings of what is not made while a window is blind."""
MANY = 8
"""Regions from which Fisher's method, when nobody chose it, is worth a note: a signal of one region drowns in the sum."""


def hunt_files(
    sources: Sequence[str],
    output: Path,
    *,
    unit: str | None = None,
    mass_unit: str | None = None,
    luminosity: str | None = None,
    width: Width = None,
    fit_range: tuple[float, float] | None = None,
    masses: tuple[float, float] | None = None,
    expected: Sequence[float] | None = None,
    efficiencies: Sequence[float] | None = None,
    blind: tuple[float, float] | None = None,
    unblind: Path | None = None,
    progress: bool = True,
    **settings: Any,
) -> dict[str, Any]:
    """Hunt in spectra that others made; write figures, report.html and, last, result.json into a folder of their own.

    unit, luminosity: of the values, and mass_unit, as people write them; width: of the signal, a Gaussian of 3.5 % of its mass where none is
    given, or the lowest and the highest, which are scanned; fit_range, masses: [low, high] GeV; expected: signal events to state the
    expected discovery for, none for a choice of them; efficiencies: share of that signal in each region; blind: [low, high] GeV that nobody
    looks into; unblind: the result.json of such a hunt, or its folder, whose fit range is taken; settings: fields of HuntSettings.
    Nothing is written where the input is wrong. A killed hunt
    goes on where it was; raises HunchError where another run uses the folder.
    """
    if output.exists() and not output.is_dir():
        raise HunchError(f"-o {output}: is a file; a folder is written")
    refuse_together({"--blind": blind, "--unblind": unblind})
    refuse_together({"--fit-range": fit_range, "--unblind": unblind})
    before = None if unblind is None else read_blinded(unblind, output)
    require_place(output)
    with writing(output, within=FOLDERS):
        if (output / ".stages").exists():
            raise HunchError(
                f"-o {output}: holds an analysis of hunch run, whose result.json stays; name another folder"
            )
        given = (sources, output, unit, mass_unit, luminosity, width, fit_range, masses, HuntSettings(**settings))
        asked = None if expected is None else (expected, efficiencies)
        kept: dict[str, Any] = {"blind": blind, "before": before, "named": frozenset(settings)}
        return hunt_held(*given, expected=asked, progress=progress, **kept)


def refuse_together(options: dict[str, Any]) -> None:
    """Refuse two options that contradict each other."""
    if all(value is not None for value in options.values()):
        raise HunchError(f"{' and '.join(options)} cannot be together")


def hunt_held(
    sources: Sequence[str],
    output: Path,
    unit: str | None,
    mass_unit: str | None,
    luminosity: str | None,
    width: Width,
    fit_range: tuple[float, float] | None,
    masses: tuple[float, float] | None,
    hunting: HuntSettings,
    *,
    blind: tuple[float, float] | None,
    before: dict[str, Any] | None,
    named: frozenset[str],
    expected: tuple[Sequence[float], Sequence[float] | None] | None,
    progress: bool,
) -> dict[str, Any]:
    """Hunt as `hunt_files` does, in a folder that is held; before: a blinded result; named: fields of HuntSettings that somebody chose;
    expected: yields and efficiencies of an expected discovery.
    """
    given = read_spectra(
        sources,
        sqrt_s=hunting.sqrt_s,
        unit=unit,
        mass_unit=mass_unit,
        luminosity=None if luminosity is None else read_luminosity(luminosity),
        fb_of_counts=expected is not None,
        # events of a table are binned in the same way before and after
        blind=blind if before is None else blinded_window(before),
    )
    share = None if expected is None else checked_shares(expected[1], len(given.spectra))
    yields = checked_yields(expected[0]).tolist() if expected and expected[0] else None
    notes = list(given.notes)
    if len(given.spectra) >= MANY and "combination" not in named:
        notes.append(
            f"{len(given.spectra)} regions are combined by Fisher's method, in which a signal of one of them drowns: regions "
            "of a mosaic want --combination simes"
        )
    shape, widths = hunted_widths(SignalShape(), width)
    hunting = dataclasses.replace(hunting, widths=widths)
    configuration = {
        "spectra": [str(source) for source in sources],
        "unit": unit,
        "mass_unit": mass_unit,
        "luminosity": luminosity,
        "width": shape.width if width is None else width,
        "fit_range": fit_range,
        "masses": masses,
        "blind": blind,
        **({} if share is None else {"expected": yields or "auto", "efficiencies": share.tolist()}),
        **{k: v for k, v in dataclasses.asdict(hunting).items() if k not in {"lowest_orders", "widths"}},
    }
    if before is not None:
        notes += [*other_options(before, configuration), *other_spectra(before, given.spectra)]
    notes += [] if blind is None else waiting(named)
    for note in notes:
        log.warning("%s", note)
    mark_older(output)
    options: dict[str, Any] = {"shape": shape, "settings": hunting, "masses": masses}
    options["pieces"] = kept_pieces(output, "hunt")
    found: SpectrumHunt | BlindedHunt
    try:
        if blind is not None:
            found = hunt_blinded(given.spectra, blind, fit_range=fit_range, **options)
            answer = blinded_result(found)
        else:
            fixed = fit_range if before is None else stored_range(before)
            found = hunt_spectra(given.spectra, fit_range=fixed, progress=progress, **options)
            answer = spectrum_result(found)
        discovery = {}
        if share is not None:
            seen, refused = expectable(found, {**answer, "configuration": configuration})
            if refused is None:
                discovery["signal"] = expected_discovery(
                    seen,
                    yields=yields,
                    efficiencies=share,
                    luminosity=None if luminosity is None else read_luminosity(luminosity).per_pb / 1000,
                    progress=progress,
                    pieces=kept_pieces(output, "expected"),
                )
            else:
                notes.append(f"no expected discovery: {refused}")
                log.warning("%s", notes[-1])
    except HunchError:  # the answer of before stays
        unmark(output)
        remove(output / ".spectra" / "pieces")
        if (output / ".spectra").is_dir() and not any((output / ".spectra").iterdir()):
            (output / ".spectra").rmdir()
        raise
    result = {
        "hunch": __version__,
        "versions": versions(),
        "seed": hunting.seed,
        "configuration": configuration,
        **answer,
        **({"expected_discovery": {k: e.as_dict() for k, e in discovery.items()}} if discovery else {}),
        "cutflow": {**given.cutflow, **answer["cutflow"]},
        "notes": [*notes, *answer["notes"]],
    }
    if before is not None:
        result["unblinded"] = {"window": before["blinded"]["window"], "seed": before["seed"], "hunch": before["hunch"]}
    result = dict(finite(result))
    for name in ("report.html", "result.json", "limits.json", "limits", "validation.json", "validation"):
        remove(output / name)
    draw_anew(found, output / "figures")
    draw_expected(discovery, output / "figures", hunting.observable)
    if isinstance(found, BlindedHunt):
        write_blinded_report(output / "report.html", result, output / "figures")
    else:
        write_report(output / "report.html", result, output / "figures")
    write_json(output / "result.json", result)
    stamp_of_result(output, "hunt")
    remove(output / ".spectra" / "pieces")
    return result


def waiting(named: frozenset[str]) -> list[str]:
    """Say which of the settings that somebody chose are of no use while a window is blind."""
    options = [f"--{name.replace('_', '-')}" for name in OF_OPEN if name in named]
    said = f"{', '.join(options)}: of no use while a window is blind; to be given again with --unblind"
    return [said] if options else []


def expectable(found: SpectrumHunt | BlindedHunt, result: dict[str, Any]) -> tuple[BumpHunt, str | None]:
    """Return the hunt whose expected discovery is asked for, and why it has none: that of a blind one has its expectation for data."""
    if isinstance(found, SpectrumHunt):
        return found.hunt, found.no_significance
    seen, names = hunt_of(result)
    return seen, significance_refused(fit_qualities(seen, names))


def draw_anew(found: SpectrumHunt | BlindedHunt, figures: Path) -> None:
    """Draw the figures of a hunt in place of those of before."""
    for stem in ("spectrum_*", "expected_*", "p_value_scan", "width_scan"):
        for stale in figures.glob(f"{stem}.p[dn][fg]"):
            stale.unlink()
    if isinstance(found, BlindedHunt):
        draw_blinded(found, figures)
    else:
        draw_spectrum_figures(found, figures)


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
    output: Path,
    *,
    efficiencies: Sequence[float] | None = None,
    luminosity: float | None = None,
    points: int = 12,
    errors: SignalErrors | None = None,
) -> dict[str, Any]:
    """Set limits in the spectra of a hunt from its result.json; write limits.json, the folder limits and the report anew.

    efficiencies: share of the signal in each region, [1] where there is one; luminosity: fb^-1; errors: of the signal. Raises
    InputError where several regions have no efficiencies.
    """
    refuse_analysis(output)
    with writing(output, within=FOLDERS):
        found, names = hunt_in(output)
        check_result(output)
        refuse_without_significance(output)
        share = shares(efficiencies, len(names), 1)[0]
        mark_older(output)
        pieces = kept_pieces(output, "limits")
        signals = [Signal("signal", share)]
        result = read_result(output)
        blind = "blinded" in result
        if blind:  # the largest excess of what is seen has no say in the width
            found = dataclasses.replace(found, shape=SignalShape(**result["signal_shape"]))
        options: dict[str, Any] = {"points": points, "luminosity": luminosity, "errors": errors, "blind": blind}
        set_on = limits_of(found, signals, names=names, pieces=pieces, **options)
        notes = [*notes_of(set_on, found.settings.observable), *widths_note(found, blind=blind)]
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


def refuse_without_significance(output: Path) -> None:
    """Refuse limits where the background does not describe the spectrum: they would rest on it as a significance does."""
    result = read_result(output)
    why = None if "blinded" in result else result["best"].get("no_significance")
    if why:
        raise HunchError(
            f"{output}: no limits, as no significance is quoted: {why}; hunt with another --fit-range, --width or --function"
        )


def refuse_analysis(output: Path) -> None:
    """Refuse the folder of a whole analysis, which knows more than its spectra, and what is no folder of a result."""
    if not (output / "result.json").is_file():
        read_any_result(output)
    if (output / ".stages").exists():
        raise HunchError(f"{output}: is the folder of a hunch run; give its YAML file in place of it")


def report_again(output: Path) -> None:
    """Write report.html of the folder of a hunt in given spectra; raises HunchError where the hunt was changed since."""
    refuse_analysis(output)
    with writing(output, within=FOLDERS):
        check_result(output)
        report_folder(output)


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
            figures |= {
                f"validation_{name}": output / "validation" / f"{name}.png" for name in ("pulls", "global_p", "bias")
            }
        for name in result.get("limits", {}).get("signals", ()):
            if Path(name).name != name:
                raise HunchError(
                    f"{output / 'limits.json'}: a signal is named {shown(name)}, which is no name of a folder"
                )
            figures[f"limits_{name}"] = output / "limits" / name / "limits.png"
        write = write_blinded_report if "blinded" in result else write_report
        write(output / "report.html", result, output / "figures", figures)


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
