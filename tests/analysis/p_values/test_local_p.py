"""The local p that is quoted: by experiments as far as they reach, then the more careful of a tail fit and the asymptotic one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from hunch.analysis.p_values.local_p import local_p


def uniform(n: int, seed: int = 0) -> np.ndarray:
    return np.log(np.random.default_rng(seed).uniform(size=n))


def test_experiments_speak_where_ten_of_them_reach() -> None:
    # a statistic that is too small by a factor of three
    told = local_p(uniform(5000) - math.log(3), math.log(0.01), math.log(0.02))
    assert told.how == "experiments"
    assert told.p == pytest.approx(0.03, rel=0.25)
    assert told.above == round(told.p * 5001) - 1


def test_beyond_the_experiments_the_larger_of_tail_and_first_choice() -> None:
    experiments = uniform(5000)
    observed = math.log(1e-6)
    tail = local_p(experiments, observed, observed)
    assert tail.how == "tail"
    assert 1e-7 < tail.p < 1e-4
    first = local_p(experiments, observed, math.log(2e-4))
    assert (first.how, first.p) == ("asymptotic", pytest.approx(2e-4))
    assert first.n == 5000


def test_neither_is_quoted_above_the_experiments_own_limit() -> None:
    told = local_p(uniform(5000), math.log(1e-6), math.log(0.05))
    assert told.how == "upper limit"
    assert told.p == pytest.approx(3 / 5000, rel=0.01)


def test_a_bump_of_six_sigma_does_not_end_at_one_over_n() -> None:
    observed = float(stats.norm.logsf(6.0))
    told = local_p(uniform(1000), observed, observed)
    assert told.p < 1e-6
    assert told.z < 6.01


@pytest.mark.parametrize("log_p", [-800.0, -5000.0])
def test_a_z_does_not_end_where_p_does(log_p: float) -> None:
    # the tail of uniform p carries on with slope 1, to the error of its 250 excesses
    told = local_p(uniform(5000), log_p, log_p)
    assert told.log_p == pytest.approx(log_p, rel=0.25)
    assert told.z > 38
    assert told.p == 1e-300


def test_few_experiments_leave_the_asymptotic_one() -> None:
    told = local_p(uniform(20), math.log(1e-3), math.log(1e-3))
    assert (told.how, told.p) == ("asymptotic", pytest.approx(1e-3))
    assert "asymptotic" in repr(told)
    beyond = local_p(uniform(20), -5000.0, -5000.0)
    assert beyond.p == 1e-300
    assert beyond.z == pytest.approx(math.sqrt(2 * 5000), rel=0.01)
