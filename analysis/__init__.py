"""Statistics: losses and spectra in; regions, fits, p-values, checks, figures and the report out."""

from __future__ import annotations

from .checks.all_checks import Check, Validation, validate
from .checks.background_only import Decorrelation, compare_sculpting
from .checks.bias import Bias, FamilyBias, bias_test
from .checks.event_generation import (
    Copies,
    EventFigures,
    HistogramDistances,
    StatisticalFloor,
    classifier_auc,
    copied_share,
    event_figures,
    event_quantities,
    histogram_distances,
    hole_share,
    statistical_floor,
)
from .checks.exposed import ExposedMass, exposed_sculpting
from .checks.generation import Compared, LatentCorrelations, compare_generated, latent_correlations
from .checks.global_p import GlobalUniformity, global_uniformity
from .checks.mass_spectra import MassDecorrelation, MassSpectra, mass_decorrelation, mass_spectra
from .checks.training_signs import TrainingRecord, training_records, training_signs
from .counting_hunt import (
    Closure,
    CountedSample,
    CountingChoice,
    CountingHunt,
    expectation_of,
    hunt_counts,
    share_above,
)
from .figures.brazil_band import limit_figure
from .figures.check_figures import write_validation
from .figures.counting_figure import counting_figure
from .figures.expected_figure import expected_figure
from .figures.generation_figures import average_image_figure, generation_figure, latent_mass_figure
from .figures.p_values import scan_figure
from .figures.plane_figure import draw_plane_scan
from .figures.region_figures import plane_figure, roc_figure, sculpting_figure
from .figures.spectrum_figures import spectrum_figure
from .figures.training_figures import negatives_figure, training_figure
from .fits.alternatives import ALTERNATIVES, Alternative, fit_alternatives
from .fits.background import FAMILIES, BackgroundFit, choose_background, family_orders, fit_background, goodness_of_fit
from .fits.bernstein import BernsteinFit, bernstein_basis, choose_degree, fit_bernstein
from .fits.formula import UserFunction, parse_function
from .fits.gaussian_process import GaussianProcess, ProcessFit
from .fits.minuit_fit import MinuitFit, fit_with_minuit
from .fits.scan import LocalScan, scan_spectra
from .goodness.envelope import Envelope, background_envelope, other_families
from .limit_files import write_limits
from .limits.cls import Limits, cls_limits, model_discovery_p
from .limits.counting import CountingLimits, counting_limits
from .limits.export import write_datacard, write_hepdata, write_histograms
from .limits.model import LimitModel, limit_model
from .limits.pyhf_limits import model_cls
from .limits.signal_errors import SignalErrors
from .limits.signals import Signal, as_signal, hunt_of, limits_of
from .limits.workspace import write_workspaces
from .p_values.combination import COMBINATIONS, combine, z_value
from .p_values.gross_vitells import GrossVitells, global_p_gross_vitells, up_crossings
from .p_values.local_p import LocalP
from .p_values.tail import TailFit, fit_tail, upper_limit
from .page import write_report
from .provenance import versions
from .ranges.fit_range import find_fit_range
from .regions.decorrelation import (
    FixedEfficiency,
    MovingCut,
    QuantileRegression,
    fit_fixed_efficiency,
    fit_quantile_regression,
)
from .regions.dependence import distance_correlation
from .regions.difference import difference_score
from .regions.l5 import signed_l5
from .regions.mass_curve import DECORRELATIONS
from .regions.metrics import Metrics, evaluate, roc, significance_improvement
from .regions.plane_scan import PlaneScan, plane_windows, scan_plane
from .regions.regions import SHAPES, Regions, fix_regions, read_regions, regions_fixed_by
from .regions.scored import RegionChoice, Scored, stand_in
from .regions.thresholds import fix_thresholds
from .resonance_search import Search, choose_fit_range, given_edges, hunted_masses, search
from .results import draw_exposed, draw_figures, draw_spectrum_figures, result_of, spectrum_result
from .significance.bumphunt import BumpHunt, hunt
from .significance.bumphunter import BumpHunterResult, WindowScan, bump_hunter, scan_windows
from .significance.counting import (
    CountingResult,
    Expectation,
    count,
    counting_workspace,
    expectation_from_abcd,
    expectation_from_sample,
)
from .significance.expected import ExpectedDiscovery, expected_discovery
from .significance.experiments import GlobalP
from .significance.joint_scan import JointScan, joint_gross_vitells, joint_scan
from .significance.procedure import HuntSettings
from .significance.q0 import discovery_p
from .spectra.bins import FitRange, mass_edges, mass_grid, spectrum, write_spectra
from .spectra.files import GivenSpectra, read_spectra
from .spectra.signal_shape import SignalShape, fit_signal_shape, signal_templates
from .spectra.units import read_luminosity
from .spectrum_hunt import SpectrumHunt, hunt_spectra

