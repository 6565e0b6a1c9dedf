"""Act with an exported policy; this file needs only NumPy and travels in every bundle.

    from policy import load

    policy = load("hopper.zip")  # or the folder it was unzipped to; here by default
    action = policy.act(observation)  # [D] -> [A], or [B, D] -> [B, A], in the robot's own units

`load_stablehlo` gives the same through JAX, for a GPU or TPU. A bundle holds the policy's
operations, in order, and the arrays that they read; here each operation is one of NumPy's.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import warnings
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

ARRAYS, PROGRAM, STABLEHLO, ABOUT = "arrays.npz", "program.json", "policy.stablehlo", "about.json"
SUMS = "SHA256SUMS"  # in the format of `sha256sum --check`
FILES = (SUMS, ABOUT, ARRAYS, PROGRAM, STABLEHLO, "policy.py", "policy.onnx")
# A bundle may come from anyone, so nothing that it claims is trusted.
LONGEST = 10_000  # operations in a program
SIZE = re.compile(r"(?:([1-9][0-9]{0,5})\*)?b")  # an axis of a shape, in batches
_KINDS = "biuf"  # dtype kinds of numbers
_MEGA = 1 << 20


class Policy:
    """A policy that acts.

    Attributes:
      about: The contents of the bundle's about.json: sizes, action bounds, score, recipe, versions.
    """

    def __init__(self, about: dict, compute):
        self.about, self._compute = about, compute

    def act(self, observation) -> np.ndarray:
        """Return the deterministic action: [A] for an observation [D], [B, A] for [B, D].

        Args:
          observation: The environment's observation, not normalised.

        Raises:
          ValueError: The observation has another size or is not finite, or the policy acts in
            chunks (see `actions`). No action is returned.
        """
        if (count := self.about.get("chunk", 1)) > 1:
            raise ValueError(
                f"this policy chooses {count} actions at once: call actions(observation) and take "
                "them one after the other"
            )
        return self.actions(observation)[..., 0, :]

    def actions(self, observation) -> np.ndarray:
        """Return the coming steps' actions: [h, A] for an observation [D], [B, h, A] for [B, D].

        h is 1, or the length of the chunks that the policy was trained on. Take the actions one
        after the other, and drop the rest when an episode ends.

        Raises:
          ValueError: As in `act`.
        """
        size = self.about["observation_size"]
        try:
            seen = np.asarray(observation, np.float32)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"observation is of type {type(observation).__name__}; expected [{size}] numbers; "
                "flatten a dictionary with gymnasium.spaces.flatten(space, observation)"
            ) from error
        if seen.ndim not in (1, 2) or seen.shape[-1] != size:
            raise ValueError(f"observation has shape {list(seen.shape)}; expected [{size}]")
        if not np.isfinite(seen).all():
            raise ValueError("observation contains NaN or infinity")
        rows = np.atleast_2d(seen)
        try:
            action = np.asarray(self._compute(rows))
        except Exception as error:  # of any kind, because the program comes from the bundle
            raise ValueError(f"the policy cannot be computed: {_line(error)}") from error
        size, count = self.about["action_size"], self.about.get("chunk", 1)
        wanted = (len(rows), size) if count == 1 else (len(rows), count, size)
        if action.shape != wanted or not np.isfinite(action).all():
            what = f"of shape {list(action.shape)}" if action.shape != wanted else "with NaN or inf"
            raise ValueError(f"the policy returns an action {what}; expected {list(wanted)}")
        action = action.reshape(len(rows), count, size)
        return action[0] if seen.ndim == 1 else action


def load(path=None) -> Policy:
    """Load the policy of a bundle (a .zip file, or the folder it was unzipped to), in NumPy.

    Raises:
      ValueError: It is no bundle, it is damaged, or NumPy cannot compute it; the message is one
        line.
    """
    files, about = _opened(path)
    if PROGRAM not in files:
        reason = _line(about.get("numpy"))
        raise ValueError(f"{_where(path)}: {reason}; use load_stablehlo, which needs jax")
    with _refusing(path):
        arrays, program = _arrays(files[ARRAYS]), json.loads(files[PROGRAM])
        known = set()

        def compute(observation):  # sizes depend only on B, so each B is checked once
            new = len(observation) not in known
            action = run(program, arrays, observation, check=new)
            known.add(len(observation))
            return action

        policy = Policy(about, compute)
        policy.actions(np.zeros(about["observation_size"]))
    return policy


def load_stablehlo(path=None) -> Policy:
    """Load a policy for whatever device JAX has; it compiles once per batch size.

    StableHLO is a program for JAX's compiler: load only files from people you trust.

    Raises:
      ValueError: It is no bundle, or it is damaged.
    """
    from jax import export, jit

    files, about = _opened(path)
    with _refusing(path):
        return Policy(about, jit(export.deserialize(bytearray(files[STABLEHLO])).call))


def _opened(path) -> tuple[dict[str, bytes], dict]:
    """Return a bundle's files and the contents of its about.json."""
    files = read(path)
    with _refusing(path):
        about = json.loads(files[ABOUT])
        sizes = {"chunk": about.get("chunk", 1)}
        sizes |= {name: about[name] for name in ("observation_size", "action_size")}
        for name, value in sizes.items():
            if type(value) is not int or not 0 < value <= _MEGA:
                raise ValueError(f"{ABOUT}: {name} is {value}")
    return files, about


