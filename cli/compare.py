"""Command that puts figures of merit of whole events side by side, one's own and published ones: compare."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import HunchError
from ..files import refuse_input, require_place
from .analyses import ANALYSIS, analysis_of
from .terminal import say

if TYPE_CHECKING:
    from ..analysis.regions.challenge import ChallengeRow, ModelSummary

__all__ = ["compare"]

SHOWN = 20
DIGITS = 1e-5  # of a table's numbers
NOTE = (
    "rows of an analysis and of a table are of other events: those of the challenge were simulated at leading order with up to two extra partons and Delphes, "
    "and the same channel of a parton shower alone, as hunch simulates it, is not the same background"
)


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="ANALYSIS|ROWS.csv...", type=ANALYSIS)
@click.option("-o", "--output", type=ANALYSIS, default=None, help="Table of all rows to write (CSV).")
@click.option("--model", default=None, metavar="NAME", help="What the rows of an ANALYSIS are called [its scorer].")
@click.option(
    "--channel",
    type=click.Choice(["1", "2a", "2b", "3"]),
    default=None,
    help="Of an ANALYSIS whose representation names none.",
)
@click.option("--select", is_flag=True, help="Select the best model on half of the signals, and quote the other half.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="That draws the halves.")
@click.option(
    "--models",
    type=click.IntRange(min=1),
    default=SHOWN,
    show_default=True,
    help="Models that are listed, the best first.",
)
def compare(
    sources: tuple[Path, ...],
    output: Path | None,
    *,
    model: str | None,
    channel: str | None,
    select: bool,
    seed: int,
    models: int,
) -> None:
    """Compare scores on whole events by the figures of merit of arXiv:2105.14027.

    An ANALYSIS (YAML) that is scored gives a row for each of samples.signals, and rows of the number of objects, MET and HT. ROWS.csv are tables of the challenge:
    Signal, Model, Chan, AUC, 1e-2, 1e-3, 1e-4. The total improvement of a signal is the largest eps_S / sqrt(eps_B) over the three background
    efficiencies and the channels; no figure is given where fewer than 20 background events pass.
    """
    from ..analysis.regions.challenge import read_challenge, selected_model, summaries, write_challenge

    if output is not None:
        require_place(output.parent)
        refuse_input(output, sources)
    own: list[ChallengeRow] = []
    read: list[ChallengeRow] = []
    for source in sources:
        if source.suffix in {".yaml", ".yml"}:
            from ..workflow.compare import challenge_rows

            settings = analysis_of(source, None, ())
            own += challenge_rows(settings, model=model or settings.scorer_name, channel=channel)
        elif source.suffix.lower() == ".csv":
            read += read_challenge(source)
        else:
            raise HunchError(f"{source}: is neither an analysis (.yaml, .yml) nor a table of the challenge (.csv)")
    rows = once([*own, *read])
    if own and read:
        say(f"note: {NOTE}", err=True)
    for row in own:
        say(told(row))
    found = summaries(rows)
    say(f"{'model':<40} {'signals':>7} {'pairs':>6} {'min':>8} {'median':>8} {'max':>8}")
    for summary in found[:models]:
        say(line_of(summary))
    mine = {row.model for row in own}
    for number, summary in enumerate(found[models:], start=models + 1):
        if summary.model in mine:
            say(f"{line_of(summary)}  (number {number})")
    if len(found) > models:
        say(f"... of {len(found)} models")
    if select:
        first, other = selected_model(rows, seed=seed)
        say(
            f"selected on {first.signals} signals: {first.model}, median {first.median:.3g}; on the other {other.signals}: "
            f"min {other.smallest:.3g}, median {other.median:.3g}, max {other.largest:.3g}"
        )
    if output is not None:
        write_challenge(output, rows)
        say(f"{output}: {len(rows)} rows")


def once(rows: list[ChallengeRow]) -> list[ChallengeRow]:
    """Return rows, of the baselines of several analyses the same signal and channel once; HunchError where two differ by more than a table's digits."""
    found: dict[tuple[str, str, str], ChallengeRow] = {}
    for row in rows:
        before = found.setdefault((row.signal, row.model, row.channel), row)
        pairs = zip((before.auc, *before.eps_s), (row.auc, *row.eps_s), strict=True)
        if not all(
            math.isclose(a, b, rel_tol=DIGITS, abs_tol=DIGITS) or (math.isnan(a) and math.isnan(b)) for a, b in pairs
        ):
            raise HunchError(
                f"two rows of {row.model} on {row.signal} in channel {row.channel} differ; give one of them a name of its own with --model"
            )
    return list(found.values())


def told(row: ChallengeRow) -> str:
    """Return a row with its errors."""
    parts = [f"AUC {row.auc:.4f} +- {row.errors[0]:.4f}"]
    for level, value, error in zip(("1e-2", "1e-3", "1e-4"), row.eps_s, row.errors[1:], strict=True):
        figure = "fewer than 20 background events" if math.isnan(value) else f"{value:.4g} +- {error:.2g}"
        parts.append(f"eps_S({level}) {figure}")
    return f"{row.signal}, {row.model}, channel {row.channel}: {', '.join(parts)}"


def line_of(summary: ModelSummary) -> str:
    """Return a line of the table of models."""
    figures = " ".join(
        f"{'-' if math.isnan(value) else format(value, '.3g'):>8}"
        for value in (summary.smallest, summary.median, summary.largest)
    )
    return f"{summary.model:<40.40} {summary.signals:>7} {summary.pairs:>6} {figures}"
