"""Check the installation: what works, what does not, and the command that fixes it.

enoto doctor
MUJOCO_GL=egl enoto doctor
enoto doctor && enoto train --budget=smoke

It checks versions, devices, memory, MuJoCo's physics and rendering, data folders, optional
packages, and one compiled update. Exit code 2 means that nothing can be trained here. Missing
packages that only some commands need are listed, but do not change the exit code.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from typing import NamedTuple

import jax
import numpy as np
from packaging.requirements import Requirement

from enoto_jax import core
from enoto_jax.data.download import cache_dir
from enoto_jax.data.formats import minari
from enoto_jax.envs.gym import make_env
from enoto_jax.recipes import examples
from enoto_jax.recipes.building import build
from enoto_jax.recipes.registry import override
from enoto_jax.recipes.table import recipe
from enoto_jax.training import memory
from enoto_jax.types import InputError, Spec, plural

LEAST_MEMORY, LEAST_DISK = 2 * 2**30, 2**30  # bytes: enough for a demo and its checkpoints
IMPORT_S = 60  # time limit for importing a package's modules


class Extra(NamedTuple):
    """A package that only some commands need.

    Attributes:
      name: The package's name.
      purpose: What it is for.
      modules: The modules that must be importable for that.
      mend: The command that installs it.
    """

    name: str
    purpose: str
    modules: tuple[str, ...]
    mend: str


_PIP = "python -m pip install"


def _extra(extra: str, name: str, purpose: str, *modules: str) -> Extra:
    return Extra(name, purpose, modules, f"{_PIP} 'enoto_jax[{extra}]'")


OPTIONAL = (
    _extra("tensorboard", "tensorboardX", "--log=tensorboard", "tensorboardX"),
    _extra("wandb", "wandb", "--log=wandb", "wandb"),
    _extra("minari", "minari", "downloads of Minari's data sets", "minari", "huggingface_hub"),
    _extra("robots", "pyarrow", "LeRobot's data, and Minari's in arrow or parquet", "pyarrow"),
    _extra("robotics", "gymnasium-robotics", "its environments", "gymnasium_robotics"),
    _extra("report", "plotly", "enoto report", "plotly", "jinja2"),
    _extra("video", "imageio-ffmpeg", ".mp4 films", "imageio_ffmpeg"),
    _extra("cluster", "ray", "enoto sweep", "ray", "yaml"),
    _extra("ogbench", "ogbench", "OGBench's environments", "ogbench"),
    _extra("envpool", "envpool", "--envs_backend=envpool", "envpool"),
    Extra(
        "jax2onnx",
        "enoto export --onnx",
        ("jax2onnx", "onnx", "onnxruntime"),
        f"{_PIP} 'enoto_jax[onnx]' && {_PIP} --no-deps jax2onnx==0.17.1",
    ),
)
RENDERERS = {  # MUJOCO_GL -> what installs it
    "egl": "apt-get install libegl1 (and the GPU's driver)",
    "osmesa": "apt-get install libosmesa6",
    "glfw": "needs a display",
}
DRAW = """
import mujoco
model = mujoco.MjModel.from_xml_string('<mujoco><worldbody><geom size="1"/></worldbody></mujoco>')
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 32, 32) as renderer:
    renderer.update_scene(data)
    assert renderer.render().any()
