"""D4RL's three mazes: their maps, and the positions of cells.

Source: D4RL `d4rl/locomotion/maze_env.py` (the `*_TEST` maps, in which scores are measured).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

CELL = 4.0  # side of a cell, m
HEIGHT = 2.0  # height of a wall, m


class Maze(NamedTuple):
    """A map: `#` wall, `.` floor, `r` the cell that the robot starts in, `g` the goal's cell."""

    rows: tuple[str, ...]

    @property
    def walls(self) -> list[tuple[int, int]]:
        """Cells (row, column) of the walls."""
        return self._cells("#")

    @property
    def goal(self) -> np.ndarray:
        """Centre of the goal's cell, [2] in m."""
        return self.centre(self._cells("g")[0])

    @property
    def middle(self) -> np.ndarray:
        """Centre of the whole map, [2] in m."""
        return self.centre(((len(self.rows) - 1) / 2, (len(self.rows[0]) - 1) / 2))

    def centre(self, cell: tuple[float, float]) -> np.ndarray:
        """Centre (x, y) of a cell in m; the start cell's is the origin."""
        (row, column), (start_row, start_column) = cell, self._cells("r")[0]
        return CELL * np.array([column - start_column, row - start_row], np.float64)

    def _cells(self, mark: str) -> list[tuple[int, int]]:
        places = ((i, j) for i, row in enumerate(self.rows) for j in range(len(row)))
        return [(i, j) for i, j in places if self.rows[i][j] == mark]


MAZES = {
    "umaze": Maze(
        (
            "#####",
            "#r..#",
            "###.#",
            "#g..#",
            "#####",
        )
    ),
    "medium": Maze(
        (
            "########",
            "#r.##..#",
            "#..#...#",
            "##...###",
            "#..#...#",
            "#.#..#.#",
            "#...#.g#",
            "########",
        )
    ),
    "large": Maze(
        (
            "############",
            "#r...#.....#",
            "#.##.#.#.#.#",
            "#......#...#",
            "#.####.###.#",
            "#..#.#.....#",
            "##.#.#.#.###",
            "#..#...#.g.#",
            "############",
        )
    ),
}
