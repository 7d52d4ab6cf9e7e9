"""Speed of `process` beside the least that must be done: read, cluster, N-subjettiness. Ratios within one run.

The floor is uproot, one clustering and the two njettiness calls on the same arrays, in chunks of the same size, and
nothing else: no cutflow, no features, no table. Events are simulated QCD, repeated to the sizes that are needed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SEED_EVENTS = 1000
TIMED, LONG, SMALL, LARGE = 4_000, 12_000, 10_000, 40_000
CHUNK = 1000


def sample(folder: Path) -> Path:
    """Simulate QCD dijets once; what is timed is copies of them, so Pythia's own speed does not matter."""
    from hunch.samples import simulate

    path = folder / "qcd.root"
    simulate("qcd", SEED_EVENTS, path, seed=1, min_jet_pt=1200.0, workers=2, progress=False)
    return path


def repeat(path: Path, n: int, target: Path) -> Path:
    """Write n events, those of `path` over and over with numbers of their own, in baskets of 1000 events."""
    import numpy as np
    import uproot

    with uproot.open(path) as file:
        tree = file["Events"]
        arrays = {name: tree[name].array() for name in tree.keys() if name != "nPFCands"}  # noqa: SIM118 - a TTree
    size = len(arrays["run"])
    with uproot.recreate(target) as file:
        file.mktree("Events", {name: values.type.content for name, values in arrays.items()}, counter_name=counter)
        for first in range(0, n, size):
            part = {name: values[: min(size, n - first)] for name, values in arrays.items()}
            part["event"] = np.arange(first, first + len(part["run"]), dtype=np.uint64)
            file["Events"].extend(part)
    return target


def counter(name: str) -> str:
    """Name the branch that counts the entries of a jagged branch."""
    return "n" + name.partition("_")[0]


def floor(path: str) -> tuple[float, float]:
    """Do the least: return the seconds it took and a sum over the results, so that nothing can be left out."""
    import awkward as ak
    import fastjet
    import numpy as np
    import uproot

    fastjet._swig.ClusterSequence.set_fastjet_banner_stream(None)
    begin, total = time.perf_counter(), 0.0
    with uproot.open(path) as file:
        tree = file["Events"]
        names = ["PFCands_pt", "PFCands_eta", "PFCands_phi", "PFCands_mass", "PFCands_charge"]
        for first in range(0, tree.num_entries, CHUNK):
            stored = tree.arrays(names, entry_start=first, entry_stop=first + CHUNK, library="ak")
            offsets = np.concatenate([[0], np.cumsum(ak.num(stored["PFCands_pt"]))])
            pt, eta, phi, mass = (ak.to_numpy(ak.flatten(stored[name])).astype(np.float64) for name in names[:4])
            p = [pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2)]
            sequence = fastjet.ClusterSequence(jagged(offsets, p), fastjet.JetDefinition(fastjet.antikt_algorithm, 1.0))
            jets, index = sequence.inclusive_jets(min_pt=50.0), sequence.constituent_index(min_pt=50.0)
            order = ak.argsort(jets.px**2 + jets.py**2, axis=1, ascending=False)[:, :2]
            rows = index[order] + offsets[:-1]
            rows = ak.flatten(rows[ak.num(rows) == 2], axis=1)
            bounds = np.concatenate([[0], np.cumsum(ak.num(rows))])
            flat = ak.to_numpy(ak.flatten(rows))
            inner = fastjet.ClusterSequence(
                jagged(bounds, [q[flat] for q in p]), fastjet.JetDefinition(fastjet.cambridge_algorithm, 999.0)
            )
            for n_axes, beta in (([1, 2, 3, 4], 1.0), ([1], 2.0)):
                total += float(ak.sum(inner.njettiness(njets=n_axes, beta=beta, R0=1.0)))
    return time.perf_counter() - begin, total


def jagged(offsets: Any, momentum: Any) -> Any:
    """Put flat px, py, pz, E into lists, without a copy."""
    import awkward as ak

    content = ak.contents.RecordArray([ak.contents.NumpyArray(q) for q in momentum], ["px", "py", "pz", "E"])
    return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets), content))


