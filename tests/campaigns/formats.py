"""The formats that a campaign mutates: how a good file of each is made, how it is read, and what its answer is."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from mutate import Mutation, mutate_bytes, mutate_json, mutate_text, mutate_yaml

from hunch.cli import main
from hunch.cli.terminal import say
from hunch.errors import HunchError

__all__ = ["FORMATS", "Format", "Unavailable"]

ROOT = Path(__file__).resolve().parents[2]
MANY, FEW = 2_000, 300
NUMBERS = "a text has no checksum: another digit is another number, another line another row"
BARE = "parts of the file have no checksum: names, counts and numbers in them can change"


class Unavailable(Exception):
    """A format's file is not on this machine."""


@dataclass(frozen=True)
class Format:
    """One format.

    make: writes a good file into a folder, and all that goes with it, and returns what is mutated; mutate: damages its bytes;
    read: a file, a folder of its own -> a JSON-like answer, by the command or the function that users call; n: mutants; unchecked: why a
    changed answer can pass without a word, "" where it cannot.
    """

    name: str
    make: Callable[[Path], Path]
    mutate: Mutation
    read: Callable[[Path, Path], Any]
    n: int = MANY
    unchecked: str = ""
    limit_s: float = 60.0


def command(*words: object) -> None:
    """Run the command line in this process, as a shell would."""
    sys.argv = ["hunch", "--quiet", *map(str, words)]
    main()


def user_error(error: HunchError) -> SystemExit:
    """Say an error of a function as the command line says it."""
    say(f"hunch: {error}", err=True)
    return SystemExit(2)


def digest_of(columns: dict[str, Any]) -> dict[str, Any]:
    """Return the rows, the names and a hash of columns."""
    hashed = hashlib.sha256()
    for name in sorted(columns):
        values = np.asarray(columns[name])
        hashed.update(f"{name}:{values.dtype.kind}:{values.shape}:{values.tolist()}".encode())
    rows = len(next(iter(columns.values()))) if columns else 0
    return {"rows": rows, "columns": sorted(columns), "hash": hashed.hexdigest()}


def table_digest(path: Path) -> dict[str, Any]:
    """Return the digest of a table as `read_table` gives it; the data set is named by its file, which does not count."""
    from hunch.table import read_table

    table = read_table(path)
    return digest_of({n: v for n, v in table.columns.items() if n != "dataset"})


# event files


def event_file(folder: Path, n: int = 30, seed: int = 1) -> Path:
    """Write events of two back-to-back sprays with the project's own writer."""
    import awkward as ak

    from hunch.samples import event_writer

    rng = np.random.default_rng(seed)
    axis = rng.uniform(-np.pi, np.pi, (n, 1, 1))
    phi = axis + np.pi * np.arange(2)[None, :, None] + rng.normal(0, 0.1, (n, 2, 15))
    values = {
        "pt": rng.exponential(120, (n, 2, 15)) + 5,
        "eta": rng.normal(0, 0.3, (n, 2, 1)) + rng.normal(0, 0.1, (n, 2, 15)),
        "phi": (phi + np.pi) % (2 * np.pi) - np.pi,
        "mass": np.zeros((n, 2, 15)),
    }
    events = ak.zip({f: ak.from_regular(ak.Array(v.reshape(n, -1).astype(np.float32))) for f, v in values.items()})
    with event_writer(folder / "events.root", charged=False, truth=False, weighted=False) as writer:
        writer.write(events, truth_signal=None)
    return folder / "events.root"


def shared(name: str) -> Callable[[Path], Path]:
    """Return a maker that copies a file this project did not make."""

    def make(folder: Path) -> Path:
        found = Path(os.environ.get("HUNCH_SHARED", ROOT.parent / "shared")) / "data" / name
        if not found.is_file():
            raise Unavailable(f"{found} is not there")
        return Path(shutil.copy(found, folder / found.name))

    return make


