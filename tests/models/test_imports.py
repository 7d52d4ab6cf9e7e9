"""The room stands alone: torch, numpy, safetensors and tqdm are all it needs."""

from __future__ import annotations

import subprocess
import sys
import textwrap

BLOCKED = ["coffea", "fastjet", "awkward", "uproot", "vector", "hist", "scipy", "sklearn", "pandas", "pyarrow", "pyhf"]
BLOCKED += [
    "iminuit",
    "matplotlib",
    "mplhep",
    "tables",
    "pythia8mc",
    "zuko",
    "ot",
    "kmedoids",
    "geomloss",
    "h5py",
    "hdf5plugin",
    "dask",
]


def test_imports_and_trains_without_the_rest() -> None:
    script = f"""
    import sys
    for name in {BLOCKED!r}:
        sys.modules[name] = None
    import numpy as np
    from hunch.models import Quak
    x = np.random.default_rng(0).normal(size=(200, 2))
    q = Quak(seed=0, device="cpu", max_epochs=1).fit(x, priors={{"p": x + 1}})
    assert q.losses(x).shape == (200, 3)
    rooms = [m for m in sys.modules if m.split(".")[:2] in (["hunch", "analysis"], ["hunch", "processors"], ["hunch", "samples"])]
    assert not rooms, rooms
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def test_all_names_are_there() -> None:
    import hunch.models as room

    assert [n for n in room.__all__ if not hasattr(room, n)] == []
    assert room.__all__ == sorted(room.__all__, key=lambda n: (not n.isupper(), not n[0].isupper(), n))
