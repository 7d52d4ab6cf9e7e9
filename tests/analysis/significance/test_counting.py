"""Counting experiments against published numbers, closed forms, direct integration, pyhf and pseudo-experiments."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
from scipy import optimize, special, stats

from hunch.analysis import count, counting_workspace, expectation_from_abcd, expectation_from_sample
from hunch.analysis.fits.log_p import z_of_log
from hunch.analysis.significance.counting import exact_p, open_workspace
from hunch.errors import InputError

Array = np.ndarray[Any, Any]
# arXiv:physics/0702156, Table 1: n_on, n_off, tau, Z_Bi
PUBLISHED = [
    (4, 5, 5.0, 1.66),
    (6, 18.78, 14.44, 2.63),
    (9, 17.83, 4.69, 1.82),
    (17, 40.11, 10.56, 4.46),
    (50, 55, 2.0, 2.93),
    (67, 15, 0.5, 2.89),
    (200, 10, 0.1, 2.20),
    (523, 2327, 5.99, 5.93),
    (498426, 493434, 1.0, 5.01),
]
KNOWN = 1e14  # control events of an expectation whose statistical error is nothing


def known(mean: float) -> Any:
    """Return an expectation without a statistical error."""
    return expectation_from_sample(KNOWN, scale=mean / KNOWN)


def factors(systematic: float, constraint: str, n: int, rng: np.random.Generator) -> Array:
    """Draw the factor by which the true background differs from the expected one; gamma of mean 1, log-normal of median 1."""
    if constraint == "gamma":
        return rng.gamma(systematic**-2, systematic**2, n)
    return np.asarray(np.exp(rng.normal(0, np.log1p(systematic), n)))


@pytest.mark.parametrize(("on", "off", "tau", "z"), PUBLISHED)
def test_published_significances_of_the_on_off_problem(on: int, off: float, tau: float, z: float) -> None:
    p = exact_p(on, expectation_from_sample(off, scale=1 / tau))
    assert float(stats.norm.isf(p)) == pytest.approx(z, abs=0.0051)


def test_a_gamma_error_is_an_auxiliary_count() -> None:
    """RooStats' rs_numbercountingutils: 150 events, 100 expected, 10 % gives p = 0.00094165 and z = 3.10804."""
    found = count(150, known(100.0), systematic=0.1, constraint="gamma")
    assert found.p_value == pytest.approx(0.00094165, rel=1e-5)
    assert found.z == pytest.approx(3.10804, abs=1e-5)


def test_without_errors_the_poisson_tail_is_left() -> None:
    for observed, mean in ((0, 3.0), (1, 0.2), (12, 5.0), (3, 9.5), (600, 400.0)):
        found = count(observed, known(mean), systematic=0.0)
        assert found.p_value == pytest.approx(float(stats.poisson.sf(observed - 1, mean)), rel=1e-4)
        assert found.p_known == pytest.approx(float(stats.poisson.sf(observed - 1, mean)), rel=1e-9)
    assert found.z_pyhf == pytest.approx(np.sqrt(2 * (600 * np.log(1.5) - 200)), rel=1e-6)


@pytest.mark.parametrize("constraint", ["gamma", "lognormal"])
@pytest.mark.parametrize("systematic", [0.02, 0.1, 0.5])
def test_the_systematic_error_is_integrated_over(systematic: float, constraint: str) -> None:
    """One integral over the background by scipy's quadrature, at three depths of the tail."""
    if constraint == "gamma":
        n = systematic**-2
        prior: Any = stats.gamma(n + 1, scale=1 / n)
    else:
        prior = stats.lognorm(np.log1p(systematic))
    for observed in (22, 45, 90):
        points = np.exp(np.linspace(-12, 12, 240_001) * np.log1p(systematic))
        values = prior.pdf(points) * special.gammainc(observed, 20 * points)
        direct = float(np.sum(0.5 * (values[1:] + values[:-1]) * np.diff(points)))
        assert exact_p(observed, known(20.0), systematic=systematic, constraint=constraint) == pytest.approx(
            direct, rel=1e-5
        )


