"""Faults while a search runs: random kills, a full disk, a read-only folder, a killed worker and scheduler; then the same run again.

Run by `make faults [N=20] [SEED=0]`, or as a script. Every rerun must end in what an undisturbed run wrote, byte for byte: tables,
models, scores, regions, spectra, limits, and the result but for figures, whose files hold their time. Exit status 1 where one does not, or where a fault
ends in a traceback or leaves files under temporary names.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import awkward as ak
import numpy as np
import psutil

from hunch.files import is_private
from hunch.samples import event_writer

HUNCH = [sys.executable, "-c", "from hunch.cli import main; main()"]
SIGNALS = {"KILL": signal.SIGKILL, "INT": signal.SIGINT, "TERM": signal.SIGTERM}
STAGES = ("process", "train", "score", "hunt", "limits", "report")
NEW = ("figures", "report.html")
"""What holds the time at which it was made: figures, and the page that they are in."""
PATIENCE = 600.0  # seconds
ANALYSIS = """samples:
  data: [data.root]
  background: [background.root]
  priors: {near: [prior.root]}
features: [mJ_1, mJ_2]
jets: {min_leading_pt: 200, min_mjj: 500}
scorer: {name: Quak, family: false}
training: {max_epochs: 6, hidden: 16}
regions: {fraction: 0.3, number: 2}
fit_range: [1500, 6000]
pseudo_experiments: 500
limits: {points: 1}
executor: iterative
output: out
"""


@dataclass(frozen=True)
class Outcome:
    """One fault: what was done, the stage it met, how the faulted run ended and what it said last, and what the rerun made."""

    fault: str
    stage: str
    status: int | str
    said: str
    traceback: bool
    left: int
    rerun: int | str
    identical: bool | str

    @property
    def good(self) -> bool:
        """Tell whether nothing is wrong: nothing half-written, no traceback, the rerun as if nothing had happened."""
        return not self.traceback and not self.left and self.rerun == 0 and self.identical is True


def events(path: Path, n: int, seed: int, *, mass: float | None = None) -> None:
    """Write n events of two sprays of particles each: a falling dijet mass from 1.5 TeV, or a peak (GeV)."""
    rng = np.random.default_rng(seed)
    mjj = 1500 * (1 - rng.random(n)) ** (-1 / 6) if mass is None else rng.normal(mass, 0.03 * mass, n)
    prongs = 1 if mass is None else 2
    share = rng.dirichlet(np.full(prongs * 8, 2.0), (n, 2)).reshape(n, 2, prongs, 8)
    place = (0.35 * (prongs > 1)) * rng.normal(size=(n, 2, prongs, 1, 2)) + 0.06 * rng.normal(size=(n, 2, prongs, 8, 2))
    pt = 0.5 * mjj[:, None, None, None] * share
    eta = rng.normal(0.0, 0.3, (n, 1, 1, 1)) + place[..., 0]
    phi = rng.uniform(-np.pi, np.pi, n)[:, None, None, None] + np.pi * np.arange(2)[None, :, None, None] + place[..., 1]
    flat = {"pt": pt, "eta": eta, "phi": (phi + np.pi) % (2 * np.pi) - np.pi, "mass": np.zeros_like(pt)}
    counts = np.full(n, pt[0].size)
    particles = ak.zip({name: ak.unflatten(v.ravel().astype(np.float32), counts) for name, v in flat.items()})
    with event_writer(path, charged=False, truth=False, weighted=False) as writer:
        writer.write(particles, truth_signal=None)


def prepare(folder: Path, *, size: int) -> Path:
    """Write the events and the analysis file; returns the latter."""
    events(folder / "data.root", size, 1)
    events(folder / "background.root", size, 2)
    events(folder / "prior.root", size // 4, 3, mass=3000)
    path = folder / "analysis.yaml"
    path.write_text(ANALYSIS, encoding="utf-8")
    return path


class Run:
    """One `hunch run` in a process of its own; knows the stage it is in from what it says."""

    def __init__(self, folder: Path, *options: str, wrapped: Callable[[list[str]], list[str]] = list) -> None:
        self.stage, self.since, self.seconds = "start", time.monotonic(), dict.fromkeys(STAGES, 0.0)
        self.said: list[str] = []
        self.changed = threading.Condition()
        self.process = subprocess.Popen(
            wrapped([*HUNCH, "run", str(folder / "analysis.yaml"), *options]),
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
            preexec_fn=heed_interrupts,
        )
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self) -> None:
        """Follow the stages in what the run says."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self.changed:
                self.said.append(line.rstrip())
                found = re.fullmatch(r"(\w+): running", line.strip())
                if found:
                    self.enter(found[1])
        with self.changed:
            self.enter("end")

    def enter(self, stage: str) -> None:
        """Note the stage, and how long the one before took."""
        now = time.monotonic()
        if self.stage in self.seconds:
            self.seconds[self.stage] = now - self.since
        self.stage, self.since = stage, now
        self.changed.notify_all()

    def wait_for(self, stage: str) -> bool:
        """Wait until the run is in a stage; tell whether it came to it."""
        with self.changed:
            self.changed.wait_for(lambda: self.stage in {stage, "end"}, PATIENCE)
            return self.stage == stage

    def end(self) -> int:
        """Wait for the end and return the exit status; what does not end is killed."""
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self.reader.join(10)
        return status

    @property
    def last(self) -> str:
        """Return the last line that the run said."""
        lines = [line for line in self.said if line.strip()]
        return lines[-1] if lines else ""

    @property
    def traceback(self) -> bool:
        """Tell whether the run showed a traceback."""
        return any("Traceback" in line for line in self.said)


