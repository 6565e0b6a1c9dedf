"""The script for the README's figure and tables: what it draws, prints and refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from enoto_jax.cli import command
from enoto_jax.cli.command import define_only
from enoto_jax.types import InputError
from experiments.paper import readme

HEADER = "phase,step,env_steps,seed,return_mean,return_std,score,episodes,wall_s\n"


def run(folder, seed=0, config=None, slope=1):
    """A folder with one seed's evaluations."""
    folder.mkdir(parents=True)
    rows = (
        f"{phase},{step},{step},{seed},0,0,{slope * step},10,1\n"
        for phase in ("offline", "online")
        for step in (0, 5, 10)
    )
    (folder / "evaluations.csv").write_text(HEADER + "".join(rows))
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def call(*arguments):
    define_only(readme)
    return command.execute(readme.main, ["readme", *arguments], positional="runs")


def test_runs_of_one_method_are_its_seeds(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(readme.curves, "compare", lambda runs, *rest, **more: drawn.update(runs))
    config = {"method": "enoto_cql", "task": "reach", "env": "Reach-v0"}
    folders = [run(tmp_path / f"enoto_cql-s{seed}", seed, config) for seed in (0, 1)]
    folders.append(run(tmp_path / "cql"))
    assert call(*folders, "--out=x.png") == command.DONE
    assert drawn == {"enoto_cql": folders[:2], "cql": folders[2:]}


def test_it_draws(tmp_path):
    out = tmp_path / "out.png"
    assert call(run(tmp_path / "a"), run(tmp_path / "b", slope=2), f"--out={out}") == command.DONE
    with Image.open(out) as picture:
        assert picture.width == 1440
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    for colour in readme.curves.COLOURS[:2]:  # one line per method
        assert (pixels == [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=1).sum() > 500


def test_runs_of_another_length_are_in_no_table(tmp_path, monkeypatch):
    monkeypatch.setattr(readme, "RESULTS", tmp_path)
    monkeypatch.setattr(readme, "SETTINGS", (readme.Setting("reach", "a", 10, "short"),))
    run(tmp_path / "a" / "enoto_cql-s0")
    path = Path(run(tmp_path / "a" / "cql_to_sac-s0"), "evaluations.csv")
    assert "`cql_to_sac`" in readme.results()
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")  # unfinished
    with pytest.raises(InputError, match="cql_to_sac has runs of another length"):
        readme.results()


def test_a_script_that_failed_has_no_speed(tmp_path, monkeypatch):
    monkeypatch.setattr(readme, "RESULTS", tmp_path)
    (tmp_path / "peers").mkdir()
    lines = [
        {"case": "sac_n", "who": "ours", "updates_per_s": 2.0},
        {"case": "sac_n", "who": "CORL/sac_n.py", "failed": "no memory"},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "peers" / "peers.jsonl").write_text(text)
    assert "| `sac_n` | 2.0 | - | - |" in readme.speed()


@pytest.mark.parametrize(
    "second, words",
    [
        ({"method": "enoto_cql", "task": "reach", "env": "Reach-v0"}, "is in another run already"),
        ({"method": "cql", "task": "other", "env": "Reach-v0"}, "a figure shows one task"),
    ],
)
def test_it_refuses(second, words, tmp_path, capsys):
    first = {"method": "enoto_cql", "task": "reach", "env": "Reach-v0"}
    folders = run(tmp_path / "a", 0, first), run(tmp_path / "b", 0, second)
    assert call(*folders, f"--out={tmp_path / 'out.png'}") == command.BAD_INPUT
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out.png").exists()
