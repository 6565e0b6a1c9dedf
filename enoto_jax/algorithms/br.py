"""The online phase of balanced replay with a pessimistic Q-ensemble (Lee et al. 2021, Off2OnRL).

SAC whose policy is a mixture and whose critics come in groups, one group an offline agent, and a
density ratio that says how much a transition looks like the online ones: its priority.
"""

from __future__ import annotations

import jax.numpy as jnp
import optax
from flax import linen as nn

from enoto_jax import targets
from enoto_jax.algorithms.losses import QFn
from enoto_jax.algorithms.sac import sac
from enoto_jax.core import Algorithm
from enoto_jax.nets.initialisers import rlkit_init
from enoto_jax.nets.networks import Critic
from enoto_jax.types import LossFn, Spec, TargetRule

RATIO = "ratio"


def _ratio_loss(ratio: QFn) -> LossFn:
    """mean_B[-log(2 / (w_off + 1) + 1e-10) - log(2 w_on / (w_on + 1) + 1e-10)].

    Its minimum is w = density online / density offline (the Jensen-Shannon bound of BR).
    """

    def loss(params, state, batch, key, seen):
        del state, key, seen
        old, new = batch.extras["offline"], batch.extras["online"]
        w_old = ratio(params, old.observation, old.action)
        w_new = ratio(params, new.observation, new.action)
        f_old = -jnp.log(2.0 / (w_old + 1.0) + 1e-10)
        f_new = -jnp.log(2.0 * w_new / (w_new + 1.0) + 1e-10)
        return jnp.mean(f_old + f_new), {"offline": jnp.mean(w_old), "online": jnp.mean(w_new)}

    return loss


def br(
    spec: Spec,
    *,
    policies: int = 5,
    n: int = 2,
    target: TargetRule | None = None,
    actor_value: TargetRule | None = None,
    hidden: tuple[int, ...] = (256, 256),
    temperature_of_logarithm: bool = True,
    order: str = "temperature,actor,critic",
    ratio_rate: float = 3e-4,
    ratio_temperature: float = 5.0,
    **options,
) -> Algorithm:
    """SAC with a mixture policy, a target for each group of critics, and a density ratio.

    Args:
      spec: sizes of observations and actions.
      policies: offline agents that the policy and the critics come from.
      n: critics of each of them; policies * n in all.
      target: rule that reduces the target critics; each group's own minimum by default.
      actor_value: the same in the actor's loss; the mean of the groups' minima by default.
      hidden: widths of the hidden layers of all networks.
      temperature_of_logarithm: loss on log(temperature) instead of the temperature.
      order: order of the networks' steps in an update; the ratio's comes last.
      ratio_rate: Adam's learning rate of the density ratio.
      ratio_temperature: T; priorities are w^(1 / T), divided by their mean over the data set.
      **options: see sac.
    """
    base = sac(
        spec,
        n=policies * n,
        policies=policies,
        hidden=hidden,
        target=target or targets.independent(group=n),
        actor_value=actor_value or targets.mean_of_mins(group=n),
        temperature_of_logarithm=temperature_of_logarithm,
        order=order,
        **options,
    )
    net = Critic(tuple(hidden), start=rlkit_init(head_bias=1.0))

    def ratio(params, observation, action):
        return nn.relu(net.apply(params, observation, action))

    def priority(state, batch):
        old = batch.extras["offline"]
        power = 1.0 / ratio_temperature
        usual = jnp.mean(ratio(state.params[RATIO], old.observation, old.action) ** power)
        own = ratio(state.params[RATIO], batch.observation, batch.action) ** power
        return jnp.clip(own / (usual + 1e-10), 1e-3, 1e3)

    return base._replace(
        nets={**base.nets, RATIO: net},
        inputs={**base.inputs, RATIO: base.inputs["critic"]},
        losses={**base.losses, RATIO: _ratio_loss(ratio)},
        optimisers={**base.optimisers, RATIO: optax.adam(ratio_rate)},
        priority=priority,
    )


br.extends = sac  # where `options` are described
