"""Jet images against prongs placed by hand, a loop over jets with histogram2d, and what must not change them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hunch.errors import InputError
from hunch.processors import images as images_module
from hunch.processors.constituents import (
    ConstituentsError,
    JetConstituents,
    constituents_of,
    flat_constituents,
    jagged_constituents,
    padded_constituents,
)
from hunch.processors.events import Candidates
from hunch.processors.images import IMAGE_AXES, ImageSettings, ImageSettingsError, jet_images
from hunch.processors.substructure import leading_jets, momenta

if TYPE_CHECKING:
    from collections.abc import Callable

Float = npt.NDArray[np.float64]
Jet = list[tuple[float, float, float]]

THREE_PRONGS: Jet = [(400.0, 0.0, 0.46), (200.0, -0.11, -0.46 * 4 / 3), (100.0, 0.22, -0.46 * 4 / 3)]
"""Upright as the conventions have it: centroid 0, no <xy>, most pT at phi > 0, and of the rest at eta < 0."""
SEEDS = st.integers(0, 2**32 - 1)


def jets_of(jets: list[Jet]) -> JetConstituents:
    flat = np.array([point for jet in jets for point in jet], dtype=np.float64).reshape(-1, 3)
    return flat_constituents(flat[:, 0], flat[:, 1], flat[:, 2], [len(jet) for jet in jets])


def random_jets(rng: np.random.Generator, n: int = 40) -> JetConstituents:
    """Make lopsided jets of 3 to 60 constituents, a third of them across phi = +-pi."""
    counts = rng.integers(3, 60, n)
    m = counts.sum()
    pt = rng.exponential(20.0, m) + 0.5
    spread = rng.normal(0.0, [[0.15], [0.35]], (2, m)) * rng.choice([0.3, 1.0], m)
    axis = np.repeat(rng.choice([-3.1, 0.4, 3.0], n), counts)
    return flat_constituents(pt, 1.3 + spread[0], wrapped(axis + spread[1] + 0.4 * spread[0]), counts)


def wrapped(phi: Float) -> Float:
    return (phi + np.pi) % (2 * np.pi) - np.pi


def moved(
    jets: JetConstituents, *, angle: float = 0.0, mirror: bool = False, eta: float = 0.0, phi: float = 0.0
) -> JetConstituents:
    """Turn every jet about a point inside it, mirror eta, then shift; azimuths are wrapped again."""
    jet = np.repeat(np.arange(len(jets.offsets) - 1), np.diff(jets.offsets))
    first = jets.offsets[:-1][jet]
    x, y = jets.eta - jets.eta[first], wrapped(jets.phi - jets.phi[first])
    x = -x if mirror else x
    cos, sin = np.cos(angle), np.sin(angle)
    turned = x * cos - y * sin, x * sin + y * cos
    return JetConstituents(
        jets.offsets, jets.pt, jets.eta[first] + turned[0] + eta, wrapped(jets.phi[first] + turned[1] + phi)
    )


def by_loop(jets: JetConstituents, settings: ImageSettings) -> Float:
    """Make the images again, one jet at a time, with circular means, eigenvectors and numpy's 2-d histogram."""
    made = []
    for a, b in zip(jets.offsets[:-1], jets.offsets[1:], strict=True):
        pt, eta, phi = jets.pt[a:b], jets.eta[a:b], jets.phi[a:b]
        around = np.angle((pt * np.exp(1j * phi)).sum())
        x, y = eta - np.average(eta, weights=pt), np.angle(np.exp(1j * (phi - around)))
        y -= np.average(y, weights=pt)
        if settings.rotate:
            axis = np.linalg.eigh(np.cov(np.stack([x, y]), aweights=pt))[1][:, 1]
            axis = axis * (1 if axis[1] > 0 else -1)
            x, y = x * axis[1] - y * axis[0], x * axis[0] + y * axis[1]
        if settings.flip:
            x = x if pt[x < 0].sum() > pt[x > 0].sum() else -x
            y = y if pt[y > 0].sum() > pt[y < 0].sum() else -y
        edges = [np.linspace(-half, half, settings.pixels + 1) for half in (settings.half_phi, settings.half_eta)]
        image = np.histogram2d(y, x, bins=edges, weights=pt)[0]
        made.append(image / image.sum() if settings.normalise else image)
    return np.array(made)


