"""Sets of constituents: four-vectors in the jet's frame, their invariances, and what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from hunch.errors import InputError
from hunch.processors import (
    Constituents,
    ConstituentsError,
    JetConstituents,
    Running,
    aligned_four_vectors,
    flat_constituents,
    padded_constituents,
    relative_constituents,
    representation_of,
    run_table,
)
from hunch.processors.alignment import ALIGNMENTS, aligned_momenta

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    Float = npt.NDArray[np.float64]

MOVING = ("longitudinal", "rest_frame")
JETS, MOST = 60, 45
QUIET = Running(executor="iterative", progress=False)


@pytest.fixture
def jets(rng: np.random.Generator) -> Float:
    """Make jets (n, 45, 3) of 1 to 45 constituents anywhere in the detector, across phi = pi too; not ordered."""
    there = np.arange(MOST) < rng.integers(3, MOST + 1, JETS)[:, None]
    axis = rng.uniform([-2.5, -np.pi], [2.5, np.pi], (JETS, 2))
    made = np.zeros((JETS, MOST, 3))
    made[:, :, 0] = rng.exponential(15.0, there.shape) + 0.5
    made[:, :, 1:] = axis[:, None] + rng.normal(0, 0.25, (*there.shape, 2))
    made[:, :, 2] = (made[:, :, 2] + np.pi) % (2 * np.pi) - np.pi
    return np.where(there[:, :, None], made, 0.0)


def moved(jets: Float, *, eta: float = 0.0, phi: float = 0.0) -> Float:
    """Boost along the beam and turn about it."""
    shift = np.array([0.0, eta, phi]) * (jets[:, :, :1] > 0)
    found = jets + shift
    found[:, :, 2] = (found[:, :, 2] + np.pi) % (2 * np.pi) - np.pi
    return np.asarray(found)


def masses(vectors: npt.NDArray[Any]) -> Float:
    total = vectors.astype(np.float64).sum(axis=1)
    return np.sqrt(total[:, 0] ** 2 - (total[:, 1:] ** 2).sum(axis=1))


def angles(vectors: npt.NDArray[Any]) -> tuple[Float, Float]:
    """Return phi and eta (n, k) of momenta, 0 of padding."""
    v = vectors.astype(np.float64)
    return np.arctan2(v[..., 2], v[..., 1]), np.arcsinh(v[..., 3] / np.maximum(np.hypot(v[..., 1], v[..., 2]), 1e-30))


def mean_direction(vectors: npt.NDArray[Any]) -> tuple[Float, Float]:
    phi, eta = angles(vectors)
    weight = vectors[..., 0] / np.maximum(np.hypot(phi, eta), 1e-30)
    return (weight * phi).sum(axis=1), (weight * eta).sum(axis=1)


def by_loop(jet: Float, slots: int) -> Float:
    """Align one jet with matrices: the steps of the released code of arXiv:2007.01850."""
    jet = jet[np.argsort(-jet[:, 0], kind="stable")][:slots]
    jet = jet[jet[:, 0] > 0]
    pt, eta, phi = jet.T
    p = np.stack([pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)])
    turn = np.arctan2(p[2].sum(), p[1].sum())
    c, s = np.cos(turn), np.sin(turn)
    p = np.array([[1, 0, 0, 0], [0, c, s, 0], [0, -s, c, 0], [0, 0, 0, 1]]) @ p
    beta = p[3].sum() / p[0].sum()
    gamma = 1 / np.sqrt(1 - beta**2)
    p = np.array([[gamma, 0, 0, -gamma * beta], [0, 1, 0, 0], [0, 0, 1, 0], [-gamma * beta, 0, 0, gamma]]) @ p
    phi, eta = np.arctan2(p[2], p[1]), np.arcsinh(p[3] / np.hypot(p[1], p[2]))
    r = np.hypot(phi, eta)
    alpha = np.arctan2((eta * p[0] / r).sum(), (phi * p[0] / r).sum())
    c, s = np.cos(alpha), np.sin(alpha)
    p = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, c, s], [0, 0, -s, c]]) @ p
    return np.pad(p.T, ((0, slots - len(jet)), (0, 0)))


def test_jets_are_aligned_as_by_matrices_one_at_a_time(jets: Float) -> None:
    found = aligned_four_vectors(jets)
    assert (found.shape, found.dtype) == ((JETS, 20, 4), np.float32)
    expected = np.stack([by_loop(jet, 20) for jet in jets])
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * expected.max())
    np.testing.assert_array_equal(found[:, :, 0] > 0, np.arange(20) < (jets[:, :, 0] > 0).sum(axis=1)[:, None])


@pytest.mark.parametrize("rotate", [True, False])
@pytest.mark.parametrize("flip", [True, False])
def test_an_aligned_jet_flies_along_x_with_its_own_mass(jets: Float, rotate: bool, flip: bool) -> None:
    found = aligned_four_vectors(jets, slots=MOST, rotate=rotate, flip=flip).astype(np.float64)
    energy, px, py, pz = found.sum(axis=1).T
    assert (px > 0).all()
    assert (np.abs([py, pz]) < 1e-6 * energy).all()
    pt, eta, phi = jets[..., 0], jets[..., 1], jets[..., 2]
    stored = np.stack([pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], axis=-1)
    np.testing.assert_allclose(masses(found), masses(stored), rtol=1e-5)  # energies are in single precision
    inside = aligned_momenta(pt, eta, phi, align="longitudinal", rotate=rotate, flip=flip)
    np.testing.assert_allclose(masses(inside), masses(stored), rtol=1e-9)
    assert (np.abs(inside.sum(axis=1)[:, 2:]) < 1e-12 * energy[:, None]).all()
    along, across = mean_direction(inside)
    if rotate:
        assert (np.abs(across) < 0.05 * energy).all()  # the rotation is of momenta, the direction of angles
        assert np.median(np.abs(across / along)) < 0.02
        assert (along > 0).all() or flip
    if flip:
        assert ((inside[..., 0] * np.sign(inside[..., 2])).sum(axis=1) > 0).all()
        assert ((inside[..., 0] * np.sign(inside[..., 3])).sum(axis=1) < 0).all()


def test_at_rest_a_jet_has_its_mass_for_energy(jets: Float) -> None:
    flying = aligned_four_vectors(jets).astype(np.float64)
    resting = aligned_four_vectors(jets, align="rest_frame").astype(np.float64)
    total = resting.sum(axis=1)
    np.testing.assert_allclose(total[:, 0], masses(flying), rtol=1e-5)
    assert (np.abs(total[:, 1:]) < 1e-6 * total[:, :1]).all()
    np.testing.assert_array_equal(resting[..., 2:], flying[..., 2:])  # a boost along x
    np.testing.assert_allclose(resting[..., 0] ** 2, (resting[..., 1:] ** 2).sum(axis=-1), rtol=1e-5)


def test_a_light_jet_is_brought_to_rest_as_well() -> None:
    narrow = np.array([[[400.0, 0.0, 0.0], [100.0, 0.0, 2e-5]]])
    found = aligned_momenta(*np.moveaxis(narrow, 2, 0), align="rest_frame", rotate=True, flip=False)
    mass = 2 * np.sqrt(400.0 * 100.0) * np.sin(1e-5)
    np.testing.assert_allclose(found[0, :, 0], mass / 2, rtol=1e-9)
    np.testing.assert_allclose(found[0].sum(axis=0)[1:], 0, atol=1e-9 * mass)


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("align", MOVING)
def test_neither_azimuth_nor_boost_nor_order_nor_padding_plays_a_part(
    jets: Float, align: str, flip: bool, rng: np.random.Generator
) -> None:
    options: dict[str, Any] = {"align": align, "flip": flip}
    expected = aligned_four_vectors(jets, **options)
    close = {"rtol": 1e-5, "atol": 1e-6 * float(expected.max())}
    for phi in (0.3, 2.0, np.pi, 5.0):
        np.testing.assert_allclose(aligned_four_vectors(moved(jets, phi=phi), **options), expected, **close)
    for eta in (-3.0, 0.7, 2.0):
        np.testing.assert_allclose(aligned_four_vectors(moved(jets, eta=eta), **options), expected, **close)
    shuffled = rng.permuted(np.arange(MOST)[None].repeat(JETS, axis=0), axis=1)
    np.testing.assert_allclose(
        aligned_four_vectors(np.take_along_axis(jets, shuffled[..., None], axis=1), **options), expected, **close
    )
    wide = np.concatenate([np.full((JETS, 7, 3), [0.0, 9.0, np.nan]), jets], axis=1)
    np.testing.assert_array_equal(aligned_four_vectors(wide, **options), expected)
    more = aligned_four_vectors(jets, slots=70, **options)
    np.testing.assert_array_equal(more[:, :MOST], aligned_four_vectors(jets, slots=MOST, **options))
    assert not more[:, MOST:].any()
    np.testing.assert_array_equal(aligned_four_vectors(padded_constituents(jets), **options), expected)
    np.testing.assert_array_equal(
        aligned_four_vectors(jets[17:18], **options), expected[17:18]
    )  # whatever jets are beside it


def test_constituents_of_one_pt_are_ordered_by_their_angles(rng: np.random.Generator) -> None:
    """Coarsely stored momenta are often the same; which of them come and in which order is no matter of the input's."""
    same = np.stack([np.full(8, 5.0), np.repeat([2.0, 2.1], 4), 3.0 + np.arange(8) % 4 * 0.1], axis=-1)
    expected = aligned_four_vectors(same[None], slots=3)
    axis = {"eta": np.array([2.05]), "phi": np.array([3.15])}
    relative = relative_constituents(padded_constituents(same[None]), slots=3, **axis)
    assert len(np.unique(relative[0], axis=0)) == 3
    for phi in (0.0, 1.0, 3.2):
        other = moved(rng.permutation(same)[None], phi=phi)
        np.testing.assert_allclose(aligned_four_vectors(other, slots=3), expected, atol=1e-5)
        there = {"eta": axis["eta"], "phi": axis["phi"] + phi}
        found = relative_constituents(padded_constituents(other), slots=3, **there)
        np.testing.assert_allclose(found, relative, atol=1e-6)


