"""Names of arrays in other libraries, and what they mean in D4RL's layout.

Only names with one meaning in public libraries are understood. `dones` has two (with and without
time-outs), so it is not among them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from enoto_jax.types import plural

REQUIRED = ("observations", "actions", "rewards", "terminals")
OPTIONAL = ("timeouts", "next_observations")
FLAGS = ("terminals", "timeouts", "masks", "ends")
MATRICES = ("observations", "actions", "next_observations")
# Name -> what it is: an array of D4RL's layout, `masks` (1 - terminals), or `ends` (1 in the last
# row of every episode, however it ended).
MEANING = {name: name for name in (*REQUIRED, *OPTIONAL)} | {
    "obs": "observations",  # Stable-Baselines3, imitation, CleanRL
    "observation": "observations",  # LeRobot, RLDS
    "acts": "actions",  # imitation
    "action": "actions",  # TD3+BC, LeRobot, RLDS
    "reward": "rewards",  # TD3+BC, RLDS
    "rews": "rewards",  # imitation, Tianshou
    "rew": "rewards",  # Spinning Up, Tianshou
    "next_obs": "next_observations",  # Stable-Baselines3, imitation, CleanRL
    "next_observation": "next_observations",
    "obs2": "next_observations",  # Spinning Up
    "obs_next": "next_observations",  # Tianshou
    "terminations": "terminals",  # Minari, Gymnasium's vector environments
    "terminated": "terminals",  # Gymnasium, Tianshou
    "terminateds": "terminals",  # RLlib
    "truncations": "timeouts",  # Minari, Gymnasium's vector environments
    "truncated": "timeouts",  # Gymnasium, Tianshou
    "truncateds": "timeouts",  # RLlib
    "masks": "masks",  # JAXRL, IQL, OGBench
    "not_done": "masks",  # TD3, TD3+BC
    "episode_terminals": "ends",  # d3rlpy
    "dones_float": "ends",  # IQL
}
AMBIGUOUS = ("done", "dones")
# Groups of D4RL's files that describe the recording and hold no part of a transition.
DESCRIPTIVE = ("infos", "metadata")


class Understood(NamedTuple):
    """Arrays in D4RL's layout, and where they were read from.

    Attributes:
      arrays: Arrays by D4RL's name.
      words: D4RL's name -> the names that it was read from, where they differ.
      problems: Contradictions, by name.
    """

    arrays: Mapping[str, Any]
    words: Mapping[str, str]
    problems: Mapping[str, str]


@dataclass(frozen=True)
class Derived:
    """Flags `[N]` that are computed from other arrays when they are indexed."""

    function: Callable[..., np.ndarray]
    sources: tuple[Any, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.sources[0].shape[:1])

    @property
    def dtype(self) -> np.dtype:
        return self.sources[0].dtype

    def __getitem__(self, index: Any) -> np.ndarray:
        return self.function(*map(flag_values, self.sources))[index]


def understand(given: Mapping[str, Any]) -> Understood:
    """Translate named arrays into D4RL's layout; arrays are read only if two could disagree.

    Args:
      given: Arrays by a name of MEANING, whose shapes fit together.
    """
    names: dict[str, list[str]] = {}
    for name, meaning in MEANING.items():
        if name in given:
            names.setdefault(meaning, []).append(name)
    problems = {}
    for meaning, several in names.items():
        for other in several[1:]:
            if text := _difference(several[0], given[several[0]], other, given[other], meaning):
                problems[other] = text
    found = {meaning: given[several[0]] for meaning, several in names.items()}
    label = {meaning: " and ".join(several) for meaning, several in names.items()}
    if "masks" in found:
        inverted = Derived(_inverted, (found.pop("masks"),))
        if "terminals" not in found:
            found["terminals"], label["terminals"] = inverted, f"1 - {label['masks']}"
        elif rows := _differing(found["terminals"], inverted):
            problems[label["masks"]] = (
                f"{label['masks']} must be 0 where {label['terminals']} is 1, and 1 elsewhere, but "
                f"is not in {rows}; if {label['terminals']} also marks ends by a time limit, store "
                "those as timeouts"
            )
    if "ends" in found and "terminals" in found:
        ends, name = found.pop("ends"), label["ends"]
        if problem := _ends_problem(ends, found, label):
            problems[name] = problem
        if "timeouts" not in found:
            found["timeouts"] = Derived(_unless, (ends, found["terminals"]))
            label["timeouts"] = name
    ordered = {key: found[key] for key in (*REQUIRED, *OPTIONAL) if key in found}
    words = {key: label[key] for key in ordered if label[key] != key}
    return Understood(ordered, words, problems)


def flag_values(array: Any) -> np.ndarray:
    """Read flags unchecked, `[N]`; bool becomes uint8, as files can hold other bytes as bool."""
    values = np.asarray(array[()])
    values = values.reshape(len(values))
    return values.view(np.uint8) if values.dtype == bool else values


def unread(names: Iterable[str], read: Iterable[str]) -> tuple[str, ...]:
    """Return the names that are not read: at most 20 of them, and how many more."""
    other = sorted(set(names) - set(read))
    return (*other[:20], *(f"{len(other) - 20} more" for _ in other[20:21]))


def missing(names: Iterable[str]) -> list[str]:
    """Return the required arrays of D4RL's layout that none of the names stands for."""
    meant = {MEANING[name] for name in names}
    return [k for k in REQUIRED if k not in meant and not (k == "terminals" and "masks" in meant)]


