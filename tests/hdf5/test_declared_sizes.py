"""What a file declares is compared with what it holds, and no path in it is followed."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest

from hunch.errors import InputError
from hunch.hdf5 import open_hdf5
from hunch.samples import convert_lhco
from hunch.table import read_table

ROWS = 1 << 40


def column(**how: object) -> Callable[[h5py.File], None]:
    return lambda file: file.create_dataset("mjj", **how) and None


def fixed_frame(file: h5py.File) -> None:
    group = file.create_group("df")
    group.attrs["pandas_type"] = np.bytes_("frame")
    group["axis0"] = group["block0_items"] = np.arange(2101)
    group.create_dataset("block0_values", (ROWS, 2101), "f8", chunks=(1000, 2101))


def table_frame(file: h5py.File) -> None:
    group = file.create_group("df")
    group.attrs["pandas_type"] = np.bytes_("frame_table")
    group.attrs["non_index_axes"] = np.bytes_(b"(lp0\n(I1\n(lp1\nVmjj\np2\natp3\na.")
    table = group.create_dataset("table", (ROWS,), [("index", "i8"), ("values_block_0", "f8", (1,))], chunks=(4096,))
    table.attrs["values_block_0_kind"] = np.bytes_(b"(lp0\nVmjj\np1\na.")


def records(file: h5py.File) -> None:
    file.create_dataset("events", (ROWS,), [("mjj", "f8"), ("event", "u8")], chunks=(4096,))


def cut_off(file: h5py.File) -> None:
    file.create_dataset("mjj", (10_000,), "f8", chunks=(1000,))[:7500] = 1.0


def other_lengths(file: h5py.File) -> None:
    file["mjj"], file["event"] = np.ones(3), np.ones(4)


def one_large_chunk(file: h5py.File) -> None:
    """Half a gigabyte that a handful of bytes would have to unpack to."""
    data = file.create_dataset("mjj", (1 << 29,), "u1", chunks=(1 << 29,), compression="gzip")
    data.id.write_direct_chunk((0,), b"packed")


def a_chunk_larger_than_the_table(file: h5py.File) -> None:
    data = file.create_dataset("mjj", (10,), "u1", chunks=(1 << 29,), maxshape=(None,), compression="gzip")
    data.id.write_direct_chunk((0,), b"packed")


DECLARED: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "chunks never written": (
        column(shape=(ROWS,), dtype="f8", chunks=(4096,)),
        r"dataset 'mjj' declares 1,099,511,627,776 values; the file holds 0 of its 268,435,456 chunks",
    ),
    "only a fill value": (column(shape=(ROWS,), dtype="f8", chunks=(1 << 20,), fillvalue=3.0), "holds 0 of its"),
    "never written, one piece": (column(shape=(ROWS,), dtype="f8"), r"of 8,796,093,022,208 bytes; the file holds 0"),
    "a file cut off while it was written": (cut_off, r"declares 10,000 values; the file holds 8 of its 10 chunks"),
    "the fixed layout": (fixed_frame, r"dataset 'df/block0_values' declares 1,099,511,627,776 x 2,101 values"),
    "the table layout": (table_frame, r"dataset 'df/table' declares 1,099,511,627,776 values; the file holds 0 of"),
    "records": (records, r"dataset 'events' declares 1,099,511,627,776 values"),
    "text of a gigabyte": (column(shape=(4,), dtype="S1073741824", chunks=(1,)), "text of 1,073,741,824 bytes"),
    "text of a gigabyte, in records": (
        lambda f: f.create_dataset("e", (4,), [("mjj", "f8"), ("t", "S1073741824")], chunks=(1,)) and None,
        "the file holds 0 of its 4 chunks",
    ),
    "an array of a gigabyte a row": (
        lambda f: f.create_dataset("e", (4,), [("mjj", "f8", (1 << 27,))], chunks=(1,)) and None,
        "the file holds 0 of its 4 chunks",
    ),
    "one chunk": (
        one_large_chunk,
        r"dataset 'mjj': a chunk takes 536,870,912 bytes in memory, the file has [\d,]+; allowed",
    ),
    "a chunk larger than the table": (a_chunk_larger_than_the_table, "a chunk takes 536,870,912 bytes"),
    "columns of different lengths": (other_lengths, "columns differ in length"),
    "no shape": (lambda f: f.create_dataset("mjj", data=h5py.Empty("f8")) and None, "holds neither a pandas table nor"),
}


@pytest.mark.parametrize("name", DECLARED)
def test_what_is_declared_and_not_held_is_refused_before_it_is_allocated(name: str, tmp_path: Path) -> None:
    write, said = DECLARED[name]
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        write(file)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=said) as refused:
        read_table(path)
    assert "x.h5" in str(refused.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_a_conversion_refuses_it_too(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        fixed_frame(file)
    with pytest.raises(InputError, match=r"x\.h5: dataset 'df/block0_values' declares"):
        convert_lhco(tmp_path / "x.h5", tmp_path / "out.root", progress=False)
    assert not (tmp_path / "out.root").exists()


def test_columns_of_one_value_may_shrink_as_they_like(tmp_path: Path) -> None:
    """A million zeros, as a label of background alone is, take a thousandth of their size."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("mjj", data=np.zeros(1_000_000), chunks=(100_000,), **hdf5plugin.Blosc2(cname="zstd"))
    assert (tmp_path / "x.h5").stat().st_size < 40_000
    assert len(read_table(tmp_path / "x.h5")) == 1_000_000


