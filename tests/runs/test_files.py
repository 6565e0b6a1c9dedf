"""A run's files: nothing lost, nothing half written, nothing unreadable in a log file."""

import json
import math
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from enoto_jax.runs import dashboards, files
from enoto_jax.types import InputError

COLUMNS = ("step", "name", "value")


def test_columns_are_the_commands_contract():
    assert ",".join(files.EVALUATION_COLUMNS) == (
        "phase,step,env_steps,seed,return_mean,return_std,score,success,episodes,wall_s"
    )
    assert files.METRIC_COLUMNS == ("step", "seed", "name", "value")


def test_csv_is_on_disk_after_each_batch(tmp_path):
    log = files.CsvLog(tmp_path / "new" / "a.csv", COLUMNS)
    log.append(
        [
            {"step": 1, "name": "offline/critic/loss", "value": 0.1},
            {"value": np.float32(0.1), "name": "a, b", "step": np.int64(2)},
        ]
    )
    log.append([{"step": 3, "name": "x", "value": math.nan}, {"step": 4, "name": "x"}])
    assert (tmp_path / "new" / "a.csv").read_text() == (
        'step,name,value\n1,offline/critic/loss,0.1\n2,"a, b",0.1\n3,x,\n4,x,\n'
    )


@pytest.mark.parametrize(
    "value", [0.1 + 0.2, 1e-300, -123456789.123456789, math.inf, math.pi * 1e9]
)
def test_csv_floats_read_back_exactly(tmp_path, value):
    log = files.CsvLog(tmp_path / "a.csv", COLUMNS)
    log.append([{"value": value}, {"value": np.float32(value)}])
    double, single = (row["value"] for row in files.read_csv(log.path))
    assert float(double) == value
    assert np.float32(single) == np.float32(value)


def test_csv_refuses_a_column_it_does_not_have(tmp_path):
    log = files.CsvLog(tmp_path / "a.csv", COLUMNS)
    with pytest.raises(KeyError, match="no column scroe"):
        log.append([{"step": 1}, {"step": 2, "scroe": 3.0}])
    assert log.path.read_text() == "step,name,value\n"  # no row of the batch


def test_csv_goes_on_after_a_kill_in_the_middle_of_a_line(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"step,name,value\n1,a,2.0\n2,a\xc3")
    assert files.read_csv(path) == [{"step": "1", "name": "a", "value": "2.0"}]
    log = files.CsvLog(path, COLUMNS)
    log.append([{"step": 3, "name": "b", "value": 4.0}])
    assert path.read_text() == "step,name,value\n1,a,2.0\n3,b,4.0\n"


@pytest.mark.parametrize("rest", ["", "step,na"])
def test_csv_writes_the_header_once(tmp_path, rest):
    path = tmp_path / "a.csv"
    path.write_text(rest)
    files.CsvLog(path, COLUMNS)
    files.CsvLog(path, COLUMNS).append([{"step": 1}])
    assert path.read_text() == "step,name,value\n1,,\n"


def test_csv_refuses_a_file_with_other_columns(tmp_path):
    (tmp_path / "a.csv").write_text("step,value\n1,2\n")
    with pytest.raises(InputError, match=r"a\.csv: its columns are not step,name,value"):
        files.CsvLog(tmp_path / "a.csv", COLUMNS)
    assert (tmp_path / "a.csv").read_text() == "step,value\n1,2\n"


def test_csv_of_an_older_version_goes_on_with_the_columns_that_came_later(tmp_path):
    older = "phase,step,env_steps,seed,return_mean,return_std,score,episodes,wall_s\n"
    path = tmp_path / "a.csv"
    path.write_text(older + "offline,5,0,1,2.0,0.5,,10,3.0\noffline,6,0,1,2")  # killed there
    log = files.CsvLog(path, files.EVALUATION_COLUMNS)
    log.append([{"phase": "offline", "step": 6, "seed": 1, "success": 0.25}])
    assert [row["success"] for row in files.read_csv(path)] == ["", "0.25"]
    assert log.cut_back(lambda row: row["step"] == "5") == 1
    assert path.read_text().splitlines()[1:] == ["offline,5,0,1,2.0,0.5,,,10,3.0"]
    files.CsvLog(path, files.EVALUATION_COLUMNS)
    assert len(files.read_csv(path)) == 1