"""


class Line(NamedTuple):
    """One finding: its name, whether it is there, what was seen, and what fixes it."""

    name: str
    there: bool
    seen: str
    mend: str = ""
    needed: bool = True


def define() -> None:
    """Define no flags."""


def main() -> None:
    """Print a line for every check."""
    missing = []
    for check in (
        python,
        packages,
        devices,
        room,
        physics,
        rendering,
        data_folders,
        extras,
        update,
    ):
        for line in check():
            mend = "" if line.there else f"; {line.mend}"
            word = "OK" if line.there else "MISSING" if line.needed else "optional"
            print(f"{word:8} {line.name}: {line.seen}{mend}", flush=True)
            if line.needed and not line.there:
                missing.append(line.name)
    if missing:
        raise InputError(f"this machine cannot train yet: {', '.join(missing)}; see above")
    print("ready to train: enoto train --budget=smoke")


def python() -> Iterator[Line]:
    fits = (3, 11) <= sys.version_info[:2] <= (3, 13)
    yield Line("Python", fits, platform.python_version(), "install Python 3.11, 3.12 or 3.13")


def packages() -> Iterator[Line]:
    """Compare every requirement of this package with what is installed."""
    try:
        wanted = [Requirement(text) for text in metadata.requires("enoto_jax") or ()]
    except metadata.PackageNotFoundError:
        yield Line("enoto_jax", False, "not installed", "python -m pip install --editable .")
        return
    wrong = []
    needed = [w for w in wanted if not (w.marker and "extra" in str(w.marker))]
    for requirement in needed:
        found = version(requirement.name)
        if found is None or not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name}{requirement.specifier} (found {found or 'none'})")
    seen = f"{len(needed)} required, jax {version('jax')}, numpy {version('numpy')}"
    mend = "python -m pip install --editable ."
    yield Line("packages", not wrong, ", ".join(wrong) or seen, mend)


def version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def devices() -> Iterator[Line]:
    try:
        found = jax.devices()
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        yield Line("devices", False, reason, "unset JAX_PLATFORMS, or install the matching jax")
        return
    seen = f"{len(found)} x {found[0].device_kind} ({found[0].platform})"
    yield Line("devices", True, f"{seen}, {plural(os.cpu_count() or 1, 'core')}")
    if found[0].platform == "cpu" and shutil.which("nvidia-smi"):
        mend = "python -m pip install 'jax[cuda12]'"
        yield Line("GPU", False, "nvidia-smi is installed, but jax sees only the CPU", mend, False)


def room() -> Iterator[Line]:
    free = memory.available()
    seen = "unknown" if free is None else f"{free / 2**30:.1f} GiB free"
    mend = "close other programs; lower online.replay.capacity"
    yield Line("memory", free is None or free >= LEAST_MEMORY, seen, mend)
    disk, writable = shutil.disk_usage(".").free, os.access(".", os.W_OK)
    seen = f"{disk / 2**30:.1f} GiB free here" if writable else "this folder cannot be written"
    yield Line("disk", writable and disk >= LEAST_DISK, seen, "change to a folder with room")


def physics() -> Iterator[Line]:
    try:
        env = make_env("Hopper-v4")
        env.reset(seed=0)
        observation = env.step(np.zeros(3, np.float32))[0]
        env.close()
        there, seen = bool(np.isfinite(observation).all()), f"MuJoCo {version('mujoco')} steps"
    except Exception as error:  # a broken simulator may raise anything
        there, seen = False, " ".join(str(error).split())
    yield Line("physics", there, seen, "python -m pip install 'gymnasium[mujoco]'")


def rendering() -> Iterator[Line]:
    """Try each renderer in its own process, because a broken driver ends the process."""
    working = []
    for name in RENDERERS:
        environment = {**os.environ, "MUJOCO_GL": name}
        try:
            done = subprocess.run(
                [sys.executable, "-c", DRAW], env=environment, capture_output=True, timeout=60
            )
        except subprocess.TimeoutExpired:
            continue
        if done.returncode == 0:
            working.append(name)
    seen = f"works with MUJOCO_GL={' or '.join(working)}" if working else "none works (videos)"
    mend = " or ".join(f"{text} for MUJOCO_GL={name}" for name, text in RENDERERS.items())
    yield Line("rendering", bool(working), seen, mend, False)


def data_folders() -> Iterator[Line]:
    for name, folder, mend in (
        ("D4RL's data", cache_dir(), "export D4RL_DATASET_DIR=...; --task fetches what it needs"),
        ("Minari's data", minari.root(), "export MINARI_DATASETS_PATH=..., or minari download"),
    ):
        there = folder.is_dir()
        count = sum(1 for _ in folder.iterdir()) if there else 0
        seen = f"{folder}, {plural(count, 'file')}" if there else f"no {folder}"
        yield Line(name, there, seen, mend, False)


def extras() -> Iterator[Line]:
    """Check that what each package needs can really be imported, in its own process."""
    for name, purpose, modules, mend in OPTIONAL:
        found = version(name)
        broken = None if found is None else unimportable(modules)
        seen = f"{found or 'not installed'} ({purpose}{f'; {broken}' if broken else ''})"
        yield Line(name, found is not None and broken is None, seen, mend, False)


def unimportable(modules: Sequence[str]) -> str | None:
    """Return what goes wrong when these modules are imported, or None."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", f"import {', '.join(modules)}"],
            capture_output=True,
            text=True,
            timeout=IMPORT_S,
        )
    except subprocess.TimeoutExpired:
        return f"its import takes more than {IMPORT_S} s"
    if done.returncode == 0:
        return None
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def update() -> Iterator[Line]:
    """Compile and run one update of tiny networks."""
    spec, begun = Spec(3, 2), time.perf_counter()
    row = override(recipe("sac"), "algorithm.hidden", (8, 8))
    algorithm = build(row, spec).online
    try:
        state = core.init(algorithm, jax.random.key(0))
        batch = examples.transition(spec, algorithm, 4)
        learn: Callable = jax.jit(lambda s, b, k: core.update(algorithm, s, b, k)[0])
        after = learn(state, batch, jax.random.key(1))
        there = all(np.isfinite(x).all() for x in jax.tree.leaves(after.params))
        seen = f"compiled and run in {time.perf_counter() - begun:.1f} s"
    except Exception as error:  # a backend can fail in many ways
        there, seen = False, " ".join(str(error).split())[:300]
    yield Line("update", there, seen, "reinstall jax and jaxlib of one version")
