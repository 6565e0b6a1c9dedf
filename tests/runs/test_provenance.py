"""What config.json records about the program; it must be right and must never fail."""

import subprocess

import pytest

import enoto_jax
from enoto_jax.runs import provenance


@pytest.fixture
def checkout(tmp_path):
    """A repository with one commit, and its hash."""

    def git(*arguments):
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        done = subprocess.run(
            ["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init", "-q")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-q", "-m", "first")
    return tmp_path, git("rev-parse", "HEAD")


def test_the_commit_of_a_checkout(checkout):
    folder, head = checkout
    assert provenance.commit(folder) == head
    (folder / "new").write_text("a file that is not tracked changes no program")
    assert provenance.commit(folder) == head
    (folder / "file").write_text("two")
    assert provenance.commit(folder) == f"{head}-dirty"


def test_no_checkout(tmp_path, checkout):
    (tmp_path / "installed").mkdir()  # inside a repository, but not at its root
    assert provenance.commit(tmp_path / "installed") is None


def test_without_git(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert provenance.commit(checkout[0]) is None


def test_found():
    found = provenance.found()
    assert found["package_version"] == enoto_jax.__version__
    assert {"python", "jax", "mujoco"} <= set(found["versions"]) and "cpu" in found["device"]