@pytest.mark.parametrize(("b", "c", "d"), [(100, 100, 1000), (7, 40, 30), (1, 1, 1), (3, 2, 1)])
def test_abcd_is_integrated_over_its_three_counts(b: int, c: int, d: int) -> None:
    rng = np.random.default_rng(4)
    draws = 400_000
    means = rng.gamma(b + 1, size=draws) * rng.gamma(c + 1, size=draws) / rng.gamma(d, size=draws)
    moved = {
        ("gamma", 0.2): rng.gamma(26, 1 / 25, draws),
        ("lognormal", 0.2): np.exp(rng.normal(0, np.log(1.2), draws)),
        ("gamma", 0.0): np.ones(draws),
    }
    for (constraint, systematic), factor in moved.items():
        for observed in (2, round(b * c / d) + 4):
            tails = special.gammainc(observed, means * factor)
            p = exact_p(observed, expectation_from_abcd(b, c, d), systematic=systematic, constraint=constraint)
            assert p == pytest.approx(float(tails.mean()), abs=5 * float(tails.std()) / np.sqrt(draws))


def test_large_control_regions_leave_a_known_expectation() -> None:
    many = expectation_from_abcd(1e9, 1e9, 1e17)
    assert exact_p(20, many) == pytest.approx(float(stats.poisson.sf(19, 10.0)), rel=1e-4)


def test_far_tails_keep_their_digits() -> None:
    p = exact_p(400, known(10.0), systematic=0.1)
    assert p == pytest.approx(float(special.betainc(400, 101, 10 / (10 + 100))), rel=1e-6)
    assert 0 < p < 1e-100


def test_deficits_have_p_above_one_half_and_pyhf_says_one_half() -> None:
    for expectation in (expectation_from_sample(100, scale=0.5), expectation_from_abcd(100, 500, 1000)):
        found = count(30, expectation, systematic=0.1)
        assert found.p_value > 0.95
        assert found.z < -1.6
        assert found.p_pyhf == 0.5
        assert count(0, expectation).p_value == 1.0


def test_a_larger_error_makes_an_excess_less_and_more_events_more() -> None:
    expectation = expectation_from_sample(40, scale=0.5)
    by_error = [exact_p(45, expectation, systematic=s) for s in (0.0, 0.05, 0.1, 0.2, 0.4)]
    assert np.all(np.diff(by_error) > 0)
    by_count = [exact_p(n, expectation, systematic=0.1) for n in range(60)]
    assert np.all(np.diff(by_count) < 0)


def test_no_control_event_is_an_answer_and_no_certainty() -> None:
    """P(n_on >= 3) of none in a control region twice as large: (1 / 3)^3; nothing is known of an expectation of exactly 0."""
    found = count(3, expectation_from_sample(0, scale=0.5), systematic=0.0)
    assert found.p_value == pytest.approx(1 / 27)
    assert found.p_known is None
    assert found.expectation.stat == 0.5
    assert found.p_pyhf is not None
    nothing = count(0, expectation_from_sample(0, scale=0.5))
    assert (nothing.p_value, nothing.p_known, nothing.p_pyhf) == (1.0, 1.0, 0.5)


def li_ma(on: float, off: float, alpha: float) -> float:
    """Return eq. 17 of Li and Ma (1983)."""
    total = on + off
    return float(np.sqrt(2 * (on * np.log((1 + alpha) / alpha * on / total) + off * np.log((1 + alpha) * off / total))))


@pytest.mark.parametrize(("on", "off", "tau"), [(150, 100, 1.0), (17, 40, 10.56), (50, 55, 2.0), (67, 15, 0.5)])
def test_pyhf_without_a_systematic_error_is_li_and_ma(on: int, off: int, tau: float) -> None:
    found = count(on, expectation_from_sample(off, scale=1 / tau), systematic=0.0)
    assert found.z_pyhf == pytest.approx(li_ma(on, off, 1 / tau), abs=2e-3)


def test_pyhf_with_a_gamma_error_is_li_and_ma_of_the_auxiliary_count() -> None:
    found = count(150, known(100.0), systematic=0.1, constraint="gamma")
    assert found.z_pyhf == pytest.approx(li_ma(150, 100, 1.0), abs=2e-3)  # 3.173


def test_pyhf_with_a_lognormal_error_is_the_profile_likelihood() -> None:
    width = np.log1p(0.1)

    def nll(t: float) -> float:
        mean = 100 * np.exp(t * width)
        return float(-stats.poisson.logpmf(150, mean) + 0.5 * t**2)

    q0 = 2 * (optimize.minimize_scalar(nll, bounds=(0, 8), method="bounded").fun + stats.poisson.logpmf(150, 150))
    found = count(150, known(100.0), systematic=0.1, constraint="lognormal")
    assert found.z_pyhf == pytest.approx(float(np.sqrt(q0)), abs=3e-3)


