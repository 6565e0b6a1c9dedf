"""The shared types: transitions, errors, and the base class of all units.

Axis letters, used in every docstring:

====== =====================  ====== =========================
letter axis                   letter axis
====== =====================  ====== =========================
S      seeds                  K      candidate actions
B      batch                  D      observation size
N      critics                A      action size
====== =====================  ====== =========================
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, dataclass_transform

import jax

Array = jax.Array
AnyArray = Any  # JAX's on the device, NumPy's on the host
Key = jax.Array
Params = Any
Metrics = Mapping[str, Array]


class InputError(ValueError):
    """Invalid input. The text is one line: what is wrong, where, and what to do."""


class RunError(RuntimeError):
    """A run cannot continue: environment, numbers or disk failed. The text is one line."""


class Stopped(Exception):
    """A signal asked the run to stop; a checkpoint is saved."""


def check_choice(name: str, value: Any, known: Iterable[str]) -> None:
    """Check that an option has one of the known values.

    Raises:
      InputError: It does not; the message lists the known values.
    """
    if value not in (known := tuple(known)):
        raise InputError(f"{name} is {value!r}; choose {' or '.join(known)}")


def check_positive(name: str, value: int) -> None:
    """Check that a count is at least 1.

    Raises:
      InputError: It is not.
    """
    if value < 1:
        raise InputError(f"{name} is {value}; it must be at least 1")


def optional(module: str, extra: str, what: str) -> Any:
    """Import a module that only some options need.

    Raises:
      InputError: It is not installed; the message says what needs it, and how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"{what} cannot import {module} ({error}): pip install {module}, "
            f"or this package with its extra [{extra}]"
        ) from None


def plural(n: int, one: str, many: str | None = None) -> str:
    """Return an amount in words: "1 seed", "1,000 seeds".

    Args:
      n: How many.
      one: The words that follow the number 1.
      many: The words that follow other numbers; by default `one` with an s.
    """
    return f"{n:,} {one if n == 1 else many or f'{one}s'}"


class Spec(NamedTuple):
    """Sizes that the networks are built from. Actions are in [-1, 1]^A."""

    observation_size: int
    action_size: int


class Transition(NamedTuple):
    """One step, or any number of them along leading axes (a data set, a batch, a replay buffer).

    `terminated` ends the bootstrap; `truncated` (a time limit) only ends the episode. The two are
    never both true.
    """

    observation: AnyArray  # [..., D] float32
    action: AnyArray  # [..., A] float32
    reward: AnyArray  # [...] float32
    terminated: AnyArray  # [...] bool
    truncated: AnyArray  # [...] bool
    next_observation: AnyArray  # [..., D] float32, the true successor, never a reset's
    # "mask" [..., N]: which critics learn; "mc_return" [...]; "next_action" [..., A], the data's;
    # "ends" [...]: the recording ends here. In chunks: "valid" [..., h], "learns" [...]
    extras: Mapping[str, AnyArray] = {}


class MonteCarlo(NamedTuple):
    """How a transition's return-to-go is computed: the extra "mc_return" of a batch.

    G_t = r_t + discount G_{t+1} within an episode, and 0 after its end. If every reward of an
    episode is `sparse` (the reward of a step without success), G_t = sparse / (1 - discount)
    (Cal-QL).
    """

    discount: float
    sparse: float | None = None


class Chunk(NamedTuple):
    """Consecutive steps that an algorithm learns from as one transition.

    Attributes:
      length: h, the number of steps.
      discount: The discount of the rewards within a chunk.
      whole: Whether critics learn only from chunks of h recorded steps; otherwise also from chunks
        in which the episode terminates early, whose return is known.
      single: Whether the action is only the first step's, with an n-step return. Otherwise the
        actions of all steps are chosen together and valued as one.
    """

    length: int
    discount: float
    whole: bool = False
    single: bool = False


# (parameters of the network, state, batch, key) -> (scalar, metrics). The gradient is taken with
# respect to the first argument only.
LossFn = Callable[[Params, Any, Transition, Key], tuple[Array, Metrics]]
# (parameters of the network, metrics of the losses of this update) -> (scalar, metrics)
DualFn = Callable[[Params, Mapping[str, Metrics]], tuple[Array, Metrics]]


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Unit:
    """A replaceable part of a method: its options are the fields of a frozen dataclass.

    A subclass automatically becomes a frozen, keyword-only dataclass. Write a field as
    `name: Annotated[type, "what it is."] = default`; editors, type checkers, `--set`, `--explain`
    and the docs all read it. Names are lower-case, like optax's constructors.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        dataclasses.dataclass(frozen=True, kw_only=True, repr=False)(cls)

    def __post_init__(self) -> None:
        """Check the options' values; a subclass that checks its own calls this too.

        Raises:
          InputError: An option has a class, a name or a function in the place of a unit.
        """
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(field.default, Unit) and not isinstance(value, Unit):
                raise InputError(
                    f"{self.name}: {field.name} is {value!r}; give a unit, such as "
                    f"{field.default!r}"
                )

    @property
    def name(self) -> str:
        """The unit's name on the command line and in config.json."""
        return type(self).__name__

    def __repr__(self) -> str:
        """Return the call that creates it, without options that have their defaults."""
        changed = {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)  # type: ignore[arg-type]
            if f.default is dataclasses.MISSING or getattr(self, f.name) != f.default
        }
        return f"{self.name}({', '.join(f'{k}={v!r}' for k, v in changed.items())})"
