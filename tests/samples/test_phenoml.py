"""Whole events as CSV and as event files: both dialects, the way back, malformed lines, units, and numbers against Python's own."""

from __future__ import annotations

import gzip
import logging
import math
from decimal import Context, Decimal
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hunch.errors import InputError
from hunch.samples import convert_phenoml, object_writer, write_phenoml
from hunch.samples.phenoml_text import decimal, of_two, shortest, with_power, write_decimal
from hunch.samples.stored_events import open_objects

SYMBOLS = {"j": "Jet", "b": "Jet", "e-": "Electron", "e+": "Electron", "m-": "Muon", "m+": "Muon", "g": "Photon"}
ORDER = ("Jet", "Electron", "Muon", "Photon")


def line(rng: np.random.Generator, number: int, *, leading: int = 5, numbers: int = 4, objects: int = 6) -> str:
    """An event of objects of every symbol by falling pT, in MeV, with six digits."""
    found = []
    pt = np.sort(rng.exponential(8e4, objects) + 2e4)[::-1]
    for own in pt:
        eta, phi, mass = rng.uniform(-2.8, 2.8), rng.uniform(-math.pi, math.pi), rng.choice([0.0, 1e3, 2e4])
        values = [math.hypot(own * math.cosh(eta), mass), own, eta, phi][4 - numbers :]
        found.append(",".join([rng.choice(list(SYMBOLS)), *(f"{value:.6g}" for value in values)]))
    head = [str(number), "ttbar"] if leading == 5 else []
    head += ["1", f"{rng.uniform(1e3, 3e5):.6g}", f"{rng.uniform(-math.pi, math.pi):.6g}"]
    return ";".join([*head, *found])


def lines(rng: np.random.Generator, n: int, **options: int) -> list[str]:
    return [line(rng, 100 + i, objects=int(rng.integers(1, 14)), **options) for i in range(n)]


def write(path: Path, rows: list[str], end: str = ";\n") -> Path:
    path.write_text("".join(row + end for row in rows))
    return path


def read(path: Path) -> ak.Array:
    with uproot.open(path) as file:
        return file["Events"].arrays()


def plain(rows: list[str], *, leading: int = 5, numbers: int = 4) -> list[dict]:
    """What a plain reader of Python makes of lines: GeV, objects of each collection by falling pT."""
    found = []
    for row in rows:
        fields = row.split(";")
        weight, met, phi = map(float, fields[leading - 3 : leading])
        event = {"genWeight": weight, "MET_pt": met / 1e3, "MET_phi": phi, **{name: [] for name in ORDER}}
        for one in fields[leading:]:
            symbol, *values = one.split(",")
            energy, pt, eta, angle = [0.0, *map(float, values)][-4:]
            square = (energy / 1e3) ** 2 - (pt / 1e3 * math.cosh(eta)) ** 2 if numbers == 4 else 0.0
            mass = math.copysign(math.sqrt(abs(square)), square)
            event[SYMBOLS[symbol]].append((pt / 1e3, eta, angle, mass, symbol))
        for name in ORDER:
            event[name].sort(key=lambda one: -one[0])
        found.append(event)
    return found