def read(path=None) -> dict[str, bytes]:
    """Read a bundle's files and compare them with their checksums; files not in FILES are ignored.

    Raises:
      ValueError: It is no bundle, or it is damaged.
    """
    where = _where(path)
    with _refusing(path):
        found = _folder(where) if where.is_dir() else _archive(where, FILES, 20 * _size(where))
        listed = [line.split("  ", 1) for line in found.pop(SUMS).decode().splitlines()]
        files = {name: (digest, found[name]) for digest, name in listed}
        if missing := {ABOUT, ARRAYS, STABLEHLO} - set(files):
            raise KeyError(min(missing))
    for name, (digest, data) in files.items():
        if hashlib.sha256(data).hexdigest() != digest:
            raise ValueError(f"{where}: {name} is damaged; export it again")
    return {name: data for name, (_, data) in files.items()}


def _size(path: Path) -> int:
    return path.stat().st_size


def _folder(where: Path) -> dict[str, bytes]:
    paths = [where / name for name in FILES if (where / name).exists()]
    if any(path.is_symlink() or not path.is_file() for path in paths):
        raise ValueError("a link or a device in place of a file")
    _believe(sum(map(_size, paths)), 1024 * _MEGA)
    return {path.name: path.read_bytes() for path in paths}


def _archive(file, names, most: int) -> dict[str, bytes]:
    """Read the files of a zip that are in `names`, or all of them if `names` is None."""
    with zipfile.ZipFile(file) as archive:
        infos = [x for x in archive.infolist() if names is None or x.filename in names]
        _believe(sum(x.file_size for x in infos), most + 16 * _MEGA)
        found = {}
        for info in infos:
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{info.filename} is compressed in an unsupported way")
            with archive.open(info) as member:  # never unpacks more than the header declares
                found[info.filename] = member.read(info.file_size + 1)
        return found


def _believe(claimed: int, most: int) -> None:
    if claimed > most:
        raise ValueError(f"it claims {claimed / 1e6:.0f} MB, more than {most / 1e6:.0f}")


def _arrays(npz: bytes) -> dict[str, np.ndarray]:
    """Read the arrays that `np.savez` wrote, by name; only finite numbers are accepted."""
    members = _archive(io.BytesIO(npz), None, len(npz))
    return {name.removesuffix(".npy"): _array(name, data) for name, data in members.items()}


def _array(name: str, npy: bytes) -> np.ndarray:
    file = io.BytesIO(npy)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.lib.format.read_magic(file)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.kind not in _KINDS or math.prod(shape) * dtype.itemsize != len(npy) - file.tell():
        raise ValueError(f"{name} does not match its header")
    array = np.frombuffer(npy, dtype, offset=file.tell())
    array = array.reshape(shape, order="F" if fortran else "C")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} contains NaN or infinity")
    return array


def run(program: list, arrays: dict, observation: np.ndarray, check: bool = True) -> np.ndarray:
    """Run a program; return the last operation's result for observations [B, D].

    Args:
      program: Operations {"op", "in", "with", "out"}; an input is a name or a number. In a shape,
        "b" is B and "2*b" twice as many.
      arrays: The program's arrays by name.
      observation: The input with the name "observation".
      check: Whether to check sizes before each operation.

    Raises:
      ValueError: The program computes more than a policy would.
    """
    known, left = {**arrays, "observation": observation}, (64 + len(observation)) * _MEGA
    if not 0 < len(program) <= LONGEST:
        raise ValueError(f"{len(program)} operations; a policy has 1 to {LONGEST}")
    for step in program:
        inputs = [known[x] if isinstance(x, str) else x for x in step["in"]]
        options = {
            key: [_count(n, len(observation)) for n in x] if isinstance(x, list) else x
            for key, x in step["with"].items()
        }
        operation: Any = OPERATIONS[step["op"]]
        if check:
            left -= _numbers(step["op"], inputs, options)
            if left < 0:
                raise ValueError(f"{step['op']} needs more memory than a policy does")
            if options and isinstance(operation, np.ufunc):
                raise ValueError(f"{step['op']} takes no options")
        result = known[step["out"]] = operation(*inputs, **options)
        if result.dtype.kind not in _KINDS:
            raise ValueError(f"{step['op']} does not return numbers")
    return result


