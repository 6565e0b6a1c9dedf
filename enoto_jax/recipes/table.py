"""The table: every method as one row of units, with the constants of its authors.

Where the paper (ENOTO, Zhao et al., IJCAI 2024) does not say, we follow its released code: N = 10,
3 x 256, Adam 3e-5 / 3e-4 / 1e-4 for actor / critics / temperature, one update per step. The
constants here are those for locomotion; `recipes/domains.py` has those for other domains, and
`docs/methods` has a page for every method.
"""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

from enoto_jax import exploration, handover, replay, targets, transforms
from enoto_jax.algorithms import bellman
from enoto_jax.algorithms.agents import cql_agents
from enoto_jax.algorithms.awac import awac
from enoto_jax.algorithms.bc import bc
from enoto_jax.algorithms.br import br
from enoto_jax.algorithms.cql import cql
from enoto_jax.algorithms.edac import edac
from enoto_jax.algorithms.fql import fql
from enoto_jax.algorithms.iql import iql
from enoto_jax.algorithms.lapo import lapo
from enoto_jax.algorithms.pex import pex
from enoto_jax.algorithms.qc import qc
from enoto_jax.algorithms.rebrac import rebrac
from enoto_jax.algorithms.ro2o import ro2o
from enoto_jax.algorithms.sac import sac
from enoto_jax.algorithms.td3 import td3, td3_bc
from enoto_jax.core import AlgorithmConfig
from enoto_jax.nets.initialisers import edac_init, orthogonal_init, torch_init, xavier_init
from enoto_jax.recipes.recipe import Phase, Recipe
from enoto_jax.recipes.units import nearest
from enoto_jax.types import InputError

OFFLINE_STEPS = 1_000_000
ONLINE_STEPS = 250_000


def _online(about: str, algorithm: AlgorithmConfig) -> Recipe:
    """Train from scratch, on new transitions only."""
    return Recipe(
        about,
        offline=None,
        handover=handover.fresh(),
        online=Phase(algorithm, ONLINE_STEPS, warmup=1_000),
    )


def _same(
    about: str, online: AlgorithmConfig, offline: AlgorithmConfig | None = None, **options
) -> Recipe:
    """Use one algorithm in both phases; new transitions are appended to the data set."""
    return Recipe(
        about,
        offline=Phase(offline or online, OFFLINE_STEPS),
        handover=handover.carry(),
        online=Phase(online, ONLINE_STEPS, replay=replay.append()),
        **options,
    )


def _plugged(about: str, offline: AlgorithmConfig, online: AlgorithmConfig, **options) -> Recipe:
    """Carry everything over, and start with an empty online buffer (ENOTO section 3)."""
    return Recipe(
        about,
        offline=Phase(offline, OFFLINE_STEPS),
        handover=handover.carry(),
        online=Phase(online, ONLINE_STEPS, warmup=1_000),
        **options,
    )


def _with(row: Recipe, offline: dict[str, Any] | None = None, **online) -> Recipe:
    """Return the row with these fields of its phases replaced."""
    if offline is not None:
        assert row.offline is not None
        row = dataclasses.replace(row, offline=dataclasses.replace(row.offline, **offline))
    return dataclasses.replace(row, online=dataclasses.replace(row.online, **online))


_weighted = targets.weighted_min_pair()
_sunrise = exploration.sunrise()
_enoto: dict[str, Any] = {"target": _weighted, "exploration": _sunrise}
_released = exploration.sunrise(ucb=None, scope="batch")
_standardised = transforms.transform(observations=True)  # epsilon 1e-3

_rates: dict[str, Any] = {"actor_rate": 3e-5, "critic_rate": 3e-4, "temperature_rate": 1e-4}
_cql, _cql_n = cql(n=2, **_rates), cql(n=10, **_rates)
_sac_n: dict[str, Any] = {
    "n": 10,
    "target": targets.min_q(),
    "order": "temperature,actor,critic",
    "temperature_of_logarithm": True,
    "log_std_range": (-5.0, 2.0),
    "actor_init": edac_init(head=1e-3),
    "critic_init": edac_init(head=3e-3),
}