@pytest.mark.parametrize(("leading", "numbers"), [(5, 4), (3, 3), (5, 3), (3, 4)])
@pytest.mark.parametrize("block_size", [1 << 22, 3000])
def test_events_are_those_of_a_plain_reader(tmp_path, rng, leading, numbers, block_size):
    rows = lines(rng, 60, leading=leading, numbers=numbers)
    source = write(tmp_path / "in.csv", rows)
    report = convert_phenoml(source, tmp_path / "out.root", block_size=block_size, progress=False)
    expected = plain(rows, leading=leading, numbers=numbers)
    found = read(tmp_path / "out.root")
    assert (report.n_events, report.n_malformed, report.n_unordered, report.n_signal) == (60, 0, 0, None)
    assert report.n_particles == sum(len(event[name]) for event in expected for name in ORDER)
    assert report.key == f"{leading} leading fields, {numbers} numbers an object"
    assert found.event.tolist() == [100 + i if leading == 5 else 1 + i for i in range(60)]
    assert "truth_signal" not in found.fields
    for name in ("genWeight", "MET_pt", "MET_phi"):
        np.testing.assert_array_equal(found[name], np.float32([event[name] for event in expected]))
    for name in ORDER:
        assert ak.num(found[f"{name}_pt"]).tolist() == [len(event[name]) for event in expected]
        flat = [one for event in expected for one in event[name]]
        for k, field in enumerate(("pt", "eta", "phi")):
            np.testing.assert_array_equal(ak.flatten(found[f"{name}_{field}"]), np.float32([one[k] for one in flat]))
        if numbers == 4:
            mass = ak.to_numpy(ak.flatten(found[f"{name}_mass"]))
            np.testing.assert_allclose(mass, [one[3] for one in flat], rtol=1e-6, atol=1e-5)
        else:
            assert f"{name}_mass" not in found.fields
        tag = {"Jet": "btag", "Photon": None}.get(name, "charge")
        if tag:
            of = {"j": 0, "b": 1, "e-": -1, "e+": 1, "m-": -1, "m+": 1}
            assert ak.flatten(found[f"{name}_{tag}"]).tolist() == [of[one[4]] for one in flat]


@pytest.mark.parametrize("numbers", [3, 4])
def test_lines_come_back_as_they_went_in(tmp_path, rng, numbers):
    leading = numbers + (1 if numbers == 4 else 0)
    rows = lines(rng, 300, leading=leading, numbers=numbers)
    convert_phenoml(write(tmp_path / "in.csv", rows), tmp_path / "a.root", truth=1, progress=False)
    report = write_phenoml(tmp_path / "a.root", tmp_path / "out.csv", process="ttbar", progress=False)
    assert (report.n_events, report.n_signal) == (300, 300)

    def values(row: str) -> list:
        """The leading fields and the objects by collection, as they are written, each number as a number."""
        fields = row.split(";")
        head = [field if i < leading - 3 else float(field) for i, field in enumerate(fields[:leading])]
        objects = [(one.split(",")[0], *map(float, one.split(",")[1:])) for one in fields[leading:]]
        return [*head, *sorted(objects, key=lambda one: ORDER.index(SYMBOLS[one[0]]))]

    back = (tmp_path / "out.csv").read_text().splitlines()
    assert [values(row) for row in back] == [values(row) for row in rows]
    # and the event file of these lines is the one they were made of
    convert_phenoml(tmp_path / "out.csv", tmp_path / "b.root", truth=1, progress=False)
    first, second = read(tmp_path / "a.root"), read(tmp_path / "b.root")
    for name in set(first.fields) - ({"event"} if numbers == 3 else set()):
        if not name.endswith("_mass"):
            assert ak.all(first[name] == second[name]), name


def test_gzipped_files_are_read_and_written_alike(tmp_path, rng):
    rows = lines(rng, 40)
    packed = tmp_path / "in.csv.gz"
    packed.write_bytes(gzip.compress("".join(f"{row}\n" for row in rows).encode()))
    convert_phenoml(packed, tmp_path / "a.root", progress=False)
    convert_phenoml(write(tmp_path / "in.csv", rows), tmp_path / "b.root", progress=False)
    assert ak.to_list(read(tmp_path / "a.root")) == ak.to_list(read(tmp_path / "b.root"))
    for name in ("out.csv", "out.csv.gz"):
        write_phenoml(tmp_path / "a.root", tmp_path / name, progress=False)
    first = (tmp_path / "out.csv.gz").read_bytes()
    assert gzip.decompress(first) == (tmp_path / "out.csv").read_bytes()
    write_phenoml(tmp_path / "a.root", tmp_path / "out.csv.gz", progress=False)
    assert (tmp_path / "out.csv.gz").read_bytes() == first
    packed.write_bytes(packed.read_bytes()[:-300])
    with pytest.raises(InputError, match=r"in\.csv\.gz: cannot be read"):
        convert_phenoml(packed, tmp_path / "c.root", progress=False)
    assert not (tmp_path / "c.root").exists()