# ------------------------------------------------------------------------------------------ other files


def elsewhere(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["mjj"] = np.linspace(1500.0, 4000.0, 6)
    (tmp_path / "secret.bin").write_bytes(np.linspace(1500.0, 4000.0, 6).tobytes())
    return tmp_path / "secret.h5"


def virtual(file: h5py.File, source: Path) -> None:
    layout = h5py.VirtualLayout(shape=(6,), dtype="f8")
    layout[:] = h5py.VirtualSource(source, "mjj", shape=(6,))
    file.create_virtual_dataset("mjj", layout)


def external_storage(file: h5py.File, source: Path) -> None:
    file.create_dataset("mjj", (6,), "f8", external=[(str(source.with_suffix(".bin")), 0, 48)])


def external_block(file: h5py.File, source: Path) -> None:
    group = file.create_group("df")
    group.attrs["pandas_type"] = np.bytes_("frame")
    group["axis0"] = group["block0_items"] = np.array([b"mjj"])
    group["block0_values"] = h5py.ExternalLink(str(source), "mjj")


def set_link(path: str, link: object) -> Callable[[h5py.File, Path], None]:
    return lambda file, _: file.__setitem__(path, link)


ELSEWHERE: dict[str, tuple[Callable[[h5py.File, Path], None], str]] = {
    "a link to another file": (
        lambda file, source: file.__setitem__("mjj", h5py.ExternalLink(str(source), "mjj")),
        r"'mjj' is a link to '.*secret\.h5:mjj'; no link is followed",
    ),
    "a block that is a link": (external_block, r"'df/block0_values' is a link to '.*secret\.h5:mjj'"),
    "a link deep inside": (set_link("a/b/c", h5py.SoftLink("/mjj")), "'a/b/c' is a link to '/mjj'"),
    "a link to nothing": (set_link("mjj", h5py.SoftLink("/none")), "'mjj' is a link to '/none'"),
    "a virtual dataset": (virtual, "dataset 'mjj' is virtual: its numbers lie in other files"),
    "numbers in another file": (external_storage, "dataset 'mjj' is stored outside: its numbers lie in other files"),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_no_path_of_a_file_is_followed(name: str, tmp_path: Path) -> None:
    write, said = ELSEWHERE[name]
    source = elsewhere(tmp_path)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        write(file, source)
    with pytest.raises(InputError, match=rf"x\.h5: {said}"):
        read_table(tmp_path / "x.h5")


def test_references_are_no_numbers(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["mjj"] = np.ones(2)
        file.create_dataset("ref", data=[file["mjj"].ref] * 2, dtype=h5py.ref_dtype)
        file.create_dataset("region", data=[file["mjj"].regionref[:1]] * 2, dtype=h5py.regionref_dtype)
    for name in ("ref", "region"):
        with pytest.raises(InputError, match=rf"x\.h5: column '{name}' holds references"):
            read_table(tmp_path / "x.h5", columns=[name])
    assert len(read_table(tmp_path / "x.h5", columns=["mjj"])) == 2


# ------------------------------------------------------------------------------------------ many, deep, in circles


def test_groups_in_groups_in_themselves_end(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        group = file
        for _ in range(1000):
            group = group.create_group("g")
        group["up"] = file["/"]
        frame_at = file["g/g"].create_group("df")
        frame_at.attrs["pandas_type"] = np.bytes_("frame")
        frame_at["axis0"] = frame_at["block0_items"] = np.array([b"mjj"])
        frame_at["block0_values"] = np.ones((3, 1))
        frame_at["block0_values"].attrs["transposed"] = 1
    with open_hdf5(tmp_path / "x.h5", expected="a table") as stored:
        assert (stored.key, stored.columns, stored.n_rows) == ("g/g/df", ("mjj",), 3)


@pytest.mark.slow
def test_more_datasets_than_a_table_has_columns_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w", libver="latest") as file:
        empty = file.create_dataset("0", data=np.ones(1))
        for i in range(1, 50_002):
            file[str(i)] = empty
    with pytest.raises(InputError, match="more than 50,000 groups and datasets"):
        read_table(tmp_path / "x.h5")


def test_a_filter_that_nobody_has_is_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("mjj", data=np.ones(6), chunks=(6,), compression="gzip")
    # deflate is filter 1, and LZO, which PyTables alone has, 305
    data = (tmp_path / "x.h5").read_bytes()
    place = data.index(b"\x01\x00\x08\x00\x01\x00\x01\x00deflate")
    (tmp_path / "x.h5").write_bytes(data[:place] + (305).to_bytes(2, "little") + data[place + 2 :])
    with pytest.raises(InputError, match=r"dataset 'mjj' is compressed by the filter 305 \(deflate\), which neither"):
        read_table(tmp_path / "x.h5")