def test_pyhf_of_abcd_is_its_profile_likelihood() -> None:
    """Without a signal the four means are products: A = n (B + A)(C + A) / N is the fit of an independent table."""
    a, b, c, d = 80.0, 100.0, 100.0, 250.0
    n = a + b + c + d
    fitted = np.array([(a + b) * (a + c), (a + b) * (b + d), (a + c) * (c + d), (b + d) * (c + d)]) / n
    seen = np.array([a, b, c, d])
    q0 = 2 * float((seen * np.log(seen / fitted)).sum())
    found = count(80, expectation_from_abcd(b, c, d), systematic=0.0)
    assert found.z_pyhf == pytest.approx(np.sqrt(q0), abs=3e-3)


@pytest.mark.parametrize("constraint", ["gamma", "lognormal"])
@pytest.mark.parametrize("make", ["sample", "abcd"])
def test_exact_and_pyhf_agree_where_there_are_many_events(make: str, constraint: str) -> None:
    expectation = expectation_from_sample(2000, scale=0.1) if make == "sample" else expectation_from_abcd(2e3, 2e3, 2e4)
    for observed in (230, 260, 300):
        found = count(observed, expectation, systematic=0.1, constraint=constraint)
        assert found.z_pyhf == pytest.approx(found.z, abs=0.11)
        # the exact one is the careful one of the two
        assert found.z < found.z_pyhf + 1e-3


def test_pyhf_opens_the_workspace_and_finds_the_counts() -> None:
    for expectation, channels in ((expectation_from_sample(30, scale=0.1), 2), (expectation_from_abcd(9, 8, 70), 4)):
        for constraint, kind in (("gamma", "shapesys"), ("lognormal", "normsys")):
            workspace = counting_workspace(5, expectation, systematic=0.2, constraint=constraint)
            if constraint == "lognormal":
                error = workspace["channels"][0]["samples"][1]["modifiers"][-1]["data"]
                assert error["hi"] * error["lo"] == pytest.approx(1.0)
            model, data = open_workspace(json.loads(json.dumps(workspace)))
            assert len(model.config.channels) == channels
            assert {kind} == {m for _, m in model.config.modifiers} - {"normfactor"}
            start = np.array(model.config.suggested_init())
            start[model.config.poi_index] = 0.0
            expected = dict(zip(model.config.channels, model.expected_actualdata(start), strict=True))
            assert expected["hunted"] == pytest.approx(expectation.mean)
            for name, n in expectation.counts.items():
                assert expected[f"control_{name}"] == pytest.approx(n)
            assert sorted(data[:channels]) == sorted([5.0, *expectation.counts.values()])


@cache
def cached_p(observed: int, counts: tuple[int, ...], scale: float, systematic: float, constraint: str) -> float:
    expectation = expectation_from_sample(*counts, scale=scale) if len(counts) == 1 else expectation_from_abcd(*counts)
    return exact_p(observed, expectation, systematic=systematic, constraint=constraint)


@pytest.mark.parametrize(
    ("mean", "tau", "systematic", "constraint", "least"),
    [
        (20, 3, 0.0, "gamma", 0.030),
        (20, 3, 0.1, "gamma", 0.028),
        (20, 3, 0.1, "lognormal", 0.030),
        (3, 10, 0.3, "lognormal", 0.022),
        (200, 1, 0.1, "lognormal", 0.035),
    ],
)
def test_no_signal_is_rejected_no_oftener_than_said(
    mean: float, tau: float, systematic: float, constraint: str, least: float
) -> None:
    """Pseudo-experiments with a drawn systematic error; whole numbers make the rate lie below the level."""
    rng = np.random.default_rng(11)
    n = 8000
    factor = factors(systematic, constraint, n, rng) if systematic else np.ones(n)
    on, off = rng.poisson(mean * factor), rng.poisson(mean * tau, n)
    p = np.array([cached_p(int(x), (int(y),), 1 / tau, systematic, constraint) for x, y in zip(on, off, strict=True)])
    for level in (0.05, 0.01):
        rate = float((p <= level).mean())
        assert rate < level + 3 * np.sqrt(level / n)
        assert rate > least * level / 0.05 * 0.5 if level < 0.05 else rate > least