def test_spaces_aliases_endings_and_empty_lines_are_read(tmp_path, caplog):
    rows = [
        "7; zz ;0.5; 50000 ;1.5; j , 70000,60000, 0.5,1 ;mu-,25000,25000,0,1;a,30000,30000,0,2; \r\n",
        "\n",
        "x9;zz;-2e-3;+5e4;-1.5;\n",
        "  \r\n",
        "18446744073709551616;zz;1;1;0;mu+,25e3,25.0e+3,.0,1.;g,1E5,1E5,-0.0,2",
    ]
    (tmp_path / "in.csv").write_text("".join(rows), newline="")
    with caplog.at_level(logging.WARNING):
        report = convert_phenoml(tmp_path / "in.csv", tmp_path / "a.root", truth=0, progress=False)
    found = read(tmp_path / "a.root")
    assert (report.n_events, report.n_empty, report.n_malformed, report.n_signal) == (3, 1, 0, 0)
    assert found.event.tolist() == [7, 3, 5]
    assert found.genWeight.tolist() == np.float32([0.5, -2e-3, 1]).tolist()
    assert found.MET_pt.tolist() == np.float32([50, 50, 1e-3]).tolist()
    assert found.Muon_charge.tolist() == [[-1], [], [1]]
    assert found.Photon_pt.tolist() == [[30.0], [], [100.0]]
    assert found.truth_signal.tolist() == [0, 0, 0]
    assert "1 of 3 events hold no object" in caplog.text


BAD = {
    "1;p;1;5e4;0;j,9e4,8e4,0,nan": "object 1, phi: found 'nan'; allowed: a finite number",
    "1;p;1;5e4;0;j,9e4,1e999,0,0": "object 1, pT: found '1e999'; allowed: a finite number",
    "1;p;1;5e4;0;j,9e4,8e4,0,0;tau,9e4,8e4,0,0": "object 2, symbol: found 'tau'; allowed: j, b, e-, e+, m-, m+, g",
    "1;p;1;5e4;0;j,9e4,-8e4,0,0": "object 1, pT: found '-8e4'; allowed: above 0",
    "1;p;1;5e4;0;j,9e4,0,0,0": "object 1, pT: found '0'; allowed: above 0",
    "1;p;1;5e4;0;j,-9e4,8e4,0,0": "object 1, E: found '-9e4'; allowed: 0 or more",
    "1;p;1;-5e4;0;j,9e4,8e4,0,0": "MET: found '-5e4'; allowed: 0 or more",
    "1;p;1;5e4;0;j,8e4,8e4,0.1,0": "object 1, E: found '8e4', below pT cosh eta",
    "1;p;1;5e4;0;j,9e4,8e4,0": "object 1: found 'j,9e4,8e4,0'; allowed: a symbol and E, pT, eta, phi",
    "1;p;1;5e4;0;j,9e4,8e4,0,0,0": "object 1: found 'j,9e4,8e4,0,0,0'; allowed: a symbol and E, pT, eta, phi",
    "1;p;1;5e4": "has 4 fields; allowed: 5 and then objects",
    "1;p;1;5e4;180": "phi of MET: found '180'; allowed: radians, -2 pi to 2 pi",
    "1;p;one;5e4;0": "weight: found 'one'; allowed: a finite number",
    "1;p;1;5e4;0;j,9e4,1_0,0,0": "object 1, pT: found '1_0'; allowed: a finite number",
    "1;p;1;5e4;0;j,9e4,0x10,0,0": "object 1, pT: found '0x10'; allowed: a finite number",
    "1;p;1;5e4;0;;j,9e4,8e4,0,0": "object 1, symbol: found nothing; a value is expected",
    "1;p;1;5e4;0;j,9e4,8e4,25,0": "object 1, eta: found '25'; allowed: -20 to 20",
    "1;p;1;5e4;0;j,9e11,8e11,0,0": "object 1, E: found '9e11'; allowed: up to 1e+06 GeV",
    "1;5e4;0;j,8e4,0,0;j,8e4,0,0;j,8e4,0,0": "MET: found 'j,8e4,0,0'; allowed: a finite number",
    "1;p;1;5e4;0;j,9e4,,0,0": "object 1, pT: found nothing; a value is expected",
}


