"""Statistics: losses and spectra in; regions, fits, p-values, checks, figures and the report out."""

from __future__ import annotations

from .background import BackgroundFit, choose_background, fit_background, goodness_of_fit
from .bernstein import BernsteinFit, bernstein_basis, choose_degree, fit_bernstein
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
from .export import write_datacard, write_hepdata, write_histograms
from .gross_vitells import GrossVitells, global_p_gross_vitells, up_crossings
from .limit_model import LimitModel, limit_model, write_workspaces
from .limits import Limits, cls_limits, model_cls, model_discovery_p
from .metrics import Metrics, evaluate, roc, significance_improvement
from .minuit_fit import MinuitFit, fit_with_minuit
from .plane_figure import draw_plane_scan
from .plane_scan import PlaneScan, plane_windows, scan_plane
from .regions import Regions, difference_score, fix_regions, read_regions, signed_l5
from .report import write_report
from .resonance import SignalShape, fit_signal_shape, signal_templates
from .results import draw_figures, result_of
from .scan import LocalScan, scan_spectra
from .search import RegionChoice, Scored, Search, search
from .spectra import FitRange, find_fit_range, mass_edges, mass_grid, spectrum
from .spectrum_files import GivenSpectra, read_spectra
from .spectrum_hunt import SpectrumHunt, draw_spectrum_figures, hunt_spectra, spectrum_result

__all__ = [
    "COMBINATIONS",
    "BackgroundFit",
    "BernsteinFit",
    "BumpHunt",
    "BumpHunterResult",
    "Decorrelation",
    "FitRange",
    "FixedEfficiency",
    "GivenSpectra",
    "GlobalP",
    "GrossVitells",
    "HuntSettings",
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
    "SignalShape",
    "SpectrumHunt",
    "WindowScan",
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
    "find_fit_range",
    "fit_background",
    "fit_bernstein",
    "fit_fixed_efficiency",
    "fit_quantile_regression",
    "fit_signal_shape",
    "fit_with_minuit",
    "fix_regions",
    "global_p_gross_vitells",
    "goodness_of_fit",
    "hunt",
    "hunt_spectra",
    "limit_model",
    "mass_edges",
    "mass_grid",
    "model_cls",
    "model_discovery_p",
    "plane_windows",
    "read_luminosity",
    "read_regions",
    "read_spectra",
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
    "up_crossings",
    "write_datacard",
    "write_hepdata",
    "write_histograms",
    "write_report",
    "write_workspaces",
    "z_value",
]
