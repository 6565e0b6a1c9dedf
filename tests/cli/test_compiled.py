"""Where compiled programs are kept, and that an unwritable home folder breaks nothing."""

import os

import jax
import pytest

from enoto_jax.cli import compiled
from enoto_jax.types import InputError


@pytest.fixture(autouse=True)
def nowhere_yet(monkeypatch):
    """Imitate JAX's settings in a new process; return a dictionary of the settings made."""
    told = {}
    monkeypatch.setattr(jax.config, "update", told.__setitem__)
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.setattr(compiled, "jax", _Jax(told, before))
    return told


class _Jax:
    def __init__(self, told, before):
        self.config = self
        self.values = {"jax_compilation_cache_dir": None}
        self._told = told

    def update(self, name, value):
        self._told[name] = value


def test_by_default_in_the_users_cache(monkeypatch, tmp_path, nowhere_yet, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiled.keep(None)
    folder = nowhere_yet["jax_compilation_cache_dir"]
    assert folder.startswith(str(tmp_path / "enoto_jax" / "compiled")) and os.path.isdir(folder)
    assert capsys.readouterr() == ("", "")


def test_what_the_surroundings_say_counts(monkeypatch, tmp_path, nowhere_yet):
    monkeypatch.setitem(compiled.jax.values, "jax_compilation_cache_dir", str(tmp_path))
    compiled.keep(None)
    assert nowhere_yet == {}


def test_none(nowhere_yet):
    compiled.keep("none")
    assert nowhere_yet == {"jax_enable_compilation_cache": False}


def test_a_home_that_cannot_be_written(monkeypatch, tmp_path, nowhere_yet, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    compiled.keep(None)
    assert nowhere_yet == {}
    assert "compiled programs are not kept" in capsys.readouterr().err


def test_a_folder_that_was_given_and_cannot_be_written(tmp_path, nowhere_yet):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="--compilation_cache: .*file/x cannot be written"):
        compiled.keep(str(tmp_path / "file" / "x"))