@pytest.mark.parametrize("bad", BAD)
def test_a_malformed_line_is_named_with_its_number_and_left_out(tmp_path, rng, caplog, bad):
    rows = lines(rng, 4)
    source = write(tmp_path / "in.csv", [*rows[:2], bad, *rows[2:]])
    with caplog.at_level(logging.WARNING):
        report = convert_phenoml(source, tmp_path / "a.root", progress=False)
    assert (report.n_events, report.n_malformed) == (4, 1)
    assert read(tmp_path / "a.root").event.tolist() == [100, 101, 102, 103]
    assert f"1 of 5 lines are malformed; left out: line 3: {BAD[bad]}" in caplog.text


def test_ten_malformed_lines_are_named_and_most_are_an_error(tmp_path, rng, caplog):
    rows = lines(rng, 40)
    bad = list(BAD)[:12]
    mixed = [row for pair in zip(rows, [*bad, *rows[20:]], strict=False) for row in pair]
    with caplog.at_level(logging.WARNING):
        report = convert_phenoml(
            write(tmp_path / "in.csv", mixed), tmp_path / "a.root", block_size=2000, progress=False
        )
    assert (report.n_events, report.n_malformed) == (len(mixed) - 12, 12)
    assert caplog.text.count("line ") == 10
    assert "line 20: " in caplog.text
    assert ", ... (12 in all)" in caplog.text
    source = write(tmp_path / "most.csv", [*rows[:3], *bad[:4]])
    with pytest.raises(InputError, match="4 of 7 lines are malformed; line 4: object 1, phi: found 'nan'"):
        convert_phenoml(source, tmp_path / "b.root", progress=False)
    assert not (tmp_path / "b.root").exists()


def test_objects_out_of_order_are_sorted_and_counted(tmp_path, caplog):
    rows = [
        "1;p;1;5e4;0;j,4e4,4e4,0,1;b,9e4,9e4,0,2;g,3e4,3e4,0,3;j,6e4,6e4,0,4",
        "2;p;1;5e4;0;j,4e4,4e4,0,1;e-,9e4,9e4,0,2;e+,8e4,8e4,0,3",
    ]
    with caplog.at_level(logging.WARNING):
        report = convert_phenoml(write(tmp_path / "in.csv", rows), tmp_path / "a.root", progress=False)
    found = read(tmp_path / "a.root")
    assert report.n_unordered == 1
    assert "1 of 2 events had objects out of order" in caplog.text
    assert found.Jet_pt.tolist() == [[90.0, 60.0, 40.0], [40.0]]
    assert found.Jet_phi.tolist() == [[2.0, 4.0, 1.0], [1.0]]
    assert found.Jet_btag.tolist() == [[1, 0, 0], [0]]


def test_a_unit_that_the_momenta_speak_against_is_asked_about(tmp_path, rng, caplog):
    rows = [f"{i};p;1;50;0;j,{90 + i},{80 + i},0,0" for i in range(20)]
    source = write(tmp_path / "in.csv", rows)
    with pytest.raises(InputError, match=r"pT of 0\.0895 GeV .* in MeV; .*--unit GeV, or --unit MeV to insist"):
        convert_phenoml(source, tmp_path / "a.root", progress=False)
    assert not (tmp_path / "a.root").exists()
    with caplog.at_level(logging.WARNING):
        convert_phenoml(source, tmp_path / "a.root", unit="GeV", progress=False)
        assert caplog.text == ""
        assert read(tmp_path / "a.root").Jet_pt.tolist() == [[80.0 + i] for i in range(20)]
        assert read(tmp_path / "a.root").MET_pt.tolist() == [50.0] * 20
        convert_phenoml(source, tmp_path / "a.root", unit="MeV", progress=False)
    assert "--unit MeV was asked for" in caplog.text
    assert read(tmp_path / "a.root").Jet_pt[0, 0] == np.float32(0.08)
    large = write(tmp_path / "large.csv", lines(rng, 20))
    with caplog.at_level(logging.WARNING):
        convert_phenoml(large, tmp_path / "b.root", unit="GeV", progress=False)
    assert "--unit GeV was asked for" in caplog.text