def test_cut_back_removes_rows_and_goes_on(tmp_path):
    log = files.CsvLog(tmp_path / "a.csv", COLUMNS)
    log.append({"step": step, "name": "a,b", "value": step / 2} for step in range(5))
    assert log.cut_back(lambda row: int(row["step"]) <= 2) == 2
    log.append([{"step": 9, "name": "c", "value": 1.0}])
    assert log.path.read_text() == (
        'step,name,value\n0,"a,b",0.0\n1,"a,b",0.5\n2,"a,b",1.0\n9,c,1.0\n'
    )
    assert log.cut_back(lambda row: True) == 0


def test_cut_back_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    log = files.CsvLog(tmp_path / "a.csv", COLUMNS)
    log.append([{"step": 1}, {"step": 2}])
    monkeypatch.setattr(os, "replace", _fails)
    with pytest.raises(OSError, match="no room"):
        log.cut_back(lambda row: row["step"] == "1")
    log.append([{"step": 3}])
    assert log.path.read_text() == "step,name,value\n1,,\n2,,\n3,,\n"
    assert os.listdir(tmp_path) == ["a.csv"]


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "cannot be read"), ("a,b\n1,2\n3\n", "line 3: 1 cells, but the header has 2")],
)
def test_read_csv_refusals_are_one_line(tmp_path, text, message):
    if text is not None:
        (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=message) as refusal:
        files.read_csv(tmp_path / "a.csv")
    assert "\n" not in str(refusal.value)


def test_read_csv_of_an_empty_file_has_no_rows(tmp_path):
    (tmp_path / "a.csv").write_text("")
    assert files.read_csv(tmp_path / "a.csv") == []


def test_metric_rows_are_one_a_quantity_and_seed():
    rows = list(files.metric_rows(7, {"online/actor/loss": np.array([1.5, 2.5])}, [3, 4]))
    assert rows == [
        {"step": 7, "seed": 3, "name": "online/actor/loss", "value": 1.5},
        {"step": 7, "seed": 4, "name": "online/actor/loss", "value": 2.5},
    ]
    with pytest.raises(ValueError, match="shorter"):
        list(files.metric_rows(7, {"a": np.array([1.0])}, [3, 4]))


def _fails(source, target):
    raise OSError("no room")


def test_json_holds_numpy_and_keeps_order(tmp_path):
    tree = {
        "z": np.float32(0.5),
        "a": {"n": np.int64(3), "list": (np.bool_(True), np.array([1.0, np.nan]))},
        "path": tmp_path / "x",
        5: math.inf,
    }
    files.write_json(tmp_path / "a.json", tree)
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == {
        "z": 0.5,
        "a": {"n": 3, "list": [True, [1.0, None]]},
        "path": str(tmp_path / "x"),
        "5": None,
    }
    assert text.startswith('{\n  "z": 0.5,\n  "a"') and text.endswith("}\n")