# CORL's constants for bc and awac, the authors' for iql, td3_bc and pex.
_td3_bc = td3_bc(exploration=exploration.gaussian())
_td3_n: dict[str, Any] = {"n": 10, "actor_value": targets.min_q()}
_iql_return_range = transforms.transform(return_range=1_000.0)
_pex: dict[str, Any] = {"beta": 10.0, "actor_init": xavier_init(), "critic_init": torch_init()}

# Cal-QL as in CORL's port, which brought it to locomotion.
_orthogonal, _xavier = orthogonal_init(head_gain=math.sqrt(2.0)), xavier_init()
_cal_ql = cql(
    n=2,
    calibrate=True,
    weight=10.0,
    reduction="sum",
    backup=bellman.sampled(),
    hidden=(256, 256, 256),
    critic_hidden=(256, 256),
    actor_init=_orthogonal,
    critic_init=_orthogonal,
    actor_rate=3e-5,
    critic_rate=3e-4,
    temperature_rate=3e-5,
    order="temperature,actor,critic",
    temperature_of_logarithm=True,
)
_pair = targets.random_min_pair()
_rlpd = sac(
    n=10,
    target=_pair,
    actor_value=targets.mean_q(),
    hidden=(256, 256),
    layer_norm=True,
    actor_init=_xavier,
    critic_init=_xavier,
    target_entropy_per_action=-0.5,
    order="critic,actor,temperature",
    actor_delay=20,
)
_inside = transforms.transform(action_limit=0.99999)
_wsrl: dict[str, Any] = {
    "n": 10,
    "target": _pair,
    "hidden": (256, 256),
    "layer_norm": True,
    "actor_layer_norm": True,
    "actor_init": _orthogonal,
    "critic_init": _orthogonal,
    "actor_rate": 1e-4,
    "critic_rate": 3e-4,
    "temperature_rate": 1e-4,
    "log_std_range": (math.log(1e-5), math.log(10.0)),
    "order": "critic,actor,temperature",
}


def _warm_started(about: str, calibrate: bool) -> Recipe:
    """Use ten critics in both phases; the frozen policy first fills SAC's buffer (WSRL)."""
    offline = cql(
        **_wsrl,
        weight=5.0,
        reduction="sum",
        subset=2,
        backup=bellman.best_of(),
        calibrate=calibrate,
    )
    online = sac(**_wsrl, backup=bellman.sampled(), actor_delay=4)
    return _with(_plugged(about, offline, online, transform=_inside), warmup=5_000, utd=4)


# Standardised actions are unbounded; the environment clips.
_unbounded = exploration.gaussian(bound=None)
_lapo = lapo(n=2, target=targets.mix(k=1.0), exploration=_unbounded)
_lapo_n = lapo(n=10, target=targets.min_q(), actor_value=targets.min_q(), exploration=_unbounded)
_lapo_transform = transforms.transform(
    observations=True, actions=True, epsilon=1e-6, reward_over_largest=True
)


def _latent(about: str, online: AlgorithmConfig, offline: AlgorithmConfig | None = None) -> Recipe:
    row = _same(about, online, offline, transform=_lapo_transform)
    return _with(row, {"batch_size": 512}, batch_size=512)


# CORL's fine-tuning of ReBRAC: half of a batch of 256 is data; the actor's cloning decays by half.
_rebrac = rebrac()
_rebrac_online = rebrac(critic_cloning=0.0, cloning_decay_steps=ONLINE_STEPS)

