"""A run's folder belongs to one process; without working locks, no other note is removed."""

import errno
import fcntl
import os

import pytest

from enoto_jax.runs.lock import locked
from enoto_jax.types import InputError


def refuse(code):
    def flock(*_):
        raise OSError(code, os.strerror(code))

    return flock


def test_the_process_that_holds_it_says_so_and_takes_its_word_away(tmp_path):
    holder = tmp_path / "checkpoints" / ".holder"
    with locked(tmp_path):
        assert holder.read_text() == str(os.getpid())
        told = f"process {os.getpid()} is using {tmp_path}"
        with pytest.raises(InputError, match=told), locked(tmp_path):
            pass
        assert holder.read_text() == str(os.getpid())
    assert not holder.exists()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_a_note_and_no_word_written_or_removed(tmp_path, monkeypatch, capsys, code):
    monkeypatch.setattr(fcntl, "flock", refuse(code))
    holder = tmp_path / "checkpoints" / ".holder"
    with locked(tmp_path):
        assert not holder.exists()
    assert capsys.readouterr().err == f"{tmp_path} cannot be locked: {os.strerror(code)}\n"
    holder.write_text("12345")  # from a machine where locks work
    with locked(tmp_path):
        assert holder.read_text() == "12345"
    assert holder.read_text() == "12345"


def test_what_is_wrong_inside_comes_out_as_it_is_and_frees_the_folder(tmp_path):
    with pytest.raises(OSError, match="inside"), locked(tmp_path):
        raise OSError(errno.ENOLCK, "inside")
    with locked(tmp_path):
        pass


def test_a_folder_that_cannot_be_written_is_not_one_without_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", refuse(errno.EIO))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)), locked(tmp_path):
        pass
