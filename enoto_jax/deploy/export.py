"""Export a policy as one file that acts without the training code, such as on a robot.

The bundle (a .zip) holds the whole acting computation, from the world's observation to its action.
It holds it as StableHLO for several platforms, and as a list of operations on named arrays, which
the module `numpy_runtime` computes in NumPy; that module is included as policy.py. Both come from
the trace of `Algorithm.mode`, so every row of the table is covered, and so are algorithms of your
own.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from enoto_jax.atomic import written_whole
from enoto_jax.deploy import numpy_runtime
from enoto_jax.runs.files import plain, read_csv
from enoto_jax.runs.policies import Kept, bounds_of, kept
from enoto_jax.transforms import Transform
from enoto_jax.types import Array, InputError

FORMAT = 1
PLATFORMS = ("cpu", "cuda", "tpu")
CHECKED_ON = 256  # random observations on which NumPy and JAX are compared
_OPTIONS = (  # a primitive's parameters that its result depends on
    "axes",
    "axis",
    "broadcast_dimensions",
    "dimension",
    "dimension_numbers",
    "dimensions",
    "limit_indices",
    "new_dtype",
    "new_sizes",
    "permutation",
    "shape",
    "start_indices",
    "strides",
    "y",
)
NO_ONNX = (
    "--onnx: the exporter is not installed; python -m pip install 'enoto_jax[onnx]' and then "
    "python -m pip install --no-deps jax2onnx==0.17.1"
)


def export(
    run: str | os.PathLike,
    out: str | os.PathLike,
    *,
    seed: int | None = None,
    which: str = "latest",
    onnx: bool = False,
) -> dict[str, Any]:
    """Write a run's policy as a bundle, completely or not at all; return its about.json and sizes.

    Args:
      run: The folder of a run, or of an Agent.
      out: The .zip file.
      seed: One of the run's seeds; the first by default.
      which: The checkpoint; see `load_policy`.
      onnx: Add policy.onnx, by jax2onnx.

    Raises:
      InputError: The run, checkpoint or seed does not exist or is damaged, or an exporter is
        missing.
    """
    begun, out = time.perf_counter(), Path(out)
    if out.suffix != ".zip":
        raise InputError(f"--out: {out}; give the name of a .zip file")
    found = kept(Path(run), which, seed)
    low, high = bounds_of(Path(run), len(found.transform.action_shift))
    bundle = files(found, described(Path(run), found), low, high, onnx)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in bundle.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o644 << 16  # others may read what is unzipped
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED)
    try:
        with written_whole(out) as part:
            part.write_bytes(stream.getvalue())
    except OSError as error:
        raise InputError(f"--out: cannot write {out}: {error.strerror}") from error
    about = json.loads(bundle[numpy_runtime.ABOUT])
    size = {"bytes": out.stat().st_size, "seconds": time.perf_counter() - begun}
    return {**about, "content": sha256(bundle[numpy_runtime.SUMS]).hexdigest(), **size}


def load(path: str | os.PathLike, stablehlo: bool = False) -> numpy_runtime.Policy:
    """Load the policy of a bundle, in NumPy or by its StableHLO.

    Raises:
      InputError: The file is no bundle, it is damaged, or NumPy cannot compute its policy.
    """
    try:
        return numpy_runtime.load_stablehlo(path) if stablehlo else numpy_runtime.load(path)
    except ValueError as error:
        raise InputError(str(error)) from error


def described(run: Path, found: Kept) -> dict[str, Any]:
    """Return what a bundle records about the origin of its policy."""
    names = ("method", "task", "data_hash", "env", "recipe")
    about = {name: found.config.get(name) for name in names}
    about |= {"which": found.kind, "phase": found.phase, "step": found.step, "seed": found.seed}
    about |= {"evaluation": evaluation(run, found.phase, found.step, found.seed)}
    return about | {
        "versions": found.config.get("versions"),
        "transform": found.transform.to_json(),
    }


def evaluation(run: Path, phase: str, step: int, seed: int) -> dict[str, Any] | None:
    """Return this seed's last evaluation up to a step, with the step at which it was made."""
    path = run / "evaluations.csv"
    rows = [
        row
        for row in (read_csv(path) if path.exists() else [])
        if (row["phase"], int(row["seed"])) == (phase, seed) and int(row["step"]) <= step
    ]
    if not rows:
        return None
    names = ("return_mean", "return_std", "score", "episodes")
    numbers = {name: float(rows[-1][name]) if rows[-1][name] else None for name in names}
    return {"phase": phase, "step": int(rows[-1]["step"]), **numbers}


