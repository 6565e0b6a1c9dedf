"""Hostile files: they point outside their folder, crash HDF5 or exhaust memory."""

import io
import os
import zipfile
import zlib

import h5py
import numpy as np
import pytest

from enoto_jax.data import files, load_source
from enoto_jax.data.check import inspect
from enoto_jax.data.formats import d4rl
from enoto_jax.types import InputError
from experiments.robustness.mutations import Evil


@pytest.fixture
def outside(tmp_path, tiny):
    """A data set in another folder, which must not be read."""
    folder = tmp_path / "outside"
    folder.mkdir()
    with h5py.File(folder / "secret.hdf5", "w") as file:
        for key, array in tiny.items():
            file[key] = array
    return folder / "secret.hdf5"


def virtual(file, key, place, inner, shape=(7, 1)):
    layout = h5py.VirtualLayout(shape, np.float32)
    layout[...] = h5py.VirtualSource(place, inner, shape=shape, dtype=np.float32)
    file.create_virtual_dataset(key, layout)


def neighbour(file, outside, how):
    with h5py.File(os.path.join(os.path.dirname(file.filename), "beside.hdf5"), "w") as beside:
        if how == "link":
            beside["observations"] = h5py.ExternalLink(str(outside), "observations")
        else:
            virtual(beside, "observations", str(outside), "observations")
    virtual(file, "observations", "beside.hdf5", "observations")


def through_a_door(file, outside):
    file["door"] = h5py.ExternalLink(str(outside), "/")
    file["observations"] = h5py.SoftLink("/door/observations")


def each_other(file, outside):
    virtual(file, "observations", ".", "other")
    virtual(file, "other", ".", "observations")


def bomb(file, outside):
    array = file.create_dataset("observations", (7, 1), "f4", chunks=(7, 1), compression="gzip")
    array.id.write_direct_chunk((0, 0), zlib.compress(bytes(2**26)))


HOSTILE = {
    "link": (
        lambda f, o: f.__setitem__("observations", h5py.ExternalLink(str(o), "observations")),
        "observations is a link, which is not followed",
    ),
    "soft link": (through_a_door, "observations is a link"),
    "absolute": (
        lambda f, o: virtual(f, "observations", str(o), "observations"),
        "points at rows of /.*secret.hdf5.*keep these files in the same folder",
    ),
    "relative": (
        lambda f, o: virtual(f, "observations", "outside/secret.hdf5", "observations"),
        "points at rows of outside/secret.hdf5",
    ),
    "neighbour's link": (lambda f, o: neighbour(f, o, "link"), "observations is a link"),
    "neighbour's rows": (lambda f, o: neighbour(f, o, "rows"), "points at rows of /"),
    "raw storage": (
        lambda f, o: f.create_dataset("observations", (7, 1), "f4", external=[(str(o), 0, 28)]),
        "observations keeps its rows in external raw files",
    ),
    "itself": (
        lambda f, o: virtual(f, "observations", ".", "observations"),
        "chain or cycle of virtual arrays",
    ),
    "each other": (each_other, "chain or cycle of virtual arrays"),
    "bomb": (bomb, "observations has a compressed chunk larger than its rows"),
    "virtual trillion": (
        lambda f, o: virtual(f, "observations", ".", "none", (10**12, 100)),
        "header claims 4e[+]05 GB",
    ),
    "huge chunk": (
        lambda f, o: f.create_dataset(
            "observations", (7, 1), "f8", chunks=(2**28, 1), maxshape=(None, 1)
        ),
        "not all were written",
    ),
}


@pytest.mark.parametrize("how", HOSTILE)
def test_hostile_hdf5_is_refused(write, tiny, outside, how):
    del tiny["observations"]
    path = write(tiny)
    make, message = HOSTILE[how]
    with h5py.File(path, "a") as file:
        make(file, outside)
    with pytest.raises(InputError, match=message) as error:
        files.read(d4rl.opened, path)
    assert str(error.value).isprintable()


def test_virtual_rows_of_virtual_rows_beside_it_are_read(write, tiny):
    whole = write(tiny, "whole.hdf5")
    with h5py.File(whole, "a") as file:
        virtual(file, "again", ".", "observations")
    observations = tiny.pop("observations")
    path = write(tiny)
    with h5py.File(path, "a") as file:
        virtual(file, "observations", "whole.hdf5", "again")
    np.testing.assert_array_equal(
        files.read(d4rl.opened, path).arrays["observations"], observations
    )


def test_a_claim_is_weighed_against_the_memory_that_is_left(write, tiny, monkeypatch):
    path = write(tiny)
    monkeypatch.setattr(files, "memory_left", lambda: 10)
    with pytest.raises(InputError, match="this machine has 1e-08 GB of memory left"):
        files.read(d4rl.opened, path)


def npy(header: str, content: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + content


HEADERS = {
    "no end": ("{'descr': '<f4', 'shape': (7,\n'''", "cannot be read"),
    "an indent": ("   1\n 2", "cannot be read"),
    "too many rows": (
        "{'descr': '<f16', 'fortran_order': False, 'shape': (7,)}",
        "rewards claims 7 rows, but some are missing",
    ),
    "a trillion rows": (
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,)}",
        "header claims 4e[+]03 GB",
    ),
}


