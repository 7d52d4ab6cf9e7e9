"""What an analysis cannot be: keys that do not go together, and what a method cannot do; nothing is read for that."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import HunchError
from ..table import EVENT_ID, IDENTITY, is_table
from .methods import method_class, method_names, methods_for, methods_with, unknown

if TYPE_CHECKING:
    from ..processors.representations import Representation
    from .schema import Analysis

__all__ = ["check_analysis"]

OF_POLAR = ("ConstituentVae", "EventToEnsemble", "NAE")
"""Methods of sets whose slots hold momenta and nothing else."""


def check_analysis(analysis: Analysis) -> None:
    """Raise ValueError, which names the key, where an analysis cannot be."""
    check_ranges(analysis)
    if analysis.blind and analysis.samples.background is None:
        raise ValueError("blind: needs samples.background, of which held-out events stand in for the data")
    if analysis.blind and analysis.weak_supervision:
        raise ValueError("blind: cannot be with weak_supervision, which learns from the data")
    if analysis.weak_supervision and not analysis.samples.priors:
        raise ValueError("weak_supervision: needs samples.priors, whose family the data narrow down")
    if analysis.expected_discovery is not None and not (analysis.samples.signals or analysis.samples.priors):
        raise ValueError(
            "expected_discovery: needs samples.signals or samples.priors, whose share in the regions it takes"
        )
    if analysis.plane_scan is not None and not analysis.samples.priors:
        raise ValueError("plane_scan: needs samples.priors, the second axis of the plane")
    if analysis.weak_supervision and analysis.regions.axis == "priors":
        raise ValueError("weak_supervision: needs regions.axis: family")
    if analysis.regions.decorrelation is not None and analysis.regions.shape is not None:
        from ..analysis import SHAPES

        able = [name for name, shape in SHAPES.items() if shape.follows_mass]
        if analysis.regions.shape not in able:
            raise ValueError(
                f"regions.decorrelation: boundaries of shape {analysis.regions.shape} cannot follow the mass; "
                f"{', '.join(able)} can"
            )
    if analysis.regions.shape == "mosaic" and not analysis.can_be_mosaic:
        raise ValueError(
            "regions.shape: mosaic needs one model of a family of priors: samples.background, at least two "
            f"samples.priors, regions.axis: family, no weak_supervision, and a method with hypotheses: {', '.join(methods_with('mosaic'))}"
        )
    if analysis.scheduler is not None and analysis.executor != "dask":
        raise ValueError(f"scheduler: is of executor: dask, and executor is {analysis.executor}")
    check_columns(analysis)
    check_method(analysis)


def check_ranges(analysis: Analysis) -> None:
    """Refuse ranges that fall or reach beyond sqrt_s, a fit range of too few bins, and masses outside of it."""
    for key, pair in (("fit_range", analysis.fit_range), ("masses", analysis.masses)):
        if pair is not None and not (pair[0] < pair[1] < analysis.sqrt_s):
            raise ValueError(f"{key}: [{pair[0]:g}, {pair[1]:g}] must rise and stay below sqrt_s = {analysis.sqrt_s:g}")
    if analysis.fit_range is None:
        return
    from ..analysis import mass_edges

    low, high = analysis.fit_range
    asked = f"[{low:g}, {high:g}]"
    if len(mass_edges(low, high)) < 3:
        raise ValueError(f"fit_range: {asked} is too short to scan: it holds one bin, which is a mass resolution wide")
    if analysis.masses is not None and not (analysis.masses[0] < high and low < analysis.masses[1]):
        raise ValueError(
            f"masses: [{analysis.masses[0]:g}, {analysis.masses[1]:g}] lie outside of fit_range {asked}, where nothing is hunted"
        )


def check_columns(analysis: Analysis) -> None:
    """Refuse training columns and an observable that no model or hunt may see."""
    if analysis.features is not None and len(set(analysis.features)) != len(analysis.features):
        twice = next(name for name in analysis.features if analysis.features.count(name) > 1)
        raise ValueError(f"features: column {twice!r} is named twice")
    if analysis.hunt == "bump" and analysis.hunted in (analysis.features or ()):
        raise ValueError(
            f"features: {analysis.hunted} is hunted in and cannot be a training column: the regions would sculpt it"
        )
    for name, meaning in (
        ("truth_signal", "is a label"),
        *((name, "tells events apart") for name in (*IDENTITY, EVENT_ID)),
    ):
        if name in (analysis.features or ()):
            raise ValueError(f"features: {name} {meaning} and cannot be a training column")
        if name == analysis.hunted:
            raise ValueError(f"observable: {name} {meaning} and cannot be hunted in")


def check_exposure(analysis: Analysis) -> None:
    """Refuse an exposure sample that nothing uses, and an exposure without a sample."""
    name, method = analysis.scorer_name, analysis.method
    given = analysis.samples.exposure is not None
    if "without_exposure" in analysis.model_fields_set and not given:
        raise ValueError("without_exposure: is of a search with samples.exposure, and there is none")
    if analysis.samples.exposure_jets is not None:
        if not given:
            raise ValueError("samples.exposure_jets: is of samples.exposure, and there is none")
        try:
            analysis.represented_of("exposure")
        except HunchError as error:
            raise ValueError(f"samples.exposure_jets: {error}") from error
    if "exposure" not in method.uses:
        if given:
            able = ", ".join(n for n in method_names() if "exposure" in method_class(n).uses) or "none yet"
            raise ValueError(f"samples.exposure: {name} has no outlier exposure; methods with it: {able}")
        return
    exposed = analysis.scorer_options.get("exposure", "none")
    if exposed != "none" and not given:
        raise ValueError(f"scorer.exposure: {exposed} needs samples.exposure")
    if exposed == "none" and given:
        raise ValueError("samples.exposure: nothing uses it; scorer.exposure says how, as in scorer: {exposure: kl}")
    if given:
        check_exposure_match(analysis)


def check_exposure_match(analysis: Analysis) -> None:
    """Refuse to bring exposed events to the spectrum of a column that there is not."""
    representation, method = analysis.represented, analysis.method
    match = str(analysis.scorer_options.get("exposure_match", method.exposure_match))
    observed = analysis.represented_of("exposure").observable is not None
    allowed = [name for name in method.matches if name != "observable" or observed]
    allowed += representation.inputs if method.matches_columns else ()
    if match == "observable" and representation.observable is not None and not observed:
        raise ValueError(
            f"scorer.exposure_match: observable is {representation.observable.name}, which one jet an event (samples.exposure_jets: 1) does "
            f"not have; allowed: {', '.join(allowed)}"
        )
    if match == "observable" and match not in allowed:
        raise ValueError(
            f"scorer.exposure_match: the observable is what is hunted in, and representation {representation.name} has none; "
            f"name it, as observable: mass, or take another one here: {', '.join(allowed)}"
        )
    if match not in allowed:
        raise ValueError(f"scorer.exposure_match: {unknown(match, allowed)}")
    if match == "rescaled" and getattr(representation, "align", None) == "rest_frame":
        raise ValueError(
            "scorer.exposure_match: rescaled keeps a jet's pT, and jets at rest (align: rest_frame) have none"
        )


def first_named(said: str, options: Iterable[str]) -> str:
    """Return the option that is named first: it is the one that is wrong, others may be what it does not go with; "" for none."""
    named = [(at.start(), option) for option in options if (at := re.search(rf"\b{option}\b", said)) is not None]
    return min(named)[1] if named else ""


def check_method(analysis: Analysis) -> None:
    """Refuse a method, and what is asked of it, where it cannot be; nothing is read for that."""
    representation, method = analysis.represented, analysis.method
    if analysis.metric == "emd" and getattr(representation, "align", None) == "rest_frame":
        raise ValueError("scorer.metric: emd is of pT, eta and phi, which mean nothing at rest (align: rest_frame)")
    name = analysis.scorer_name
    if representation.kind not in method.takes:
        fits = ", ".join(methods_for(representation.kind)) or "none yet"
        raise ValueError(
            f"scorer: {name} takes {' or '.join(method.takes)}, and representation {representation.name} gives "
            f"{representation.kind}; methods for {representation.kind}: {fits}"
        )
    check_method_options(analysis)
    check_prior_scorer(analysis, representation)
    check_samples(analysis, representation)
    if analysis.scorer_options.get("decorrelation", 0) > 0 and representation.observable is None:
        section = "scorer" if "decorrelation" in analysis.scorer else "training"
        raise ValueError(f"key '{section}.decorrelation': needs an observable not to follow; name one: observable")
    if analysis.weak_supervision and method.narrows and not analysis.has_family:
        raise ValueError("weak_supervision: needs the family of hypotheses that data narrow down, and family is false")
    if analysis.weak_supervision and not method.narrows:
        raise ValueError(
            f"weak_supervision: needs a method whose hypotheses data narrow down ({', '.join(methods_with('narrows'))}); "
            f"scorer is {name}"
        )
    if analysis.regions.axis == "family" and not analysis.samples.priors:
        raise ValueError("regions.axis: family is that of samples.priors, and there are none")
    if analysis.regions.axis == "family" and not analysis.has_family:
        raise ValueError(
            f"regions.axis: family needs a method with hypotheses ({', '.join(methods_with('mosaic'))}); scorer is {name}"
        )
    check_exposure(analysis)
    if name == "EventToEnsemble" and getattr(representation, "coordinates", "relative") != "relative":
        raise ValueError("representation: EventToEnsemble moves pT at eta and phi: coordinates: relative is needed")
    check_listed(analysis, representation)
    check_encoded(analysis, representation)
    check_per_jet(analysis)
    if analysis.hunt == "bump" and representation.observable is None:
        raise ValueError(f"hunt: representation {representation.name} has no mass to look for a bump in; hunt: count")
    check_hunt(analysis)


def check_method_options(analysis: Analysis) -> None:
    """Refuse options of a method that mean nothing, naming the key of the first that is wrong, inside an option that holds others too."""
    representation, method = analysis.represented, analysis.method
    shape = (getattr(representation, "pixels", 0),) * 2 if representation.kind == "images" else ()
    try:
        given = method.kind_options.get(representation.kind, {})
        method(**{**analysis.scorer_options, **given}).check(shape if all(shape) else ())
    except HunchError as error:
        said = str(error)
        sections = {**dict.fromkeys(analysis.training, "training"), **dict.fromkeys(analysis.scorer, "scorer")}
        option = first_named(said, sections)
        if not option:
            raise ValueError(f"scorer: {said}") from error
        key, part = f"{sections[option]}.{option}", analysis.scorer_options.get(option)
        if said.startswith(f"{option}: "):
            said = said.removeprefix(f"{option}: ")
            inner = first_named(said, [key for key in part if key != "name"]) if isinstance(part, Mapping) else ""
            key += f".{inner}" if inner else ""
        raise ValueError(f"key '{key}': {said}") from error


def check_prior_scorer(analysis: Analysis, representation: Representation) -> None:
    """Refuse a method of the priors' axes that cannot be beside the background's."""
    method = analysis.prior_method
    if method is None:
        return
    if not analysis.samples.priors:
        raise ValueError("prior_scorer: is of the axes of samples.priors, and there are none")
    axes = [name for name in methods_for(representation.kind) if not method_class(name).spans]
    for key, own in (("scorer", analysis.method), ("prior_scorer", method)):
        if own.spans:
            raise ValueError(
                f"{key}: {own.__name__} spans a space by itself, and has no axes of another method beside it (prior_scorer); allowed: {', '.join(axes)}"
            )
    if representation.kind not in method.takes:
        raise ValueError(
            f"prior_scorer: {method.__name__} takes {' or '.join(method.takes)}, and representation {representation.name} gives "
            f"{representation.kind}; allowed: {', '.join(axes)}"
        )
    try:
        method(**{**analysis.prior_options, **method.kind_options.get(representation.kind, {})}).check()
    except HunchError as error:
        option = first_named(str(error), [key for key in analysis.prior_scorer or {} if key != "name"])
        blamed = f"key 'prior_scorer.{option}'" if option else "prior_scorer"
        raise ValueError(f"{blamed}: {error}") from error
    _ = analysis.axis_metric


def check_per_jet(analysis: Analysis) -> None:
    """Refuse to put jets together that are not there or stand side by side already, and an axis for each jet where one is needed."""
    representation, method = analysis.represented, analysis.method
    several = representation.kind != "rows" and len(representation.inputs) > 1
    if "per_jet" in analysis.scorer and method.spans and several:
        raise ValueError(
            f"scorer.per_jet: the axes of {analysis.scorer_name} are losses of whole events, in which the jets stand side by side"
        )
    if "per_jet" in analysis.scorer and not several:
        raise ValueError(f"scorer.per_jet: {analysis.per_jet} puts jets together, and an event here is one")
    if analysis.per_jet == "concat" and (analysis.hunt, analysis.count.expectation) != ("count", "abcd"):
        raise ValueError(
            "scorer.per_jet: concat keeps an axis for each jet, for hunt: count with count.expectation: abcd; "
            "regions need one background axis: sum or max"
        )


def check_listed(analysis: Analysis, representation: Representation) -> None:
    """Refuse methods of sets of pT, eta and phi, or of four-vectors, for a list of objects, which have a category beside."""
    if getattr(representation, "layout", "classes") != "list":
        return
    inside = analysis.scorer_options.get("scorers", ()) if analysis.scorer_name == "Combined" else ()
    names = [one.get("name") if isinstance(one, Mapping) else one for one in inside]
    for name in (analysis.scorer_name, *names):
        if name in OF_POLAR:
            raise ValueError(
                f"key 'representation.layout': is list, of pT, eta, phi, E and a category, and scorer: {name} takes pT, eta and phi; "
                "allowed: classes"
            )


def check_encoded(analysis: Analysis, representation: Representation) -> None:
    """Refuse jets that an encoder of pT, eta and phi relative to the jet's axis cannot take, and a scorer that lacks the mass it is not to follow."""
    for section, options in encoded_parts(analysis):
        above = options.get("scorer")
        if isinstance(above, Mapping) and above.get("decorrelation", 0) > 0 and representation.observable is None:
            raise ValueError(
                f"key '{section}.scorer.decorrelation': needs an observable not to follow; name one: observable"
            )
        check_encoder_of(section, options, representation)
        if getattr(representation, "coordinates", "relative") == "relative":
            continue
        align = getattr(representation, "align", None)
        if align == "rest_frame":
            raise ValueError(
                f"key '{section}.encoder': takes pT, eta and phi, which mean nothing at rest (align: rest_frame)"
            )
        if align == "none":
            raise ValueError(
                f"key '{section}.encoder': takes jets along eta = phi = 0, and these are not aligned; allowed: coordinates: relative, or align: longitudinal"
            )