def ours(path: str, *, workers: int = 1) -> float:
    """Return the seconds of `run_table` over one file: in this process, or with that many workers."""
    from hunch.processors import Features, Running, run_table

    running = Running(
        executor="iterative" if workers == 1 else "futures",
        workers=workers,
        chunk_size=CHUNK if workers == 1 else None,
        progress=False,
    )
    begin = time.perf_counter()
    result = run_table(path, Features(), running)
    seconds = time.perf_counter() - begin
    if result.rows < 0.9 * result.cutflow["read"]:
        raise RuntimeError(f"{path}: the benchmark's events were not kept: {result.cutflow}")
    return seconds


def apart(task: str, path: Path) -> subprocess.Popen[str]:
    """Start one of this file's tasks in a process of its own."""
    return subprocess.Popen(
        [sys.executable, __file__, task, str(path)], stdout=subprocess.PIPE, text=True, start_new_session=False
    )


def answer(process: subprocess.Popen[str]) -> dict[str, float]:
    """Wait for a task and return what it measured."""
    out, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"a benchmark process ended with status {process.returncode}")
    return dict(json.loads(out.splitlines()[-1]))


def run() -> list[dict[str, Any]]:
    """Return the four measurements as the benchmarks' driver prints them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seed = sample(folder)
        timed = repeat(seed, TIMED, folder / "timed.root")
        long, small, large = (repeat(seed, n, folder / f"{n}.root") for n in (LONG, SMALL, LARGE))
        memories = [memory(small, large, name) for name in ("features", "images")]
        return [one_process(timed), two_workers(timed, long), *memories]


def one_process(path: Path) -> dict[str, Any]:
    """Compare events/s of one process with the floor: best of three, interleaved."""
    ours(str(path)), floor(str(path))
    mine, least = zip(*((ours(str(path)), floor(str(path))[0]) for _ in range(3)), strict=True)
    rates = TIMED / min(mine), TIMED / min(least)
    return line("process", rates[0], rates[1], ratio=rates[0] / rates[1], bar=0.85, unit="events/s")


def two_workers(short: Path, long: Path) -> dict[str, Any]:
    """Compare the gain of two workers with that of two independent copies of the floor; best of three, interleaved.

    Start-up (processes, imports) is excluded by timing two sizes and taking the difference; it is what is left of the
    shorter run, and is reported on stderr.
    """
    gains, references, starts = [], [], []
    for _ in range(3):
        one = ours(str(long)) - ours(str(short))
        brief = ours(str(short), workers=2)
        two = ours(str(long), workers=2) - brief
        alone = answer(apart("floor", short))["seconds"]
        both = [answer(p)["seconds"] for p in [apart("floor", short), apart("floor", short)]]
        gains.append(one / two)
        references.append(2 * alone / max(both))
        starts.append(brief - two * TIMED / (LONG - TIMED))
    print(f"process_two_workers: start-up of two workers {min(starts):.1f} s, not counted", file=sys.stderr)
    gain, reference = max(gains), max(references)
    return line("process_two_workers", gain, reference, ratio=gain / reference, bar=0.85, unit="times one worker")


def memory(small: Path, large: Path, representation: str) -> dict[str, Any]:
    """Compare the peak memory of processing 10,000 and 40,000 events, each in a fresh process, defaults elsewhere."""
    peaks = [answer(apart(representation, path))["megabytes"] for path in (small, large)]
    return line(
        f"process_memory_{representation}", peaks[1], peaks[0], ratio=1.2 * peaks[0] / peaks[1], bar=1.0, unit="MB"
    )


def line(name: str, mine: float, reference: float, *, ratio: float, bar: float, unit: str) -> dict[str, Any]:
    """Make one line of the benchmarks' output."""
    return {"name": name, "ours": mine, "reference": reference, "ratio": ratio, "bar": bar, "unit": unit}


def main() -> None:
    """Run one task in this process and print what it measured as JSON."""

    task, path = sys.argv[1:]
    if task == "floor":
        floor(path)
        measured = {"seconds": floor(path)[0]}
    else:
        from hunch.processors import Running, representation_of, run_table

        with tempfile.TemporaryDirectory() as folder:
            running = Running(executor="iterative", progress=False)
            run_table(path, representation_of(task), running, output=Path(folder) / "table")
        measured = {"megabytes": peak_megabytes()}
    print(json.dumps(measured))


def peak_megabytes() -> float:
    """Return this process' own peak memory; getrusage's would be the parent's where that was larger (Linux)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmHWM in /proc/self/status: peak memory is read on Linux only")


if __name__ == "__main__":
    main()