def hint(names: Iterable[str]) -> str:
    """Return advice on a name with two meanings, for when flags are missing; else ""."""
    found = [name for name in AMBIGUOUS if name in set(names)]
    if not found:
        return ""
    return (
        f"; {found[0]} has two meanings: call it terminals if it is 1 only where the task ended, "
        "or store terminals and timeouts"
    )


def _inverted(mask: np.ndarray) -> np.ndarray:
    """1 - mask; values that are not flags are kept, to be reported later."""
    return np.where(mask == 1, 0, np.where(mask == 0, 1, mask)).astype(mask.dtype)


def _unless(ends: np.ndarray, terminals: np.ndarray) -> np.ndarray:
    return np.where(terminals == 1, 0, ends).astype(ends.dtype)


def _difference(one: str, first: Any, other: str, second: Any, meaning: str) -> str | None:
    """What is wrong if the arrays of two names for the same thing differ, else None."""
    if meaning in FLAGS:
        a, b = flag_values(first), flag_values(second)
    else:
        a, b = np.asarray(first[()]), np.asarray(second[()])
        a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
        if a.shape != b.shape:
            return f"{one} and {other} mean the same but have different sizes; keep one of them"
    if not (rows := _rows((a != b).reshape(len(a), -1).any(axis=1))):
        return None
    return f"{one} and {other} mean the same but differ in {rows}; keep the right one"


def _differing(one: Any, other: Any) -> str:
    """The rows in which flags differ, as text, else ""."""
    return _rows((flag_values(one) == 1) != (flag_values(other) == 1))


def _ends_problem(ends: Any, found: Mapping[str, Any], label: Mapping[str, str]) -> str:
    """What is wrong with the ends of episodes if the other flags contradict them, else ""."""
    end, marked = flag_values(ends) == 1, flag_values(found["terminals"]) == 1
    others, wrong = label["terminals"], marked & ~end
    if "timeouts" in found:
        marked = marked | (flag_values(found["timeouts"]) == 1)
        others, wrong = f"{others} and {label['timeouts']}", marked != end
        wrong[-1:] = False  # the last row ends an episode, whether that is marked or not
    if not wrong.any():
        return ""
    return (
        f"{label['ends']} must be 1 in the last row of every episode, and {others} contradict it "
        f"in {_rows(wrong)}; correct one of them"
    )


def _rows(where: np.ndarray) -> str:
    rows = np.flatnonzero(where)
    return f"{plural(len(rows), 'row')}, first in row {rows[0]}" if len(rows) else ""


def labelled(text: str, key: str, words: Mapping[str, str]) -> str:
    """Return a message about an array of D4RL's layout, with the name that the user gave it."""
    return f"{text} ({key} read from {words[key]})" if key in words else text
