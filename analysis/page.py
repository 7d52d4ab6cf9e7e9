"""report.html: one self-contained page that someone who did not run the search can read."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ..errors import InputError, printable
from ..files import write_aside
from ..table import MJJ, Observable
from .fits.log_p import shown_p, stated_p
from .verdicts import verdict

__all__ = ["write_report"]

CAPTIONS = {
    "p_value_scan": "Local p-value of each region and of their combination at every mass hypothesis. Dotted lines: whole one-sided sigmas. Values above 0.5 are deficits.",
    "width_scan": "Combined local significance at every width and mass of the signal. The global p counts all of them as trials.",
    "quak_plane": "Loss of the background model against that of the signal (the family of the priors, or the smallest among the priors), for events in the fit range. Coloured points are the regions that were hunted in, fixed beforehand on held-out events.",
    "loss_plane": "Significance of a Gaussian on a smooth background in every window of the loss plane at one mass: corners (background loss above, signal loss below a quantile of held-out events) and cells between neighbouring quantiles. For locating an excess, not for its significance.",
    "fit_range": "The inclusive spectrum that sets the fit range (shaded): the range starts above the turn-on, where the smooth function first describes the spectrum.",
    "sculpting": "Do the regions shape the background? Mass spectra of held-out events in each region against all of them. A smooth trend is absorbed by the fit; a bump would not be.",
    "roc_sic": "Truth is known in this file: rejection and significance improvement of the scores. Labels were read for this figure alone.",
}

FIGURE = Markup(
    '<figure><img alt="{text}" src="data:image/png;base64,{encoded}"><figcaption>{text}</figcaption></figure>'
)
"""Its `format` escapes what it is given."""

PNG = b"\x89PNG\r\n\x1a\n"
"""How every file in PNG begins."""

HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>hunch: {{ title }}</title>
<style>
body{font:16px/1.55 system-ui,sans-serif;color:#1a1a1a;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.7rem;margin-bottom:.2rem} h2{font-size:1.25rem;margin-top:2.4rem;border-bottom:1px solid #ccc}
body{overflow-wrap:break-word} table{border-collapse:collapse;margin:.8rem 0;font-variant-numeric:tabular-nums} td,th{padding:.25rem .8rem;border-bottom:1px solid #e4e4e4;text-align:right}
td:first-child,th:first-child{text-align:left;padding-left:0;min-width:7rem;overflow-wrap:anywhere} .wide{text-align:left;min-width:12rem} figure{margin:1.2rem 0} img{max-width:100%} figcaption{color:#555;font-size:.92rem}
.answer{background:#eef4fb;border-left:4px solid #3f90da;padding:.9rem 1.2rem;font-size:1.08rem} .note{background:#fdf3e1;border-left:4px solid #ffa90e;padding:.5rem 1rem}
.small{color:#555;font-size:.9rem} pre{background:#f6f6f6;padding:.8rem;overflow-x:auto;font-size:.85rem} .pair{display:flex;flex-wrap:wrap;gap:1rem} .pair figure{flex:1 1 26rem}
</style></head><body>
"""
"""The start of every page. Names are escaped; the policy stops a script in one all the same."""

BIAS = """{% macro bias_table(of) %}{% if of.families %}
<table><tr><th>background drawn from</th><th>largest bias [σ]</th><th>where, injected</th><th>pull width there</th><th>68 % intervals, mean</th><th>local p &lt; 0.01 in [%]</th><th>global p &lt; 0.05 in [%]</th><th>global p &lt; 0.01 in [%]</th></tr>
{% for f in of.families %}{% set w = f.worst %}<tr><td>{{ f.name }}</td>{% if w is none %}<td>–</td><td>–</td><td>–</td>{% else %}<td>{{ "%+.2f"|format(f.bias[w.region][w.mass][w.strength]) }}&nbsp;±&nbsp;{{ "%.2f"|format(f.bias_error) }}</td><td>{{ of.regions[w.region] ~ ", " if of.regions|length > 1 }}{{ at(of.masses[w.mass]) }}, {{ "%.0f"|format(of.strengths[w.strength]) }}&nbsp;σ</td><td>{{ "%.2f"|format(f.pull_width[w.region][w.mass][w.strength]) }}</td>{% endif %}<td>{{ percent(f.mean_coverage_68) }}</td>{% for share in (f.local_p_below_1_percent, f.global_p_below_5_percent, f.global_p_below_1_percent) %}<td>{% if share.share is none %}–{% else %}{{ "%.1f"|format(100 * share.share) }} ({{ "%.1f"|format(100 * share.low) }} to {{ "%.1f"|format(100 * share.high) }}){% endif %}</td>{% endfor %}</tr>{% endfor %}</table>
<p class="small">Bias test: {{ of.experiments }} experiments a family and strength, drawn from each other function that describes the data, hunted in as pseudo-experiments are; signals of 0, 2 and 5 σ at {{ of.masses|length }} masses. Intervals of the shares: 95 %.{% for one, other in of.same_curve.items() %} {{ one }} is the same curve as {{ other }}.{% endfor %}</p>
{% endif %}{% for region in of.no_other_family_describes %}<p class="note">{{ region }}: no other family describes these data, so that nothing tells what another truth would do to these p-values.</p>{% endfor %}{% endmacro %}"""
"""The table of a bias test."""

