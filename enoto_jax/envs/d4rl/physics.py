"""The physics of MuJoCo 2.0, in which D4RL's data were made, on today's MuJoCo.

Three things have changed since, all in how a model is read or integrated, none in the dynamics
themselves. `docs/physics.md` shows how each of them affects a step.
"""

from __future__ import annotations

import mujoco
import numpy as np

_HIDDEN = 5  # a group of geoms that renderers do not draw


def compile_d4rl(spec: mujoco.MjSpec) -> mujoco.MjModel:
    """Compile a model with the masses and the contacts that MuJoCo 2.0 would have given it.

    A capsule's mass and inertia were those of its cylinder, extended at each end by half its radius
    (exact formulas came with MuJoCo 2.1.2). Here such a cylinder, invisible and without contacts,
    carries the mass of each capsule. The margin of a contact was the larger of the two geoms'
    margins; now it is their sum.

    Args:
      spec: A model whose geoms all have the same margin; it is changed in place.

    Raises:
      ValueError: The margins differ, so halving them would not give the larger of the two.
    """
    for body in spec.bodies:
        for geom in list(body.geoms):
            if geom.type == mujoco.mjtGeom.mjGEOM_CAPSULE:
                _mass_as_cylinder(body, geom)
    margins = {geom.margin for geom in spec.geoms if geom.contype or geom.conaffinity}
    if len(margins) > 1:
        raise ValueError(f"geoms with margins {sorted(margins)}; all must have one margin")
    for geom in spec.geoms:
        geom.margin /= 2
    # MuJoCo will drop this attribute of the compiler, and warns if it is used.
    total, spec.compiler.settotalmass = spec.compiler.settotalmass, -1
    model = spec.compile()
    if total > 0:
        mujoco.mj_setTotalmass(model, total)
        mujoco.mj_setConst(model, mujoco.MjData(model))
    return model


def _mass_as_cylinder(body: mujoco.MjsBody, capsule: mujoco.MjsGeom) -> None:
    radius = capsule.size[0]
    cylinder = body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_CYLINDER,
        contype=0,
        conaffinity=0,
        group=_HIDDEN,
        density=capsule.density,
    )
    if np.isnan(capsule.fromto[0]):
        cylinder.pos, cylinder.quat = capsule.pos, capsule.quat
        cylinder.size = [radius, capsule.size[1] + radius / 2, 0]
    else:
        start, end = capsule.fromto[:3], capsule.fromto[3:]
        longer = (end - start) * (radius / 2 / np.linalg.norm(end - start))
        cylinder.fromto = [*(start - longer), *(end + longer)]
        cylinder.size = [radius, 0, 0]
    capsule.mass = 0


def runge_kutta(model: mujoco.MjModel, data: mujoco.MjData, steps: int) -> None:
    """Advance by classical fourth-order Runge-Kutta steps, in place.

    MuJoCo's own RK4 now corrects the rotation of free bodies for the change of their axis within
    a step (h^2/12 of the cross product of the angular velocities at its ends). The old one rotated
    them about the weighted mean of the four velocities. Models without free or ball joints are
    not affected.
    """
    h = model.opt.timestep
    for _ in range(steps):
        position, velocity = data.qpos.copy(), data.qvel.copy()
        mujoco.mj_forward(model, data)
        velocities, accelerations = [velocity], [data.qacc.copy()]
        for part in (0.5, 0.5, 1.0):
            data.qpos[:] = position
            mujoco.mj_integratePos(model, data.qpos, velocities[-1], part * h)
            data.qvel[:] = velocity + part * h * accelerations[-1]
            mujoco.mj_forward(model, data)
            velocities.append(data.qvel.copy())
            accelerations.append(data.qacc.copy())
        data.qpos[:] = position
        mujoco.mj_integratePos(model, data.qpos, _mean(velocities), h)
        data.qacc_warmstart[:] = _mean(accelerations)
        data.qvel[:] = velocity + h * data.qacc_warmstart
        data.time += h


def _mean(stages: list[np.ndarray]) -> np.ndarray:
    first, second, third, last = stages
    return (first + 2 * second + 2 * third + last) / 6