def test_json_stays_whole_when_writing_fails(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    files.write_json(path, {"old": 1})
    with pytest.raises(TypeError):
        files.write_json(path, {"new": object()})
    monkeypatch.setattr(os, "replace", _fails)
    with pytest.raises(OSError, match="no room"):
        files.write_json(path, {"new": 2})
    assert json.loads(path.read_text()) == {"old": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def test_no_sinks_but_csv():
    assert dashboards.sinks(["csv"], "run", {}) == ()


def test_an_unknown_sink_is_refused_before_any_is_opened(monkeypatch):
    monkeypatch.setattr(dashboards, "_SINKS", {"tensorboard": pytest.fail, "wandb": pytest.fail})
    with pytest.raises(InputError, match="--log=mlflow: unknown; choose from csv, tensorboard"):
        dashboards.sinks(["wandb", "mlflow"], "run", {})


@pytest.mark.parametrize(("name", "module"), [("tensorboard", "tensorboardX"), ("wandb", "wandb")])
def test_a_missing_package_is_named_with_its_extra(monkeypatch, tmp_path, name, module):
    monkeypatch.setitem(sys.modules, module, None)  # makes the import fail
    with pytest.raises(InputError, match=rf"pip install {module}.*extra \[{name}\]") as refusal:
        dashboards.sinks([name], tmp_path, {})
    assert "\n" not in str(refusal.value)


class Recorder:
    """Replacement for a library's object that records every call."""

    def __init__(self):
        self.calls = []
        self.id = "abc"

    def __getattr__(self, name):
        return lambda *args, **kwargs: self.calls.append((name, *args, *kwargs.values()))


def test_tensorboard_gets_each_scalar(monkeypatch, tmp_path):
    writer = Recorder()
    folders = []
    library = SimpleNamespace(SummaryWriter=lambda logdir: folders.append(logdir) or writer)
    monkeypatch.setitem(sys.modules, "tensorboardX", library)
    (sink,) = dashboards.sinks(["csv", "tensorboard"], tmp_path, {"method": "sac"})
    sink.log(5, {"offline/critic/loss": np.float32(1.5), "offline/actor/loss": 2})
    sink.close()
    assert folders == [str(tmp_path / "tensorboard")]
    assert [call for call in writer.calls if call[0] != "add_text"] == [
        ("add_scalar", "offline/critic/loss", 1.5, 5),
        ("add_scalar", "offline/actor/loss", 2.0, 5),
        ("flush",),
        ("close",),
    ]


def test_wandb_goes_on_in_the_same_run_and_its_steps_may_restart(monkeypatch, tmp_path):
    run, started = Recorder(), []
    library = SimpleNamespace(init=lambda **kwargs: started.append(kwargs) or run, Error=OSError)
    monkeypatch.setitem(sys.modules, "wandb", library)
    for _ in range(2):
        (sink,) = dashboards.sinks(["wandb"], tmp_path, {"n": np.int64(3)})
        sink.log(9, {"offline/critic/loss": 1.0})
        sink.log(0, {"online/critic/loss": 2.0})
        sink.close()
    assert [kwargs["id"] for kwargs in started] == [None, "abc"]
    assert [kwargs["resume"] for kwargs in started] == ["allow", "allow"]
    assert started[0]["config"] == {"n": 3}
    assert run.calls[:4] == [
        ("define_metric", "*", "step"),
        ("log", {"offline/critic/loss": 1.0, "step": 9}),
        ("log", {"online/critic/loss": 2.0, "step": 0}),
        ("finish",),
    ]


def test_wandb_without_a_login_is_bad_input(monkeypatch, tmp_path):
    def init(**kwargs):
        raise OSError("No API key\nconfigured")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, Error=OSError))
    with pytest.raises(InputError, match="^--log=wandb: No API key configured; .*WANDB_MODE"):
        dashboards.sinks(["wandb"], tmp_path, {})


@pytest.mark.parametrize(
    "text, message",
    [
        ("[1]", "is not a JSON object"),
        ("[" * 100_000, "cannot be read"),
        ('{"seeds": [[0]]}', "seeds is"),
        ('{"seeds": []}', "seeds is"),
        ('{"seeds": [true]}', "seeds is"),
        ('{"method": null}', "method is 'None'"),
        ('{"eval_episodes": true}', "eval_episodes is 'True'"),
        ('{"recipe": "sac"}', "recipe is 'sac'"),
    ],
)
def test_configurations_of_other_kinds_are_refused(tmp_path, text, message):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=message):
        files.read_config(tmp_path / "config.json")


@pytest.mark.parametrize("cell", ["1e300", "x" * 200_000])
def test_rows_that_no_run_wrote_are_refused(tmp_path, cell):
    log = files.CsvLog(tmp_path / "log.csv", ("step",))
    (tmp_path / "log.csv").write_text(f"step\n{cell}\n")
    with pytest.raises(InputError, match="log.csv: "):
        log.cut_back(lambda row: int(row["step"]) < 3)
