"""What a page says of a global p-value: a bound is no measurement, and few experiments tell little."""

from __future__ import annotations

from typing import Any

import pytest

from hunch.analysis.p_values.combination import z_value
from hunch.analysis.verdicts import experiments_needed, more_experiments, verdict


def best(n: int, above: int) -> dict[str, Any]:
    p = (1 + above) / (1 + n)
    counted = {"pseudo_experiments": n, "pseudo_experiments_above": above}
    return {"p_global": p, "z_global": float(z_value(p)), "p_global_is_bound": above == 0, **counted}


@pytest.mark.parametrize(
    ("n", "above", "said", "unsaid"),
    [
        (300, 0, ["unusual", "300 pseudo-experiments do not tell", "740", "3,488,555"], ["no evidence", "commonly"]),
        (20, 0, ["20 pseudo-experiments", "at least 43 ", "740", "3,488,555"], ["commonly does", "evidence", "rarely"]),
        (5000, 0, ["rarely does that", "3,488,555"], ["740", "no evidence"]),
        (5_000_000, 0, ["rarely does that"], ["do not tell"]),
        (300, 100, ["commonly"], ["do not tell"]),
        (300, 1, ["unusual", "1 of 300", "too few to tell"], ["no evidence"]),
        (5000, 60, ["unusual for background alone, and no evidence"], ["too few"]),
        (5000, 2, ["rarely does that"], ["do not tell"]),
    ],
)
def test_a_verdict_says_what_the_experiments_tell(n: int, above: int, said: list[str], unsaid: list[str]) -> None:
    text = verdict(best(n, above))
    assert all(words in text for words in said), text
    assert not any(words in text for words in unsaid), text


def test_where_there_is_no_global_p_nothing_is_said() -> None:
    assert verdict({"z_global": None}) == verdict({}) == ""


@pytest.mark.parametrize("z", [2, 3, 5])
def test_as_many_experiments_as_are_needed_see_it(z: int) -> None:
    n = experiments_needed(z)
    assert z_value(1 / (1 + n)) > z >= z_value(1 / n)
    assert f"{z} sigma" in more_experiments(n - 1)
    assert f"{z} sigma" not in more_experiments(n)