EXPOSED = """{% if r.exposure is defined %}<h3>Sculpting without exposure and with it</h3>
<p>The models were trained twice on the same events, without exposure and with it. Held-out events alone, in the fit range: those that pass are compared
with all of them. "Random" is the mean of random selections of as many events; a JSD near it shows no sculpting.</p>
{% for t in r.get("training", []) if t.exposed_rows is defined %}<p>{% if r.training|length > 1 %}Model {{ loop.index }} was{% else %}The model was{% endif %} exposed to {{ t.exposed_rows }} events,
of which {{ "%.0f"|format(100 * t.exposure_effective) }} % are effective after they were brought to the spectrum of the background{% if t.exposure_unreached is defined and t.exposure_unreached %}; {{ t.exposure_unreached }} others could not be{% endif %}.</p>{% endfor %}
{% for x in r.exposure.sculpting %}<table><tr><th>{{ x.observable.name }}{% if x.observable.unit %} [{{ x.observable.unit }}]{% endif %}, {{ "hunted in" if loop.first else "of the heavier jet" }}</th><th>events without</th><th>JSD [nats] without exposure</th><th>random</th><th>events with</th><th>JSD with exposure</th><th>random</th><th>95 % of them below</th></tr>
{% for b in x.before %}{% set a = x.after[loop.index0] %}<tr><td>{{ b.region }}</td><td>{{ b.n_events }}</td><td>{{ "%.4f"|format(b.jsd) }}</td><td>{{ "%.4f"|format(b.floor) }}</td><td>{{ a.n_events }}</td><td>{{ "%.4f"|format(a.jsd) }}</td><td>{{ "%.4f"|format(a.floor) }}</td><td>{{ "%.4f"|format(a.floor_95) }}</td></tr>{% endfor %}
{% set b, a = x.before_half, x.after_half %}<tr><td>half with the largest background loss</td><td>{{ b.n_pass }}</td><td>{{ "%.4f"|format(b.jsd) }} ± {{ "%.4f"|format(b.error) }}</td><td>{{ "%.4f"|format(b.floor) }}</td><td>{{ a.n_pass }}</td><td>{{ "%.4f"|format(a.jsd) }} ± {{ "%.4f"|format(a.error) }}</td><td>{{ "%.4f"|format(a.floor) }}</td><td>{{ "%.4f"|format(a.floor_95) }}</td></tr></table>
<p class="small">1/JSD of that half, passing events against all: {{ "%.0f"|format(b.inverse) }} without exposure, {{ "%.0f"|format(a.inverse) }} with it; random selections give {{ "%.0f"|format(a.inverse_floor) }}.</p>
<div class="pair">{{ figure("exposed_" ~ loop.index0, "Held-out events that pass the regions, by the models without exposure and with it, against all of them.") }}{{ figure("exposed_half_" ~ loop.index0, "The half of the held-out events with the largest loss of the background's model, without exposure and with it.") }}</div>
{% endfor %}{% endif %}
"""
"""What exposure does to the sculpting."""

