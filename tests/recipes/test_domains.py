"""Domains: every entry names a method and its hyper-parameters, and the result can be built."""

from functools import cache

import pytest

from enoto_jax.recipes import domains
from enoto_jax.recipes.building import build
from enoto_jax.recipes.table import RECIPES
from enoto_jax.types import Spec

NAMES = {
    "antmaze": "antmaze-umaze-v2",
    "adroit": "pen-binary-v0",
    "kitchen": "kitchen-mixed-v0",
    "ogbench": "puzzle-3x3-play-singletask-task3-v0",
}
NEAR_THE_DATA = ("rebrac", "enoto_rebrac", "fql", "enoto_fql", "qc", "qc_fql", "bfn", "enoto_qc")
CASES = [(row, NAMES[domain]) for domain, (_, rows) in domains.DOMAINS.items() for row in rows] + [
    (row, f"{env}-{kind}-v2")
    for env in ("hopper", "halfcheetah", "walker2d")
    for kind in ("medium", "medium-replay", "medium-expert")
    for row in ("edac", "sac_n")
]
CASES += [
    (row, name)
    for row in NEAR_THE_DATA
    for name in (
        "halfcheetah-full-replay-v2",
        "antmaze-large-diverse-v2",
        "relocate-cloned-v1",
        "antmaze-giant-navigate-singletask-task2-v0",
        "cube-double-play-singletask-v0",
    )
]

once = cache(build)  # a fourth of the cases have constants that equal another case's


@pytest.mark.parametrize(("row", "name"), CASES)
def test_a_row_fits_together_with_its_domains_constants(row, name):
    """Only shapes are computed; an unknown path would be refused."""
    changed = domains.for_task(RECIPES[row], row, name)
    once(changed, Spec(29, 8))


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("hopper-medium-v2", "locomotion"),
        ("HalfCheetah-v4", "locomotion"),
        ("enoto/Walker2d-d4rl-v0", "locomotion"),
        ("antmaze-large-diverse-v2", "antmaze"),
        ("Ant_maze_u-maze_noisy_multistart_False_multigoal_False_sparse_fixed", "antmaze"),
        ("D4RL/antmaze/umaze-v1", "antmaze"),
        ("enoto/AntMaze-umaze-v0", "antmaze"),
        ("D4RL/door/human-v2", "adroit"),
        ("kitchen-mixed-v0", "kitchen"),
        ("antmaze-large-navigate-singletask-task1-v0", "ogbench"),
        ("puzzle-4x4-play-singletask-v0", "ogbench"),
        ("my_robot", None),
        ("pendulum-replay", None),  # "pen" must be a whole word
        ("openhands", None),
    ],
)
def test_domains_are_told_by_their_names(name, domain):
    assert domains.domain_of(name) == domain


@pytest.mark.parametrize("name", ["door-human-v1", "door-human", "D4RL/door/human-v2"])
def test_a_data_set_is_told_by_its_name_without_prefix_and_version(name):
    assert domains.changes_of("fql", name)["algorithm.alpha"] == 30_000.0
    assert domains.changes_of("rebrac", name)["offline.algorithm.critic_cloning"] == 0.1


def test_antmaze_follows_the_authors():
    """Rewards of ALGORITHMS: r - 1 (IQL), 10 r - 5 (Cal-QL), 4 r - 2 (ENOTO's CQL), 100 r (LAPO)."""
    maps = {
        row: domains.for_task(RECIPES[row], row, "antmaze-umaze-v2").transform(Spec(29, 8), None)
        for row in ("iql", "wsrl", "enoto_cql")
    }
    rewards = {row: [float(t.reward(r)) for r in (0.0, 1.0)] for row, t in maps.items()}
    assert rewards == {"iql": [-1, 0], "wsrl": [-5, 5], "enoto_cql": [-2, 2]}
    lapo = domains.for_task(RECIPES["lapo"], "lapo", "antmaze-umaze-v2")
    assert lapo.offline.algorithm.value_range == (0.0, 100.0)
    assert lapo.transform.reward_scale == 100.0