def process(path: Path, folder: Path) -> dict[str, Any]:
    """Process event files to a table; events read = kept + cut + skipped, or the campaign fails."""
    command("process", path, "-o", folder / "out.parquet", "--executor", "iterative", *CUTS)
    from hunch.table import read_table

    table = read_table(folder / "out.parquet")
    cutflow = table.metadata["cutflow"]
    read = cutflow["read"]
    assert read == sum(count for name, count in cutflow.items() if name != "read"), (
        f"cutflow does not add up: {cutflow}"
    )
    assert len(table) == cutflow["kept"], f"{len(table)} rows, {cutflow}"
    return {"cutflow": cutflow, **digest_of({n: v for n, v in table.columns.items() if n != "dataset"})}


CUTS = ("--set", "min_leading_pt=1", "--set", "max_deta=100")


def lhco_file(folder: Path) -> Path:
    """Write 20 events in the layout of the LHC Olympics: pandas, fixed, Blosc."""
    rng = np.random.default_rng(2)
    rows = np.zeros((20, 2101))
    rows[:, :90] = rng.normal(size=(20, 90))
    rows[:, 0:90:3] = rng.exponential(100, (20, 30)) + 1
    rows[::5, 2100] = 1
    pd.DataFrame(rows).to_hdf(folder / "events.h5", key="df", complib="blosc", complevel=5)
    return folder / "events.h5"


def convert_lhco(path: Path, folder: Path) -> dict[str, Any]:
    """Convert LHC Olympics events to an event file and read that."""
    return converted("lhco", path, folder)


def converted(layout: str, path: Path, folder: Path) -> dict[str, Any]:
    """Convert a file of some layout to an event file and read that."""
    command("convert", layout, path, folder / "out.root")
    import uproot

    with uproot.open(folder / "out.root") as file:
        events = file["Events"].arrays(library="ak")
        return {"n": len(events), "hash": hashlib.sha256(str(events.to_list()).encode()).hexdigest()}


def vaejet_file(folder: Path) -> Path:
    """Write 30 jets in the layout of the test sets of arXiv:2007.01850: lists of (E, px, py, pz)."""
    import h5py

    rng = np.random.default_rng(7)
    with h5py.File(folder / "jets.h5", "w") as file:
        lists = file.create_dataset("objects/jets/constituents", (30, 2), dtype=h5py.vlen_dtype(np.float32))
        for row in range(30):
            for column in range(2):
                p = rng.normal(0, 30, (rng.integers(1, 20), 3))
                lists[row, column] = np.c_[np.sqrt((p**2).sum(axis=1) + 0.02), p].astype(np.float32).reshape(-1)
        file["objects/jets/obs"] = np.ones((30, 2, 9), dtype=np.float32)
    return folder / "jets.h5"


def convert_vaejet(path: Path, folder: Path) -> dict[str, Any]:
    """Convert lists of constituents to an event file and read that."""
    return converted("vaejet", path, folder)


def adc2021_file(folder: Path) -> Path:
    """Write 60 events in the layout of arXiv:2107.02157."""
    import h5py

    rng = np.random.default_rng(8)
    kind = np.repeat([1, 2, 3, 4], [1, 4, 4, 10])
    with h5py.File(folder / "adc.h5", "w") as file:
        shape = (60, 19)
        pt = rng.exponential(30, shape) * (rng.random(shape) < 0.4) + (kind == 1)
        angles = rng.uniform(-2, 2, (2, *shape))
        file["Particles"] = np.stack([pt, *angles, np.broadcast_to(kind, shape)], axis=2) * (pt > 0)[:, :, None]
    return folder / "adc.h5"


def convert_adc2021(path: Path, folder: Path) -> dict[str, Any]:
    """Convert events of objects to an event file and read that."""
    return converted("adc2021", path, folder)