def _count(size, batch: int):
    """Return a shape's "b" or "2*b" as a number; everything else is returned unchanged."""
    known = isinstance(size, str) and SIZE.fullmatch(size)
    return int(known[1] or 1) * batch if known else size


def _numbers(name: str, inputs: list, options: dict) -> int:
    """Count the numbers that an operation reads and yields, before it is computed."""
    shapes = [np.shape(x) for x in inputs]
    sizes = [math.prod(shape) for shape in shapes]
    if name == "broadcast_in_dim":
        made = math.prod(options["shape"])
    elif name == "dot_general":
        (over, _), (shared, _) = options["dimension_numbers"]
        depth, width = (math.prod(shapes[0][i] for i in axes) for axes in (over, shared))
        made = math.prod(sizes) // max(depth * depth * width, 1)
    elif name in ("concatenate", "stack") or len(shapes) == 1:
        made = sum(sizes)
    else:
        made = math.prod(np.broadcast_shapes(*shapes))
    return sum(sizes) + made


def _dot(x, y, dimension_numbers):
    """Compute dot_general: shared axes first, then the free ones of x and of y, as one product."""
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
    # A number in a program is float32, like everything that the program computes.
    x = np.asarray(x, np.float32 if isinstance(x, float) else None)
    lead = [1] * len(shape)
    for axis, size in zip(broadcast_dimensions, x.shape):
        lead[axis] = size
    return np.broadcast_to(x.reshape(lead), shape)


def _slice(x, start_indices, limit_indices, strides=None):
    steps = strides or [1] * x.ndim
    return x[tuple(slice(*bounds) for bounds in zip(start_indices, limit_indices, steps))]


def _convert(x, new_dtype):
    kind = np.dtype(new_dtype)
    if kind.kind not in _KINDS:
        raise ValueError(f"{kind} is not a numeric type")
    return np.asarray(x, kind)


# JAX's primitives and their parameters, as JAX names them.
OPERATIONS = {
    "abs": np.abs,
    "add": np.add,
    "and": np.logical_and,
    "div": np.divide,
    "eq": np.equal,
    "exp": np.exp,
    "ge": np.greater_equal,
    "gt": np.greater,
    "le": np.less_equal,
    "log": np.log,
    "lt": np.less,
    "max": np.maximum,
    "min": np.minimum,
    "mul": np.multiply,
    "ne": np.not_equal,
    "neg": np.negative,
    "not": np.logical_not,
    "or": np.logical_or,
    "sign": np.sign,
    "sqrt": np.sqrt,
    "square": np.square,
    "sub": np.subtract,
    "tanh": np.tanh,
    "argmax": lambda x, axes: np.argmax(x, axes[0]),
    "argmin": lambda x, axes: np.argmin(x, axes[0]),
    "broadcast_in_dim": _broadcast,
    "clamp": lambda low, x, high: np.clip(x, low, high),
    "concatenate": lambda *xs, dimension: np.concatenate(xs, dimension),
    "convert_element_type": _convert,
    "dot_general": _dot,
    "integer_pow": lambda x, y: np.asarray(x) ** y,
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
}


def _where(path) -> Path:
    return Path(__file__).parent if path is None else Path(path)


@contextmanager
def _refusing(path):
    """Turn whatever a damaged or hostile bundle raises into a ValueError of one line."""
    try:
        with np.errstate(all="ignore"):
            yield
    except Exception as error:
        reason = f"not a whole bundle: {_line(error)}"
        raise ValueError(f"{_where(path)}: {reason}; export it again") from error


def _line(what) -> str:
    text = " ".join(str(what).split())[:200] or type(what).__name__
    text = f"no {text}" if isinstance(what, KeyError) else text
    return "".join(c if c.isprintable() else "?" for c in text)