def files(
    found: Kept, origin: Mapping[str, Any], low: np.ndarray, high: np.ndarray, onnx: bool
) -> dict[str, bytes]:
    """Return the bundle's files by name; the last holds the checksums of the others.

    Args:
      found: The policy.
      origin: The policy's origin, for about.json.
      low: The environment's lowest action, [A].
      high: The environment's highest action, [A].
      onnx: Whether to add policy.onnx.
    """
    act, size = acting(found, low, high), len(found.transform.observation_shift)
    whole = {"state": found.state, "transform": _arrays(found.transform), "low": low, "high": high}
    arrays, program, reason = traced(act, whole, size)
    fixed = jax.jit(lambda observation: act(whole, observation))
    shape = jax.ShapeDtypeStruct(jax.export.symbolic_shape(f"b, {size}"), jnp.float32)
    made = {
        numpy_runtime.STABLEHLO: bytes(
            jax.export.export(fixed, platforms=PLATFORMS)(shape).serialize()
        )
    }
    about = {
        "format": FORMAT,
        "observation_size": size,
        "action_size": len(low),
        "action_low": low,
        "action_high": high,
        **({} if (chunk := found.algorithm.open_loop) is None else {"chunk": chunk.length}),
        **origin,
        "platforms": PLATFORMS,
        "exported_by": {name: metadata.version(name) for name in ("enoto_jax", "jax", "numpy")},
    }
    if reason:
        about["numpy"] = reason
    else:
        seen = np.random.default_rng(0).normal(size=(CHECKED_ON, size)).astype(np.float32)
        seen = seen * found.transform.observation_scale + found.transform.observation_shift
        difference = np.abs(
            numpy_runtime.run(program, arrays, seen) - np.asarray(fixed(seen))
        ).max()
        about["numpy"] = {"largest_difference": difference, "observations": CHECKED_ON}
        made[numpy_runtime.PROGRAM] = json.dumps(program).encode()
    stored = io.BytesIO()
    np.savez(stored, **arrays)
    made |= {
        numpy_runtime.ARRAYS: stored.getvalue(),
        "policy.py": Path(numpy_runtime.__file__).read_bytes(),
    }
    if onnx:
        made["policy.onnx"] = _onnx(fixed, size)
    made[numpy_runtime.ABOUT] = (json.dumps(plain(about), indent=2) + "\n").encode()
    return summed(made)


