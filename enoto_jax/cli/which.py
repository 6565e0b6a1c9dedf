"""--which: the checkpoint of a run that a command takes its policy from."""

from __future__ import annotations

from collections.abc import Sequence

from absl import flags

from enoto_jax.runs import policies


class Which(flags.EnumFlag):
    """A kind of checkpoint, which may also be given by its old name.

    Args:
      about: The flag's help.
      kinds: The kinds that the command takes; the first is the default.
    """

    def __init__(self, about: str, kinds: Sequence[str] = policies.KINDS):
        super().__init__("which", kinds[0], about, kinds)

    def parse(self, argument: str) -> None:
        super().parse(policies.kind_of(argument))