def encoded_parts(analysis: Analysis) -> list[tuple[str, Mapping[str, Any]]]:
    """Return section and options of every `Encoded` of an analysis: the method itself, or some of those that `Combined` combines."""
    options = analysis.scorer_options
    if analysis.scorer_name == "Encoded":
        return [("scorer", options)]
    inside = options.get("scorers", ()) if analysis.scorer_name == "Combined" else ()
    return [
        (f"scorer.scorers[{number}]", one if isinstance(one, Mapping) else {})
        for number, one in enumerate(inside)
        if (one.get("name") if isinstance(one, Mapping) else one) == "Encoded"
    ]


def check_encoder_of(section: str, options: Mapping[str, Any], representation: Representation) -> None:
    """Refuse an encoder of whole events for jets, and one of jets for whole events; section: of the options."""
    from ..models.contrastive.encoders import ENCODERS

    given = options.get("encoder", "JetCLR")
    name = str(given.get("name") if isinstance(given, Mapping) else given)
    whole = {"objects": True, "constituents": False}.get(representation.name)
    if whole is None or name not in ENCODERS:
        return
    if ENCODERS[name].whole_events in {None, whole}:
        for key, known in (("layout", "classes"), ("max_photons", 0)) if whole else ():
            found = getattr(representation, key)
            if ENCODERS[name].whole_events and found != known:
                raise ValueError(
                    f"key 'representation.{key}': is {found}, and {section}.encoder: {name} takes pT, eta and phi of missing momentum, electrons, muons and jets; "
                    f"allowed: {known}"
                )
        return
    wanted = "single jets: representation: constituents" if whole else "whole events: representation: objects"
    fits = ", ".join(other for other, cls in ENCODERS.items() if cls.whole_events in {None, whole})
    raise ValueError(f"key '{section}.encoder': {name} takes {wanted}; allowed of {representation.name}: {fits}")