def summed(made: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return a bundle's files with one more, which holds their checksums."""
    sums = (f"{sha256(data).hexdigest()}  {name}\n" for name, data in made.items())
    return {**made, numpy_runtime.SUMS: "".join(sums).encode()}


def acting(found: Kept, low: np.ndarray, high: np.ndarray) -> Callable[[Any, Array], Array]:
    """Return (arrays, world observation [B, D]) -> action in the environment's units [B, A].

    With chunks, it gives all of a chunk's actions [B, h, A].
    """

    def act(given, observation):
        transform = found.transform._replace(**given["transform"])
        action = found.algorithm.mode(given["state"], transform.observation(observation))
        if (chunk := found.algorithm.open_loop) is not None:
            action = action.reshape(action.shape[0], chunk.length, -1)
        action = transform.world_action(action)
        low, high = given["low"], given["high"]
        return jnp.clip(0.5 * (low + high) + 0.5 * (high - low) * action, low, high)

    return act


def traced(act: Callable, given: Any, size: int) -> tuple[dict, list[dict], str]:
    """Trace `act`; return its arrays, its operations, and why NumPy cannot compute it, or "".

    Operations are in order, and only the arrays that they read are returned.

    Args:
      act: (given, observation [B, D]) -> [B, ...].
      given: A tree of arrays; an array's path in it becomes its name.
      size: D.
    """
    (batch,) = jax.export.symbolic_shape("b")
    observation = jax.ShapeDtypeStruct((batch, size), jnp.float32)
    closed = jax.make_jaxpr(act)(given, observation)
    leaves = jax.tree_util.tree_leaves_with_path(given)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    arrays = dict(zip(names, (np.asarray(x) for _, x in leaves)))
    known = dict(zip(closed.jaxpr.invars, [*names, "observation"]))
    steps: list[dict] = []
    _inline(closed, known, steps, arrays)
    (result,) = closed.jaxpr.outvars
    needed, kept = {_name(result, known)}, []
    for step in reversed(steps):  # leaves out what the result does not need
        if step["out"] in needed:
            needed |= {x for x in step["in"] if isinstance(x, str)}
            kept.append(step)
    program = kept[::-1]
    arrays = {name: x for name, x in arrays.items() if name in needed}
    return arrays, program, _beyond_numpy(program, arrays)


def _inline(closed, known: dict, steps: list[dict], arrays: dict) -> None:
    """Append a program's operations and constants; `known` maps its variables to names."""
    for variable, constant in zip(closed.jaxpr.constvars, closed.consts):
        known[variable] = f"constant.{len(arrays)}"
        arrays[known[variable]] = np.asarray(constant)
    for equation in closed.jaxpr.eqns:
        inner = equation.params.get("jaxpr") or equation.params.get("call_jaxpr")
        inputs = [_name(x, known) for x in equation.invars]
        if equation.primitive.name in ("jit", "custom_jvp_call", "custom_vjp_call") and inner:
            inside = dict(zip(inner.jaxpr.invars, inputs))
            _inline(inner, inside, steps, arrays)
            outputs = [_name(x, inside) for x in inner.jaxpr.outvars]
            known |= dict(zip(equation.outvars, outputs))
            continue
        given = {k: v for k, v in equation.params.items() if k in _OPTIONS and v is not None}
        options = {k: _json(v) for k, v in given.items()}
        for variable in equation.outvars:
            known[variable] = f"v{len(steps)}"
        step = {"op": equation.primitive.name, "in": inputs, "with": options}
        steps.append({**step, "out": f"v{len(steps)}"})


def _name(variable, known: Mapping) -> str | float:
    return np.asarray(variable.val).item() if isinstance(variable, Literal) else known[variable]


def _json(value: Any) -> Any:
    """A primitive's parameter as JSON: the batch's size is "b", sizes such as "2*b" are text."""
    if isinstance(value, (tuple, list)):
        return [_json(x) for x in value]
    if isinstance(value, str):
        return value
    if isinstance(value, np.dtype):
        return value.name
    return str(value) if jax.export.is_symbolic_dim(value) else int(value)


def _beyond_numpy(program: list[dict], arrays: Mapping[str, np.ndarray]) -> str:
    """Return why numpy_runtime.py cannot compute a program on these arrays, or ""."""
    kinds = {step["with"].get("new_dtype") for step in program}
    if "bfloat16" in kinds | {x.dtype.name for x in arrays.values()}:
        return "policy.py does not compute in bfloat16"
    for step in program:
        if step["op"] not in numpy_runtime.OPERATIONS:
            return f"policy.py has no operation {step['op']}"
        for option in step["with"].values():
            sizes = [x for x in option if isinstance(x, str)] if isinstance(option, list) else []
            for size in sizes:
                if not numpy_runtime.SIZE.fullmatch(size):
                    return f"policy.py cannot compute the size {size}"
    return ""


def _onnx(fixed: Callable, size: int) -> bytes:
    try:
        from jax2onnx import to_onnx
    except ImportError as error:
        raise InputError(NO_ONNX) from error
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "policy.onnx"
        to_onnx(fixed, [("B", size)], return_mode="file", output_path=str(path))
        return path.read_bytes()


def _arrays(transform: Transform) -> dict[str, np.ndarray]:
    return {name: x for name, x in transform._asdict().items() if isinstance(x, np.ndarray)}