def test_what_is_no_such_file_is_refused(tmp_path, rng):
    target = tmp_path / "out.root"

    def refused(text: bytes, says: str, **options: object) -> None:
        (tmp_path / "in.csv").write_bytes(text)
        with pytest.raises(InputError, match=says):
            convert_phenoml(tmp_path / "in.csv", target, progress=False, **options)
        assert not target.exists()

    good = "".join(f"{row}\n" for row in lines(rng, 20)).encode()
    refused(b"", "no event of phenoML in its first lines")
    refused(b"pt,eta\n1,2\n", r"is expected, found 'pt,eta'")
    refused(b"\x00" * 100, "no event of phenoML")
    refused(b"a" * 5000, "line 1 is longer than 4096 bytes", block_size=4096)
    refused(b"1;p;1;x;0\n" * 3, "all of its first 3 lines are malformed; line 1: MET: found 'x'")
    refused(good, "truth = 2", truth=2)
    refused(good, "no unit 'keV'; did you mean 'MeV'", unit="keV")
    refused(good, "block_size = 0", block_size=0)
    with pytest.raises(InputError, match="absent"):
        convert_phenoml(tmp_path / "absent.csv", target, progress=False)
    with pytest.raises(InputError, match="is the file to convert"):
        convert_phenoml(tmp_path / "in.csv", tmp_path / "in.csv", progress=False)


def test_event_files_that_cannot_be_lines_are_refused(tmp_path, rng):
    convert_phenoml(
        write(tmp_path / "in.csv", lines(rng, 5, leading=3, numbers=3)), tmp_path / "a.root", progress=False
    )
    out = tmp_path / "out.csv"

    def refused(source: Path, says: str, **options: object) -> None:
        with pytest.raises(InputError, match=says):
            write_phenoml(source, options.pop("target", out), progress=False, **options)
        assert not out.exists()

    refused(tmp_path / "a.root", "no mass, and so no energy", numbers=4)
    refused(tmp_path / "a.root", "numbers = 5", numbers=5)
    refused(tmp_path / "a.root", "process 'a;b'", process="a;b")
    refused(tmp_path / "a.root", "ends in .csv or .csv.gz", target=tmp_path / "out.txt")
    refused(tmp_path / "absent.root", "no such file")
    refused(tmp_path / "in.csv", "no ROOT file, or damaged")
    record = ak.zip({"pt": [[30.0]], "eta": [[0.0]], "phi": [[0.0]]})
    event = ak.zip({**dict.fromkeys(ORDER, record), "MET_pt": [1.0], "MET_phi": [0.0]}, depth_limit=1)
    with object_writer(tmp_path / "n.root", measured=False, truth=False) as writer:
        writer.write(event, truth_signal=None)
    refused(tmp_path / "n.root", "no branch 'Electron_charge'")
    for value, path in ((np.nan, "nan.root"), (-1.0, "minus.root")):
        bad = ak.with_field(event, ak.zip({"pt": [[value]], "eta": [[0.0]], "phi": [[0.0]]}), "Photon")
        for name in ("Electron", "Muon"):
            bad = ak.with_field(bad, ak.with_field(bad[name], [[1]], "charge"), name)
        with object_writer(tmp_path / path, measured=False, charged=True, photons=True, truth=False) as writer:
            writer.write(bad, truth_signal=None)
        refused(tmp_path / path, r"Photon_\* of 1 events, first entry 0")


