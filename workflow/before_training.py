"""What the tables alone tell that training or the hunt cannot do: said before the first model is trained, which may take hours."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..config import Analysis
from ..errors import HunchError, InputError
from ..folds import fold_hash
from ..table import EVENT_ID, Observable, Table, read_table, table_info, table_parts
from .fine_tuning import check_pretrained_events
from .layout import table_path, training_samples

__all__ = ["check_before_training"]

Floats = npt.NDArray[np.float64]


def check_before_training(analysis: Analysis) -> None:
    """Raise InputError, naming the sample or the key, where there are too few events to train on, to fix regions on or to hunt in.

    Of a hunt for a bump, the fit range is found here as the hunt will find it, and the masses asked for are looked for in it.
    """
    tables = {name: table_of(analysis, name) for name in ("data", "background") if in_samples(analysis, name)}
    hashes = {name: fold_hash(table, analysis.represented.content) for name, table in tables.items()}
    check_training_events(analysis, hashes)
    check_image_size(analysis)
    check_pretrained_events(analysis, lambda sample: table_of(analysis, sample))
    if analysis.hunt == "bump":
        check_spectrum(analysis, tables, hashes)
    else:
        check_counts(analysis, hashes)


def in_samples(analysis: Analysis, name: str) -> bool:
    """Tell whether an analysis has a sample."""
    return name in analysis.sample_files()


def table_of(analysis: Analysis, sample: str) -> Table:
    """Read what tells a sample's events apart, and the observable."""
    path = table_path(analysis, sample)
    known, observable = table_info(path).columns, analysis.represented.observable
    if EVENT_ID in known and "representation" in table_info(path).metadata:
        wanted: tuple[str, ...] = (EVENT_ID, *((observable.name,) if observable else ()))
    else:
        wanted = analysis.represented.content
    return read_table(path, columns=wanted)


def check_training_events(analysis: Analysis, hashes: dict[str, npt.NDArray[np.uint64]]) -> None:
    """Refuse samples that are too small for the method, fold by fold where the data train it."""
    plan, inputs = analysis.plan, analysis.represented.inputs
    # what spans a space by itself takes an event as one row
    jets = 1 if analysis.represented.kind == "rows" or analysis.method.spans else len(inputs)
    found: dict[str, int] = {}
    if plan.background:
        found["background, events that are not held out"] = int((~plan.held_out_rows(hashes["background"])).sum())
    else:
        for i in range(plan.n_models):
            found[f"data, all folds but {i} and {(i + 1) % plan.n_models}"] = int(
                plan.trains_on_data(hashes["data"], i).sum()
            )
    if plan.weak and plan.background:
        held = hashes["background"][plan.held_out_rows(hashes["background"])]
        for i in range(plan.n_models):
            found[f"data, all folds but {i}"] = int(plan.narrows_on_data(hashes["data"], i).sum())
            found[f"background, held out, all folds but {i}"] = int(plan.reference_rows(held, i).sum())
    beside = [f"prior.{name}" for name in analysis.samples.priors]
    beside += [] if analysis.samples.exposure is None else ["exposure"]
    for name in beside:
        found[name] = table_info(table_path(analysis, name)).rows
    for name, n in found.items():
        each = 1 if name == "exposure" and analysis.samples.exposure_jets else jets
        method = (analysis.prior_method if name.startswith("prior.") else None) or analysis.method
        if n * each < method.least:
            raise InputError(
                f"sample {name}: {n} events are too few to train {method.__name__} on; {method.least // each} are needed"
            )


def check_image_size(analysis: Analysis) -> None:
    """Refuse images of a size that the method cannot take: those of tables of one's own have another than the representation says."""
    representation, method = analysis.represented, analysis.method
    if representation.kind != "images":
        return
    sample, name = training_samples(analysis)[0], representation.inputs[0]
    shape = next(table_parts(table_path(analysis, sample), [name]))[name].shape[1:]
    options = {**analysis.scorer_options, **method.kind_options.get(representation.kind, {})}
    try:
        method(**options).check(shape)
    except HunchError as error:
        files = ", ".join(analysis.sample_files()[sample])
        raise InputError(f"sample {sample} ({files}): column {name!r}: {error}") from error


