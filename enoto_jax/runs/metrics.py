"""Write a run's rows to evaluations.csv, metrics.csv and dashboards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from enoto_jax.runs import files, hosts
from enoto_jax.runs.dashboards import Sink


def evaluation_rows(
    phase: str,
    step: int,
    seeds: Sequence[int],
    returns: np.ndarray,
    success: np.ndarray,
    scores: Sequence[float] | np.ndarray | None,
) -> Iterator[dict[str, Any]]:
    """Yield one row of evaluations.csv per seed, without the time.

    Args:
      phase: Offline or online.
      step: The step of that phase.
      seeds: The seeds [S].
      returns: Returns of the episodes [S, E].
      success: [S, E], 0 or 1; NaN if the environment does not report it.
      scores: [S], or None if the task has no reference returns.
    """
    known = [None] * len(returns) if scores is None else scores
    for seed, own, score, rate in zip(seeds, returns, known, success.mean(axis=1)):
        yield {
            "phase": phase,
            "step": step,
            "env_steps": 0 if phase == "offline" else step,
            "seed": seed,
            "return_mean": own.mean(),
            "return_std": own.std(),
            "score": score,
            "success": rate,
            "episodes": len(own),
        }


class Rows:
    """The rows of one run, for all its seeds; the first host writes them.

    Args:
      folder: The run's folder.
      seeds: The seeds [S].
      sinks: Dashboards to write to, in addition to the CSV files.
    """

    def __init__(self, folder: Path, seeds: Sequence[int], sinks: Sequence[Sink] = ()):
        self._seeds, self._sinks = seeds, sinks
        self._evaluations: Any = hosts.Nothing()
        self._metrics: Any = hosts.Nothing()
        if hosts.first():
            self._evaluations = files.CsvLog(folder / "evaluations.csv", files.EVALUATION_COLUMNS)
            self._metrics = files.CsvLog(folder / "metrics.csv", files.METRIC_COLUMNS)

    def cut_back(self, phase: str, last: int) -> None:
        """Remove rows from later than a step of a phase."""

        def kept(of: str, at: int) -> bool:
            return at <= last if of == phase else of == "offline"

        self._evaluations.cut_back(lambda row: kept(row["phase"], int(row["step"])))
        self._metrics.cut_back(lambda row: kept(row["name"].split("/")[0], int(row["step"])))

    def tell_success(self) -> bool:
        """Return whether a row has a success rate."""
        return any(row.get("success") for row in files.read_csv(self._evaluations.path))

    def quantities(
        self, phase: str, step: int, means: Mapping[str, Mapping[str, np.ndarray]]
    ) -> None:
        """Write `<phase>/<network>/<quantity>` for every seed.

        Args:
          phase: Offline or online.
          step: The step of that phase.
          means: network -> quantity -> [S].
        """
        flat = {
            f"{phase}/{u}/{q}": x for u, quantities in means.items() for q, x in quantities.items()
        }
        self._metrics.append(files.metric_rows(step, flat, self._seeds))
        self._tell(step, {name: float(x.mean()) for name, x in flat.items()})

    def evaluation(
        self,
        phase: str,
        step: int,
        returns: np.ndarray,
        success: np.ndarray,
        scores: Sequence[float] | np.ndarray | None,
        wall_s: float,
    ) -> tuple[str, float]:
        """Write an evaluation of every seed.

        Args:
          phase: Offline or online.
          step: The step of that phase.
          returns: Returns of the episodes [S, E].
          success: [S, E], see `evaluation_rows`.
          scores: [S], or None.
          wall_s: Wall time of the run so far, in seconds.

        Returns:
          "score" or "return", and its mean over seeds.
        """
        rows = evaluation_rows(phase, step, self._seeds, returns, success, scores)
        self._evaluations.append({**row, "wall_s": round(wall_s, 2)} for row in rows)
        name = "return" if scores is None else "score"
        value = float(np.mean(returns.mean(axis=1) if scores is None else scores))
        self._tell(step, {f"{phase}/evaluation/{name}": value})
        return name, value

    def show(self, pictures: Mapping[str, Path]) -> None:
        """Show pictures and films on the dashboards."""
        for sink in self._sinks:
            for name, path in pictures.items():
                sink.show(name, path)

    @property
    def has_dashboards(self) -> bool:
        return bool(self._sinks)

    def close(self) -> None:
        """Close the dashboards; the CSV files are complete after every row."""
        for sink in self._sinks:
            sink.close()

    def _tell(self, step: int, values: Mapping[str, Any]) -> None:
        for sink in self._sinks:
            sink.log(step, values)