def test_coarse_momenta_give_the_same_set_in_any_order(jets: Float, rng: np.random.Generator) -> None:
    coarse = jets.copy()
    coarse[..., 0] = np.ceil(jets[..., 0] / 4)  # on average three of one pT
    expected = aligned_four_vectors(coarse)
    shuffled = rng.permuted(np.arange(MOST)[None].repeat(JETS, axis=0), axis=1)
    other = np.take_along_axis(coarse, shuffled[..., None], axis=1)
    for given in (other, padded_constituents(other), padded_constituents(coarse)):
        np.testing.assert_allclose(aligned_four_vectors(given), expected, rtol=1e-5, atol=1e-5)


def test_stored_constituents_give_the_same_vectors_without_their_axis(jets: Float) -> None:
    axis = {"eta": jets[:, 0, 1], "phi": jets[:, 0, 2]}
    stored = relative_constituents(padded_constituents(jets), slots=100, **axis)
    for align in MOVING:
        expected = aligned_four_vectors(jets, align=align)
        np.testing.assert_allclose(aligned_four_vectors(stored, align=align), expected, rtol=1e-3, atol=1e-4)
    as_they_are = aligned_four_vectors(jets, align="none").astype(np.float64)
    np.testing.assert_allclose(aligned_four_vectors(stored, align="none", **axis), as_they_are, rtol=1e-4, atol=1e-4)
    hardest = -np.sort(-jets[..., 0], axis=1)[:, :20]
    np.testing.assert_allclose(np.hypot(as_they_are[..., 1], as_they_are[..., 2]), hardest, rtol=1e-6)