def phenoml_csv(folder: Path) -> Path:
    """Write 40 events in the CSV of phenoML."""
    rng = np.random.default_rng(9)
    lines = []
    for i in range(40):
        found = [f"{i};ttbar;1;{rng.exponential(1e5):.6g};{rng.uniform(-3, 3):.6g}"]
        for symbol in rng.choice(["j", "b", "e-", "e+", "m-", "m+", "g"], rng.integers(1, 9)):
            pt, eta, phi = 2e4 + rng.exponential(5e4), rng.uniform(-2, 2), rng.uniform(-3, 3)
            found.append(f"{symbol},{pt * np.cosh(eta) * 1.01:.6g},{pt:.6g},{eta:.6g},{phi:.6g}")
        lines.append(";".join(found) + ";\n")
    (folder / "events.csv").write_text("".join(lines))
    return folder / "events.csv"


def convert_phenoml(path: Path, folder: Path) -> dict[str, Any]:
    """Convert lines of events to an event file and read that."""
    return converted("phenoml", path, folder)


# tables


def frame() -> pd.DataFrame:
    """Make 200 rows of a table of events."""
    rng = np.random.default_rng(3)
    mjj = 2000 * (1 - rng.random(200)) ** (-1 / 6)
    identity = {"run": 1, "luminosityBlock": 1, "event": np.arange(200)}
    return pd.DataFrame(
        {**identity, "mjj": mjj.round(2), "a": rng.normal(size=200).round(4), "b": rng.normal(size=200).round(4)}
    )


def parquet_table(folder: Path) -> Path:
    """Write a table as the project does."""
    from hunch.table import Table, write_table

    write_table(folder / "table.parquet", Table({n: c.to_numpy() for n, c in frame().items()}, {}, "made"))
    return folder / "table.parquet"


def csv_table(folder: Path) -> Path:
    """Write a table as CSV."""
    frame().to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


def h5_table(folder: Path) -> Path:
    """Write a table in the table layout of pandas."""
    frame().to_hdf(folder / "table.h5", key="df", format="table", data_columns=["mjj"])
    return folder / "table.h5"


def read_rows(path: Path, folder: Path) -> dict[str, Any]:
    """Read a table of events."""
    del folder
    try:
        return table_digest(path)
    except HunchError as error:
        raise user_error(error) from error


# spectra


def counts() -> tuple[np.ndarray, np.ndarray]:
    """Return the edges (GeV) and the counts of a falling spectrum."""
    edges = np.linspace(2000, 6000, 41)
    return edges, np.random.default_rng(4).poisson(3e4 * (edges[:-1] / 2000) ** -6.0)


def spectrum_json(folder: Path) -> Path:
    """Write a spectrum as JSON."""
    edges, n = counts()
    (folder / "spectrum.json").write_text(json.dumps({"edges": edges.tolist(), "counts": n.tolist()}))
    return folder / "spectrum.json"


def spectrum_csv(folder: Path) -> Path:
    """Write a spectrum as CSV."""
    edges, n = counts()
    pd.DataFrame({"low": edges[:-1], "high": edges[1:], "count": n}).to_csv(folder / "spectrum.csv", index=False)
    return folder / "spectrum.csv"


def spectrum_yaml(folder: Path) -> Path:
    """Write a spectrum as a table of HEPData."""
    edges, n = counts()
    table = {
        "independent_variables": [
            {
                "header": {"name": "M", "units": "GeV"},
                "values": [{"low": float(a), "high": float(b)} for a, b in itertools.pairwise(edges)],
            }
        ],
        "dependent_variables": [{"header": {"name": "Events"}, "values": [{"value": int(v)} for v in n]}],
    }
    (folder / "spectrum.yaml").write_text(yaml.safe_dump(table))
    return folder / "spectrum.yaml"


def spectrum_root(folder: Path) -> Path:
    """Write a spectrum as a histogram of ROOT."""
    import hist
    import uproot

    edges, n = counts()
    made = hist.Hist(hist.axis.Variable(edges, name="mjj"))
    made.view()[:] = n
    with uproot.recreate(folder / "spectrum.root") as file:
        file["h"] = made
    return folder / "spectrum.root"


