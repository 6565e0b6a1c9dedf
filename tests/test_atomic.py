"""A file is replaced completely or not at all."""

import os

import pytest

from enoto_jax.atomic import written_whole


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "policy.npz"
    with written_whole(path) as part:
        part.write_text("half")
        assert part.suffix == ".npz" and not path.exists()
        part.write_text("whole")
    assert path.read_text() == "whole" and list(path.parent.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "summary.json"
    path.write_text("old")
    with pytest.raises(OSError, match="disk"), written_whole(path) as part:
        part.write_text("half")
        raise OSError("the disk is full")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_it_is_on_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done, sync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda *x: (done.append("sync"), sync(*x)))
    monkeypatch.setattr(os, "replace", lambda *x: (done.append("replace"), replace(*x)))
    with written_whole(tmp_path / "a.csv") as part:
        part.touch()
    assert done == ["sync", "replace"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError), written_whole(tmp_path / "file" / "a.csv"):
        pass
