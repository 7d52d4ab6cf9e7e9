"""The one way messages name what was meant."""

from __future__ import annotations

import pytest

from hunch.config import ConfigError
from hunch.errors import HunchError, InputError, nearest, unknown_name


@pytest.mark.parametrize(
    ("name", "allowed", "expected"),
    [
        ("tau21", ["mjj", "tau21_1", "ntrk_1"], "tau21_1"),
        ("MJJ", ["mJ_1", "mjj"], "mjj"),
        ("zzz", ["mjj", "deta"], None),
        ("x", [], None),
    ],
)
def test_nearest(name: str, allowed: list[str], expected: str | None) -> None:
    assert nearest(name, allowed) == expected


def test_nearest_keeps_the_allowed_spelling() -> None:
    assert nearest("fit_rnage", ["Fit_Range", "masses"]) == "Fit_Range"


def test_message_names_place_wrong_name_guess_and_choices() -> None:
    message = unknown_name("branch", "PFCand_pt", ["MET_pt", "PFCands_pt"], "a.root")
    assert message == "a.root: no branch 'PFCand_pt'; did you mean 'PFCands_pt'? allowed: PFCands_pt, MET_pt"


def test_long_lists_are_cut_and_counted_and_the_guess_is_shown() -> None:
    allowed = [f"column_{i}" for i in range(50)] + ["mjj"]
    message = unknown_name("column", "mj", allowed, limit=5)
    assert "'mjj'" in message
    assert message.endswith("allowed: mjj, column_0, column_1, column_2, column_3, ... (51 in all)")


def test_nothing_allowed_is_said() -> None:
    assert unknown_name("key", "a", []) == "no key 'a'; allowed: none"


@pytest.mark.parametrize("found", [None, 3, ["a"]])
def test_what_is_no_name_has_no_nearest_one(found: object) -> None:
    assert unknown_name("key", found, ["a"]) == f"no key {found!r}; allowed: a"


def test_every_error_of_the_package_has_the_one_base() -> None:
    import hunch.models
    import hunch.processors
    import hunch.samples

    errors = [ConfigError, InputError]
    for room in (hunch.models, hunch.processors, hunch.samples):
        errors += [getattr(room, name) for name in room.__all__ if name.endswith("Error")]
    assert len(errors) > 10
    assert [e for e in errors if not issubclass(e, HunchError)] == []