def prongs(image: Any) -> dict[tuple[int, int], float]:
    return {(int(r), int(c)): float(image[r, c]) for r, c in zip(*np.nonzero(image), strict=True)}


def test_two_prongs_by_hand() -> None:
    """300 and 100 GeV, 0.9 apart in eta, across phi = pi: upright, the harder one 0.225 above the centre."""
    result = jet_images(jets_of([[(100.0, 1.4, 3.14159), (300.0, 0.5, -3.14159)]]))
    assert result.images.shape == (1, 40, 40)
    assert prongs(result.images[0]) == {(24, 20): 0.75, (6, 20): 0.25}
    assert IMAGE_AXES == ("jet", "phi", "eta")


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("angle", [0.0, 0.7, 1.5, 2.2, 3.1, 4.4, 5.9])
def test_three_prongs_by_hand_however_they_are_turned(angle: float, mirror: bool) -> None:
    result = jet_images(moved(jets_of([THREE_PRONGS]), angle=angle, mirror=mirror, eta=-1.1, phi=3.0))
    expected = {(29, 20): 4 / 7, (7, 17): 2 / 7, (7, 24): 1 / 7}
    assert prongs(result.images[0]) == pytest.approx(expected, rel=1e-6)


def test_rounding_does_not_choose_the_pixel_of_prongs_in_a_row(rng: np.random.Generator) -> None:
    """Upright they all lie on the edge between two columns, and the middle one on that between two rows."""
    n = 1000
    angle, length = rng.uniform(0, 2 * np.pi, (n, 1)), np.array([0.425, 0.0, -0.425])
    eta = rng.uniform(-2, 2, (n, 1)) + length * np.cos(angle)
    phi = wrapped(rng.uniform(-np.pi, np.pi, (n, 1)) + length * np.sin(angle))
    result = jet_images(padded_constituents(np.stack([np.full((n, 3), 50.0), eta, phi], axis=2)))
    assert result.cutflow["kept"] == n
    assert prongs(result.images[0]) == pytest.approx({(28, 20): 1 / 3, (20, 20): 1 / 3, (11, 20): 1 / 3})
    assert (result.images == result.images[0]).all()


def test_azimuths_are_relative_to_the_hardest_constituent() -> None:
    """The soft ones are more than pi from each other: seen from one of them, the other would be on the wrong side."""
    settings = ImageSettings(half_phi=3.0, rotate=False, flip=False)
    result = jet_images(jets_of([[(30.0, 0.0, 1.9), (120.0, 0.0, 0.0), (30.0, 0.0, -1.9)]]), settings=settings)
    assert prongs(result.images[0]) == pytest.approx({(32, 20): 1 / 6, (20, 20): 4 / 6, (7, 20): 1 / 6})


def test_pixels_are_sums_and_padding_erases_nothing() -> None:
    jet: Jet = [(10.0, 0.0, 0.0), (20.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, np.nan, 0.0), (30.0, 0.0, 0.72)]
    result = jet_images(jets_of([jet]), settings=ImageSettings(normalise=False))
    assert sorted(prongs(result.images[0]).values()) == [30.0, 30.0]
    assert result.cutflow["kept"] == 1


@pytest.mark.parametrize("rotate", [False, True])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("normalise", [False, True])
def test_agrees_with_a_loop_over_jets(rotate: bool, flip: bool, normalise: bool, rng: np.random.Generator) -> None:
    jets = random_jets(rng)
    for grid in (ImageSettings(), ImageSettings(pixels=17, half_eta=0.3, half_phi=0.5)):
        settings = dataclasses.replace(grid, rotate=rotate, flip=flip, normalise=normalise)
        result = jet_images(jets, settings=settings)
        assert result.cutflow["kept"] == 40
        np.testing.assert_allclose(result.images, by_loop(jets, settings), rtol=1e-6, atol=1e-12)