@pytest.mark.parametrize("what", HEADERS)
def test_hostile_headers_of_npz_are_refused(tmp_path, tiny, what):
    header, message = HEADERS[what]
    path = tmp_path / "set.npz"
    np.savez(path, **{key: array for key, array in tiny.items() if key != "rewards"})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("rewards.npy", npy(header))
    with pytest.raises(InputError, match=message):
        files.read(d4rl.opened, path)


@pytest.mark.parametrize("disguised", [False, True])
def test_objects_are_never_unpickled(tmp_path, tiny, disguised):
    trap, path = tmp_path / "unpickled", tmp_path / "set.npz"
    file = io.BytesIO()
    np.save(file, np.full(7, Evil(trap), object))
    content = file.getvalue()
    if disguised:  # the header claims numbers
        content = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (7,)}", content[128:])
    del tiny["rewards"]
    np.savez(path, **tiny)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("rewards.npy", content)
    try:
        assert len(load_source(path).load()) and disguised
    except InputError as error:
        assert "rewards" in str(error)
    assert not trap.exists()


def test_names_within_an_archive_are_names_alone(tmp_path, tiny):
    np.savez(tmp_path / "set.npz", **{**tiny, "../../x": np.zeros(3), "/etc/x": np.zeros(3)})
    before = sorted(tmp_path.parent.rglob("*"))
    assert len(load_source(tmp_path / "set.npz").load()) == 7
    assert sorted(tmp_path.parent.rglob("*")) == before


def test_lengths_are_compared_also_where_observations_have_none(write, tiny):
    tiny |= {"observations": np.float32(1.0), "timeouts": tiny["timeouts"][:-1]}
    report = inspect(str(write(tiny)), env_id="none")
    texts = " ".join(finding.text for finding in report.findings)
    assert "observations has shape []" in texts and "timeouts has 6 rows but actions has 7" in texts


def test_a_header_that_python_2_wrote_is_read_without_a_word(tmp_path, tiny):
    rewards = tiny.pop("rewards")
    np.savez(tmp_path / "set.npz", **tiny)
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (7L,)}"
    with zipfile.ZipFile(tmp_path / "set.npz", "a") as archive:
        archive.writestr("rewards.npy", npy(header, rewards.tobytes()))
    np.testing.assert_array_equal(
        files.read(d4rl.opened, tmp_path / "set.npz").arrays["rewards"], rewards
    )


def heap_of(path):
    """The bytes of a file, and the offset of its only global heap."""
    content = bytearray(path.read_bytes())
    (heap,) = [i for i in range(len(content)) if content[i : i + 8] == b"GCOL\1\0\0\0"]
    return content, heap


def first_object(content, heap, number, length):
    content[heap + 16 : heap + 18] = number.to_bytes(2, "little")
    content[heap + 24 : heap + 32] = length.to_bytes(8, "little")


# These lengths make libhdf5 advance by 0 bytes, so it reads the same object forever.
STUCK = {"free space of no length": (0, 0), "a length that wraps round": (1, 2**64 - 16)}


@pytest.mark.parametrize("how", STUCK)
@pytest.mark.parametrize("what", ["virtual array", "text"])
def test_a_heap_that_libhdf5_loops_in_is_refused(tmp_path, tiny, what, how):
    path = tmp_path / "set.hdf5"
    with h5py.File(path, "w") as file:
        for key, array in tiny.items():
            if (what, key) == ("virtual array", "observations"):
                file["rows"] = array
                virtual(file, key, ".", "rows", array.shape)
            else:
                file[key] = array
        if what == "text":
            file.attrs["env_id"] = "Hopper-v4"
    load_source(path).load()
    content, heap = heap_of(path)
    first_object(content, heap, *STUCK[how])
    path.write_bytes(content)
    with pytest.raises(
        InputError, match="its heap of strings and virtual arrays is damaged"
    ) as told:
        load_source(path)
    assert str(path) in str(told.value) and "\n" not in str(told.value)


def test_a_damaged_heap_beside_is_refused_too(tmp_path, tiny):
    with h5py.File(tmp_path / "beside.hdf5", "w") as file:
        file["observations"] = tiny["observations"]
        file.attrs["made by"] = "a recorder"
    with h5py.File(tmp_path / "set.hdf5", "w") as file:
        for key, array in tiny.items():
            if key == "observations":
                virtual(file, key, "beside.hdf5", key, array.shape)
            else:
                file[key] = array
    load_source(tmp_path / "set.hdf5").load()
    content, heap = heap_of(tmp_path / "beside.hdf5")
    first_object(content, heap, 0, 0)
    (tmp_path / "beside.hdf5").write_bytes(content)
    with pytest.raises(InputError, match="its heap of strings and virtual arrays is damaged"):
        load_source(tmp_path / "set.hdf5")
