"""Act with an exported policy; this file needs NumPy alone and travels in every bundle.

    from policy import load

    policy = load("hopper.zip")  # or the folder it was unzipped to; here by default
    action = policy.act(observation)  # [D] -> [A], or [B, D] -> [B, A], in the robot's own units

`load_stablehlo` gives the same through JAX, for a GPU or TPU. A bundle holds the operations that
the policy computes, in order, and the arrays that they read; here each of them is one of NumPy's.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from pathlib import Path

import numpy as np

ARRAYS, PROGRAM, STABLEHLO, ABOUT = "arrays.npz", "program.json", "policy.stablehlo", "about.json"
_ZIP = (zipfile.BadZipFile, zlib.error)  # what a damaged archive raises besides
SUMS = "SHA256SUMS"  # as `sha256sum --check` reads it


class Policy:
    """What acts.

    Attributes:
      about: sizes, action bounds, score, recipe, versions: the bundle's about.json.
    """

    def __init__(self, about: dict, compute):
        self.about, self._compute = about, compute

    def act(self, observation) -> np.ndarray:
        """The deterministic action: [A] for an observation [D], [B, A] for [B, D].

        Args:
          observation: as the environment gives it, not normalised.

        Raises:
          ValueError: an observation of another size, or not finite.
        """
        seen, size = np.asarray(observation, np.float32), self.about["observation_size"]
        if seen.ndim not in (1, 2) or seen.shape[-1] != size:
            raise ValueError(f"observation has shape {list(seen.shape)}, [{size}] is needed")
        if not np.isfinite(seen).all():
            raise ValueError("observation holds NaN or infinity")
        action = np.asarray(self._compute(np.atleast_2d(seen)))
        return action[0] if seen.ndim == 1 else action


def load(path=None) -> Policy:
    """The policy of a bundle (a .zip file, or the folder it was unzipped to), in NumPy.

    Raises:
      ValueError: no bundle, a damaged one, or a policy that NumPy cannot compute; in one line.
    """
    files = read(path)
    about = json.loads(files[ABOUT])
    if PROGRAM not in files:
        raise ValueError(f"{_where(path)}: {about['numpy']}; use load_stablehlo, which needs jax")
    program = json.loads(files[PROGRAM])
    with np.load(io.BytesIO(files[ARRAYS]), allow_pickle=False) as stored:
        arrays = dict(stored)
    return Policy(about, lambda observation: run(program, arrays, observation))


def load_stablehlo(path=None) -> Policy:
    """The same on whatever device JAX has; one compilation for each batch size.

    Raises:
      ValueError: no bundle, or a damaged one.
    """
    from jax import export, jit

    files = read(path)
    return Policy(json.loads(files[ABOUT]), jit(export.deserialize(files[STABLEHLO]).call))


def read(path=None) -> dict[str, bytes]:
    """A bundle's files, compared with their checksums.

    Raises:
      ValueError: no bundle, or a damaged one.
    """
    where = _where(path)
    try:
        root = where if where.is_dir() else zipfile.Path(zipfile.ZipFile(where))
        listed = [line.split("  ", 1) for line in (root / SUMS).read_text().splitlines()]
        # A name alone: what a bundle lists never leads out of it.
        files = {name: (digest, (root / Path(name).name).read_bytes()) for digest, name in listed}
    except (OSError, ValueError, KeyError, RuntimeError, EOFError, *_ZIP) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{where}: not a whole bundle: {reason}; export it again") from error
    for name, (digest, data) in files.items():
        if hashlib.sha256(data).hexdigest() != digest:
            raise ValueError(f"{where}: {name} is damaged; export it again")
    if missing := {ABOUT, ARRAYS, STABLEHLO} - set(files):
        raise ValueError(f"{where}: not a whole bundle: no {min(missing)}; export it again")
    return {name: data for name, (_, data) in files.items()}


def run(program: list, arrays: dict, observation: np.ndarray) -> np.ndarray:
    """The last operation's result for observations [B, D].

    Args:
      program: operations {"op", "in", "with", "out"}; an input is a name or a number, "b" in a
        shape is B.
      arrays: by name.
      observation: goes by the name "observation".
    """
    known = {**arrays, "observation": observation}
    for step in program:
        inputs = [known[x] if isinstance(x, str) else x for x in step["in"]]
        options = {
            key: [len(observation) if n == "b" else n for n in x] if isinstance(x, list) else x
            for key, x in step["with"].items()
        }
        known[step["out"]] = OPERATIONS[step["op"]](*inputs, **options)
    return known[program[-1]["out"]]


def _dot(x, y, dimension_numbers):
    """dot_general: shared axes first, then the free ones of x and of y, as one matrix product."""
    (over_x, over_y), (shared_x, shared_y) = dimension_numbers
    free_x = [i for i in range(x.ndim) if i not in (*over_x, *shared_x)]
    free_y = [i for i in range(y.ndim) if i not in (*over_y, *shared_y)]
    shared = [x.shape[i] for i in shared_x]
    depth = int(np.prod([x.shape[i] for i in over_x]))
    rows, columns = [x.shape[i] for i in free_x], [y.shape[i] for i in free_y]
    left = x.transpose(*shared_x, *free_x, *over_x).reshape(*shared, -1, depth)
    right = y.transpose(*shared_y, *over_y, *free_y).reshape(*shared, depth, -1)
    return (left @ right).reshape(*shared, *rows, *columns)


def _broadcast(x, shape, broadcast_dimensions):
    x, lead = np.asarray(x), [1] * len(shape)
    for axis, size in zip(broadcast_dimensions, x.shape):
        lead[axis] = size
    return np.broadcast_to(x.reshape(lead), shape)


def _slice(x, start_indices, limit_indices, strides=None):
    steps = strides or [1] * x.ndim
    return x[tuple(slice(*bounds) for bounds in zip(start_indices, limit_indices, steps))]


# JAX's primitives and their parameters, as JAX names them.
OPERATIONS = {
    "abs": np.abs, "add": np.add, "and": np.logical_and, "div": np.divide, "eq": np.equal,
    "exp": np.exp, "ge": np.greater_equal, "gt": np.greater, "le": np.less_equal, "log": np.log,
    "lt": np.less, "max": np.maximum, "min": np.minimum, "mul": np.multiply, "ne": np.not_equal,
    "neg": np.negative, "not": np.logical_not, "or": np.logical_or, "sign": np.sign,
    "sqrt": np.sqrt, "square": np.square, "sub": np.subtract, "tanh": np.tanh,
    "argmax": lambda x, axes: np.argmax(x, axes[0]),
    "argmin": lambda x, axes: np.argmin(x, axes[0]),
    "broadcast_in_dim": _broadcast,
    "clamp": lambda low, x, high: np.clip(x, low, high),
    "concatenate": lambda *xs, dimension: np.concatenate(xs, dimension),
    "convert_element_type": lambda x, new_dtype: np.asarray(x, new_dtype),
    "dot_general": _dot,
    "integer_pow": lambda x, y: x**y,
    "logistic": lambda x: 0.5 * (1 + np.tanh(0.5 * x)),
    "reduce_max": lambda x, axes: np.max(x, tuple(axes)),
    "reduce_min": lambda x, axes: np.min(x, tuple(axes)),
    "reduce_sum": lambda x, axes: np.sum(x, tuple(axes)),
    "reshape": lambda x, new_sizes: x.reshape(new_sizes),
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "select_n": lambda which, no, yes: np.where(which, yes, no),
    "slice": _slice,
    "squeeze": lambda x, dimensions: np.squeeze(x, tuple(dimensions)),
    "stack": lambda *xs, axis: np.stack(xs, axis),
    "transpose": lambda x, permutation: x.transpose(permutation),
}  # fmt: skip


def _where(path) -> Path:
    return Path(__file__).parent if path is None else Path(path)
