"""report.html of a hunt with a blind window: what was fixed, and what is expected."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ..table import Observable
from .blinded_hunt import BlindedHunt
from .figures.base import save_figure
from .figures.spectrum_figures import range_figure
from .page import BIAS, EXPECTED, HEAD, VALIDATION, figures_of, write_page

__all__ = ["draw_blinded", "write_blinded_report"]

TEMPLATE = (
    HEAD
    + BIAS
    + """<h1>Blind hunt for a resonance</h1>
<p class="small">hunch {{ r.hunch }}, seed {{ r.seed }}.</p>
<div class="answer">The bins from <b>{{ at(r.blinded.window[0]) }} to {{ at(r.blinded.window[1]) }}</b> are masked: nothing here depends on what they hold.
The fit range is fixed: {{ at(r.fit_range.low) }} to {{ at(r.fit_range.high) }} ({{ r.fit_range.chosen }}). <code>hunch hunt ... --unblind</code> with this result.json hunts in exactly that range.</div>
{% for note in r.notes %}<p class="note">{{ note }}</p>{% endfor %}
<table><tr><th>events</th><th></th></tr>{% for name, n in r.cutflow.items() %}<tr><td>{{ name }}</td><td>{{ n }}</td></tr>{% endfor %}</table>
<table><tr><th>region</th><th>function, order</th><th>fit p of the bins seen</th><th>expected in the window</th></tr>
{% for g in r.regions.regions %}<tr><td>{{ g.name }}</td><td>{{ g.fit.family }}, {{ g.fit.order }}</td><td>{{ p(g.fit.p_value) }}</td><td>{{ number(masked[loop.index0]) }}</td></tr>{% endfor %}</table>
{{ figure("fit_range", "The spectrum without the masked bins, and the background fitted to the others.") }}
<h2>What is expected</h2>
{% if r.scan.widths_scanned %}<p class="small">Errors of yields, and the checks of this hunt, are of a signal {{ percent_of(r.signal_shape.width) }} wide, the narrowest of those that are scanned: {{ scanned }}.</p>{% endif %}
<table><tr><th>mass</th>{% for s in r.scan.regions %}<th>error of a yield, {{ s.name }}</th>{% endfor %}</tr>
{% for m in r.scan.masses %}{% set i = loop.index0 %}<tr><td>{{ at(m) }}</td>{% for s in r.scan.regions %}<td>{{ number(s.signal_yield_error[i]) }}</td>{% endfor %}</tr>{% endfor %}</table>
"""
    + EXPECTED
    + """{% for name, l in r.get("limits", {}).get("signals", {}).items() %}<h2>Expected limits, {{ name }}</h2>
{% for note in r.limits.notes %}<p class="note">{{ note }}</p>{% endfor %}
{{ figure("limits_" ~ name, "Expected upper limits at " ~ "%.0f"|format(100 * l.confidence) ~ " % confidence level. Bands: where 68 and 95 % of background-only experiments lie.") }}
<table><tr><th>mass</th><th>expected</th><th>68 %</th></tr>
{% for m in l.masses %}{% set e = l.expected[loop.index0] %}<tr><td>{{ at(m) }}</td><td>{{ number(e[2]) }}</td><td>{{ number(e[1]) }} to {{ number(e[3]) }}</td></tr>{% endfor %}</table>{% endfor %}
<h2>Checks</h2>
<table><tr><th>local p of experiments of the fit at</th><th>KS p (uniform)</th><th>share below 0.05</th><th>below 0.01</th></tr>
{% for u in r.local_p_uniformity %}<tr><td>{{ at(u.mass) }}, {{ u.n }} experiments</td><td>{{ p(u.ks_p) }}</td><td>{{ "%.3f"|format(u.below_5_percent) }}</td><td>{{ "%.3f"|format(u.below_1_percent) }}</td></tr>{% endfor %}</table>
<p>A signal injected at {{ at(r.injection_linearity.mass) }} in {{ r.injection_linearity.region }} is fitted with slope {{ "%.3f"|format(r.injection_linearity.slope) }}.</p>
"""
    + VALIDATION
    + """<h2>To reproduce</h2>
<pre>{{ configuration }}</pre>
<p class="small">{% for k, v in r.versions.items() %}{{ k }} {{ v }}{{ ", " if not loop.last }}{% endfor %}. The same numbers in result.json.</p>
</body></html>
"""
)


def write_blinded_report(
    path: str | Path, result: Mapping[str, Any], figures: str | Path, more: Mapping[str, Path] | None = None
) -> None:
    """Write report.html from the result of a blinded hunt and its figures, inside the file; arguments as `write_report` has them."""
    observable = Observable(**result["observable"])
    masked = [
        sum(e for e, n in zip(g["expected"], g["counts"], strict=True) if n is None)
        for g in result["regions"]["regions"]
    ]
    write_page(
        path,
        TEMPLATE,
        result,
        title="blind hunt",
        at=lambda value, with_unit=True: (observable if with_unit else Observable(unit="")).at(value),
        unit=observable.unit,
        masked=masked,
        percent_of=percent_of,
        scanned=", ".join(percent_of(w) for w in result["scan"]["widths_scanned"]),
        figure=figures_of(figures, more),
    )


def percent_of(share: float) -> str:
    """Write a relative width in percent."""
    return f"{100 * share:.3g} %"


def draw_blinded(found: BlindedHunt, folder: str | Path) -> list[Path]:
    """Draw and write the spectrum of all regions in the fit range without the masked bins; returns the files."""
    edges, of = np.asarray(found.fit_range.edges), found.settings.observable
    counts = np.where(found.seen, found.counts.sum(axis=0), np.nan)
    drawn: Axes = range_figure(
        counts,
        edges,
        edges,
        found.background.expected.sum(axis=0),
        found.names[0] if len(found.names) == 1 else "all regions",
        (found.fit_range.low, found.fit_range.high),
        observable=of,
    )
    drawn.axvspan(*found.window, color="0.6", alpha=0.35, hatch="//", label="blind")
    drawn.legend()
    return save_figure(drawn, folder, "fit_range")
