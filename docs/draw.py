"""Draw the pictures of docs/ideas.md: `python docs/draw.py [folder]`.

Every curve is computed by the package, so that the pictures cannot differ from the code.
"""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from enoto_jax import targets
from enoto_jax.exploration import sunrise
from enoto_jax.report.curves import COLOURS, DASHES

STYLE = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "0"}
RULES = {
    "min_q": targets.min_q(),
    "random_min_pair": targets.random_min_pair(),
    "weighted_min_pair": targets.weighted_min_pair(),
    "rem": targets.rem(),
    "mean_q": targets.mean_q(),
}


def rules() -> Figure:
    """Draw the five rules' targets for uninformed critics: Q_i ~ Normal(0, 1), true value 0."""
    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    sizes, draws = (2, 3, 5, 10, 20), 10_000
    for number, ((name, rule), colour) in enumerate(zip(RULES.items(), COLOURS)):
        # Two pairs of lines coincide: the upper line of each is dashed.
        look = {"color": colour, "linestyle": DASHES[number in (2, 4)]}
        values = []
        for n in sizes:
            q = np.random.default_rng(n).normal(size=(draws, n, 1)).astype(np.float32)
            values.append(jax.jit(jax.vmap(rule))(jax.random.split(jax.random.key(0), draws), q))
        values = np.stack(values)[..., 0]
        left.plot(sizes, values.mean(1), label=name, **look)
        right.plot(sizes, values.std(1), **look)
    left.axhline(0, color="#888888", linewidth=0.8)
    left.set(xlabel="critics N", ylabel="target (the truth is 0)", title="how pessimistic")
    right.set(xlabel="critics N", ylabel="standard deviation", title="how noisy", ylim=(0, None))
    left.set_xticks(sizes)
    right.set_xticks(sizes)
    figure.legend(loc="outside lower center", ncols=5, fontsize=9, frameon=False)
    return figure


def weights() -> Figure:
    """Draw the weight of the k-th smallest of ten critics."""
    figure = Figure(figsize=(8.4, 2.8), layout="constrained")
    n = 10
    for axes, name in zip(
        figure.subplots(1, 3, sharey=True), ("min_q", "weighted_min_pair", "mean_q")
    ):
        # The rules are linear in sorted values: their gradient is the weight.
        q = jnp.arange(n, dtype=jnp.float32)[:, None]
        weight = jax.grad(lambda q, rule=RULES[name]: rule(jax.random.key(0), q)[0])(q)[:, 0]
        axes.bar(np.arange(1, n + 1), weight, color=COLOURS[list(RULES).index(name)])
        axes.set(title=name, xlabel="critic, from the smallest Q", xticks=(1, 4, 7, 10))
    figure.axes[0].set_ylabel("weight in the target")
    return figure


def exploration() -> Figure:
    """Draw SUNRISE's two parts: the weight of a transition, and the choice among candidates."""
    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    std = np.linspace(0.0, 1.0, 101)
    q = jnp.asarray([[1.0], [-1.0]]) * std
    for temperature, colour in ((5.0, COLOURS[1]), (10.0, COLOURS[0]), (20.0, COLOURS[2])):
        weight = sunrise(temperature=temperature).td_weight(jax.random.key(0), q, None)
        left.plot(std, weight, color=colour, label=f"T = {temperature:g}")
    left.set(xlabel="std of the target critics", ylabel="weight of the TD error", ylim=(0.45, 1.05))
    left.legend(frameon=False)
    rng = np.random.default_rng(1)
    mean, spread = rng.normal(0, 0.6, 10), rng.uniform(0.02, 0.12, 10)
    best, greedy = int(np.argmax(mean + 10 * spread)), int(np.argmax(mean))
    right.errorbar(np.arange(10), mean, 10 * spread, fmt="o", color="#888888", capsize=3, lw=1)
    for index, colour, text in ((greedy, COLOURS[1], "best mean"), (best, COLOURS[0], "chosen")):
        right.plot(index, mean[index], "o", color=colour, markersize=9, zorder=5)
        right.annotate(text, (index, mean[index]), (5, 5), textcoords="offset points", color=colour)
    right.set(xlabel="candidate action, a sample of the policy", ylabel="mean of Q, and 10 std")
    return figure


def run() -> Figure:
    """Draw the stages of a run, from left to right."""
    figure = Figure(figsize=(8.4, 2.5))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 100), ylim=(0, 30))
    axes.axis("off")
    boxes = (
        (2, 16, "data set", "on the device once,\nfor all seeds", "#888888"),
        (22, 21, "offline phase", "N critics, pessimistic;\nmany updates in one call", COLOURS[0]),
        (48, 17, "hand-over", "networks, targets,\noptimisers carried", COLOURS[2]),
        (70, 28, "online phase", "no pessimism, SUNRISE,\nWeightedMinPair", COLOURS[1]),
    )
    for x, width, title, text, colour in boxes:
        style = {"boxstyle": "round,pad=0,rounding_size=1", "facecolor": "white", "linewidth": 1.6}
        axes.add_patch(FancyBboxPatch((x, 10), width, 15, edgecolor=colour, **style))
        axes.text(x + width / 2, 21.5, title, ha="center", va="center", weight="bold", color=colour)
        axes.text(x + width / 2, 14.7, text, ha="center", va="center", fontsize=8)
        if x > 2:
            axes.annotate("", (x - 0.5, 17.5), (x - 4, 17.5), arrowprops={"arrowstyle": "->"})
    text = "evaluations, metrics and checkpoints in both phases: killed at any moment, it goes on"
    axes.text(50, 4, text, ha="center", va="center", fontsize=9, color="#444444")
    return figure


PICTURES = {"run": run, "rules": rules, "weights": weights, "exploration": exploration}


def main(folder: Path) -> None:
    """Write all pictures into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        with mpl.rc_context(STYLE):
            draw().savefig(folder / f"{name}.png", dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "pictures")