def test_one_constituent_lies_along_x() -> None:
    found = aligned_four_vectors([[[30.0, 1.2, 2.0]]], slots=2, flip=True)
    np.testing.assert_allclose(found, [[[30, 30, 0, 0], [0, 0, 0, 0]]], atol=1e-5)


@pytest.mark.parametrize("turn", [0.0, 0.6, 1.5, 2.9, 4.0])
def test_two_constituents_lie_on_both_sides_of_x(turn: float) -> None:
    """The harder one has the larger weight and lies at phi > 0; across x their momenta balance."""
    apart = 0.3 * np.array([np.sin(turn), np.cos(turn)])
    found = aligned_four_vectors([[[300.0, 0.5, 3.1], [100.0, 0.5 + apart[0], 3.1 + apart[1]]]], slots=2)[0]
    assert found[:, 0].tolist() == pytest.approx([300, 100], rel=0.03)
    np.testing.assert_allclose(found[:, 2], [found[0, 2], -found[0, 2]], rtol=1e-5)
    assert found[0, 2] == pytest.approx(300 * 100 / 400 * 0.3, rel=0.02)
    assert np.abs(found[:, 3]).max() < 0.02 * found[0, 2]


def test_two_alike_constituents_are_not_turned_by_rounding() -> None:
    pair = np.array([[[50.0, 0.1, 0.2], [50.0, -0.1, -0.2]]])
    expected = aligned_four_vectors(pair, slots=2, rotate=False)
    for eta, phi in ((0.0, 0.0), (0.7, 2.0), (-1.3, 4.0)):
        stored = moved(pair, eta=eta, phi=phi).astype(np.float32)
        np.testing.assert_allclose(aligned_four_vectors(stored, slots=2, flip=False), expected, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_collinear_constituents_lie_along_x_and_have_no_rest_frame(dtype: Any) -> None:
    line = np.array([[[40.0, -2.2, 3.1], [20.0, -2.2, 3.1], [10.0, -2.2, 3.1]]], dtype=dtype)
    found = aligned_four_vectors(line, slots=4, flip=True)
    np.testing.assert_allclose(found[0, :, 0], [40, 20, 10, 0], rtol=1e-6)
    np.testing.assert_allclose(found[0, :, 1], [40, 20, 10, 0], rtol=1e-6)
    np.testing.assert_allclose(found[0, :, 2:], 0, atol=1e-5)
    assert not aligned_four_vectors(line, slots=4, align="rest_frame").any()


@pytest.mark.parametrize("align", ALIGNMENTS)
def test_jets_without_constituents_are_all_zeros(align: str, jets: Float) -> None:
    some = jets.copy()
    some[[0, 7]] = [0.0, np.nan, np.inf]
    for given in (some, padded_constituents(some)):
        found = aligned_four_vectors(given, align=align)
        assert np.flatnonzero(found[:, 0, 0] == 0).tolist() == [0, 7]
        assert not found[[0, 7]].any()
        assert np.isfinite(found).all()
    assert not aligned_four_vectors(np.zeros((2, 0, 3)), align=align).any()
    assert aligned_four_vectors(np.zeros((0, 5, 3)), align=align).shape == (0, 20, 4)
    assert not aligned_four_vectors(flat_constituents([], [], [], [0, 0]), align=align).any()


def test_back_to_back_constituents_have_no_azimuth_and_give_numbers() -> None:
    for align in ALIGNMENTS:
        found = aligned_four_vectors([[[10.0, 0.0, 0.0], [10.0, 0.0, np.pi]]], slots=2, align=align, rotate=False)
        np.testing.assert_allclose(found[0], [[10, 10, 0, 0], [10, -10, 0, 0]], atol=1e-5)


@pytest.mark.parametrize("place", [0, 24, 44])
@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        (0, np.nan, r"pt: jet 12 has a constituent of nan; 0 to 1e\+09 GeV"),
        (0, np.inf, "pt: jet 12 has a constituent of inf"),
        (0, -3.0, "pt: jet 12 has a constituent of -3"),
        (1, np.nan, "eta: jet 12 has a constituent of nan; -100 to 100"),
        (1, 130.0, "eta: jet 12 has a constituent of 130"),
        (2, -np.inf, "phi: jet 12 has a constituent of -inf"),
    ],
)
def test_momenta_that_are_none_are_named_with_their_jet(
    jets: Float, place: int, column: int, value: float, says: str
) -> None:
    jets[12, place] = [1.0, 0.5, 0.5]
    jets[12, place, column] = value
    for given in (jets, jets.astype(np.float32), padded_constituents(jets)):
        with pytest.raises(ConstituentsError, match=says):
            aligned_four_vectors(given)
    zeros = np.zeros(JETS)
    with pytest.raises(ConstituentsError, match=says):
        relative_constituents(padded_constituents(jets), eta=zeros, phi=zeros, slots=5)


