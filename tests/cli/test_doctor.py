"""`enoto doctor` names what is missing and how to fix it."""

import jax
import pytest

from enoto_jax.cli import command, doctor
from enoto_jax.cli.command import define_only


def call(capsys) -> tuple[int, dict[str, list[str]]]:
    define_only(doctor)
    code = command.execute(doctor.main, ["doctor"])
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    return code, {word: [rest for w, rest in lines if w == word] for word, _ in lines}


@pytest.fixture(autouse=True)
def only_one_renderer(monkeypatch):
    """Try one renderer, because each starts a process; MuJoCo does not know its name."""
    monkeypatch.setattr(doctor, "RENDERERS", {"nonsense": "buy a display"})


def test_this_machine_can_train(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    (tmp_path / "one.hdf5").touch()
    monkeypatch.setattr(
        doctor,
        "OPTIONAL",
        (
            doctor.Extra("no-such-package", "nothing", ("x",), "pip install it"),
            doctor.Extra("numpy", "numbers", ("numpy", "no_such_module"), "pip install more"),
        ),
    )
    monkeypatch.setattr(doctor, "packages", lambda: iter(()))  # another test checks them
    code, found = call(capsys)
    assert code == command.DONE and "MISSING" not in found
    names = {line.split(":")[0] for line in found["OK"]}
    assert {"Python", "devices", "memory", "disk", "physics", "update", "D4RL's data"} <= names
    assert any(line.endswith(", 1 file") for line in found["OK"])
    assert any("none works" in x and "buy a display" in x for x in found["optional"])
    assert "no-such-package: not installed (nothing); pip install it" in found["optional"]
    (line,) = [x for x in found["optional"] if x.startswith("numpy: ")]
    assert "No module named 'no_such_module'" in line and line.endswith("; pip install more")


def test_what_is_missing_is_said_and_ends_with_2(capsys, monkeypatch):
    def no_devices():
        raise RuntimeError("Unable to initialize backend 'tpu'")

    monkeypatch.setattr(jax, "devices", no_devices)
    monkeypatch.setattr(doctor.memory, "available", lambda: 2**20)
    for name in ("physics", "rendering", "extras", "update"):
        monkeypatch.setattr(doctor, name, lambda: iter(()))
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: ["numpy>=99", "x-y-z>=1"])
    code, found = call(capsys)
    assert code == command.BAD_INPUT
    said = "\n".join(found["MISSING"])
    assert "Unable to initialize backend 'tpu'; unset JAX_PLATFORMS" in said
    assert "numpy>=99 (found" in said and "x-y-z>=1 (found none); python -m pip install" in said
    assert "memory: 0.0 GiB free; close other programs" in said