_SCRATCH = {
    "sac": _online("SAC from scratch", sac(n=2, hidden=(256, 256))),
    "scratch": _online("ENOTO's online phase from scratch", sac(n=10, **_enoto)),
}
_PESSIMISTIC = {
    "cql": _plugged("CQL that keeps its pessimism online", _cql, _cql),
    "cql_to_sac": _plugged("CQL, then SAC: the penalty is dropped", _cql, sac(n=2, **_rates)),
    "cql_n_to_sac_n": _plugged(
        "CQL, then SAC, with N critics", _cql_n, sac(n=10, target=targets.min_q(), **_rates)
    ),
    "enoto_cql": _plugged(
        "ENOTO-CQL: N critics, WeightedMinPair, SUNRISE",
        _cql_n,
        sac(n=10, **_enoto, **_rates),
    ),
    "enoto_cql_released": _plugged(
        "ENOTO-CQL as in the authors' released script: batch weight, no UCB",
        _cql_n,
        sac(n=10, target=_weighted, exploration=_released, **_rates),
    ),
}
# ENOTO-CQL from the same hand-over. docs/methods/enoto_plus.md says why each part is there.
_PLUS = {
    "enoto_plus": _with(
        _plugged(
            "ENOTO-CQL that keeps data in its replay, with a slower actor online",
            _cql_n,
            sac(n=10, **_enoto, **{**_rates, "actor_rate": 1e-5}),
        ),
        warmup=5_000,
        replay=replay.append(counts_as=10_000),
    )
}
_ENSEMBLES = {
    "sac_n": _same("SAC-N offline and online (An et al. 2021)", sac(**_sac_n)),
    "ro2o": Recipe(
        "RO2O: SAC-N with smoothness and pessimism terms, SAC-N online (Wen et al. 2024)",
        offline=Phase(ro2o(**_sac_n), OFFLINE_STEPS),
        handover=handover.carry(),
        online=Phase(sac(**_sac_n), ONLINE_STEPS, warmup=2_500),
    ),
    "edac": _same("EDAC offline and online (An et al. 2021)", edac(**_sac_n)),
    "br": Recipe(
        "Balanced Replay with a pessimistic Q-ensemble (Lee et al. 2021)",
        offline=Phase(cql_agents(count=5, n=2, hidden=(256, 256), **_rates), OFFLINE_STEPS),
        handover=handover.merge_actors(),
        online=Phase(
            br(
                policies=5,
                n=2,
                target=targets.independent(group=2),
                actor_value=targets.mean_of_mins(group=2),
            ),
            ONLINE_STEPS,
            replay=replay.balanced(),
            warmup=1_000,
            catch_up=10,
        ),
    ),
}
_IMITATING = {
    "bc": _same("behaviour cloning, offline and online", bc(), transform=_standardised),
    "td3_bc": _same("TD3+BC (Fujimoto & Gu 2021)", _td3_bc, transform=_standardised),
    "enoto_td3_bc": _plugged(
        "ENOTO-TD3+BC: N critics; cloning dropped, WeightedMinPair, SUNRISE",
        td3_bc(**_td3_n),
        td3(**_td3_n, **_enoto, alpha=2.5, cloning=False),
        transform=_standardised,
    ),
    "awac": _same("AWAC (Nair et al. 2020)", awac(), transform=_standardised),
}
_IN_SAMPLE = {
    "iql": _same(
        "IQL (Kostrikov et al. 2022)",
        iql(),
        iql(decay_steps=OFFLINE_STEPS),
        transform=_iql_return_range,
    ),
    "enoto_iql": _plugged(
        "ENOTO on IQL: N critics, WeightedMinPair, SUNRISE",
        iql(n=10, decay_steps=OFFLINE_STEPS),
        iql(n=10, **_enoto),
        transform=_iql_return_range,
    ),
    "pex": Recipe(
        "PEX (Zhang et al. 2023): IQL, then a new policy in addition to the frozen one",
        offline=Phase(iql(decay_steps=OFFLINE_STEPS, **_pex), OFFLINE_STEPS),
        handover=handover.expand_policy(),
        online=Phase(pex(**_pex), ONLINE_STEPS, replay=replay.mixed(), warmup=5_000),
    ),
}

