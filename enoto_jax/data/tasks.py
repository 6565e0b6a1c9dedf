"""Collect what is known of a data set's task from its file, D4RL's table and Gymnasium."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np

from enoto_jax.data import scores
from enoto_jax.data.download import catalogue
from enoto_jax.data.places import ENV_ID
from enoto_jax.data.source import Source, concatenate
from enoto_jax.types import InputError, Spec

_D4RL_PHYSICS = "MuJoCo of the 2.0 era through mujoco-py (as D4RL recorded it)"


def completed(source: Source, env_id: str | None, env: Any = None) -> Source:
    """Return the source, completed by what is known of the environment that evaluates policies.

    The time limit and the reference returns of the data are kept; missing ones are taken from the
    environment. Arguments of the data's own environment are dropped, as this is another one.

    Args:
      source: A source from a file, an id, or arrays.
      env_id: Gymnasium id, or `module:name`; None and "none" change nothing.
      env: What makes the environment, if it is more than `env_id`. It is made if its time limit is
        needed and Gymnasium's registry has none.
    """
    if env_id in (None, "none"):
        return source
    parts = tuple(completed(part, env_id, env) for part in source.parts)
    if env_id == source.env_id:
        known = all(map(operator.is_, parts, source.parts))
        return source if known else concatenate(parts)
    reference, limit = _known(env_id, source.spec)
    limit = source.max_episode_steps or limit or _made_limit(env or env_id)
    return replace(
        source,
        env_id=env_id,
        env_kwargs={},
        reference=source.reference or reference,
        max_episode_steps=limit,
        parts=parts,
    )


def _known(env_id: str, spec: Spec) -> tuple[tuple[float, float] | None, int | None]:
    """Reference returns and time limit of an environment."""
    family = scores.family_of(env_id, spec)
    if family:
        return (family.random, family.expert), family.max_episode_steps
    return None, _registered_limit(env_id)


def described(
    name: str,
    spec: Spec,
    attributes: Mapping[str, Any],
    env_id: str | None,
    family_name: str,
    **content: Any,
) -> Source:
    """Make a source with what is known of its task: from the attributes, else from its family."""
    where = content.get("path", name)
    family = scores.family_of(family_name, spec)
    reference = family and (family.random, family.expert)
    bounds = [attributes[k] for k in ("ref_min_score", "ref_max_score") if k in attributes]
    if bounds:
        told = [_number(bound) for bound in bounds]
        if len(told) != 2 or not np.isfinite(told).all() or told[0] >= told[1]:
            raise InputError(
                f"{where}: ref_min_score and ref_max_score must both be given, as numbers, the "
                f"smaller first; got {', '.join(repr(str(b)) for b in bounds)}"
            )
        reference = (told[0], told[1])
    limit = family.max_episode_steps if family else _registered_limit(env_id)
    if "max_episode_steps" in attributes:
        told_limit = _number(attributes["max_episode_steps"])
        if told_limit < 1 or not told_limit.is_integer():
            raise InputError(
                f"{where}: max_episode_steps must be a whole number of steps, "
                f"got {str(attributes['max_episode_steps'])!r}"
            )
        limit = int(told_limit)
    version = re.search(r"-(v\d+)$", name)
    return Source(
        name=name,
        version=version[1] if version else "",
        spec=spec,
        env_id=env_id or (family and family.env_id),
        named="" if env_id else _named(attributes),
        max_episode_steps=limit,
        reference=reference,
        physics=_physics(attributes, content["path"].name if "path" in content else None),
        notes=tuple(map(_text, attributes.get("notes", ()))),
        unread=tuple(map(_text, attributes.get("unread", ()))),
        env_kwargs=attributes.get("env_kwargs", {}),
        action_bounds=attributes.get("action_bounds"),
        **content,
    )


def _physics(attributes: Mapping[str, Any], file_name: str | None) -> str:
    """The simulator that the attributes name; D4RL's own files, known by name, have none."""
    if "physics" in attributes:
        return _text(attributes["physics"])
    versions = (("MuJoCo", "mujoco_version"), ("Gymnasium", "gymnasium_version"))
    given = [f"{what} {_text(attributes[key])}" for what, key in versions if key in attributes]
    d4rls = file_name in {file.name for file in catalogue().values()}
    return ", ".join(given) or (_D4RL_PHYSICS if d4rls else "")


def _text(value: Any) -> str:
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return "".join(c if c.isprintable() else "?" for c in text[:200])


def env_id_of(attributes: Mapping[str, Any]) -> str | None:
    """Return the environment that a file names if it is a Gymnasium id, else None."""
    text = _env_text(attributes)
    return text if ENV_ID.fullmatch(text) else None


def _named(attributes: Mapping[str, Any]) -> str:
    """The environment that a file names by `module:name` or with arguments, else ""."""
    text = _env_text(attributes)
    return text if re.fullmatch(r"[\w./-]+(:[\w./-]+(\?\{.*\})?|\?\{.*\})", text) else ""


def _env_text(attributes: Mapping[str, Any]) -> str:
    return _text(attributes.get("env_id", attributes.get("env")))


def _number(value: Any) -> float:
    """The attribute as a number, or NaN; a one-element array counts as its element."""
    try:
        return float(np.asarray(value).reshape(()))
    except (TypeError, ValueError):
        return float("nan")


def _registered_limit(env_id: str | None) -> int | None:
    """The time limit with which Gymnasium registers an environment, None if unknown."""
    known = gymnasium.registry.get(env_id)
    return None if known is None else known.max_episode_steps


def _made_limit(env: Any) -> int | None:
    """The time limit of an environment once it is made; None without one."""
    from enoto_jax.envs.gym import limit_of  # the simulators are slow to import

    try:
        return limit_of(env)
    except InputError:  # reported where the environment is used
        return None