def test_the_jet_is_named_beyond_the_first_batch() -> None:
    many = np.tile(np.array([[[2.0, 0.1, 0.1], [1.0, 0.0, 0.0]]]), (2500, 1, 1))
    many[2100, 1, 2] = np.nan
    with pytest.raises(ConstituentsError, match="phi: jet 2100"):
        aligned_four_vectors(many)
    many[2100, 1] = [1e9, 99.0, 0.0]
    many[2100, 0] = [1e9, -99.0, 0.0]
    with pytest.raises(ConstituentsError, match="constituents of jet 2100 are too far apart"):
        aligned_four_vectors(many)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"slots": 0}, "slots: 0 is not a positive whole number"),
        ({"slots": 2.0}, "slots: 2.0"),
        ({"align": "rest_fame"}, "no align 'rest_fame'; did you mean 'rest_frame'"),
        ({"align": None}, "no align 'None'"),
        ({"rotate": "yes"}, "rotate: 'yes' is neither"),
        ({"align": "none", "rotate": True}, "rotate: True needs jets along x"),
        ({"align": "none", "flip": True}, "flip: True needs jets along x"),
        ({"eta": np.zeros(3), "phi": np.zeros(3)}, r"eta of the axes: shape \(3,\); one a jet, \(60,\)"),
        ({"phi": np.full(JETS, np.nan)}, "phi of the axes: jet 0 has nan"),
    ],
)
def test_impossible_alignments_are_refused(jets: Float, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        aligned_four_vectors(jets, **options)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (np.zeros((2, 4)), r"shape \(2, 4\); \(n_jets, c, 3\)"),
        (np.zeros((2, 5, 4)), r"shape \(2, 5, 4\)"),
        ([[["a", "b", "c"]]], "numbers are expected"),
        (np.ma.masked_equal(np.ones((1, 1, 3)), 1.0), "masked"),
    ],
)
def test_what_are_no_constituents_is_refused(given: Any, says: str) -> None:
    with pytest.raises(ConstituentsError, match=says):
        aligned_four_vectors(given)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"coordinates": "four_vector"}, "no coordinates 'four_vector'; did you mean 'four_vectors'"),
        ({"coordinates": ["relative"]}, "no coordinates"),
        ({"align": "longitudinal"}, "align: 'longitudinal' is of coordinates: four_vectors, and they are relative"),
        ({"rotate": True}, "rotate: True is of coordinates: four_vectors"),
        ({"flip": True}, "flip: True is of coordinates: four_vectors"),
        ({"coordinates": "four_vectors", "align": "full"}, "no align 'full'"),
        ({"coordinates": "four_vectors", "align": "none", "rotate": True}, "rotate: True needs jets along x"),
        ({"coordinates": "four_vectors", "align": "none", "flip": True}, "flip: True needs jets along x"),
        ({"coordinates": "four_vectors", "rotate": 1}, "rotate: 1 is neither True nor False"),
        ({"coordinates": "four_vectors", "max_constituents": 0}, "max_constituents: 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        representation_of("constituents", **options)


def test_what_is_not_said_goes_with_the_coordinates() -> None:
    usual, vectors = Constituents(), Constituents(coordinates="four_vectors")
    assert (usual.max_constituents, usual.align, usual.rotate, usual.flip) == (100, "none", False, False)
    assert (vectors.max_constituents, vectors.align, vectors.rotate, vectors.flip) == (20, "longitudinal", True, False)
    lab = Constituents(coordinates="four_vectors", align="none")
    assert lab.rotate is False
    assert repr(usual) == "Constituents()"
    assert repr(vectors) == "Constituents(coordinates='four_vectors')"
    assert repr(lab) == "Constituents(coordinates='four_vectors', align='none')"
    assert usual == Constituents(coordinates="relative", align="none", rotate=False, max_constituents=100)
    for made in (usual, vectors, lab):
        assert representation_of("constituents", **json.loads(json.dumps(made.settings()))) == made


def test_tables_hold_the_four_vectors_of_their_jets(
    random_events: Callable[[int], Any], write_events: Callable[..., Path]
) -> None:
    path = write_events("a.root", random_events(30))
    relative = run_table(path, Constituents(), QUIET)
    for options in ({}, {"max_constituents": 8, "align": "rest_frame", "flip": True}):
        representation = Constituents(coordinates="four_vectors", **options)  # type: ignore[arg-type]
        result = run_table(path, representation, QUIET)
        assert len(result.table) == len(relative.table) > 10
        for column in representation.inputs:
            slots = representation.max_constituents
            assert (result.table[column].shape[1:], result.table[column].dtype) == ((slots, 4), np.float32)
            expected = aligned_four_vectors(
                relative.table[column],
                slots=slots or 0,
                **{k: v for k, v in options.items() if k != "max_constituents"},  # type: ignore[arg-type]
            )
            np.testing.assert_allclose(result.table[column], expected, rtol=1e-3, atol=1e-3)
        many = np.concatenate([relative.table["n_1"], relative.table["n_2"]]) > (representation.max_constituents or 0)
        assert result.table.metadata["truncated_jets"] == many.sum() > 0
        json.dumps(result.table.metadata)


def test_events_with_a_jet_that_has_no_rest_frame_are_counted(write_events: Callable[..., Path]) -> None:
    heavy = [(100.0, 0.0, 0.1), (90.0, 0.2, 0.0), (150.0, 0.3, 3.1), (20.0, 0.5, 3.0)]
    light = [(100.0, 0.0, 0.0), (90.0, 0.2, 3.1), (20.0, 0.5, 3.0)]
    path = write_events("a.root", [light, heavy, light, heavy, []])
    result = run_table(path, Constituents(coordinates="four_vectors", align="rest_frame"), QUIET)
    assert result.table["event"].tolist() == [1, 3]
    assert result.cutflow["a jet without a rest frame"] == 2
    assert sum(n for name, n in result.cutflow.items() if name != "read") == result.cutflow["read"] == 5
    flying = run_table(path, Constituents(coordinates="four_vectors"), QUIET).table
    assert flying["event"].tolist() == [0, 1, 2, 3]
    assert (flying["constituents_1"][:, 0, 0] > 0).all()
    assert isinstance(padded_constituents(np.zeros((0, 1, 3))), JetConstituents)
