"""Mutates files of every format that the project reads and sorts what comes of each: `make fuzz [ONLY=format] [N=n]`.

Each mutant is read in a child forked from a warmed parent, with limits on time and memory. A message, the right answer, and a
changed answer where no checksum can exist are well; a traceback, a crash, a hang, a blow-up of memory, an exit without a message, and a
changed answer where there is a checksum are not, and the exit status is 1.
"""

from __future__ import annotations

import collections
import contextlib
import io
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import click
import numpy as np
from forked import GIB, Child, Outcome, start
from formats import FORMATS, Format, Unavailable

KINDS = ("message", "right", "silent", "traceback", "crash", "hang", "blow-up", "no message", "wordy")
BAD = ("traceback", "crash", "hang", "blow-up", "no message", "wordy")


class Campaign:
    """The mutants of one format: what came of each, and an example of each way to fail."""

    def __init__(self, fmt: Format, n: int, seed: int, kept: Path) -> None:
        self.fmt, self.n, self.seed, self.kept = fmt, n, seed, kept
        self.counts: collections.Counter[str] = collections.Counter()
        self.examples: dict[str, tuple[int, str]] = {}

    def run(self, jobs: int) -> None:
        """Read every mutant, `jobs` at a time."""
        with tempfile.TemporaryDirectory(prefix="hunch-fuzz-") as root:
            good_folder = Path(root) / "good"
            good_folder.mkdir()
            with contextlib.redirect_stdout(io.StringIO()):
                good = self.fmt.make(good_folder)
            data = good.read_bytes()
            answer = self.answer_of_good(good_folder, good, Path(root))
            waiting, running = iter(range(self.n)), dict[int, Child]()
            left = True
            while left or running:
                while left and len(running) < jobs:
                    index = next(waiting, None)
                    left = index is not None
                    if index is not None:
                        running[index] = self.mutant(index, data, good_folder, good, Path(root))
                time.sleep(0.002)
                for index, child in list(running.items()):
                    outcome = child.outcome()
                    if outcome is not None:
                        self.sort(index, outcome, answer, running.pop(index).folder, good_folder, good)

    def answer_of_good(self, folder: Path, good: Path, root: Path) -> object:
        """Read the good file here, so that the parent has imported and compiled what is needed, and in two children."""
        copy, said = root / "warm", io.StringIO()
        shutil.copytree(folder, copy, symlinks=True)
        (copy / "work").mkdir()
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                self.fmt.read(copy / good.relative_to(folder), copy / "work")
        except SystemExit as error:
            raise SystemExit(f"{self.fmt.name}: the good file gives: {said.getvalue()}") from error
        answers = []
        for name in ("first", "second"):
            copy = root / name
            shutil.copytree(folder, copy, symlinks=True)
            (copy / "work").mkdir()
            child = start(self.fmt.read, copy / good.relative_to(folder), copy / "work", limit_s=300, memory=8 * GIB)
            while (outcome := child.outcome()) is None:
                time.sleep(0.01)
            if outcome.kind != "answer":
                raise SystemExit(f"{self.fmt.name}: the good file gives {outcome.kind}: {outcome.said}")
            answers.append(outcome.answer)
        if answers[0] != answers[1]:
            raise SystemExit(f"{self.fmt.name}: the good file gives two answers: {answers}")
        return answers[0]

    def mutant(self, index: int, data: bytes, good_folder: Path, good: Path, root: Path) -> Child:
        """Write one mutant into a copy of the good folder and start its reading."""
        rng = np.random.default_rng([self.seed, index, *self.fmt.name.encode()])
        folder = root / f"mutant_{index}"
        shutil.copytree(good_folder, folder, symlinks=True)
        mutated = folder / good.relative_to(good_folder)
        mutated.write_bytes(self.fmt.mutate(data, rng))
        (folder / "work").mkdir()
        return start(self.fmt.read, mutated, folder / "work", limit_s=self.fmt.limit_s, memory=3 * GIB)

    def sort(self, index: int, outcome: Outcome, answer: object, work: Path, good_folder: Path, good: Path) -> None:
        """Count an outcome and keep the file of what should not be."""
        kind = outcome.kind
        if kind == "answer":
            kind = "right" if outcome.answer == answer else "silent"
        self.counts[kind] += 1
        wrong = kind in BAD or (kind == "silent" and not self.fmt.unchecked)
        if wrong:
            last = outcome.said.strip().splitlines()[-1] if outcome.said.strip() else ""
            last = re.sub(r"\S*/mutant_\d+/", "", last)
            self.examples.setdefault(f"{kind}: {last[:100]}", (index, outcome.said))
            self.kept.mkdir(parents=True, exist_ok=True)
            mutated = work.parent / good.relative_to(good_folder)
            shutil.copy(mutated, self.kept / f"{self.fmt.name}_{index}{mutated.suffix}")
            (self.kept / f"{self.fmt.name}_{index}.txt").write_text(f"{kind}\n{outcome.said}\n")
        shutil.rmtree(work.parent, ignore_errors=True)

    @property
    def failed(self) -> int:
        """The number of mutants that ended as none should."""
        bad = sum(self.counts[kind] for kind in BAD)
        return bad + (0 if self.fmt.unchecked else self.counts["silent"])


@click.command()
@click.option("--only", default="", help="A format, or several with commas between [default: all].")
@click.option("-n", "number", type=click.IntRange(min=0), default=0, help="Mutants of each format [default: its own].")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Of the mutations.")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=len(os.sched_getaffinity(0)),
    help="Children at a time [default: all cores].",
)
@click.option("--keep", type=click.Path(path_type=Path), default=Path(".fuzz"), help="Folder for mutants that fail.")
def fuzz(only: str, number: int, seed: int, jobs: int, keep: Path) -> None:
    """Mutate files of every format and print a table of what came of them."""
    chosen = [name for name in only.split(",") if name] or list(FORMATS)
    unknown = [name for name in chosen if name not in FORMATS]
    if unknown:
        raise click.UsageError(f"no format {', '.join(unknown)}; allowed: {', '.join(FORMATS)}")
    header = f"{'format':15}{'mutants':>8}" + "".join(f"{kind:>11}" for kind in KINDS) + f"{'seconds':>9}"
    click.echo(header)
    failed, notes = 0, []
    for name in chosen:
        campaign = Campaign(FORMATS[name], number or FORMATS[name].n, seed, keep)
        began = time.monotonic()
        try:
            campaign.run(jobs)
        except Unavailable as error:
            notes.append(f"{name}: not run: {error}")
            continue
        row = "".join(f"{campaign.counts[kind] or '-':>11}" for kind in KINDS)
        click.echo(f"{name:15}{campaign.n:>8}{row}{time.monotonic() - began:>9.0f}")
        failed += campaign.failed
        if campaign.counts["silent"] and campaign.fmt.unchecked:
            notes.append(f"{name}: {campaign.counts['silent']} changed answers: {campaign.fmt.unchecked}")
        notes += [f"{name}: mutant {i}: {kind}" for kind, (i, _) in campaign.examples.items()]
    for note in notes:
        click.echo(note)
    click.echo(f"{failed} mutants ended as none should" + (f"; they lie in {keep}" if failed else ""))
    sys.exit(failed > 0)


if __name__ == "__main__":
    fuzz()
