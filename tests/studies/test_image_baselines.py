"""What untrained numbers of images tag: jets whose ranking is known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.image_baselines import both_directions, observables
from hunch.table import Table


def jets(mass: float, lit: int, n: int, rng: np.random.Generator) -> Table:
    """Jets around a mass, with `lit` or one more equal pixels."""
    images = np.zeros((n, 16), dtype=np.float32)
    images[:, :lit] = 1.0
    images[::2, lit] = 1.0
    images /= images.sum(axis=1, keepdims=True)
    return Table({"image_1": images.reshape(n, 4, 4), "mJ_1": rng.normal(mass, 10.0, n)})


def test_each_number_tags_one_way_with_one_sign_and_not_with_the_other(rng: np.random.Generator) -> None:
    qcd, top = jets(50.0, 3, 200, rng), jets(170.0, 8, 300, rng)
    found = observables(qcd)
    assert found["lit pixels"][:2].tolist() == [4, 3]
    assert found["sum of squares"][:2] == pytest.approx([1 / 4, 1 / 3])
    rows = {(row["signal"], row["score"]): row for row in both_directions(qcd, top)}
    assert len(rows) == 12
    for name, sign in (("jet mass", "+-"), ("lit pixels", "+-"), ("sum of squares", "-+")):
        for signal, good, n in (("top", sign[0], 200), ("qcd", sign[1], 300)):
            bad = "+-".replace(good, "")
            assert (rows[signal, f"{good} {name}"]["auc"], rows[signal, f"{good} {name}"]["rejection"]) == (1.0, n)
            assert (rows[signal, f"{bad} {name}"]["auc"], rows[signal, f"{bad} {name}"]["rejection"]) == (0.0, 1.0)
