"""report.html of a counting experiment: one self-contained page, as that of a search for a bump."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .page import HEAD, TRAINED, figures_of, write_page

__all__ = ["write_counting_report"]

TEMPLATE = (
    HEAD
    + """<h1>Counting experiment</h1>
<p class="small">hunch {{ r.hunch }}, seed {{ r.seed }}. Representation {{ r.representation.name }}, score {{ r.score }}.</p>
<div class="answer">{% if c.result is none %}Blind: <b>{{ number(e.events) }}</b> background events are expected above the threshold; those of the data were not counted.
{% else %}<b>{{ c.result.observed }} events</b> lie above the threshold, where {{ number(e.events) }} ± {{ number(c.result.statistical_error) }} (stat) ± {{ number(c.result.systematic_error) }} (syst) are expected:
p <b>{{ is_p(c.result.p_value) }}</b> ({{ "%.2f"|format(c.result.z) }} σ).{% endif %}
At {{ "%.0f"|format(100 * l.confidence) }} % confidence {% if l.observed is not none %}a signal has fewer than <b>{{ number(l.observed) }}</b> events above the threshold{% endif %} (expected {{ number(l.expected[2]) }}, {{ number(l.expected[1]) }} to {{ number(l.expected[3]) }}).</div>
{% for note in r.notes %}<p class="note">{{ note }}</p>{% endfor %}
{{ figure("counting", "Scores of the hunted events, each measured from the threshold of its fold" ~ (": the plane of two axes, and the events of its four regions" if e.method == "abcd" else "") ~ ".") }}
<h2>The expectation</h2>
<table><tr><th>{{ "B C / D of the data" if e.method == "abcd" else "background events above the threshold" }}</th><th>events</th></tr>
{% for name, n in e.counts.items() %}<tr><td>{{ name }}</td><td>{{ "%.10g"|format(n) }}</td></tr>{% endfor %}
{% if e.method == "sample" %}<tr><td>hunted events that one of them stands for</td><td>{{ number(e.scale) }}</td></tr>{% endif %}
<tr><td>expected</td><td>{{ number(e.events) }} ± {{ number(e.statistical_error) }}</td></tr></table>
<p>The threshold is to keep {{ "%.2g"|format(100 * c.choice.efficiency) }} % of the background; of the {{ c.cutflow.fixing.events }} held-out events that fixed it {{ c.cutflow.fixing.A if e.method == "abcd" else c.cutflow.fixing.above }} lie above. It was fixed fold by fold, before an event of the data was compared with it; the events that predict are others.
{% if c.closure is not none %}Closure on held-out background that fixed nothing: {{ c.closure.observed }} seen, {{ number(c.closure.expected) }} expected, ratio {{ "%.3f"|format(c.closure.ratio) }} ± {{ "%.3f"|format(c.closure.error) }}.{% endif %}</p>
{% if c.result is not none %}<h2>The p-value</h2>
<table><tr><th></th><th>p</th></tr>
<tr><td>with the errors of the expectation ({{ c.choice.constraint }}), exact</td><td>{{ p(c.result.p_value) }}</td></tr>
<tr><td>without the systematic error, exact</td><td>{{ p(c.result.p_statistical) }}</td></tr>
<tr><td>of an expectation known exactly</td><td>{{ p(c.result.p_known) }}</td></tr>
<tr><td>pyhf's q0, asymptotic; 0.5 stands for every deficit</td><td>{{ p(c.result.p_pyhf) }}</td></tr></table>{% endif %}
{% if r.limits is defined %}<h2>Limits on signals</h2>
{% for note in r.limits.notes %}<p class="note">{{ note }}</p>{% endfor %}
{% if r.limits.signals %}<table><tr><th>signal</th><th>share above the threshold</th><th>observed</th><th>expected</th><th>68 %</th><th>observed, fb</th><th>expected, fb</th></tr>
{% for name, s in r.limits.signals.items() %}<tr><td>{{ name }}</td><td>{{ "%.2g"|format(100 * s.signal_efficiency) }} %</td><td>{{ number(s.observed) }}</td><td>{{ number(s.expected[2]) }}</td><td>{{ number(s.expected[1]) }} to {{ number(s.expected[3]) }}</td><td>{{ number(s.observed_fb) }}</td><td>{{ number(s.expected_fb[2]) if s.expected_fb else "–" }}</td></tr>{% endfor %}</table>
<p class="small">Signal events above the threshold, by CLs of the number of events; in fb divided by the luminosity and the share.</p>{% endif %}{% endif %}
<h2>What was counted</h2>
<table><tr><th>events</th><th></th></tr>
{% for name, n in r.cutflow.items() %}<tr><td>{{ name }}</td><td>{{ n }}</td></tr>{% endfor %}</table>
<table><tr><th>sample</th><th>kept</th><th>read</th><th>files skipped</th></tr>
{% for name, s in r.samples.items() %}<tr><td>{{ name }}</td><td>{{ s.events }}</td><td>{{ s.cutflow.read }}</td><td>{{ s.skipped_files|length }}</td></tr>{% endfor %}</table>
{% for name, s in r.samples.items() %}{% for f in s.skipped_files %}<p class="note">{{ name }}: skipped {{ f[0] }}: {{ f[1] }}</p>{% endfor %}{% endfor %}
"""
    + TRAINED
    + """<h2>To reproduce</h2>
<pre>{{ configuration }}</pre>
<p class="small">{% for k, v in r.versions.items() %}{{ k }} {{ v }}{{ ", " if not loop.last }}{% endfor %}. The same numbers in result.json.</p>
</body></html>
"""
)


def write_counting_report(path: str | Path, result: Mapping[str, Any], figures: str | Path) -> None:
    """Write report.html from the result of a counting experiment and its figures, inside the file."""
    write_page(
        path,
        TEMPLATE,
        result,
        title="counting experiment",
        c=result["counting"],
        e=result["counting"]["expectation"],
        l=result["counting"]["limits"],
        figure=figures_of(figures),
    )
