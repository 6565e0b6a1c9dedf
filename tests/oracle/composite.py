"""The independent NumPy oracle, continued: composite policies (BR, PEX, LAPO, rest of SUNRISE).

Same conventions as `tests/oracle/methods.py`. Letters: B transitions, N critics, E members of an
ensemble of agents, P pairs of critics, A the size of the action, Z that of a latent action.
"""

import numpy as np

from tests.oracle import methods as rows
from tests.oracle import reference

# Balanced replay and pessimistic ensemble (Lee et al. 2022, Off2OnRL): E agents of two critics.


def mixture_moments(means, log_stds, low=-20.0, high=2.0):
    """The Gaussian with the moments of the equal mixture of E Gaussians, before tanh.

    Mean of the means and sqrt(mean_k (s_k^2 + m_k^2) - mean^2), the deviation clamped to
    [e^low, e^high]. Both arguments are [E, B, A]; returns mean and log std, [B, A].
    """
    members, *shape = means.shape
    mean, log_std = np.zeros(shape), np.zeros(shape)
    for index in np.ndindex(*shape):
        m = [means[(k, *index)] for k in range(members)]
        v = [np.exp(2.0 * log_stds[(k, *index)]) for k in range(members)]
        mean[index] = sum(m) / members
        variance = sum(v[k] + m[k] ** 2 for k in range(members)) / members - mean[index] ** 2
        std = np.sqrt(max(variance, 0.0))
        log_std[index] = np.log(rows.clip(std, np.exp(low), np.exp(high)))
    return mean, log_std


def consecutive_pairs(count):
    """(0, 1), (2, 3), ...: the two critics of each agent are next to each other."""
    return [(i, i + 1) for i in range(0, count, 2)]