def check_samples(analysis: Analysis, representation: Representation) -> None:
    """Refuse event files where the representation is of tables, and tables that cannot hold it."""
    for sample, files in analysis.sample_files().items():
        key = "samples." + sample.replace("prior.", "priors.").replace("signal.", "signals.")
        if not representation.of_events and not is_table(files[0]):
            raise ValueError(f"{key}: {files[0]} is no table, and representation {representation.name} is of tables")
        if representation.kind != "rows" and Path(files[0]).suffix.lower() in {".csv", ".h5", ".hdf5", ".hdf"}:
            raise ValueError(f"{key}: {files[0]} cannot hold {representation.name}; parquet can")


def check_hunt(analysis: Analysis) -> None:
    """Refuse keys that the kind of hunt does not read, and a counting experiment that cannot be."""
    given = analysis.model_fields_set
    if analysis.hunt == "bump":
        if "count" in given:
            raise ValueError("count: is of hunt: count, and hunt is bump")
        return
    bump = (
        *("fit_range", "masses", "sqrt_s", "background_function", "combination", "pseudo_experiments"),
        *("plane_scan", "expected_discovery"),
    )
    unread = [key for key in bump if key in given]
    unread += [f"regions.{key}" for key in sorted(analysis.regions.model_fields_set - {"alpha"})]
    unread += [f"limits.{key}" for key in sorted(analysis.limits.model_fields_set - {"confidence"})]
    if unread:
        raise ValueError(f"{unread[0]}: is of hunt: bump, and hunt is count")
    if analysis.count.expectation == "sample":
        if analysis.samples.background is None:
            raise ValueError("count.expectation: sample needs samples.background; abcd takes the data alone")
        if analysis.count.axes is not None:
            raise ValueError("count.axes: are of count.expectation: abcd")
        return
    names = analysis.axis_names
    for name in analysis.count.axes or ():
        if name not in names:
            raise ValueError(f"key 'count.axes': {unknown(name, names)}")
    if analysis.count.axes is not None and len(set(analysis.count.axes)) != 2:
        raise ValueError(f"key 'count.axes': {analysis.count.axes[0]} is named twice; two axes are needed")
    if len(names) < 2:
        raise ValueError(
            f"count.expectation: abcd needs two axes, and the space has {', '.join(names)}; two jets with scorer.per_jet: "
            "concat, or a prior, give a second one"
        )