def test_chunks_of_an_event_file_are_its_events_by_falling_pt(tmp_path):
    rows = ["1;p;1;5e4;0.5;b,9e4,9e4,0,2;j,4e4,4e4,0,1", "2;p;2;6e4;0;m+,9e4,9e4,0,2", "3;p;1;5e4;0"]
    convert_phenoml(write(tmp_path / "in.csv", rows), tmp_path / "a.root", truth=1, progress=False)
    with open_objects(tmp_path / "a.root") as file:
        assert (file.n_events, file.massive) == (3, True)
        first, second = file.chunks(2)
        assert file.n_signal == 3
    assert first.event.tolist() == [1, 2]
    assert first.scalars.tolist() == [[1.0, 50.0, 0.5], [2.0, 60.0, 0.0]]
    assert first.counts.tolist() == [[2, 0], [0, 0], [0, 1], [0, 0]]
    assert first.kinematics[0, :3].T.tolist() == [[90.0, 0.0, 2.0], [40.0, 0.0, 1.0]]
    assert (first.tags[0].tolist(), first.tags[2, 0]) == ([1, 0], 1)
    assert second.counts.tolist() == [[0]] * 4


def as_bytes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), dtype=np.uint8)


@given(
    sign=st.sampled_from(["", "-", "+"]),
    digits=st.text("0123456789", min_size=1, max_size=24),
    point=st.integers(0, 24),
    exponent=st.none() | st.integers(-330, 330),
    shift=st.sampled_from([0, -3]),
)
@example("", "9007199254740993", 16, None, 0)
@example("", "9007199254740993", 16, 22, 0)
@example("-", "00000", 2, 5, -3)
@settings(max_examples=500, deadline=None)
def test_numbers_are_correctly_rounded(sign, digits, point, exponent, shift):
    text = sign + digits[:point] + "." + digits[point:] + ("" if exponent is None else f"e{exponent}")
    expected = float(Decimal(text).scaleb(shift, Context(prec=60)))
    value, how = decimal(as_bytes(text), 0, len(text), shift)
    assert how in (0, 1)
    if how == 0:
        assert (value, math.copysign(1, value)) == (expected, math.copysign(1, expected))
    assert with_power(text, shift) == expected


def test_seventeen_digits_need_no_help_and_halves_are_left_to_python(rng):
    values = rng.uniform(1e-3, 1e9, 2000).tolist()
    for value in values:
        assert decimal(as_bytes(repr(value)), 0, len(repr(value)), 0) == (value, 0)
    assert of_two(2.0**54, 1.0, 0) == 2.0**54
    assert of_two(2.0**54, 2.0, 0) == 0.0  # half a step away
    assert of_two(2.0**54, 3.0, 0) == 2.0**54 + 4


@pytest.mark.parametrize("text", ["", "-", ".", "e5", "1e", "1e+", "1.2.3", "nan", "inf", "1 2", "0x1", "1f", "1e5.0"])
def test_what_is_no_number_is_told(text):
    assert decimal(as_bytes(text), 0, len(text), 0)[1] == 2


@given(st.floats(width=32, min_value=2.0**-99, max_value=2.0**99), st.sampled_from([0, 3]))
@example(16777216.0, 0)
@example(0.10000000149011612, 0)
@settings(max_examples=500, deadline=None)
def test_written_numbers_are_read_back(value, shift):
    text = np.zeros(64, dtype=np.uint8)
    for signed in (value, -value):
        end = write_decimal(text, 0, signed, shift, 0.0)
        told = bytes(text[:end]).decode()
        assert np.float32(with_power(told, -shift)) == np.float32(signed)
        digits = Decimal(told).normalize().as_tuple().digits
        assert len(digits) <= max(len(Decimal(str(np.float32(value))).normalize().as_tuple().digits), 6)


def test_few_digits_stay_few():
    assert shortest(float(np.float32(0.1)), 0.0) == (1, -1)
    assert shortest(float(np.float32(123.456)), 0.0) == (123456, -3)
    assert shortest(623.24506, 1.5e-7) == (623245, -3)
    assert shortest(623.24506, 1e-9)[0] == 62324506
    text = np.zeros(64, dtype=np.uint8)
    for value, told in (
        (1500.0, "1500000"),
        (0.5, "500"),
        (1.25e-7, "0.000125"),
        (0.0, "0"),
        (3e-12, "3e-9"),
        (2e18, "2e21"),
    ):
        assert bytes(text[: write_decimal(text, 0, float(np.float32(value)), 3, 0.0)]).decode() == told