EXPECTED = """{% if r.expected_discovery is defined %}<h2>Expected discovery</h2>
{% for name, e in r.expected_discovery.items() %}{% set fb = e.luminosity is defined %}{{ figure("expected_" ~ loop.index0, "Local significance that this hunt expects of a signal like " ~ name ~ " on the fitted background. Lines and bands: median and where 68 % lie, of " ~ e.experiments ~ " experiments a point, calibrated as the quoted local p is; dashed: the Asimov data set.") }}
<table><tr><th>{{ name }}{% if unit %} [{{ unit }}]{% endif %}</th><th>events for a median of 3 σ</th><th>of 5 σ</th>{% if fb %}<th>fb, 3 σ</th><th>5 σ</th>{% endif %}</tr>
{% for m in e.masses %}{% set i = loop.index0 %}<tr><td>{{ at(m, False) }}</td><td>{{ number(e.yield_for_3_sigma[i]) }}</td><td>{{ number(e.yield_for_5_sigma[i]) }}</td>{% if fb %}<td>{{ number(e.fb_for_3_sigma[i]) }}</td><td>{{ number(e.fb_for_5_sigma[i]) }}</td>{% endif %}</tr>{% endfor %}</table>{% endfor %}{% endif %}
"""
"""What a hunt expects of signals: figures and tables."""

VALIDATION = """{% if r.validation is defined %}<h2>Validation</h2>
<p>Made by <code>hunch validate</code> at full size{% if r.blinded is defined %}, with the expectation in the place of the masked bins{% endif %}.</p>
<table><tr><th>check</th><th>found</th><th>allowed</th><th></th></tr>
{% for c in r.validation.checks %}<tr><td>{{ c.name }}</td><td class="wide">{{ c.found }}</td><td class="wide">{{ c.allowed }}</td><td>{{ "–" if c.passed is none else "pass" if c.passed else "FAIL" }}</td></tr>{% endfor %}</table>
{{ bias_table(r.validation.bias) }}
<div class="pair">{{ figure("validation_bias", "Bias of yields in experiments drawn from other functions that describe the data, in the region where it is largest. Dashed: what is allowed.") }}{{ figure("validation_global_p", "Global p of whole hunts in background-only experiments: the share of them below x. On the diagonal the global p is what it says.") }}{{ figure("validation_pulls", "Injected signals in some regions: mean and width of the pull, and the share of 68 % intervals that hold the injected yield.") }}</div>{% endif %}
"""
"""What `hunch validate` found; after `BIAS`."""

TRAINED = """{% if r.how_trained is defined %}<h2>Training</h2>
<p>What the trainings noted epoch by epoch; no label is in it.{% if r.how_trained.axes|map(attribute="models")|map("first")|selectattr("select", "equalto", "wasserstein_mean")|list %} The model draws events of its own (negatives) and raises their energy, while that of the data falls. Energies are in
units of E<sub>0</sub>, their mean after the first phase, the training as an autoencoder. Where the model has learnt the density of the data, negatives are like them: the gap of the energies is near 0,
and their Wasserstein distance is near 1, which is that of data and data. The epoch with the smallest running mean of the distance is the model.{% endif %}{% if r.how_trained.axes[0].name == "encoder of all axes" %} The encoder has learnt from pairs of versions of the same event: their distance (alignment) is small and
different events lie apart (uniformity far below 0, a rank far above 1) where the representation is any good; at uniformity 0 or rank 1 it has collapsed.{% if r.how_trained.axes[0].models[0].frozen is defined %} It was trained before, and taken as it is.{% endif %}{% endif %}</p>
{% for axis in r.how_trained.axes %}{% if not loop.first %}<details><summary>{{ axis.name }}</summary>{% endif %}{{ figure("training_" ~ loop.index0, "Training of " ~ axis.name ~ ": dots mark the chosen epoch" ~ (", triangles epochs that diverged and were taken back" if axis.models|selectattr("setbacks")|list else "") ~ ".") }}
<table><tr><th>{{ axis.name }}</th><th>epochs</th><th>chosen</th><th>chosen by</th><th>taken back</th></tr>
{% for m in axis.models %}<tr><td>{{ m.name }}</td><td>{{ m.epochs }}</td><td>{{ m.best_epoch }}</td><td>{{ (m.select or "loss of held-out events")|replace("_", " ") }}{% if m.chosen_by is not none %}, {{ number(m.chosen_by) }}{% endif %}</td><td>{{ m.setbacks|length }}</td></tr>{% endfor %}</table>
{% for m in axis.models %}{% for sign in m.signs %}<p class="note">{{ axis.name }}, {{ m.name }}: {{ sign }}.</p>{% endfor %}{% endfor %}
{% if not axis.models|selectattr("signs")|list %}<p>{{ axis.name }}: no sign of trouble in these figures.</p>{% endif %}{% if not loop.first %}</details>{% endif %}
{% endfor %}{{ figure("training_negatives", "What the background's model drew along its training, a row a time up to the chosen epoch, and some of the events it learnt from (last row).") }}{% endif %}
"""
"""How the models were trained."""