def test_adroit_and_kitchen_follow_the_authors():
    def changed(row, domain):
        return domains.for_task(RECIPES[row], row, NAMES[domain])

    for domain in ("adroit", "kitchen"):
        iql = changed("iql", domain)
        assert (iql.online.algorithm.beta, iql.online.algorithm.expectile) == (0.5, 0.7)
        assert iql.transform.return_range is None
    assert changed("awac", "adroit").offline.algorithm.lam == 0.1
    for row in ("cal_ql", "wsrl"):
        adroit, kitchen = changed(row, "adroit"), changed(row, "kitchen")
        assert [float(adroit.transform(Spec(29, 8), None).reward(r)) for r in (-1, 0)] == [-5, 5]
        assert adroit.offline.algorithm.critic_hidden == (512, 512, 512)
        assert (adroit.offline.algorithm.weight, kitchen.offline.algorithm.weight) == (1.0, 5.0)
        assert kitchen.offline.algorithm.hidden == (512, 512, 512)
        assert not kitchen.offline.algorithm.importance_sampling
    assert changed("cal_ql", "kitchen").online.replay.fraction == 0.25
    for row in ("cal_ql", "wsrl"):
        assert changed(row, "kitchen").transform.reward_shift == -4.0
    cal_ql = changed("cal_ql", "adroit").offline.algorithm
    assert (type(cal_ql.backup).__name__, cal_ql.actor_rate) == ("best_of", 1e-4)


@pytest.mark.parametrize("name", ["pen-human-v1", "door-cloned-v1", "D4RL/relocate/expert-v2"])
def test_dense_rewards_of_adroit_are_left_as_they_are(name):
    for row in ("cal_ql", "wsrl", "wsrl_cql"):
        changed = domains.for_task(RECIPES[row], row, name)
        assert [float(changed.transform(Spec(29, 8), None).reward(r)) for r in (0, 20)] == [0, 20]
        assert getattr(changed.offline.algorithm, "sparse_reward", None) is None


def test_joined_data_sets_get_only_what_they_agree_on():
    one, two = "pen-human-v1", "pen-cloned-v1"
    assert domains.changes_of("fql", one) != domains.changes_of("fql", two)
    for row in ("fql", "rebrac", "cal_ql"):
        both = domains.changes_of(row, f"{one}+{two}")
        assert both == domains.changes_of(row, f"{two}+{one}")
        assert domains.changes_of(row, f"{one}+{one}") == domains.changes_of(row, one)
    assert "algorithm.alpha" not in domains.changes_of("fql", f"{one}+{two}")
    for name in (f"{one}+{two}", f"pen-binary-v0+{one}"):  # dense rewards in at least one
        assert domains.for_task(RECIPES["cal_ql"], "cal_ql", name).transform.reward_scale == 1.0


def test_on_ogbench_rebrac_explores_and_iql_has_its_constants_from_fqls_repository():
    def changed(row):
        name = "humanoidmaze-medium-navigate-singletask-v0"
        return domains.for_task(RECIPES[row], row, name)

    assert changed("rebrac").online.algorithm.exploration.std == 0.2
    iql = changed("iql").offline.algorithm
    assert (iql.expectile, iql.beta, iql.discount) == (0.9, 10.0, 0.995)
    assert changed("rlpd").online.algorithm.discount == 0.995


def test_edac_and_sac_n_have_their_own_sizes():
    def n(row, name):
        return domains.for_task(RECIPES[row], row, name).offline.algorithm.n

    assert [n("edac", f"hopper-{k}-v2") for k in ("medium", "medium-replay")] == [50, 50]
    assert [n("sac_n", f"hopper-{k}-v2") for k in ("medium", "medium-expert")] == [500, 200]
    assert n("sac_n", "walker2d-medium-replay-v2") == 20 and n("edac", "walker2d-medium-v2") == 10
    eta = domains.for_task(RECIPES["edac"], "edac", "walker2d-medium-expert-v2")
    assert eta.offline.algorithm.eta == 5.0
    assert domains.changes_of("enoto_cql", "hopper-medium-v2") == {}
