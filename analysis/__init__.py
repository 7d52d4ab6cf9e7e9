"""Statistics: losses and spectra in; regions, fits, p-values, checks, figures and the report out."""

from __future__ import annotations

from .background import BackgroundFit, choose_background, fit_background, goodness_of_fit
from .bernstein import BernsteinFit, bernstein_basis, choose_degree, fit_bernstein
from .bumphunt import BumpHunt, GlobalP, HuntSettings, hunt
from .combination import COMBINATIONS, combine, z_value
from .discovery import discovery_p
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

__all__ = [
    "COMBINATIONS",
    "BackgroundFit",
    "BernsteinFit",
    "BumpHunt",
    "FitRange",
    "GlobalP",
    "HuntSettings",
    "LocalScan",
    "Metrics",
    "MinuitFit",
    "PlaneScan",
    "RegionChoice",
    "Regions",
    "Scored",
    "Search",
    "SignalShape",
    "bernstein_basis",
    "choose_background",
    "choose_degree",
    "combine",
    "difference_score",
    "discovery_p",
    "draw_figures",
    "draw_plane_scan",
    "evaluate",
    "find_fit_range",
    "fit_background",
    "fit_bernstein",
    "fit_signal_shape",
    "fit_with_minuit",
    "fix_regions",
    "goodness_of_fit",
    "hunt",
    "mass_edges",
    "mass_grid",
    "plane_windows",
    "read_regions",
    "result_of",
    "roc",
    "scan_plane",
    "scan_spectra",
    "search",
    "signal_templates",
    "signed_l5",
    "significance_improvement",
    "spectrum",
    "write_report",
    "z_value",
]