TEMPLATE = (
    HEAD
    + BIAS
    + """<h1>Search for a resonance in {{ observable }}</h1>
<p class="small">hunch {{ r.hunch }}, seed {{ r.seed }}. Fit range {{ at(r.fit_range.low) }} to {{ at(r.fit_range.high) }} ({{ r.fit_range.chosen }}).</p>
<div class="answer">The largest excess is at <b>{{ at(b.mass) }}</b>{% if r.scan.z_of_widths is defined %}, {{ "%.2g"|format(100 * b.width) }} % wide{% endif %}:
local p {{ is_p(b.p_local) }} ({{ "%.2f"|format(b.z_local) }} σ){% if r.regions.n_regions > 1 %}, combined over {{ r.regions.n_regions }} regions with {{ r.scan.combination }}{% endif %}.
{% if b.no_significance is defined %}<b>No significance is quoted: {{ b.no_significance }}.</b>{% elif b.p_global is defined %}Global p <b>{{ is_p(b.p_global, bound=b.p_global_is_bound) }}</b>
({{ "more than " if b.p_global_is_bound }}{{ "%.2f"|format(b.z_global) }} σ): the probability that background alone shows an excess this large anywhere in the scan.{% endif %}
{{ verdict }}</div>
{% if r.second %}{% set s = r.second %}<p>Beside it, with the signal at {{ at(s.first.mass) }} in the model of every region, the largest excess is at <b>{{ at(s.mass) }}</b>: local p {{ is_p(s.p_local) }} ({{ "%.2f"|format(s.z_local) }} σ, {{ s.p_local_by }}){% if s.p_global is not none and b.no_significance is not defined %},
global p <b>{{ is_p(s.p_global, bound=s.p_global_is_bound) }}</b>, from {{ s.pseudo_experiments }} of {{ s.pseudo_experiments_drawn }} experiments with the first signal in them, those in which it is found above {{ r.configuration.after_first }} σ and the same is done{% endif %}. Masses within two widths of the first are left out.</p>{% endif %}
{% for note in r.notes %}<p class="note">{{ note }}</p>{% endfor %}
{{ figure("p_value_scan") }}
{{ figure("width_scan") }}
{% if b.p_global is defined and b.no_significance is not defined %}<p>Global p from {{ b.pseudo_experiments }} pseudo-experiments that repeat the whole procedure (choice of function, every region, every mass);
{{ b.pseudo_experiments_above }} of them show a smaller combined p somewhere: p &lt; {{ p(b.p_global_upper_95) }} at 95 % confidence.
{% if b.p_global_tail is not none %}A fit of their tail, carried on to this excess, gives p {{ is_p(b.p_global_tail) }} ({{ "%.2f"|format(b.z_global_tail) }} σ), {{ p(b.p_global_tail_interval[0]) }} to {{ p(b.p_global_tail_interval[1]) }} at 68 %: an extrapolation, which no experiment confirms.
{% endif %}{% if b.p_global_gross_vitells_approximate is not none %}Counting up-crossings instead (Gross and Vitells, approximate for a combination) gives {{ p(b.p_global_gross_vitells_approximate) }}.
{% endif %}The local p is {{ b.p_local_by }}{% if b.p_local_by != "asymptotic" %} (asymptotic, {{ p(b.p_local_asymptotic) }}){% endif %}; of the experiments {% if b.p_local_pseudo_experiments_is_bound %}none shows as small a p at this mass (p &lt; {{ p(b.p_local_pseudo_experiments) }}){% else %}a share of {{ p(b.p_local_pseudo_experiments) }} shows as small a p at this mass{% endif %}, and {{ "%.1f"|format(b.expected_background_in_window) }} background events are expected within two widths of {{ at(b.mass) }} in all regions together.</p>{% endif %}

<h2>What was hunted</h2>
<table><tr><th>events</th><th></th></tr>
{% for name, n in r.cutflow.items() %}<tr><td>{{ name }}</td><td>{{ n }}</td></tr>{% endfor %}</table>
{% if r.samples is defined %}<table><tr><th>sample</th><th>kept</th><th>read</th><th>files skipped</th></tr>
{% for name, s in r.samples.items() %}<tr><td>{{ name }}</td><td>{{ s.events }}</td><td>{{ s.cutflow.read }}</td><td>{{ s.skipped_files|length }}</td></tr>{% endfor %}</table>
{% for name, s in r.samples.items() %}{% for f in s.skipped_files %}<p class="note">{{ name }}: skipped {{ f[0] }}: {{ f[1] }}</p>{% endfor %}{% endfor %}{% endif %}

<h2>{{ "Regions" if r.features is defined else "Spectra" }}</h2>
{% if r.features is defined %}<p>A model of the background and one of each approximate signal prior give every event its losses ({{ r.features|join(", ") }}).
Regions: {{ r.regions.description }},
each with the same number of held-out events, {{ "%.2g"|format(100 * r.regions.fraction) }} % of them together.
They were fixed before the hunted events were looked at, on events that no model trained on.</p>
{% else %}<p>The spectra are as they were given, with their own bins. Signal: {{ r.signal_shape.source }}, width {{ "%.3g"|format(100 * r.signal_shape.width) }} % of the mass{{ " at the largest excess" if r.scan.z_of_widths is defined }}.</p>
{% endif %}
{{ figure("quak_plane") }}
{% if r.plane_scan is defined %}<p>Where in the plane an excess sits, by a Bernstein polynomial and a Gaussian fitted in every window. The largest of
{{ r.plane_scan.windows }} windows is biased by having been chosen: it locates an excess and is no significance.</p>
{{ figure("loss_plane") }}{% endif %}
<table><tr><th>region</th><th>events</th><th>function, order or process</th><th>fit p</th><th>signal at {{ at(b.mass) }}</th><th>local p</th><th>p from pyhf q0</th>{% if crossed %}<th>largest z</th><th>global p of that</th>{% endif %}</tr>
{% for g in r.regions.regions %}{% set s = r.scan.regions[loop.index0] %}<tr><td>{{ g.name }}</td><td>{{ g.events }}</td><td>{{ g.fit.family }}, {% if g.fit.process %}width {{ "%g"|format(g.fit.process.width) }}, length {{ "%g"|format(g.fit.process.length) }}{% else %}{{ g.fit.order }}{% endif %}</td><td>{{ p(g.fit.p_value) }}</td>
<td>{{ "%.1f"|format(s.signal_yield[best]) }}{% if s.signal_yield_error[best] is not none %} ± {{ "%.1f"|format(s.signal_yield_error[best]) }}{% endif %}</td><td>{{ p(s.p_local[best]) }}</td><td>{{ p(s.p_q0_pyhf[best]) }}</td>{% if crossed %}<td>{{ "%.2f"|format(s.z_largest) }}</td><td>{{ p(s.p_global_gross_vitells) }}</td>{% endif %}</tr>{% endfor %}</table>
{% if r.regions.regions[0].fit.formula is defined %}<details><summary>The background functions, with their parameters</summary>
<table><tr><th>region</th><th>events per {{ unit or "unit" }}, and its parameters</th></tr>
{% for g in r.regions.regions %}<tr><td>{{ g.name }}</td><td class="wide"><code>{{ g.fit.formula }}</code>, {% for name, of in g.fit.variables.items() %}{{ name }} = {{ of }}, {% endfor %}m in {{ unit or "the unit of the bins" }}; {{ g.fit.bins }}.<br>
{% for name, value in g.fit.parameters.items() %}{{ name }} = {{ "%.12g"|format(value) }} ± {{ "%.2g"|format(g.fit.errors[name]) }}{{ ", " if not loop.last }}{% endfor %}</td></tr>{% endfor %}</table></details>{% endif %}
{% if r.saturated_fit is defined and r.saturated_fit %}<table><tr><th>fit bin by bin</th><th>saturated deviance</th><th>median of {{ r.saturated_fit[0].pseudo_experiments }} experiments</th><th>p</th><th>p with a signal</th></tr>
{% for f in r.saturated_fit %}<tr><td>{{ f.region }}</td><td>{{ "%.1f"|format(f.deviance) }}</td><td>{{ "%.1f"|format(f.median_of_experiments) }}</td><td>{{ "&lt; "|safe if f.p_is_bound }}{{ p(f.p_value) }}</td><td>{{ p(f.p_with_signal) }}</td></tr>{% endfor %}</table>{% endif %}
<p class="small">q0 calls every deficit p = 0.5 and is shown where the fitted signal is positive; it is never combined.{% if crossed %} The global p of a region is that of its largest z anywhere in the scan (up-crossings, Gross and Vitells), without the trial of having looked into several regions.{% endif %}</p>
<div class="pair">{% for g in r.regions.regions %}{{ figure("spectrum_" ~ loop.index0, g.name ~ ": spectrum, background-only fit, " ~ curves ~ ", and the pulls of both (grey, line).") }}{% endfor %}</div>

"""
    + EXPECTED
    + """{% if r.limits is defined %}<h2>Limits</h2>
{% for note in r.limits.notes %}<p class="note">{{ note }}</p>{% endfor %}
{% for name, l in r.limits.signals.items() %}{{ figure("limits_" ~ name, "Upper limits at " ~ "%.0f"|format(100 * l.confidence) ~ " % confidence level on a signal like " ~ name ~ ", its share in the regions taken to be the same at every mass. Bands: where 68 and 95 % of background-only experiments lie.") }}
<table><tr><th>mass{% if unit %} [{{ unit }}]{% endif %}</th><th>{{ "" if l.blind else "observed" }}</th><th>expected</th><th>68 %</th><th>background in window</th>{% if l.joint_fit is defined %}<th>z, joint fit</th>{% endif %}</tr>
{% for m in l.masses %}{% set i = loop.index0 %}<tr><td>{{ at(m, False) }}</td><td>{{ number(l.observed[i]) if not l.blind }}</td><td>{{ number(l.expected[i][2]) }}</td><td>{{ number(l.expected[i][1]) }} to {{ number(l.expected[i][3]) }}</td><td>{{ number(l.background_in_window[i]) }}{{ "" if l.asymptotic_holds[i] else " (few: by pseudo-experiments)" }}</td>{% if l.joint_fit is defined %}<td>{{ "%.2f"|format(l.joint_fit.z[i]) if l.joint_fit.z[i] is not none else "–" }}</td>{% endif %}</tr>{% endfor %}</table>
<p class="small">Signal events at all masses in all regions together, after the selection{% if l.luminosity %}; divided by {{ l.luminosity }} fb<sup>-1</sup> they are the figure's cross-sections{% endif %}. {{ l.method }}. Nuisances of the signal: {{ l.signal_errors }}.
{% if l.joint_fit is defined %}Joint fit: {{ l.joint_fit.note }} {% if l.joint_fit.gross_vitells %}Its largest z in the scan is {{ "%.2f"|format(l.joint_fit.gross_vitells.z) }} at {{ at(l.joint_fit.gross_vitells.mass) }}, global p {{ p(l.joint_fit.gross_vitells.p_global) }} by up-crossings (Gross and Vitells; asymptotic). {% endif %}{% endif %}{% for f in l.failures %}No limit at {{ at(f.mass) }}: {{ f.reason }}. {% endfor %}</p>
{% endfor %}{% endif %}
<h2>Checks</h2>
<div class="pair">{{ figure("fit_range") }}{{ figure("sculpting") }}</div>
{% if r.sculpting is defined %}<table><tr><th>sculpting</th><th>held-out events</th><th>JSD [nats]</th><th>random selections</th><th>95 % of them below</th>{% if r.sculpting_before %}<th>JSD of one cut at all masses</th>{% endif %}</tr>
{% for s in r.sculpting %}<tr><td>{{ s.region }}</td><td>{{ s.n_events }}</td><td>{{ "%.4f"|format(s.jsd) }}</td><td>{{ "%.4f"|format(s.floor) }}</td><td>{{ "%.4f"|format(s.floor_95) }}</td>{% if r.sculpting_before %}<td>{{ "%.4f"|format(r.sculpting_before[loop.index0].jsd) }}</td>{% endif %}</tr>{% endfor %}</table>{% endif %}
"""
    + EXPOSED
    + """{% if r.spurious_signal is defined and r.spurious_signal %}<table><tr><th>spurious signal</th><th>largest, in statistical errors</th><th>noise of that</th><th>order</th><th>within 0.3 + 3 noise</th></tr>
{% for s in r.spurious_signal %}<tr><td>region {{ s.region }}</td><td>{{ "%.2f"|format(s.worst) }}</td><td>{{ "%.2f"|format(s.noise) }}</td><td>{{ s.lowest }}</td><td>{{ "yes" if s.resolved else "no" }}</td></tr>{% endfor %}</table>{% endif %}
<table><tr><th>local p of experiments of the same fit at</th><th>KS p (uniform)</th><th>share below 0.05</th><th>below 0.01</th></tr>
{% for u in r.local_p_uniformity %}<tr><td>{{ at(u.mass) }}, {{ u.n }} experiments</td><td>{{ p(u.ks_p) }}</td><td>{{ "%.3f"|format(u.below_5_percent) }}</td><td>{{ "%.3f"|format(u.below_1_percent) }}</td></tr>{% endfor %}</table>
<table><tr><th>injected in {{ r.injection_linearity.region }}, {{ at(r.injection_linearity.mass) }}</th><th>events</th><th>fitted, mean</th><th>pull: mean, width</th><th>68 % intervals that hold it</th></tr>
{% for x in r.injection_linearity.injected %}{% set i = loop.index0 %}<tr><td>{{ "%.0f"|format(r.injection_linearity.strengths[i]) }} σ</td><td>{{ "%.1f"|format(x) }}</td><td>{{ "%.1f"|format(r.injection_linearity.fitted[i]) }} ± {{ "%.1f"|format(r.injection_linearity.error[i]) }}</td><td>{{ "%.2f"|format(r.injection_linearity.pull_mean[i]) }}, {{ "%.2f"|format(r.injection_linearity.pull_width[i]) }}</td><td>{{ percent(r.injection_linearity.coverage_68[i]) }}</td></tr>{% endfor %}
<tr><td>slope</td><td></td><td>{{ "%.3f"|format(r.injection_linearity.slope) }}</td><td></td><td></td></tr></table>
<p class="small">Both are drawn from the hunt's own fit: they say whether its p-values and yields are right where its function is, and cannot see a function that is wrong.</p>
<h3>Other background functions</h3>
<table><tr><th>region</th><th class="wide">function</th><th>fit p</th><th>signal at {{ at(r.background_envelope.mass) }}</th><th>z</th><th>half the spread</th><th>z, profiled</th></tr>
{% for e in r.background_envelope.regions %}{% set outer = loop.index0 %}{% for f in e.families %}<tr><td>{{ r.regions.regions[outer].name if loop.first }}</td><td class="wide">{{ f.name }}{{ " (does not describe the data)" if f.left_out }}</td><td>{{ p(f.p_value) }}</td><td>{{ number(f.signal_yield) }}</td><td>{{ number(f.z_local) }}</td><td>{{ number(e.uncertainty) if loop.first and not e.no_other_family }}</td><td>{{ number(e.z_profiled) if loop.first and not e.no_other_family }}</td></tr>{% endfor %}{% if e.no_other_family %}<tr><td></td><td class="wide" colspan="6"><b>No other family describes these data.</b></td></tr>{% endif %}{% endfor %}</table>
<p class="small">Each is fitted with a signal at this mass, so that a bump is held against none; the hunt's own comes first. Profiled: the function as one more nuisance (arXiv:1408.6865). A statement beside the p-values, which keep the function fixed before the scan.</p>
{% if r.process_choices %}{% set c = r.process_choices %}<table><tr><th>combined z at {{ at(c.mass) }}, asymptotic, beside a Gaussian process of width</th>{% for w in c.widths %}<th>{{ "%g"|format(w) }}</th>{% endfor %}</tr>
{% for row in c.z %}<tr><td>and length {{ "%g"|format(c.lengths[loop.index0]) }}, fixed</td>{% for z in row %}<td>{{ "%.2f"|format(z) }}</td>{% endfor %}</tr>{% endfor %}</table>
<p class="small">Chosen by the evidence with a signal there: {{ "%.2f"|format(c.chosen) }}, without: {{ "%.2f"|format(c.first) }}{% if c.simulated is not none %}, of held-out background: {{ "%.2f"|format(c.simulated) }}{% endif %}.</p>{% endif %}
{{ bias_table(r.bias) }}
"""
    + VALIDATION
    + TRAINED
    + """{% if r.metrics is defined and r.metrics %}<h2>Against the truth in the file</h2>{{ figure("roc_sic") }}
<table><tr><th>score</th><th>AUC</th><th>max SIC (20 background events left)</th><th>at ε<sub>B</sub></th>{% for k in (r.metrics.values()|first).eps_s %}<th>ε<sub>S</sub> at ε<sub>B</sub> = {{ k }}</th>{% endfor %}<th>1/ε<sub>B</sub> at ε<sub>S</sub> = 0.5</th></tr>
{% for name, m in r.metrics.items() %}<tr><td>{{ name }}</td><td>{{ "%.3f"|format(m.auc) }} ± {{ "%.3f"|format(m.auc_error) }}</td><td>{{ "%.2f"|format(m.max_sic) }} ± {{ "%.2f"|format(m.max_sic_error) }}</td><td>{{ p(m.max_sic_eps_b) }}</td>{% for v in m.eps_s.values() %}<td>{{ "%.3f"|format(v) }}</td>{% endfor %}<td>{{ "%.1f"|format(m.rejection["0.5"]) }}</td></tr>{% endfor %}</table>{% endif %}

<h2>To reproduce</h2>
<pre>{{ configuration }}</pre>
<p class="small">{% for k, v in r.versions.items() %}{{ k }} {{ v }}{{ ", " if not loop.last }}{% endfor %}. The same numbers in result.json{% if r.features is defined %}, the spectra in spectra.root{% endif %}.</p>
</body></html>
"""
)


