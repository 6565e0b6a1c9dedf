"""Algorithm 1 of ENOTO (Zhao et al., IJCAI 2024) on one page, written with the library's parts.

    python examples/algorithm1.py --task=hopper-medium-v2 --offline_steps=1000000

`enoto train` does the same for several seeds in one program, with files, checkpoints, evaluation
and resume. This is only the algorithm.
"""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

import enoto_jax as ej
from enoto_jax import exploration, targets
from enoto_jax.replay import ring

flags.DEFINE_string("task", None, "D4RL id or file; default: the data set in the package.")
flags.DEFINE_integer("offline_steps", 8_000, "Gradient updates of the offline phase.")
flags.DEFINE_integer("online_steps", 3_000, "Environment steps of the online phase.")
flags.DEFINE_integer("warmup", 1_000, "Environment steps before the first online update.")
flags.DEFINE_integer("critics", 10, "N, the number of critics.")
flags.DEFINE_integer("width", 128, "Units of each hidden layer.")
flags.DEFINE_integer("seed", 0, "Of everything that is drawn.")
FLAGS = flags.FLAGS

BATCH = 256


def main() -> list[float]:
    """Train offline, switch, fine-tune online, and return the returns of the online episodes."""
    source = ej.load_source(FLAGS.task)
    networks = {"n": FLAGS.critics, "hidden": (FLAGS.width, FLAGS.width)}

    # OfflineRL-N: CQL with N critics. The Bellman target is the minimum over all of them.
    offline = ej.cql(target=targets.min_q(), candidates=1, **networks).build(source.spec)

    # Online: the pessimistic term is gone, the target becomes WeightedMinPair (section 3.3b), and
    # SUNRISE explores and weighs the Bellman backups (section 3.3c).
    online = ej.sac(
        target=targets.weighted_min_pair(), exploration=exploration.sunrise(), **networks
    ).build(source.spec)

    key = jax.random.key(FLAGS.seed)
    init_key, offline_key, online_key, act_key = jax.random.split(key, 4)

    # Offline phase: updates on batches of the data set only.
    data = jax.tree.map(jnp.asarray, source.load().transitions)
    state = ej.init(offline, init_key)

    @jax.jit
    def learn_offline(state, step):
        rows_key, key = jax.random.split(jax.random.fold_in(offline_key, step))
        batch = ring.sample(data, rows_key, BATCH, data.reward.shape[0])
        return ej.update(offline, state, batch, key)

    for step in range(FLAGS.offline_steps):
        state, metrics = learn_offline(state, step)
        if step % 1_000 == 0:
            print(f"offline update {step:,}: Q of the data {metrics['critic']['q_data']:.1f}")

    # The switch: every parameter, target and optimiser state is carried over; the buffer is empty.
    state = ej.carry()(key, state, online)
    example = jax.tree.map(lambda x: x[0], data)
    buffer = ring.empty(example, FLAGS.online_steps)
    insert = jax.jit(ring.insert, donate_argnums=0)

    @jax.jit
    def act(state, step, memory, observation):
        key = jax.random.fold_in(act_key, step)
        return online.exploration.act(key, online, state, memory, observation)

    @jax.jit
    def learn_online(state, buffer, step):
        rows_key, key = jax.random.split(jax.random.fold_in(online_key, step))
        batch = ring.sample(buffer, rows_key, BATCH, step + 1)
        return ej.update(online, state, batch, key)

    # Online phase: act, store, update. Actions are in [-1, 1], whatever the environment's bounds.
    env = gymnasium.make(source.env_id)
    env = gymnasium.wrappers.RescaleAction(env, np.float32(-1.0), np.float32(1.0))
    observation, _ = env.reset(seed=FLAGS.seed)
    memory = online.exploration.reset(key, online.critics)
    total, returns = 0.0, []
    for step in range(FLAGS.online_steps):
        action = act(state, step, memory, np.float32(observation))
        following, reward, terminated, truncated, _ = env.step(np.asarray(action))
        transition = ej.Transition(
            np.float32(observation),
            action,
            np.float32(reward),
            terminated,
            truncated and not terminated,
            np.float32(following),
        )
        buffer = insert(buffer, transition, step)
        if step >= FLAGS.warmup:
            state, metrics = learn_online(state, buffer, step)
        observation, total = following, total + reward
        if terminated or truncated:
            returns.append(total)
            print(f"online step {step + 1:,}: return {total:.1f}")
            observation, _ = env.reset()
            memory = online.exploration.reset(jax.random.fold_in(key, step), online.critics)
            total = 0.0
    return returns


if __name__ == "__main__":
    app.run(lambda _: print(f"{len(main())} episodes"))