def heed_interrupts() -> None:
    """Undo an ignored SIGINT, which children of a background job inherit."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def written(output: Path) -> dict[str, str]:
    """Return the hash of every file of an output folder that must not differ between runs; stamps and times aside."""
    found = {}
    for path in sorted(output.rglob("*")):
        name = path.relative_to(output)
        if (
            path.is_file()
            and not name.parts[0].startswith(".")
            and name.parts[0] not in NEW
            and path.suffix not in {".pdf", ".png"}
        ):
            content = path.read_bytes()
            if path.name == "spectra.root" or path.suffix == ".root":  # holds the time at which it was written
                content = str(path.stat().st_size).encode()
            found[str(name)] = hashlib.sha256(content).hexdigest()
    return found


def left_behind(output: Path) -> list[str]:
    """Return files under temporary names, locks and kept pieces in an output folder."""
    found = [path for path in output.rglob(".*") if is_private(path) or path.name == ".lock"]
    pieces = output / ".stages" / "pieces"
    return [str(path) for path in (*found, *(pieces.rglob("*.piece") if pieces.exists() else ()))]


def differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """Return the names of files that differ or are missing."""
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


def again(folder: Path, reference: dict[str, str], fault: str, stage: str, run: Run, *, ended: int | str) -> Outcome:
    """Run once more, undisturbed, and compare with what an undisturbed run wrote."""
    output = folder / "out"
    halves = [path for path in left_behind(output) if is_private(Path(path))] if output.exists() else []
    soft = run.process.returncode != -signal.SIGKILL
    rerun = Run(folder)
    status = rerun.end()
    differ = differences(reference, written(output)) if output.exists() else ["out"]
    left = left_behind(output)
    outcome = Outcome(
        fault,
        stage,
        ended,
        run.last[:90],
        run.traceback or rerun.traceback,
        len(left) + (len(halves) if soft else 0),
        status if status == 0 else f"{status}: {rerun.last[:60]}",
        True if not differ else f"no: {', '.join(differ[:3])}",
    )
    show(outcome)
    return outcome


def random_kills(
    folder: Path, reference: dict[str, str], seconds: dict[str, float], *, n: int, rng: np.random.Generator
) -> Iterator[Outcome]:
    """Kill n runs, each at a random moment of a random stage, and give what became of them."""
    for number in range(n):
        shutil.rmtree(folder / "out", ignore_errors=True)
        name = list(SIGNALS)[number % len(SIGNALS)]
        stage, share = str(rng.choice(STAGES)), float(rng.random())
        run = Run(folder)
        reached = run.wait_for(stage)
        time.sleep(share * seconds[stage])
        stage = run.stage if reached else "end"
        run.process.send_signal(SIGNALS[name])
        status = run.end()
        yield again(folder, reference, f"{name} at {100 * share:.0f} % of {stage}", stage, run, ended=status)


def full_disk(folder: Path, reference: dict[str, str], *, kilobytes: int) -> Iterator[Outcome]:
    """Fill the output folder's disk: a small file system of memory where one can be mounted, else a limit on the size of files."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    if not can_mount():

        def limited(command: list[str]) -> list[str]:
            return ["sh", "-c", f"ulimit -f {max(kilobytes // 20, 8)}; trap '' XFSZ; exec {shlex.join(command)}"]

        run = Run(folder, wrapped=limited)
        yield again(folder, reference, f"files limited to {kilobytes // 20} kB", run.stage, run, ended=run.end())
        return
    (folder / "out").mkdir()

    def small(command: list[str]) -> list[str]:
        keep = "cp -a out/. kept/; exit $status"
        script = f"mount -t tmpfs -o size={kilobytes}k tmpfs out; {shlex.join(command)}; status=$?; mkdir kept; {keep}"
        return ["unshare", "-rm", "sh", "-c", script]

    run = Run(folder, wrapped=small)
    status = run.end()
    shutil.rmtree(folder / "out")
    (folder / "kept").rename(folder / "out")
    yield again(folder, reference, f"disk of {kilobytes} kB", stage_of(run), run, ended=status)