def write_report(
    path: str | Path, result: Mapping[str, Any], figures: str | Path, more: Mapping[str, Path] | None = None
) -> None:
    """Write report.html from the result of a search, or of a hunt in given spectra, and its PNG figures, all inside one file.

    figures: the folder of the figures; more: name -> PNG elsewhere, as `limits_NAME` of the signals in result["limits"].
    """
    best = result["scan"]["masses"].index(result["best"]["mass"])
    observable = Observable(**result["observable"])
    second = result.get("second")
    curves = "fit with a signal at the best mass"
    if second is not None:
        curves = f"fit with signals at {observable.at(second['first']['mass'])} and {observable.at(second['mass'])}"

    write_page(
        path,
        TEMPLATE,
        result,
        title="search report",
        b=result["best"],
        best=best,
        crossed=result["scan"]["regions"][0]["p_global_gross_vitells"] is not None,
        at=lambda value, with_unit=True: (observable if with_unit else Observable(unit="")).at(value),
        unit=observable.unit,
        observable=Markup("m<sub>jj</sub>") if observable.name == MJJ.name else observable.name,
        curves=curves,
        figure=figures_of(figures, more),
        verdict=verdict(result["best"]),
    )


def figures_of(folder: str | Path, more: Mapping[str, Path] | None = None) -> Callable[..., Markup]:
    """Return a function of (name, caption) that shows the PNG of that name in a folder, or where `more` has it; nothing where there is none."""

    def figure(name: str, caption: str = "") -> Markup:
        file = (more or {}).get(name, Path(folder) / f"{name}.png")
        if not file.is_file():
            return Markup()
        text = printable(caption or CAPTIONS.get(name, ""))
        return FIGURE.format(text=text, encoded=picture(file))

    return figure


def picture(file: Path) -> str:
    """Return a PNG figure in base64; raises InputError for anything else: a page would hand on what a link of that name leads to."""
    content = file.read_bytes()
    if not content.startswith(PNG):
        raise InputError(f"{file}: is no PNG figure; hunch run or hunch hunt draws it anew")
    return base64.b64encode(content).decode()


def write_page(path: str | Path, template: str, result: Mapping[str, Any], **values: Any) -> None:
    """Write a page from a template; its `r` is the result, and what the result has no number for is shown as a dash."""
    import yaml

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, finalize=seen)
    environment.filters["format"] = lambda form, value: "–" if value is None else form % value
    text = environment.from_string(template).render(
        r=result,
        p=shown_p,
        is_p=stated_p,
        number=show_number,
        percent=lambda share: "–" if share is None else f"{100 * share:.0f} %",
        configuration=yaml.safe_dump(result["configuration"], sort_keys=False),
        **values,
    )
    with write_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def seen(value: Any) -> Any:
    """Write out what cannot be seen in a text that is none of ours; lines stay lines."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else printable(value, keep="\n")


def show_number(value: float | None) -> str:
    """Write a number of events in three digits, or a dash for none."""
    return "–" if value is None else f"{value:.3g}"