_WITH_DATA = {
    "cal_ql": Recipe(
        "Cal-QL: CQL calibrated by returns-to-go, in both phases (Nakamoto et al. 2023)",
        offline=Phase(_cal_ql, OFFLINE_STEPS),
        handover=handover.carry(),
        online=Phase(_cal_ql, ONLINE_STEPS, replay=replay.whole_episodes()),
        transform=_standardised,
    ),
    "rlpd": Recipe(
        "RLPD: SAC from scratch, half of every batch from the data set (Ball et al. 2023)",
        offline=None,
        handover=handover.fresh(),
        online=Phase(
            _rlpd,
            ONLINE_STEPS,
            replay=replay.mixed(),
            warmup=5_000,
            random_steps=5_000,
            utd=20,
        ),
        transform=_inside,
    ),
    "wsrl": _warm_started("WSRL: Cal-QL, then SAC without the data (Zhou et al. 2024)", True),
    "wsrl_cql": _warm_started("WSRL after CQL, as the authors use in locomotion", False),
}
_LATENT = {
    "lapo": _latent("LAPO offline and online (Chen et al. 2022)", _lapo),
    "lapo_n": _latent("LAPO with N critics", _lapo_n),
    "enoto_lapo": _latent(
        "ENOTO-LAPO: N critics, WeightedMinPair, SUNRISE",
        dataclasses.replace(_lapo_n, **_enoto),
        _lapo_n,
    ),
}
_NEAR_THE_DATA = {  # offline, ReBRAC uses larger batches in locomotion
    "rebrac": Recipe(
        "ReBRAC (Tarasov et al. 2023): cloning in the actor's and the critics' loss",
        offline=Phase(_rebrac, OFFLINE_STEPS, batch_size=1024),
        handover=handover.carry(),
        online=Phase(_rebrac_online, ONLINE_STEPS, replay=replay.mixed()),
    ),
    "enoto_rebrac": _with(
        _plugged(
            "ENOTO on ReBRAC: N critics; cloning dropped, WeightedMinPair, SUNRISE",
            rebrac(n=10),
            rebrac(n=10, actor_cloning=0.0, critic_cloning=0.0, **_enoto),
        ),
        {"batch_size": 1024},
    ),
    "fql": _same("FQL (Park et al. 2025): one-step policy and a flow", fql(), transform=_inside),
    "enoto_fql": _same(
        "ENOTO on FQL: N critics, WeightedMinPair, SUNRISE; alpha falls online",
        fql(n=10, alpha_decay_steps=ONLINE_STEPS, **_enoto),
        fql(n=10, target=_weighted),
        transform=_inside,
    ),
}

_CHUNKS = {
    "qc": _same(
        "Q-chunking (Li et al. 2025): the best of 32 chunks of a flow", qc(), transform=_inside
    ),
    "qc_fql": _same(
        "QC-FQL: FQL on chunks of five actions", fql(chunk=5, alpha=100.0), transform=_inside
    ),
    "bfn": _same(
        "BFN, best-of-N without chunks: the best of 4 samples of a flow",
        qc(chunk=1, candidates=4),
        transform=_inside,
    ),
    "enoto_qc": _same(
        "ENOTO on Q-chunking: N critics, WeightedMinPair; online SUNRISE among 32 chunks",
        qc(n=10, target=_weighted, exploration=exploration.sunrise(candidates=32)),
        qc(n=10, target=_weighted),
        transform=_inside,
    ),
}
# The offline policy acts for 5,000 steps before the first online update.
_CHUNKS = {name: _with(row, warmup=5_000) for name, row in _CHUNKS.items()}

RECIPES: dict[str, Recipe] = (
    _SCRATCH
    | _PESSIMISTIC
    | _PLUS
    | _ENSEMBLES
    | _IMITATING
    | _IN_SAMPLE
    | _WITH_DATA
    | _LATENT
    | _NEAR_THE_DATA
    | _CHUNKS
)


_BUILT_IN = frozenset(RECIPES)


def register_method(name: str, recipe: Recipe) -> Recipe:
    """Register your own recipe as a method for `--method`, `train` and `enoto methods`.

    Args:
      name: Letters, digits, `-` and `_`. You may register your own name again.
      recipe: The method.

    Returns:
      The recipe.

    Raises:
      InputError: It is not a recipe, the name is invalid, or a method of this package has it.
    """
    if not isinstance(recipe, Recipe):
        raise InputError(f"register_method: {recipe!r} is not a Recipe")
    if not isinstance(name, str) or not re.fullmatch(r"[\w-]+", name):
        raise InputError(f"register_method: {name!r} is not a name; use letters, digits, - and _")
    if name in _BUILT_IN:
        raise InputError(f"register_method: {name} is already a method; choose another name")
    RECIPES[name] = recipe
    return recipe


def recipe(name: str) -> Recipe:
    """Return a method's recipe, with the constants for locomotion.

    `domains.for_task` sets the constants of other domains.

    Args:
      name: The method's name; see `enoto methods`.

    Raises:
      InputError: There is no such method; the message lists the nearest names.
    """
    if not isinstance(name, str) or name not in RECIPES:
        raise InputError(f"--method: unknown method {name!r}{nearest(str(name), RECIPES)}")
    return RECIPES[name]