def read_only(folder: Path, reference: dict[str, str]) -> Iterator[Outcome]:
    """Run into a folder that cannot be written, mounted so where that can be; permissions do not bind root."""
    output = folder / "out"
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir()
    if can_mount():

        def bound(command: list[str]) -> list[str]:
            script = f"mount --bind out out; mount -o remount,ro,bind out; exec {shlex.join(command)}"
            return ["unshare", "-rm", "sh", "-c", script]

        run = Run(folder, wrapped=bound)
    elif os.geteuid():
        output.chmod(0o500)
        run = Run(folder)
    else:
        print("read-only folder: skipped, permissions do not bind root and nothing can be mounted")
        return
    status = run.end()
    output.chmod(0o700)
    yield again(folder, reference, "read-only folder", stage_of(run), run, ended=status)


def stage_of(run: Run) -> str:
    """Return the last stage that a run came to."""
    ran = [line.removesuffix(": running") for line in run.said if line.endswith(": running")]
    return ran[-1] if ran else "start"


def can_mount() -> bool:
    """Tell whether file systems can be mounted in a name space of one's own."""
    if not shutil.which("unshare"):
        return False
    with tempfile.TemporaryDirectory() as folder:
        command = ["unshare", "-rm", "sh", "-c", f"mount -t tmpfs tmpfs {shlex.quote(folder)}"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


def killed_worker(folder: Path, reference: dict[str, str]) -> Iterator[Outcome]:
    """Kill a worker process of the executor `futures` while events are processed, as the kernel does for want of memory."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    run = Run(folder, "--set", "executor=futures", "--set", "workers=2")
    run.wait_for("process")
    own = psutil.Process(run.process.pid)
    worker = waited_for(lambda: [child for child in children(own) if "loky" in " ".join(child.cmdline())])
    for child in worker[-1:]:
        child.kill()
    status = run.end()
    yield again(folder, reference, "worker killed" if worker else "no worker met", stage_of(run), run, ended=status)


def children(process: psutil.Process) -> list[psutil.Process]:
    """Return the children of a process that are still there, but for helpers of multiprocessing."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [c for c in process.children(recursive=True) if "resource_tracker" not in " ".join(c.cmdline())]
    return []


def waited_for(find: Callable[[], list[psutil.Process]], seconds: float = 30.0) -> list[psutil.Process]:
    """Wait until processes are found, and return them."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(psutil.NoSuchProcess):
            if found := find():
                return found
        time.sleep(0.02)
    return []


def killed_scheduler(folder: Path, reference: dict[str, str]) -> Iterator[Outcome]:
    """Kill the scheduler of dask while its workers process events."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    host, port = address.split(":")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", host, "--port", port, "--no-dashboard"]
    scheduler = subprocess.Popen(dask, cwd=folder, **quiet)
    workers = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "distributed.cli.dask_worker",
                f"tcp://{address}",
                "--nthreads",
                "1",
                "--no-dashboard",
            ],
            cwd=folder,
            **quiet,
        )
        for _ in range(2)
    ]
    try:
        time.sleep(5)
        run = Run(folder, "--set", "executor=dask", "--set", "workers=2", "--set", f"scheduler=tcp://{address}")
        run.wait_for("process")
        time.sleep(4)
        met, begin = run.stage, time.monotonic()
        scheduler.kill()
        status = run.end()
        took = time.monotonic() - begin
    finally:
        for process in (scheduler, *workers):
            process.kill()
            process.wait()
    yield again(folder, reference, f"scheduler killed, ended in {took:.0f} s", met, run, ended=status)


