"""Speed of whole events in the CSV of phenoML on one core, beside a plain reader in Python, taken in turns in one run.

The lines have some ten objects of four numbers with six digits, as the challenge's files have; "17 digits" those that Python writes of numbers in double
precision. Ours is timed on the lines alone (scanned, checked, objects in order), and on the whole way to an event file, zlib included, and back to CSV.
The plain reader splits lines, makes floats and collects them in lists, with no check and no order. The floor is what it takes to look at
every byte once for the ends of lines and fields. Processor time, since the machine may be shared.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hunch.samples import convert_phenoml, write_phenoml
from hunch.samples.convert import LARGEST_ETA, LARGEST_PHI, LARGEST_PT
from hunch.samples.phenoml_text import place, scan

LINES, PLAIN, ROUNDS, BAR = 60_000, 10_000, 3, 50_000
"""Lines of ours and of the plain reader, rounds of which the best counts, and lines a second."""
SYMBOLS = ("j", "b", "e-", "e+", "m-", "m+", "g")


def made_up(n: int, *, digits: int) -> bytes:
    """Return n lines in MeV with so many digits a number, 6 to 14 objects each by falling pT."""
    rng = np.random.default_rng(1)
    counts = rng.integers(6, 15, n)
    symbols = rng.choice(SYMBOLS, counts.sum()).tolist()
    event = np.repeat(np.arange(n), counts)
    pt = rng.exponential(8e4, counts.sum()) + 2e4
    pt = pt[np.lexsort((-pt, event))]
    eta, phi = rng.uniform(-2.5, 2.5, len(pt)), rng.uniform(-np.pi, np.pi, len(pt))
    energy = np.hypot(pt * np.cosh(eta), rng.uniform(0, 2e4, len(pt)))
    numbers = [[f"{x:.{digits}g}" for x in values.tolist()] for values in (energy, pt, eta, phi)]
    objects = [",".join(one) for one in zip(symbols, *numbers, strict=True)]
    ends = np.cumsum(counts)
    met = zip(rng.uniform(1e4, 3e5, n).tolist(), rng.uniform(-np.pi, np.pi, n).tolist(), strict=True)
    return "".join(
        f"{i};ttbar;1;{pt_miss:.{digits}g};{phi_miss:.{digits}g};{';'.join(objects[ends[i] - counts[i] : ends[i]])};\n"
        for i, (pt_miss, phi_miss) in enumerate(met)
    ).encode()


def plain(text: bytes) -> list[Any]:
    """Read lines as one does in Python."""
    events = []
    for line in text.decode().splitlines():
        fields = line.strip(";").split(";")
        found: dict[str, list[list[float]]] = {symbol: [] for symbol in SYMBOLS}
        for one in fields[5:]:
            symbol, *values = one.split(",")
            found[symbol].append([float(value) for value in values])
        events.append((int(fields[0]), [float(value) for value in fields[2:5]], found))
    return events


def ours(text: bytes) -> None:
    """Read lines as the converter does."""
    found = scan(np.frombuffer(text, dtype=np.uint8), leading=5, numbers=4, gev=False)
    limits = {"largest": LARGEST_PT, "largest_eta": LARGEST_ETA, "largest_phi": LARGEST_PHI, "rounding": 1e-3}
    place(found, numbers=4, **limits)


def floor(text: bytes) -> None:
    """Count the ends of lines and fields."""
    values = np.frombuffer(text, dtype=np.uint8)
    for mark in b"\n;,":
        np.count_nonzero(values == mark)


def seconds(work: Callable[[], object]) -> float:
    """Return the processor time of some work."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def run() -> list[dict[str, Any]]:
    """Return lines a second against the bar, against the plain reader and against the floor; best of three, in turns."""
    texts = {digits: made_up(LINES, digits=digits) for digits in (6, 17)}
    few = {digits: b"".join(text.splitlines(keepends=True)[:PLAIN]) for digits, text in texts.items()}
    best: dict[str, float] = {}

    def timed(name: str, lines: int, work: Callable[[], object]) -> None:
        best[name] = max(best.get(name, 0.0), lines / max(seconds(work), 1e-9))

    with tempfile.TemporaryDirectory() as folder:
        source, events, back = (Path(folder) / name for name in ("in.csv", "a.root", "out.csv"))
        source.write_bytes(texts[6])
        for attempt in range(ROUNDS + 1):
            for digits, text in texts.items():
                timed(f"ours {digits}", LINES, lambda text=text: ours(text))
                timed(f"plain {digits}", PLAIN, lambda digits=digits: plain(few[digits]))
            timed("floor", LINES, lambda: floor(texts[6]))
            timed("to ROOT", LINES, lambda: convert_phenoml(source, events, progress=False))
            timed("to CSV", LINES, lambda: write_phenoml(events, back, progress=False))
            if not attempt:
                best.clear()  # the first round compiles
    size = len(texts[6]) / LINES
    case = f"phenoML, {LINES} lines of ten objects ({size:.0f} bytes)"

    def row(name: str, mine: str, reference: float, bar: float | None) -> dict[str, Any]:
        return {
            "name": f"{case}: {name}",
            "ours": best[mine],
            "reference": reference,
            "ratio": best[mine] / reference,
            "bar": bar,
            "unit": "lines/s",
        }

    return [
        row("to an event file", "to ROOT", BAR, 1.0),
        row("from an event file", "to CSV", BAR, 1.0),
        row("lines alone", "ours 6", BAR, 1.0),
        row("lines alone, against plain Python", "ours 6", best["plain 6"], None),
        row("lines alone, against looking at every byte", "ours 6", best["floor"], None),
        row("lines of 17 digits alone, against plain Python", "ours 17", best["plain 17"], None),
    ]