__all__ = [
    "ALTERNATIVES",
    "COMBINATIONS",
    "DECORRELATIONS",
    "FAMILIES",
    "SHAPES",
    "Alternative",
    "BackgroundFit",
    "BernsteinFit",
    "Bias",
    "BumpHunt",
    "BumpHunterResult",
    "Check",
    "Closure",
    "Compared",
    "Copies",
    "CountedSample",
    "CountingChoice",
    "CountingHunt",
    "CountingLimits",
    "CountingResult",
    "Decorrelation",
    "Envelope",
    "EventFigures",
    "Expectation",
    "ExpectedDiscovery",
    "ExposedMass",
    "FamilyBias",
    "FitRange",
    "FixedEfficiency",
    "GaussianProcess",
    "GivenSpectra",
    "GlobalP",
    "GlobalUniformity",
    "GrossVitells",
    "HistogramDistances",
    "HuntSettings",
    "JointScan",
    "LatentCorrelations",
    "LimitModel",
    "Limits",
    "LocalP",
    "LocalScan",
    "MassDecorrelation",
    "MassSpectra",
    "Metrics",
    "MinuitFit",
    "MovingCut",
    "PlaneScan",
    "ProcessFit",
    "QuantileRegression",
    "RegionChoice",
    "Regions",
    "Scored",
    "Search",
    "Signal",
    "SignalErrors",
    "SignalShape",
    "SpectrumHunt",
    "StatisticalFloor",
    "TailFit",
    "TrainingRecord",
    "UserFunction",
    "Validation",
    "WindowScan",
    "as_signal",
    "average_image_figure",
    "background_envelope",
    "bernstein_basis",
    "bias_test",
    "bump_hunter",
    "choose_background",
    "choose_degree",
    "choose_fit_range",
    "classifier_auc",
    "cls_limits",
    "combine",
    "compare_generated",
    "compare_sculpting",
    "copied_share",
    "count",
    "counting_figure",
    "counting_limits",
    "counting_workspace",
    "difference_score",
    "discovery_p",
    "distance_correlation",
    "draw_exposed",
    "draw_figures",
    "draw_plane_scan",
    "draw_spectrum_figures",
    "evaluate",
    "event_figures",
    "event_quantities",
    "expectation_from_abcd",
    "expectation_from_sample",
    "expectation_of",
    "expected_discovery",
    "expected_figure",
    "exposed_sculpting",
    "family_orders",
    "find_fit_range",
    "fit_alternatives",
    "fit_background",
    "fit_bernstein",
    "fit_fixed_efficiency",
    "fit_quantile_regression",
    "fit_signal_shape",
    "fit_tail",
    "fit_with_minuit",
    "fix_regions",
    "fix_thresholds",
    "generation_figure",
    "given_edges",
    "global_p_gross_vitells",
    "global_uniformity",
    "goodness_of_fit",
    "histogram_distances",
    "hole_share",
    "hunt",
    "hunt_counts",
    "hunt_of",
    "hunt_spectra",
    "hunted_masses",
    "joint_gross_vitells",
    "joint_scan",
    "latent_correlations",
    "latent_mass_figure",
    "limit_figure",
    "limit_model",
    "limits_of",
    "mass_decorrelation",
    "mass_edges",
    "mass_grid",
    "mass_spectra",
    "model_cls",
    "model_discovery_p",
    "negatives_figure",
    "other_families",
    "parse_function",
    "plane_figure",
    "plane_windows",
    "read_luminosity",
    "read_regions",
    "read_spectra",
    "regions_fixed_by",
    "result_of",
    "roc",
    "roc_figure",
    "scan_figure",
    "scan_plane",
    "scan_spectra",
    "scan_windows",
    "sculpting_figure",
    "search",
    "share_above",
    "signal_templates",
    "signed_l5",
    "significance_improvement",
    "spectrum",
    "spectrum_figure",
    "spectrum_result",
    "stand_in",
    "statistical_floor",
    "training_figure",
    "training_records",
    "training_signs",
    "up_crossings",
    "upper_limit",
    "validate",
    "versions",
    "write_datacard",
    "write_hepdata",
    "write_histograms",
    "write_limits",
    "write_report",
    "write_spectra",
    "write_validation",
    "write_workspaces",
    "z_value",
]


def __dir__() -> list[str]:
    """Return what the room hands on, and nothing else."""
    return sorted(__all__)