def show(outcome: Outcome) -> None:
    """Print a line of the table."""
    cells = (
        outcome.fault,
        outcome.stage,
        str(outcome.status),
        outcome.said,
        "traceback" if outcome.traceback else "none",
        str(outcome.left),
        str(outcome.rerun),
        "identical" if outcome.identical is True else str(outcome.identical),
    )
    print(f"| {' | '.join(cells)} |", flush=True)


def campaign(folder: Path, *, n: int, seed: int, others: bool, size: int) -> list[Outcome]:
    """Do the undisturbed run, then every fault, and print the table."""
    prepare(folder, size=size)
    reference_run = Run(folder)
    if reference_run.end() != 0:
        raise SystemExit("\n".join(["the undisturbed run failed", *reference_run.said[-20:]]))
    reference = written(folder / "out")
    result = json.loads((folder / "out" / "result.json").read_text(encoding="utf-8"))
    seconds = reference_run.seconds
    print(
        f"undisturbed: p_global {result['best']['p_global']:.3g}; {len(reference)} files compared; seconds a stage: "
        + ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())
    )
    print("| fault | stage | exit | said last | traceback | files left | rerun | result |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    outcomes = list(random_kills(folder, reference, seconds, n=n, rng=np.random.default_rng(seed)))
    if others:
        whole = sum(path.stat().st_size for path in (folder / "out").rglob("*") if path.is_file()) // 1024
        for kilobytes in (max(whole // 8, 48), whole // 2):
            outcomes += full_disk(folder, reference, kilobytes=kilobytes)
        outcomes += read_only(folder, reference)
        outcomes += killed_worker(folder, reference)
        outcomes += killed_scheduler(folder, reference)
    good = sum(outcome.good for outcome in outcomes)
    print(f"{good} of {len(outcomes)} faults leave nothing wrong")
    return outcomes


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the campaign; exit status 1 where a fault leaves something wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("n", nargs="?", type=int, default=20, help="random kills")
    parser.add_argument("--seed", type=int, default=0, help="of the stages and moments")
    parser.add_argument(
        "--kills-only", action="store_true", help="no full disk, read-only folder, worker and scheduler"
    )
    parser.add_argument("--events", type=int, default=2000, help="of the data and of the background")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        outcomes = campaign(Path(folder), n=given.n, seed=given.seed, others=not given.kills_only, size=given.events)
    sys.exit(0 if all(outcome.good for outcome in outcomes) else 1)


if __name__ == "__main__":
    main()
