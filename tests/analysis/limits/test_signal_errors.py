"""Errors of a signal: their forms, what they mean at a mass, the templates and factors they give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hunch.analysis import SignalErrors, SignalShape
from hunch.analysis.limits.signal_errors import factors_of, templates_of, up_and_down
from hunch.errors import InputError

EDGES = np.linspace(1000, 4000, 61)
BY_MASS = [[2000, 0.01, 0.02], [3000, 0.03, 0.02]]


def test_an_error_is_one_number_two_or_some_by_mass() -> None:
    assert up_and_down(0.02, 2500) == (0.02, 0.02)
    assert up_and_down((0.02, 0.01), 2500) == (0.02, 0.01)
    assert up_and_down(BY_MASS, 2500) == (pytest.approx(0.02), 0.02)
    assert up_and_down(BY_MASS, 1000) == (0.01, 0.02)
    assert up_and_down(BY_MASS, 9000) == (0.03, 0.02)


def test_templates_move_by_what_is_said() -> None:
    nominal, moved = templates_of(SignalShape(), 2500.0, EDGES, SignalErrors(scale=(0.04, 0.02), resolution=(0.3, 0.1)))
    centres = 0.5 * (EDGES[1:] + EDGES[:-1])

    def mean(template: Any) -> float:
        return float(np.average(centres, weights=template))

    def spread(template: Any) -> float:
        return float(np.sqrt(np.average((centres - mean(template)) ** 2, weights=template)))

    high, low = moved["signal_scale"]
    assert mean(high) / mean(nominal) == pytest.approx(1.04, abs=1e-3)
    assert mean(low) / mean(nominal) == pytest.approx(0.98, abs=1e-3)
    wide, narrow = moved["signal_resolution"]
    assert spread(wide) / spread(nominal) == pytest.approx(1.3, abs=0.02)
    assert spread(narrow) / spread(nominal) == pytest.approx(0.9, abs=0.02)
    assert templates_of(SignalShape(), 2500.0, EDGES, SignalErrors(scale=0.0, resolution=0.0))[1] == {}


def test_factors_are_log_normal_and_a_region_may_have_its_own() -> None:
    errors = SignalErrors(efficiency=0.05, luminosity=0.02, region_efficiencies=(0.0, 0.3, 0.1))
    made = factors_of(errors, {"a": 0, "c": 2}, 3)
    assert list(made) == ["efficiency", "luminosity", "c_efficiency"]
    np.testing.assert_allclose(made["luminosity"][0], [1.02, 1.02])
    np.testing.assert_allclose(made["c_efficiency"], [[1.0, 1.1], [1.0, 1 / 1.1]])
    assert errors.text == (
        "mass scale 1 %, resolution 10 %, efficiency 5 %, luminosity 2 %, the efficiency of each region on its own"
    )
    assert (
        SignalErrors(scale=BY_MASS, resolution=(0.1, 0.2)).text
        == "mass scale 1 to 3 %, by mass, resolution +10 % -20 %"
    )
    assert SignalErrors(scale=0.0, resolution=0.0).text == "none"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"scale": -0.01}, "scale error is relative, 0 or more and below 0.5; found -0.01"),
        ({"resolution": (0.1, 0.5)}, "resolution error .* found 0.5"),
        (
            {"scale": (0.1, 0.1, 0.1)},
            r"scale error is one number, \[up, down\], or a list of \[mass, up, down\]; found \(0.1",
        ),
        ({"scale": [[2000, 0.1]]}, "one number"),
        ({"scale": []}, "one number"),
        ({"scale": "much"}, "one number"),
        ({"scale": [[3000, 0.1, 0.1], [2000, 0.1, 0.1]]}, "masses that rise, in GeV; found 3000, 2000"),
        ({"scale": [[2000, 0.1, 0.9]]}, "found 0.9"),
        ({"luminosity": 2.0}, "luminosity error .* found 2"),
        ({"efficiency": float("nan")}, "efficiency error .* found nan"),
        ({"region_efficiencies": (0.1, -1.0)}, "efficiency in a region error .* found -1"),
    ],
)
def test_errors_that_mean_nothing_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SignalErrors(**given)
