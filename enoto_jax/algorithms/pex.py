"""Policy expansion (Zhang et al. 2023): keep the offline policy and train a new one next to it.

A composite of the two acts. `handover.expand_policy` freezes the first and makes the second.
"""

from __future__ import annotations

from typing import Annotated

import jax
import jax.numpy as jnp

from enoto_jax.algorithms.iql import iql
from enoto_jax.core import Algorithm
from enoto_jax.handover import OFFLINE_ACTOR
from enoto_jax.types import Spec, check_choice


class pex(iql):
    """IQL that chooses between the mode of the frozen policy and a sample of a new one.

    P(i) is proportional to exp(inv_temperature min_j Q_j(s, a_i)). The deterministic action is the
    better of the two modes. Critics and V learn as in IQL; all other options are those of iql.
    """

    inv_temperature: Annotated[
        float, "inverse temperature of the choice between the two policies' actions."
    ] = 10.0
    actor_actions: Annotated[
        str,
        "actions that the new policy regresses on: 'composite', fresh actions of the composite at "
        "the batch's states (the authors' code), or 'batch', the batch's own actions.",
    ] = "composite"

    def build(self, spec: Spec) -> Algorithm:
        """See the base class.

        Raises:
          InputError: actor_actions is unknown, or iql refuses its options.
        """
        check_choice("pex: actor_actions", self.actor_actions, ("composite", "batch"))
        base = super().build(spec)

        def offline_mode(state, observation):
            old = {**state.params, "actor": state.frozen[OFFLINE_ACTOR]}
            return base.mode(state.replace(params=old), observation)

        def values(state, observation, old, new):
            """Return the smallest critic's values of both actions [..., A]: [2, ...]."""
            both = jnp.stack([old, new])
            return jnp.min(base.q(state.params["critic"], observation, both), axis=0)

        def act(state, key, observation, k):
            sample_key, choice_key = jax.random.split(key)
            new = base.act(state, sample_key, observation, k)
            old = jnp.broadcast_to(offline_mode(state, observation), new.shape)
            logits = self.inv_temperature * values(state, observation, old, new)
            choice = jax.random.categorical(choice_key, logits, axis=0)
            return jnp.where(choice[..., None] == 0, old, new)

        def mode(state, observation):
            old, new = offline_mode(state, observation), base.mode(state, observation)
            choice = jnp.argmax(values(state, observation, old, new), axis=0)
            return jnp.where(choice[..., None] == 0, old, new)

        def actor_loss(params, state, batch, key):
            act_key, loss_key = jax.random.split(key)
            chosen = act(state, act_key, batch.observation, 1)[0]
            return base.losses["actor"](params, state, batch._replace(action=chosen), loss_key)

        composite = {"actor": actor_loss} if self.actor_actions == "composite" else {}
        return base._replace(
            nets={**base.nets, OFFLINE_ACTOR: base.nets["actor"]},
            inputs={**base.inputs, OFFLINE_ACTOR: base.inputs["actor"]},
            losses={**base.losses, **composite},
            act=act,
            mode=mode,
            moments=None,
        )