HUNTED: list[Any] = []
"""The spectra that this process, the parent of the others, has hunted in: the good one's hunt is not done again."""


def hunt(path: Path, folder: Path) -> list[Any]:
    """Read a spectrum and hunt in it with few pseudo-experiments."""
    del folder
    from hunch.analysis import HuntSettings, hunt_spectra, read_spectra

    try:
        spectra = read_spectra([str(path)]).spectra
        found = [[name, h.axes[0].edges.tolist(), h.values(flow=True).tolist()] for name, h in spectra.items()]
        if found not in HUNTED:
            HUNTED.append(found)
            hunt_spectra(spectra, settings=HuntSettings(pseudo_experiments=5), progress=False)
    except HunchError as error:
        raise user_error(error) from error
    return found


# analyses, filesets, results


def analysis_file(folder: Path) -> Path:
    """Write an analysis of tables with a key of most kinds."""
    text = """\
samples:
  data: [data.csv]
  background: [background.csv]
  priors: {near: [prior.csv]}
features: [a, b]
output: out
seed: 3
regions: {fraction: 0.2}
training: {max_epochs: 1, hidden: 4}
limits: {points: 1}
luminosity: 100
sqrt_s: 13000
pseudo_experiments: 5
background_function: dijet
"""
    rng = np.random.default_rng(5)
    for name, n, shift in (("data", 2000, 0.0), ("background", 3000, 0.0), ("prior", 400, 3.0)):
        mjj = 2000 * (1 - rng.random(n)) ** (-1 / 6) if not shift else rng.normal(3500, 100, n)
        made = pd.DataFrame({"mjj": mjj, "a": rng.normal(shift, 1, n), "b": rng.normal(0, 1, n)})
        made[made.mjj < 9000].to_csv(folder / f"{name}.csv", index=False)
    (folder / "analysis.yaml").write_text(text)
    return folder / "analysis.yaml"


def beside(folder: Path, path: Path, *names: str) -> None:
    """Link the files that a mutated one names into its folder."""
    for name in names:
        if not (path.parent / name).exists():
            (path.parent / name).symlink_to(folder / name)


def read_keys(path: Path, folder: Path) -> Any:
    """Read and check an analysis."""
    del folder
    from hunch.config import read_analysis

    try:
        return json.loads(read_analysis(path).model_dump_json(exclude={"output", "samples"}))
    except HunchError as error:
        raise user_error(error) from error


def whole_run(path: Path, folder: Path) -> Any:
    """Do the whole job of an analysis."""
    command("run", path)
    del folder
    found = list(path.parent.rglob("result.json"))
    assert len(found) == 1, f"result.json: {found}"
    result = json.loads(found[0].read_text())
    cutflow = result["cutflow"]
    assert cutflow["read"] == sum(n for name, n in cutflow.items() if name != "read"), f"does not add up: {cutflow}"
    return {"best": result["best"], "cutflow": cutflow}


def fileset_file(folder: Path) -> Path:
    """Write two event files and a fileset of two data sets."""
    event_file(folder, 12).rename(folder / "one.root")
    event_file(folder, 12, seed=6)
    content = {
        "qcd": {"files": {"one.root": "Events"}, "metadata": {"xsec": 1.5, "year": 2018}},
        "more": {"files": {"events.root": {"object_path": "Events", "steps": [[0, 6], [6, 12]]}}},
    }
    (folder / "fileset.json").write_text(json.dumps(content))
    return folder / "fileset.json"


def result_folder(folder: Path) -> Path:
    """Hunt in a spectrum and return its result.json."""
    command("hunt", spectrum_json(folder), "-o", folder / "out", "--pseudo-experiments", 5)
    return folder / "out" / "result.json"