@given(SEEDS, st.floats(-10, 10), st.booleans(), st.floats(-3, 3), st.floats(-50, 50))
def test_rotation_reflection_and_translation_change_nothing(
    seed: int, angle: float, mirror: bool, eta: float, phi: float
) -> None:
    jets = random_jets(np.random.default_rng(seed), 5)
    before = jet_images(jets)
    after = jet_images(moved(jets, angle=angle, mirror=mirror, eta=eta, phi=phi))
    np.testing.assert_allclose(after.images, before.images, atol=1e-7)
    np.testing.assert_array_equal(after.outside, before.outside)


@given(SEEDS)
def test_the_order_of_constituents_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    jets = random_jets(rng, 5)
    order = np.concatenate([a + rng.permutation(b - a) for a, b in np.stack([jets.offsets[:-1], jets.offsets[1:]], 1)])
    shuffled = JetConstituents(jets.offsets, jets.pt[order], jets.eta[order], jets.phi[order])
    np.testing.assert_allclose(jet_images(shuffled).images, jet_images(jets).images, atol=1e-7)


def test_chunks_and_the_order_of_jets_do_not_matter(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    jets = random_jets(rng)
    lists = [ak.unflatten(v, np.diff(jets.offsets)) for v in (jets.pt, jets.eta, jets.phi)]
    whole = jet_images(jets)
    order = rng.permutation(40)
    np.testing.assert_array_equal(
        jet_images(jagged_constituents(*(v[order] for v in lists))).images, whole.images[order]
    )
    parts = [jet_images(jagged_constituents(*(v[a : a + 7] for v in lists))) for a in range(0, 40, 7)]
    np.testing.assert_array_equal(np.concatenate([p.images for p in parts]), whole.images)
    np.testing.assert_array_equal(np.concatenate([p.outside_pt for p in parts]), whole.outside_pt)
    for batch in (1, 3, 40):
        monkeypatch.setattr(images_module, "BATCH", batch)
        again = jet_images(jets)
        np.testing.assert_array_equal(again.images, whole.images)
        np.testing.assert_array_equal(again.jet, np.arange(40))


@given(SEEDS, st.floats(0.05, 1.5))
def test_pt_is_conserved(seed: int, half: float) -> None:
    jets = random_jets(np.random.default_rng(seed), 8)
    settings = ImageSettings(half_eta=half, half_phi=half, normalise=False)
    result = jet_images(jets, settings=settings)
    unit = jet_images(jets, settings=dataclasses.replace(settings, normalise=True))
    total = np.add.reduceat(jets.pt, jets.offsets[:-1])[result.jet]
    sums = result.images.sum(axis=(1, 2), dtype=np.float64)
    np.testing.assert_allclose(sums, total * (1 - result.outside_pt), rtol=1e-6)
    np.testing.assert_allclose(unit.images.sum(axis=(1, 2), dtype=np.float64), 1.0, rtol=1e-6)
    np.testing.assert_allclose(unit.images * sums[:, None, None], result.images, rtol=1e-5)
    assert (result.images >= 0).all()


def test_centroid_axis_and_bright_sides_of_the_images(rng: np.random.Generator) -> None:
    """With pixels much finer than the jet, the moments of the image are those that were asked for."""
    settings = ImageSettings(pixels=400, half_eta=2.0, half_phi=2.0)
    result = jet_images(random_jets(rng), settings=settings)
    assert (result.outside == 0).all()
    grid = (np.arange(400) + 0.5) * 0.01 - 2.0
    images = result.images.astype(np.float64)
    rows, columns = images.sum(axis=2), images.sum(axis=1)
    assert np.abs(rows @ grid).max() < 0.005
    assert np.abs(columns @ grid).max() < 0.005
    xy = np.einsum("nrc,r,c->n", images, grid, grid)
    yy, xx = rows @ grid**2, columns @ grid**2
    assert (np.abs(xy) < 0.02 * yy).all()
    assert (yy > xx).all()
    assert (rows[:, 200:].sum(axis=1) > 0.5).all()
    assert (columns[:, :200].sum(axis=1) > 0.5).all()


def test_jets_without_an_axis_or_a_brighter_side_are_left_as_they_are() -> None:
    triangle: Jet = [
        (50.0, 0.3 * np.sin(a), 1.0 + 0.3 * np.cos(a)) for a in (0.5, 0.5 + 2 * np.pi / 3, 0.5 - 2 * np.pi / 3)
    ]
    alone: Jet = [(50.0, 0.3, 1.0)]
    same: Jet = [(50.0, 0.3, 1.0)] * 3
    result = jet_images(jets_of([triangle, alone, same]), settings=ImageSettings(flip=False))
    plain = jet_images(jets_of([triangle]), settings=ImageSettings(flip=False, rotate=False))
    np.testing.assert_array_equal(result.images[0], plain.images[0])
    assert prongs(result.images[1]) == prongs(result.images[2]) == {(20, 20): 1.0}
    even: Jet = [(100.0, 0.1, 0.46), (50.0, 0.1, -0.21), (50.0, 0.1, -0.71)]
    upside_down: Jet = [(pt, eta, -phi) for pt, eta, phi in even]
    result = jet_images(jets_of([even, upside_down]))
    assert prongs(result.images[0]) == {(29, 20): 0.5, (15, 20): 0.25, (5, 20): 0.25}
    assert prongs(result.images[1]) == {(10, 20): 0.5, (24, 20): 0.25, (34, 20): 0.25}


@pytest.mark.parametrize("batch", [1, 2, 256])
def test_bad_jets_are_counted_and_leave_their_neighbours_alone(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images_module, "BATCH", batch)
    good: list[Jet] = [[(10.0, 0.1, 0.2), (30.0, 0.3, -0.1), (20.0, -0.2, 0.0)], THREE_PRONGS]
    bad = {
        "unphysical constituents": [
            [(10.0, 0.1, 0.2), (-1.0, 0.1, 0.2)],
            [(np.nan, 0.1, 0.2)],
            [(np.inf, 0.1, 0.2), (10.0, 0.0, 0.0)],
            [(10.0, -np.inf, 0.2), (10.0, 0.0, 0.0)],
            [(10.0, 0.0, np.nan)],
            [(10.0, 0.0, -999.0), (1.0, 0.0, 0.0)],
        ],
        "no constituents": [[], [(0.0, 0.1, 0.2)], [(-0.0, np.nan, 0.2), (0.0, 0.0, 0.0)]],
        "nothing inside the window": [[(50.0, 0.0, -1.2), (50.0, 0.0, 1.2)]],
    }
    every: list[Jet] = [[], good[0], *(jet for jets in bad.values() for jet in jets), good[1], []]
    result = jet_images(jets_of(every))
    assert result.cutflow == {"read": 14} | {name: len(jets) for name, jets in bad.items()} | {
        "no constituents": 5,
        "kept": 2,
    }
    assert result.jet.tolist() == [1, 12]
    np.testing.assert_array_equal(result.images, jet_images(jets_of(good)).images)


def test_what_falls_outside_the_window_is_counted_per_jet() -> None:
    """Upright and normalised with what is left: the soft constituents 1.2 from the hard one are beyond half_phi."""
    jets: list[Jet] = [[(90.0, 0.0, 0.0), (6.0, 1.2, 0.0), (4.0, 1.2, 0.0)], [(90.0, 0.0, 0.0), (10.0, 0.3, 0.0)]]
    result = jet_images(jets_of(jets))
    assert result.outside.tolist() == [2, 0]
    np.testing.assert_allclose(result.outside_pt, [0.1, 0.0], rtol=1e-12)
    assert prongs(result.images[0]) == {(22, 20): 1.0}
    edge = jet_images(jets_of([[(1.0, 0.0, 0.5), (1.0, 0.0, -0.5)]]), settings=ImageSettings(half_phi=0.5))
    assert (edge.outside.tolist(), prongs(edge.images[0])) == ([1], {(0, 20): 1.0})


def test_no_jets_give_no_images() -> None:
    for jets in (
        jets_of([]),
        jets_of([[], []]),
        jagged_constituents([], [], []),
        padded_constituents(np.zeros((0, 9, 3))),
    ):
        result = jet_images(jets, settings=ImageSettings(pixels=7))
        assert result.images.shape == (0, 7, 7)
        assert (len(result.jet), len(result.outside), len(result.outside_pt), result.cutflow["kept"]) == (0, 0, 0, 0)


def test_flat_jagged_and_padded_forms_are_one(rng: np.random.Generator) -> None:
    flat = random_jets(rng)
    counts = np.diff(flat.offsets)
    whole = jet_images(flat).images
    lists = [ak.unflatten(v, counts) for v in (flat.pt, flat.eta, flat.phi)]
    np.testing.assert_array_equal(jet_images(jagged_constituents(*lists)).images, whole)
    np.testing.assert_array_equal(jet_images(jagged_constituents(*(v.to_list() for v in lists))).images, whole)
    padded = np.stack([ak.to_numpy(ak.fill_none(ak.pad_none(v, 70, clip=True), 0.0)) for v in lists], axis=2)
    assert padded.shape == (40, 70, 3)
    np.testing.assert_array_equal(jet_images(padded_constituents(padded)).images, whole)


def test_clustered_jets_keep_their_own_constituents(random_events: Callable[[int], Any]) -> None:
    events = random_events(20)
    flat = np.array([p for event in events for p in event])
    offsets = np.concatenate([[0], np.cumsum([len(e) for e in events])])
    zero = np.zeros(len(flat))
    candidates = Candidates(offsets, flat[:, 0], flat[:, 1], flat[:, 2], zero, None, np.zeros(20, dtype=bool))
    jets = leading_jets(candidates, momenta(candidates))
    result = jet_images(
        constituents_of(jets, candidates), settings=ImageSettings(half_eta=2, half_phi=2, normalise=False)
    )
    assert len(result.jet) == 2 * len(jets.event) > 0
    assert (result.outside == 0).all()
    sums = result.images.sum(axis=(1, 2)).reshape(-1, 2)
    assert (sums >= jets.pt * (1 - 1e-6)).all()  # the scalar sum is at least the vector's
    assert (sums < 1.3 * jets.pt).all()


@given(
    st.lists(
        st.lists(
            st.tuples(
                st.floats(-1.0, allow_infinity=True) | st.sampled_from([0.0, 5e-324, 1e9, 1e38, 1.7e308, 1.0]),
                st.floats() | st.floats(-3, 3),
                st.floats() | st.floats(-7, 7),
            ),
            max_size=5,
        ),
        max_size=5,
    ),
    st.booleans(),
    st.booleans(),
)
def test_any_numbers_give_a_cutflow_that_adds_up(jets: list[Jet], rotate: bool, flip: bool) -> None:
    settings = ImageSettings(rotate=rotate, flip=flip)
    result = jet_images(jets_of(jets), settings=settings)
    in_gev = jet_images(jets_of(jets), settings=dataclasses.replace(settings, normalise=False))
    assert np.isfinite(in_gev.images).all()
    assert in_gev.cutflow == result.cutflow
    counts = dict(result.cutflow)
    assert counts.pop("read") == len(jets) == sum(counts.values())
    np.testing.assert_allclose(result.images.sum(axis=(1, 2), dtype=np.float64), 1.0, rtol=1e-6)
    assert (np.diff(result.jet) > 0).all()
    assert ((result.outside_pt >= 0) & (result.outside_pt < 1 + 1e-12)).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: flat_constituents([1.0, 2.0], [0.1], [0.2, 0.3], [2]), r"pt \(2,\), eta \(1,\), phi \(2,\)"),
        (lambda: flat_constituents([[1.0]], [[0.1]], [[0.2]], [1]), r"pt \(1, 1\)"),
        (lambda: flat_constituents([1.0], [0.1], [0.2], [2]), "from 0 to 2; .* the 1 constituents"),
        (lambda: flat_constituents([1.0], [0.1], [0.2], [2, -1]), "must rise"),
        (lambda: flat_constituents([1.0], [0.1], [0.2], [1.0]), "counts: float64"),
        (lambda: flat_constituents(["high"], [0.1], [0.2], [1]), "pt: holds <U4"),
        (lambda: flat_constituents(np.ma.masked_equal([1.0], 1.0), [0.1], [0.2], [1]), "pt: has missing"),
        (lambda: JetConstituents(np.array([0.0, 1.0]), *(np.ones(1),) * 3), r"offsets: float64 of shape \(2,\)"),
        (lambda: JetConstituents(np.array([1, 1]), *(np.ones(1),) * 3), "from 1 to 1"),
        (lambda: jagged_constituents([[1.0], [2.0, 3.0]], [[1.0], [2.0]], [[1.0], [2.0, 3.0]]), "eta: jet 1 has 1"),
        (lambda: jagged_constituents([[1.0]], [[1.0]], [[1.0], []]), "phi: 2 jets where pt has 1"),
        (lambda: jagged_constituents([1.0], [1.0], [1.0]), "pt: 1 \\* float64; one list"),
        (lambda: jagged_constituents([[1.0], 2.0], [[1.0]], [[1.0]]), "pt: 2 \\* union.*; one list"),
        (lambda: jagged_constituents([[object()]], [[1.0]], [[1.0]]), "pt: one list of numbers a jet"),
        (lambda: jagged_constituents([[1.0]], [[None]], [[1.0]]), "eta: has missing"),
        (lambda: jagged_constituents([[1.0]], [[1.0]], [None]), "phi: has missing"),
        (lambda: padded_constituents(np.zeros((4, 3))), r"shape \(4, 3\); \(n_jets, c, 3\)"),
        (lambda: padded_constituents(np.zeros((4, 9, 4))), r"shape \(4, 9, 4\)"),
        (lambda: padded_constituents([[[1.0, 2.0, 3.0]], []]), "constituents: is no array of numbers"),
        (lambda: padded_constituents(np.ma.masked_equal(np.ones((1, 1, 3)), 1.0)), "constituents: has missing"),
    ],
)
def test_arrays_that_do_not_fit_are_errors(make: Callable[[], Any], message: str) -> None:
    assert issubclass(ConstituentsError, InputError)
    with pytest.raises(ConstituentsError, match=message):
        make()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pixels": 0}, "pixels: 0"),
        ({"pixels": 40.0}, "pixels: 40.0"),
        ({"pixels": True}, "pixels: True"),
        ({"half_eta": 0.0}, "half_eta: 0.0"),
        ({"half_eta": 1e-300}, "half_eta: 1e-300"),
        ({"half_phi": -1.0}, "half_phi: -1.0"),
        ({"half_phi": np.nan}, "half_phi: nan"),
        ({"half_eta": np.inf}, "half_eta: inf"),
        ({"half_eta": "wide"}, "half_eta: 'wide'"),
        ({"flip": "no"}, "flip: 'no' is neither True nor False"),
    ],
)
def test_impossible_settings_are_errors(options: dict[str, Any], message: str) -> None:
    assert issubclass(ImageSettingsError, InputError)
    with pytest.raises(ImageSettingsError, match=message):
        ImageSettings(**options)
