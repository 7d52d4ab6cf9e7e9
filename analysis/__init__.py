"""Statistics: losses and spectra in; regions, fits, p-values, checks, figures and the report out."""

from __future__ import annotations

from .background import BackgroundFit, choose_background, family_orders, fit_background, goodness_of_fit
from .bernstein import BernsteinFit, bernstein_basis, choose_degree, fit_bernstein
from .brazil_band import limit_figure
from .bumphunt import BumpHunt, GlobalP, HuntSettings, hunt
from .bumphunter import BumpHunterResult, WindowScan, bump_hunter, scan_windows
from .combination import COMBINATIONS, combine, z_value
from .decorrelation import (
    Decorrelation,
    FixedEfficiency,
    MovingCut,
    QuantileRegression,
    compare_sculpting,
    fit_fixed_efficiency,
    fit_quantile_regression,
)
from .density import read_luminosity
from .dependence import distance_correlation
from .discovery import discovery_p
from .envelope import Envelope, background_envelope
from .export import write_datacard, write_hepdata, write_histograms
from .gross_vitells import GrossVitells, global_p_gross_vitells, up_crossings
from .joint_scan import JointScan, joint_gross_vitells, joint_scan
from .limit_model import LimitModel, limit_model, write_workspaces
from .limits import Limits, cls_limits, model_cls, model_discovery_p
from .metrics import Metrics, evaluate, roc, significance_improvement
from .minuit_fit import MinuitFit, fit_with_minuit
from .outer_experiments import GlobalUniformity, global_uniformity
from .plane_figure import draw_plane_scan
from .plane_scan import PlaneScan, plane_windows, scan_plane
from .regions import Regions, difference_score, fix_regions, read_regions, signed_l5
from .report import write_report
from .resonance import SignalShape, fit_signal_shape, signal_templates
from .results import draw_figures, result_of
from .scan import LocalScan, scan_spectra
from .search import RegionChoice, Scored, Search, search, stand_in
from .signal_limits import Signal, as_signal, hunt_of, limits_of, write_limits
from .spectra import FitRange, mass_edges, mass_grid, spectrum, write_spectra
from .spectrum_files import GivenSpectra, read_spectra
from .spectrum_hunt import SpectrumHunt, draw_spectrum_figures, hunt_spectra, spectrum_result
from .spectrum_job import hunt_files, limit_folder, read_result, report_folder, validate_folder
from .spectrum_range import find_fit_range
from .tail import TailFit, fit_tail, upper_limit
from .user_function import UserFunction, parse_function
from .validate import Check, Validation, validate
from .validation_figures import write_validation
from .versions import versions

__all__ = [
    "COMBINATIONS",
    "BackgroundFit",
    "BernsteinFit",
    "BumpHunt",
    "BumpHunterResult",
    "Check",
    "Decorrelation",
    "Envelope",
    "FitRange",
    "FixedEfficiency",
    "GivenSpectra",
    "GlobalP",
    "GlobalUniformity",
    "GrossVitells",
    "HuntSettings",
    "JointScan",
    "LimitModel",
    "Limits",
    "LocalScan",
    "Metrics",
    "MinuitFit",
    "MovingCut",
    "PlaneScan",
    "QuantileRegression",
    "RegionChoice",
    "Regions",
    "Scored",
    "Search",
    "Signal",
    "SignalShape",
    "SpectrumHunt",
    "TailFit",
    "UserFunction",
    "Validation",
    "WindowScan",
    "as_signal",
    "background_envelope",
    "bernstein_basis",
    "bump_hunter",
    "choose_background",
    "choose_degree",
    "cls_limits",
    "combine",
    "compare_sculpting",
    "difference_score",
    "discovery_p",
    "distance_correlation",
    "draw_figures",
    "draw_plane_scan",
    "draw_spectrum_figures",
    "evaluate",
    "family_orders",
    "find_fit_range",
    "fit_background",
    "fit_bernstein",
    "fit_fixed_efficiency",
    "fit_quantile_regression",
    "fit_signal_shape",
    "fit_tail",
    "fit_with_minuit",
    "fix_regions",
    "global_p_gross_vitells",
    "global_uniformity",
    "goodness_of_fit",
    "hunt",
    "hunt_files",
    "hunt_of",
    "hunt_spectra",
    "joint_gross_vitells",
    "joint_scan",
    "limit_figure",
    "limit_folder",
    "limit_model",
    "limits_of",
    "mass_edges",
    "mass_grid",
    "model_cls",
    "model_discovery_p",
    "parse_function",
    "plane_windows",
    "read_luminosity",
    "read_regions",
    "read_result",
    "read_spectra",
    "report_folder",
    "result_of",
    "roc",
    "scan_plane",
    "scan_spectra",
    "scan_windows",
    "search",
    "signal_templates",
    "signed_l5",
    "significance_improvement",
    "spectrum",
    "spectrum_result",
    "stand_in",
    "up_crossings",
    "upper_limit",
    "validate",
    "validate_folder",
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