def report(path: Path, folder: Path) -> Any:
    """Write the report of a result and set a limit on it."""
    del folder
    from hunch.workflow.given_spectra import limit_folder

    try:
        return limit_folder(path.parent, points=1)["signals"]
    except HunchError as error:
        raise user_error(error) from error


# scorers


def scorer_folder(folder: Path) -> Path:
    """Train a small scorer on rows and return its record."""
    from hunch.models import Vae

    rows = frame()[["a", "b"]].to_numpy()
    Vae(seed=0, max_epochs=1, hidden=4, device="cpu").fit(rows).save(folder / "scorer")
    frame()[["a", "b"]].to_csv(folder / "rows.csv", index=False)
    return folder / "scorer" / "scorer.json"


def scorer_weights(folder: Path) -> Path:
    """Train a small scorer on rows and return its weights."""
    return scorer_folder(folder).with_name("weights.safetensors")


def onnx_file(folder: Path) -> Path:
    """Export a small scorer."""
    scorer = scorer_folder(folder).parent
    command("export", scorer, "-o", folder / "scorer.onnx")
    return folder / "scorer.onnx"


def score(path: Path, folder: Path) -> Any:
    """Score rows with a scorer."""
    frame()[["a", "b"]].to_csv(folder / "rows.csv", index=False)
    scorer = path if path.suffix == ".onnx" else path.parent
    command("score", "--stream", scorer, folder / "rows.csv", "-o", folder / "out.csv")
    return (folder / "out.csv").read_text()


def score_rows(path: Path, folder: Path) -> Any:
    """Score the rows of a file with a scorer beside the good one."""
    command("score", "--stream", path.parent / "scorer", path, "-o", folder / "out.csv")
    return (folder / "out.csv").read_text()


def rows_file(folder: Path) -> Path:
    """Train a small scorer and return the rows that it scores."""
    return scorer_folder(folder).parent.parent / "rows.csv"


FORMATS: dict[str, Format] = {
    entry.name: entry
    for entry in (
        Format("events", event_file, mutate_bytes, process, FEW, BARE),
        Format("pfnano", shared("pfnano.root"), mutate_bytes, process, FEW, BARE),
        Format("lhco", lhco_file, mutate_bytes, convert_lhco, MANY, BARE),
        Format("vaejet", vaejet_file, mutate_bytes, convert_vaejet, MANY, BARE),
        Format("adc2021", adc2021_file, mutate_bytes, convert_adc2021, MANY, BARE),
        Format("phenoml", phenoml_csv, mutate_text, convert_phenoml, MANY, NUMBERS),
        Format("parquet", parquet_table, mutate_bytes, read_rows, MANY, BARE),
        Format("h5", h5_table, mutate_bytes, read_rows, MANY, BARE),
        Format("csv", csv_table, mutate_text, read_rows, MANY, NUMBERS),
        Format("rows", rows_file, mutate_text, score_rows, MANY, NUMBERS),
        Format("spectrum-json", spectrum_json, mutate_json, hunt, MANY, NUMBERS),
        Format("spectrum-csv", spectrum_csv, mutate_text, hunt, MANY, NUMBERS),
        Format("spectrum-yaml", spectrum_yaml, mutate_yaml, hunt, MANY, NUMBERS),
        Format("spectrum-root", spectrum_root, mutate_bytes, hunt, MANY, BARE),
        Format("analysis", analysis_file, mutate_yaml, read_keys, MANY, NUMBERS),
        Format("run", analysis_file, mutate_yaml, whole_run, FEW, NUMBERS, 120.0),
        Format("fileset", fileset_file, mutate_json, process, MANY, NUMBERS),
        Format("result", result_folder, mutate_json, report, MANY, NUMBERS),
        Format("scorer", scorer_folder, mutate_json, score, MANY),
        Format("weights", scorer_weights, mutate_bytes, score, MANY),
        Format("onnx", onnx_file, mutate_bytes, score, MANY),
    )
}
"""The formats by name."""