def test_abcd_rejects_no_signal_no_oftener_than_said() -> None:
    rng = np.random.default_rng(12)
    n = 1500
    b, c, d = (rng.poisson(m, n) for m in (60, 60, 200))
    on = rng.poisson(18.0, n)
    p = np.array(
        [cached_p(int(x), (int(i), int(j), int(k)), 1.0, 0.0, "gamma") for x, i, j, k in zip(on, b, c, d, strict=True)]
    )
    for level in (0.05, 0.01):
        assert (p <= level).mean() < level + 3 * np.sqrt(level / n)
    assert (p <= 0.05).mean() > 0.02


def test_folds_of_one_scale_add_up_and_others_keep_mean_and_error() -> None:
    equal = expectation_from_sample([10, 20], scale=[0.5, 0.5])
    assert (dict(equal.counts), equal.scale) == ({"control": 30.0}, 0.5)
    unequal = expectation_from_sample([10, 20], scale=[1.0, 0.1])
    assert unequal.mean == pytest.approx(12.0)
    assert unequal.stat == pytest.approx(np.sqrt(10 + 0.2))
    assert expectation_from_sample([0, 0], scale=[1.0, 0.1]).scale == 1.0


def test_abcd_is_b_c_over_d_with_its_error() -> None:
    found = expectation_from_abcd(20, 30, 60)
    assert found.mean == 10.0
    assert found.stat == pytest.approx(10 * np.sqrt(1 / 20 + 1 / 30 + 1 / 60))


def test_answers_are_json_and_print_in_a_line() -> None:
    found = count(12, expectation_from_abcd(20, 30, 60), systematic=0.2)
    answer = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert (answer["observed"], answer["expected"], answer["systematic_error"]) == (12, 10.0, 2.0)
    assert answer["p_value"] > answer["p_statistical"] > answer["p_known"]
    assert repr(found).startswith("CountingResult(12 events, 10 +- 3.2 (stat) +- 2 (syst) expected, p = ")
    assert len(repr(found).splitlines()) == 1


def test_what_cannot_be_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"C and D is empty \(B = 4, C = 0, D = 0\)"):
        expectation_from_abcd(4, 0, 0)
    good = expectation_from_sample(5, scale=1.0)
    with pytest.raises(InputError, match="did you mean 'lognormal'"):
        count(3, good, constraint="lognorm")
    with pytest.raises(InputError, match=r"relative and lies in \[0, 1\]; found 10"):
        count(3, good, systematic=10)
    with pytest.raises(InputError, match="whole numbers"):
        count(2.5, good)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="whole numbers"):
        count(-1, good)
    with pytest.raises(InputError, match="scale of a background sample is a positive number"):
        expectation_from_sample(5, scale=0.0)
    with pytest.raises(InputError, match="0 or more"):
        expectation_from_sample(-5, scale=1.0)


@pytest.mark.parametrize("constraint", ["gamma", "lognormal"])
def test_p_beyond_the_smallest_double(constraint: str) -> None:
    """Against the same integral in arbitrary precision, on a fine grid."""
    mpmath = pytest.importorskip("mpmath")

    with mpmath.workdps(30):
        known = count(2000, expectation_from_sample([1e9], scale=1e-8), systematic=0.0)
        exact = mpmath.log(mpmath.gammainc(2000, 0, 10, regularized=True))
        assert known.p_known == known.p_value == 1e-300
        assert known.z == pytest.approx(float(z_of_log(float(exact))), rel=1e-4)
        assert known.z > 100
        found = count(3000, expectation_from_sample([100], scale=0.1), systematic=0.1, constraint=constraint)
        t = np.linspace(-1, 7, 1601)
        n, width = 100.0, np.log(1.1)
        density = (n + 1) * t - n * np.expm1(t) if constraint == "gamma" else -0.5 * (t / width) ** 2
        tails = [mpmath.betainc(3000, 101, 0, 1 / (1 + mpmath.exp(-s) / 0.1), regularized=True) for s in t]
        weights = [mpmath.exp(d) for d in density]
        whole = mpmath.fsum(w * p for w, p in zip(weights, tails, strict=True)) / mpmath.fsum(weights)
    assert found.log_p == pytest.approx(float(mpmath.log(whole)), rel=1e-6)
    assert found.as_dict()["p_value_is_bound"]
    assert "p < 1e-300" in repr(found)
    assert found.z_pyhf is None or found.z_pyhf > 37.1


def test_an_abcd_expectation_beyond_the_smallest_double() -> None:
    z = [count(n, expectation_from_abcd(100, 100, 1e4)).z for n in (200, 400, 1000, 3000, 20_000)]
    assert z == sorted(z)
    assert z[-1] > 40
    assert z[2] < 37.04 or z[3] > z[2] + 1