def check_spectrum(analysis: Analysis, tables: dict[str, Table], hashes: dict[str, npt.NDArray[np.uint64]]) -> None:
    """Refuse a spectrum without a fit range, or without events, held-out events or masses to hunt at in it."""
    from ..analysis import (
        FitRange,
        HuntSettings,
        choose_fit_range,
        fit_signal_shape,
        given_edges,
        hunted_masses,
        regions_fixed_by,
    )
    from ..analysis.significance.bumphunt import check_width
    from ..analysis.significance.widths import hunted_widths

    observable = analysis.represented.observable
    if observable is None:
        raise InputError(f"representation {analysis.represented.name} has no mass to look for a bump in")
    mass = {name: np.asarray(table[observable.name], dtype=np.float64) for name, table in tables.items()}
    check_unit(analysis, mass, observable)
    plan = analysis.plan
    own = "background" if plan.background else "data"
    fixing = plan.held_out_rows(hashes[own]) if plan.background else np.ones(len(mass[own]), dtype=np.bool_)
    calibration = mass[own][fixing]
    data = calibration if analysis.blind else mass["data"]
    settings = HuntSettings(sqrt_s=analysis.sqrt_s, family=analysis.background_function, observable=observable)
    fitted = fit_signal_shape(
        {
            name: np.asarray(
                read_table(table_path(analysis, f"prior.{name}"), [observable.name])[observable.name], np.float64
            )
            for name in analysis.samples.priors
        }
    )
    shape, widths = hunted_widths(fitted, analysis.width)
    check_width(analysis.background_function, max(widths or (shape.width,)))
    if analysis.fit_range is None:
        reach = float(data.max(initial=0.0))
        window = choose_fit_range(mass[own], fit_range=None, settings=settings, shape=shape, reach=reach)
        edges = np.asarray(window.edges)
    else:
        edges = given_edges(mass[own], analysis.fit_range, settings)
    low, high = float(edges[0]), float(edges[-1])
    span = observable.span(low, high)
    for name, values in (("background, held out" if plan.background else "data", calibration), ("data", data)):
        if not ((values >= low) & (values < high)).any():
            held = observable.span(float(values.min()), float(values.max())) if len(values) else "no events"
            given = "the fit range that was found" if analysis.fit_range is None else "fit_range"
            raise InputError(f"{given}, {span}, holds none of the {len(values)} events of sample {name} ({held})")
    inside = (calibration >= low) & (calibration < high)
    fold = plan.calibrating_model(hashes[own][fixing])[inside]
    settings_of = analysis.region_settings
    regions_fixed_by(
        [int((fold == f).sum()) for f in range(plan.n_models)],
        int(((data >= low) & (data < high)).sum()),
        shape=settings_of.shape or "difference",
        n_regions=settings_of.number or 1,
    )
    if analysis.masses is not None:
        reference = mass[own] if len(mass[own]) > len(data) else data
        hunted_masses(
            FitRange(tuple(edges.tolist()), "given"),
            reference,
            width=shape.width,
            masses=analysis.masses,
            observable=observable,
        )


def check_unit(analysis: Analysis, mass: dict[str, Floats], observable: Observable) -> None:
    """Refuse masses above sqrt_s, and ask for the unit of those that end below 20 "GeV" in collisions of TeV, where nothing is said of them."""
    for name, values in mass.items():
        if len(values) and np.median(values) >= analysis.sqrt_s:
            held = observable.span(float(values.min()), float(values.max()))
            raise InputError(
                f"sqrt_s: {analysis.sqrt_s:g} {observable.unit} is below most of the {len(values)} events of sample {name}, "
                f"{observable.name} of {held}; energies may have a unit, as in sqrt_s: 13 TeV"
            )
    stated = {"fit_range", "masses", "sqrt_s"} & analysis.model_fields_set
    if stated or observable.unit != "GeV" or (analysis.observable and "unit" in analysis.observable.model_fields_set):
        return
    from ..analysis.spectra.units import ASKED

    for name, values in mass.items():
        if len(values) and values.max() * ASKED < analysis.sqrt_s:
            raise InputError(
                f"sample {name}: column {observable.name!r} ends at {values.max():.3g} GeV, with sqrt_s = {analysis.sqrt_s:g} GeV; "
                f"is it in TeV? Say observable: {{name: {observable.name}, unit: TeV}}, or unit: GeV"
            )


def check_counts(analysis: Analysis, hashes: dict[str, npt.NDArray[np.uint64]]) -> None:
    """Refuse a counting experiment whose held-out events are too few to fix a threshold on."""
    plan, count = analysis.plan, analysis.count
    share = count.efficiency if count.expectation == "sample" else count.efficiency**0.5
    own = "background" if plan.background else "data"
    fixing = hashes[own][plan.held_out_rows(hashes[own])] if plan.background else hashes[own]
    halved = plan.background and analysis.samples.validation is None
    fold = plan.calibrating_model(fixing)
    least = int(np.ceil(0.5 / min(share, 1 - share))) + 1
    for f in range(plan.n_models):
        n = int((fold == f).sum()) // (2 if halved else 1)
        if n < least:
            half = ", half of which fix it," if halved else ""
            raise InputError(
                f"count.efficiency: a threshold that keeps {share:g} of the background needs {least * (2 if halved else 1)} held-out "
                f"events{half} and sample {own} has {int((fold == f).sum())}"
                + (f" in fold {f}" if plan.n_models > 1 else "")
            )
