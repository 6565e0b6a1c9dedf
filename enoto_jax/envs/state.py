"""The state of an environment as plain numbers, for checkpoints: capture it and restore it exactly.

MuJoCo keeps its state in `mjData`; everything else is in attributes of the environment and its
wrappers. Both are captured. An environment that keeps anything else is not captured at all, so that
a restored environment always continues exactly as the original would have.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium.wrappers import PassiveEnvChecker

State = dict[str, Any]
_PHYSICS = mujoco.mjtState.mjSTATE_INTEGRATION  # includes the solver's warm start
_TUPLE = "__tuple__"  # (1, 2) is stored as {_TUPLE: [1, 2]}
# Results of the last step that tasks read before the next one.
_RESULTS = ("xpos", "xquat", "xipos", "site_xpos", "site_xmat", "cfrc_ext")
# Never changed by a step: models, spaces, renderers, how the environment was made.
_CONSTANT = (mujoco.MjModel, gymnasium.Space, gymnasium.envs.registration.EnvSpec)
_NOT_STATE = frozenset(
    (
        *("env", "data", "mujoco_renderer", "render_mode", "fullpath", "width", "height"),
        *("_ezpickle_args", "_ezpickle_kwargs", "_saved_kwargs", "_cached_spec"),
    )
)


def capture(env: gymnasium.Env) -> State | None:
    """Capture the state of an environment with all its wrappers; None if that is not possible.

    An environment or a wrapper may define its own `get_state() -> dict` and `set_state(dict)`.
    Otherwise its attributes must be numbers, strings, arrays, its random generator, or tuples,
    lists and dicts of numbers and strings; and no two of its arrays may share memory. Attributes
    that a class names in `NOT_STATE` are skipped in all layers.

    Returns:
      Names such as `0/TimeLimit/_elapsed_steps`, mapped to arrays or to values that JSON can hold.
    """
    state: State = {}
    layers = list(_layers(env))
    known = _NOT_STATE.union(*(getattr(type(layer), "NOT_STATE", ()) for _, layer in layers))
    for where, layer in layers:
        own = _own(layer, where, known)
        if own is None:
            return None
        state |= {f"{where}/{name}": _packed(value) for name, value in own.items()}
    return state


def restore(env: gymnasium.Env, state: State) -> None:
    """Restore a captured state into an environment of the same id, in place.

    Raises:
      ValueError: The state belongs to an environment with other wrappers.
    """
    layers = dict(_layers(env))
    owned: dict[str, State] = {where: {} for where in layers}
    for key, value in state.items():
        number, kind, name = key.split("/", 2)
        if (where := f"{number}/{kind}") not in layers:
            raise ValueError(f"the state holds {key}, but the environment has {', '.join(layers)}")
        owned[where][name] = _unpacked(value)
    env.reset()  # wrappers require one
    for where, layer in reversed(layers.items()):  # so that wrappers find inner layers restored
        own = owned[where]
        if _hooked(layer):
            layer.set_state(own)  # type: ignore[attr-defined]
            continue
        physics = {name: own.pop(name) for name in list(own) if name.startswith("mj_")}
        if physics:
            _set_physics(layer, physics)
        for name, value in own.items():
            if name == "_np_random":
                layer.np_random.bit_generator.state = value
            else:  # NumPy's scalars were stored as arrays without axes
                scalar = isinstance(value, np.ndarray) and not value.ndim
                setattr(layer, name, value[()] if scalar else value)


def _layers(env: gymnasium.Env) -> Iterator[tuple[str, gymnasium.Env]]:
    """The wrappers from the outside in, then the environment itself; each with its name."""
    number = 0
    while isinstance(env, gymnasium.Wrapper):
        if not isinstance(env, PassiveEnvChecker):  # only observes; its state changes nothing
            yield f"{number}/{type(env).__name__}", env
        env, number = env.env, number + 1
    yield f"{number}/{type(env).__name__}", env


def _hooked(layer: gymnasium.Env) -> bool:
    """Whether a layer defines both methods itself; MuJoCo's `set_state` is something else."""
    if isinstance(layer, gymnasium.Wrapper):  # forwarded attributes are not its own
        return {"get_state", "set_state"} <= vars(type(layer)).keys()
    found = hasattr(layer, "get_state") and hasattr(layer, "set_state")
    return found and not isinstance(getattr(layer, "data", None), mujoco.MjData)


def _own(layer: Any, where: str, known: frozenset[str]) -> State | None:
    """The state of one layer, without the names in `known`; None if some of it is not plain."""
    if _hooked(layer):
        return copy.deepcopy(layer.get_state())
    state: State = {}
    if isinstance(getattr(layer, "data", None), mujoco.MjData):
        state |= _physics(layer)
    for name, value in vars(layer).items():
        if name in known or isinstance(value, _CONSTANT) or callable(value):
            continue
        if isinstance(value, np.random.Generator):
            if name != "_np_random":
                return None
            state[name] = copy.deepcopy(value.bit_generator.state)
        elif isinstance(value, (np.ndarray, np.generic)) and value.dtype != object:
            state[name] = np.array(value)
        elif _plain(value):
            state[name] = copy.deepcopy(value)
        else:
            return None
    # Views of one array would come apart.
    arrays = [x for name, x in vars(layer).items() if name in state and isinstance(x, np.ndarray)]
    return None if any(np.may_share_memory(*two) for two in combinations(arrays, 2)) else state


def _plain(value: Any) -> bool:
    """Whether JSON can hold a value, as `_packed`."""
    if type(value) is dict:
        return all(isinstance(k, str) and _plain(v) for k, v in value.items())
    if type(value) in (list, tuple):
        return all(map(_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def _packed(value: Any) -> Any:
    """A value with marked lists in place of tuples, which JSON does not have."""
    if isinstance(value, tuple):
        return {_TUPLE: [_packed(x) for x in value]}
    if isinstance(value, list):
        return [_packed(x) for x in value]
    return {k: _packed(v) for k, v in value.items()} if isinstance(value, dict) else value


def _unpacked(value: Any) -> Any:
    """A copy of what `_packed` was given; the tuples of older states stay lists."""
    if isinstance(value, dict):
        if set(value) == {_TUPLE}:
            return tuple(map(_unpacked, value[_TUPLE]))
        return {k: _unpacked(v) for k, v in value.items()}
    return [_unpacked(x) for x in value] if isinstance(value, list) else copy.deepcopy(value)


def _physics(env: Any) -> State:
    numbers = np.empty(mujoco.mj_stateSize(env.model, _PHYSICS))
    mujoco.mj_getState(env.model, env.data, numbers, _PHYSICS)
    return {"mj_state": numbers, **{f"mj_{x}": getattr(env.data, x).copy() for x in _RESULTS}}


def _set_physics(env: Any, state: State) -> None:
    mujoco.mj_resetData(env.model, env.data)
    mujoco.mj_setState(env.model, env.data, state["mj_state"], _PHYSICS)
    mujoco.mj_forward(env.model, env.data)
    mujoco.mj_setState(env.model, env.data, state["mj_state"], _PHYSICS)
    for name in _RESULTS:
        if f"mj_{name}" in state:  # older states have fewer of them
            getattr(env.data, name)[:] = state[f"mj_{name}"]