def stacked_pairs(count):
    """(0, E), (1, E + 1), ...: all first critics, then all second ones (BR-code's two stacks)."""
    return [(i, i + count // 2) for i in range(count // 2)]


def pair_minima(q, pairs=None):
    """min(Q1_k, Q2_k) of each agent, [N, B] to [P, B]; pairs are consecutive unless given."""
    pairs = consecutive_pairs(len(q)) if pairs is None else pairs
    return np.array([[min(q[i, b], q[j, b]) for b in range(q.shape[1])] for i, j in pairs])


def br_target(reward, terminated, discount, next_q, alpha, next_log_prob, pairs=None):
    """y_k = r + g (1 - d) (min(Qt1_k, Qt2_k)(s2, a2) - alpha log pi(a2|s2)): each agent's own, [P, B].

    a2 is one action for all agents, drawn from the mixture.
    """
    value = pair_minima(next_q, pairs)
    return reference.sac_target(reward, terminated, discount, value, alpha, next_log_prob)


def br_critic_loss(q, y, pairs=None):
    """The sum over all N critics of mean_B (Q - y_k)^2, k the critic's agent; q [N, B], y [P, B]."""
    pairs = consecutive_pairs(len(q)) if pairs is None else pairs
    own = np.zeros_like(q)
    for k, pair in enumerate(pairs):
        for i in pair:
            own[i] = y[k]
    return reference.critic_loss(q, own)


def br_value(q, pairs=None):
    """(1/P) sum_k min(Q1_k, Q2_k): the actor's objective, [B]."""
    return reference.mean_q(pair_minima(q, pairs))


def br_actor_loss(alpha, log_prob, q, pairs=None):
    """mean_B [ alpha log pi(a~|s) - (1/P) sum_k min(Q1_k, Q2_k)(s, a~) ]."""
    value = br_value(q, pairs)
    return rows.mean_of([alpha * log_prob[b] - value[b] for b in range(len(value))])


def density_ratio(tree, observation, action):
    """w(s, a) = relu(mlp(s, a)) >= 0, [B]."""
    return np.maximum(rows.mlp(tree, np.concatenate([observation, action], axis=-1))[:, 0], 0.0)


def density_ratio_loss(w_offline, w_online, eps=1e-10):
    """-mean log(2 / (w_off + 1) + eps) - mean log(2 w_on / (w_on + 1) + eps).

    This is the negative of the variational lower bound of twice the Jensen-Shannon divergence: at least
    -2 log 2, and 0 at w = 1. The batches may have different sizes, hence two means.
    """
    offline = rows.mean_of([-np.log(2.0 / (w + 1.0) + eps) for w in w_offline])
    online = rows.mean_of([-np.log(2.0 * w / (w + 1.0) + eps) for w in w_online])
    return offline + online


def balanced_priorities(w, w_offline, temperature=5.0, low=0.001, high=1000.0, eps=1e-10):
    """clip( w^(1/T) / (mean of w_off^(1/T) over the offline batch + eps), low, high), [B]."""
    normaliser = rows.mean_of([x ** (1.0 / temperature) for x in w_offline]) + eps
    return np.array([rows.clip(x ** (1.0 / temperature) / normaliser, low, high) for x in w])


def first_online_priority(offline_size, fraction, steps=1000):
    """P0 = M f / ((1 - f) 1000): after 1000 online transitions of P0 each they hold a fraction f."""
    return offline_size * fraction / ((1.0 - fraction) * steps)


def first_above(weights, position):
    """The first index whose running sum of weights exceeds `position`; the last index if none does."""
    running = 0.0
    for index, weight in enumerate(weights):
        running += weight
        if running > position:
            return index
    return len(weights) - 1


def stratified_choice(priorities, uniforms):
    """Draw b of B falls at (b + u_b) / B of the total: an index in proportion to its priority."""
    total, batch = sum(priorities), len(uniforms)
    return np.array(
        [first_above(priorities, (b + uniforms[b]) / batch * total) for b in range(batch)]
    )


# Policy expansion (Zhang et al. 2023). Policy 0 is the frozen one, policy 1 the new one.


def softmax(logits):
    """exp(x_k) / sum_k exp(x_k)."""
    total = reference.log_sum_exp(logits)
    return np.array([np.exp(x - total) for x in logits])


def pex_logits(q, inverse_temperature=10.0):
    """inverse_temperature * min_i Q_i(s, a_k) with the online critics: [N, K, B] to [B, K]."""
    return np.array([inverse_temperature * reference.min_q(q[:, :, b]) for b in range(q.shape[2])])


def choose_by_gumbel(logits, gumbel):
    """arg-max_k (logits + Gumbel noise), [B]: a draw from softmax(logits)."""
    return np.array([reference.first_argmax(row) for row in logits + gumbel])


def choose_by_uniform(logits, uniform):
    """The first k with sum_{j <= k} softmax_j > u, [B]: a draw from softmax(logits)."""
    return np.array([first_above(softmax(row), u) for row, u in zip(logits, uniform)])


def choose_to_evaluate(logits, uniform, sampled_choice, epsilon=0.1):
    """arg-max_k of the logits, but the sampled choice where u < epsilon, [B]."""
    return np.array(
        [
            sampled_choice[b] if uniform[b] < epsilon else reference.first_argmax(logits[b])
            for b in range(len(logits))
        ]
    )


def take(actions, choice):
    """a_{k(b)} of each state: actions [K, B, A], choice [B], to [B, A]."""
    return np.array([actions[choice[b], b] for b in range(len(choice))])


def pex_actor_loss(q_target, v, log_prob, beta, cap=100.0):
    """-mean_B min(exp(beta (min_i Qt_i(s, a) - V(s))), cap) log pi_new(a|s), a the chosen action.

    The batch's actions are not used: a, `q_target` [N, B] and the new policy's `log_prob` [B]
    are those of the composite rule, the frozen policy's actions included; no gradient through a.
    """
    return rows.iql_actor_loss(reference.min_q(q_target) - v, log_prob, beta, cap)


# Latent-variable advantage-weighted policy optimisation, LAPO (Chen et al. 2022).


def latent_action(latent, noise=None, std=0.1, limit=0.2, largest=2.0):
    """z = largest * tanh(f), plus clip(std noise, -limit, limit) for the V target: [B, Z].

    `latent` is the output of the linear head before tanh, `noise` a standard normal draw or None.
    "N(0, 0.1)" is read as a standard deviation of 0.1 (`std` changes it); the sum is not
    clamped again.
    """
    z = largest * np.tanh(latent)
    if noise is None:
        return z
    return z + np.clip(std * noise, -limit, limit)


def reparameterised(mean, log_var, noise):
    """z = mean + exp(log_var / 2) noise."""
    return mean + np.exp(0.5 * log_var) * noise


def lapo_v_target(q_target, k, low, high):
    """clamp( k min_i Qt_i + (1 - k) max_i Qt_i, low, high) at (s, decoder_t(s, noisy z)), [B]."""
    return np.array([rows.clip(value, low, high) for value in reference.mix(q_target, k)])


def lapo_value_loss(v, q_target, k, low, high):
    """mean_B (V(s) - v target)^2, no gradient through the target."""
    target = lapo_v_target(q_target, k, low, high)
    return rows.mean_of([(v[b] - target[b]) ** 2 for b in range(len(v))])


def lapo_critic_loss(q, reward, terminated, next_v, discount, weight=None):
    """sum_i mean_B w (Q_i - y)^2, y = r + g (1 - d) V(s2) with the online V."""
    return rows.iql_critic_loss(q, reward, terminated, next_v, discount, weight)


def lapo_advantage(reward, terminated, next_q, v, discount, k):
    """r + g (1 - d) [k min_i + (1 - k) max_i] Qt_i(s2, decoder_t(s2, z_t(s2))) - V(s), no noise, [B]."""
    return rows.bootstrapped(reward, terminated, discount, reference.mix(next_q, k)) - v


def lapo_weight(advantage, expectile=0.9):
    """tau where the advantage is positive, 1 - tau elsewhere (at 0 too), [B]."""
    return np.array([expectile if a > 0.0 else 1.0 - expectile for a in advantage])


def kl_to_standard_normal(mean, log_var):
    """KL(N(mean, var) || N(0, 1)) = -0.5 sum_Z (1 + log_var - mean^2 - exp(log_var)), [B]."""
    return np.array(
        [
            -0.5 * sum(1.0 + lv - m**2 - np.exp(lv) for m, lv in zip(means, log_vars))
            for means, log_vars in zip(mean, log_var)
        ]
    )


def lapo_cvae_loss(
    reconstruction,
    action,
    mean,
    log_var,
    weight,
    kl_weight=1.0,
    reduction="sum",
    kl_reduction="sum",
):
    """mean_B w ( |a_rec - a|^2 + kl_weight KL ), no gradient through w.

    The squared norm sums over action entries and the KL over latent entries; each `reduction` may be
    "mean" over those entries instead, as a mean squared error would have it.
    """
    losses = []
    kl = kl_to_standard_normal(mean, log_var)
    for b in range(len(action)):
        square = sum((reconstruction[b] - action[b]) ** 2)
        square /= {"sum": 1, "mean": len(action[b])}[reduction]
        divergence = kl[b] / {"sum": 1, "mean": len(mean[b])}[kl_reduction]
        losses.append(weight[b] * (square + kl_weight * divergence))
    return rows.mean_of(losses)


def lapo_latent_actor_loss(q, critic=0):
    """-mean_B Q_1(s, decoder_t(s, z(s))): the first critic, or with `critic` None the min over all."""
    value = reference.min_q(q) if critic is None else q[critic]
    return -rows.mean_of(list(value))


# SUNRISE (Lee et al. 2021), the parts that `tests/oracle/reference.py` lacks: E whole agents.


def filled_mask(mask, fallback):
    """Bootstrap masks [E, B]; if a column is all 0, the member drawn in `fallback` [B] gets a 1."""
    filled = np.array(mask, float)
    for b in range(filled.shape[1]):
        if not any(filled[:, b]):
            filled[fallback[b], b] = 1.0
    return filled


def sunrise_choice(q, scale):
    """arg-max over candidates of mean_i Q_i + lambda std_i Q_i, population deviation; q [2E, K].

    SUNRISE's own code; `reference.ucb_choice` is ENOTO's, with the unbiased deviation.
    """
    return reference.first_argmax(
        [sum(column) / len(column) + scale * reference.population_std(column) for column in q.T]
    )


def oac_pair_upper(q_first, q_second, beta):
    """mean(Q_1, Q_2) + beta |Q_1 - Q_2| / 2: OAC's own bound (Ciosek et al. 2019)."""
    return 0.5 * (q_first + q_second) + beta * abs(q_first - q_second) / 2.0
