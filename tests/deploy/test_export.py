"""A bundle acts as the trained policy does: in StableHLO, in NumPy, and without our code."""

import dataclasses
import io
import json
import re
import subprocess
import sys
import zipfile
from importlib import import_module
from pathlib import Path

import jax
import numpy as np
import pytest

import enoto_jax
from enoto_jax.cli import command, doctor
from enoto_jax.cli import export as program
from enoto_jax.cli.command import define_only
from enoto_jax.deploy import export, numpy_runtime
from enoto_jax.recipes.building import build
from enoto_jax.recipes.table import RECIPES
from enoto_jax.runs import policies
from enoto_jax.training import run
from enoto_jax.transforms import Transform
from enoto_jax.types import InputError
from tests.helpers import parse_shell, quick_compiling, reach_source, tiny

LOW, HIGH = np.float32([-2.0, 0.0]), np.float32([2.0, 3.0])
TRANSFORM = Transform(
    np.float32([0.3, -1.0, 2.0]),
    np.float32([2.0, 1.0, 0.5]),
    np.float32([0.1, 0.0]),
    np.float32([0.5, 1.0]),
    1.0,
    0.0,
    0.999,
)
ROW = tiny("enoto_cql", layers=2, transform__observations=True)
SEEN = np.random.default_rng(1).normal(size=(7, 3)).astype(np.float32)
# Most methods act through the same networks offline and online; these two do not.
PHASES = [*((row, "online") for row in RECIPES), ("br", "offline"), ("pex", "offline")]
# These methods integrate a flow in a loop to act.
LOOPING = ("qc", "bfn", "enoto_qc")


@pytest.fixture(scope="module", autouse=True)
def quick():
    with quick_compiling():
        yield


def expected(found, observation):
    """The evaluator's action, after Gymnasium's rescaling."""
    seen = np.float32(found.transform.observation(observation))
    action = np.asarray(found.algorithm.mode(found.state, seen)).reshape(len(seen), -1, 2)
    action = found.transform.world_action(action)
    return LOW + 0.5 * (action + 1.0) * (HIGH - LOW)


def untrained(algorithm, state) -> policies.Kept:
    return policies.Kept(algorithm, state, TRANSFORM, "latest", "online", 0, 0, {})


def write(folder, files):
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize(("row", "phase"), PHASES)
def test_every_row_acts_from_its_bundle(row, phase, spec, state_of, tmp_path):
    algorithm = getattr(build(tiny(row, layers=2), spec), phase)
    state = jax.tree.map(lambda x: x * np.float32(0.7), state_of(algorithm))  # not saturated
    found = untrained(algorithm, state)
    folder = write(tmp_path / "bundle", export.files(found, {}, LOW, HIGH, onnx=False))
    wanted = expected(found, SEEN)
    assert np.ptp(wanted, axis=0).max() > 0.01  # actions depend on the observation
    two = numpy_runtime.load_stablehlo(folder)
    np.testing.assert_allclose(two.actions(SEEN), wanted, rtol=0, atol=2e-6)
    length = 1 if algorithm.chunk is None else algorithm.chunk.length
    if row in LOOPING:
        with pytest.raises(ValueError, match="no operation scan; use load_stablehlo"):
            numpy_runtime.load(folder)
    else:
        one = numpy_runtime.load(folder)
        np.testing.assert_allclose(one.actions(SEEN), two.actions(SEEN), rtol=0, atol=1e-6)
        np.testing.assert_allclose(one.actions(SEEN[2]), one.actions(SEEN)[2], rtol=0, atol=1e-6)
        assert one.about["numpy"]["largest_difference"] <= 1e-6
        assert one.actions(SEEN).dtype == np.float32
        assert one.actions(SEEN[2]).shape == (length, 2)
    if length == 1:
        np.testing.assert_array_equal(two.act(SEEN), two.actions(SEEN)[:, 0])
    else:
        with pytest.raises(ValueError, match=f"chooses {length} actions at once: call actions"):
            two.act(SEEN)


def test_networks_that_do_not_act_stay_behind(spec, state_of):
    algorithm = build(tiny("enoto_cql", layers=2), spec).online
    found = untrained(algorithm, state_of(algorithm))
    given = {"state": found.state, "transform": export._arrays(TRANSFORM), "low": LOW, "high": HIGH}
    arrays, _, _ = export.traced(export.acting(found, LOW, HIGH), given, 3)
    kept = {name for name in arrays if name.startswith("state.")}
    assert "state.params.actor.params.layer_0.kernel" in kept
    assert all(name.startswith("state.params.actor.params.") for name in kept)
    assert not any("log_std" in name for name in kept)


def test_what_numpy_cannot_compute_is_named(spec, state_of, tmp_path):
    algorithm = build(tiny("cql", layers=2), spec).online
    odd = algorithm._replace(mode=lambda s, o: jax.lax.erf(algorithm.mode(s, o)))
    found = untrained(odd, state_of(algorithm))
    folder = write(tmp_path / "odd", export.files(found, {}, LOW, HIGH, onnx=False))
    with pytest.raises(InputError, match="no operation erf; use load_stablehlo"):
        export.load(folder)
    acted = export.load(folder, stablehlo=True).act(SEEN)
    np.testing.assert_allclose(acted, expected(found, SEEN)[:, 0], rtol=0, atol=2e-6)


def test_a_run_in_bfloat16_acts_by_stablehlo(spec, state_of, tmp_path):
    row = dataclasses.replace(tiny("td3_bc", layers=2), precision="bf16")
    algorithm = build(row, spec).online
    found = untrained(algorithm, state_of(algorithm))
    folder = write(tmp_path / "bf16", export.files(found, {}, LOW, HIGH, onnx=False))
    with pytest.raises(InputError, match="does not compute in bfloat16; use load_stablehlo"):
        export.load(folder)
    acted = export.load(folder, stablehlo=True).act(SEEN)
    np.testing.assert_allclose(acted, expected(found, SEEN)[:, 0], rtol=0, atol=0.02)


def test_a_constant_of_a_jitted_function_is_exported(spec, state_of, tmp_path):
    algorithm, gain = build(tiny("td3_bc"), spec).online, jax.numpy.float32([0.5, 0.25])
    scaled = jax.jit(lambda x: x * gain)
    own = algorithm._replace(mode=lambda s, o: scaled(algorithm.mode(s, o)))
    found = untrained(own, state_of(algorithm))
    folder = write(tmp_path / "own", export.files(found, {}, LOW, HIGH, onnx=False))
    acted = numpy_runtime.load(folder).act(SEEN)
    np.testing.assert_allclose(acted, expected(found, SEEN)[:, 0], rtol=0, atol=2e-6)


@pytest.mark.parametrize("row", ["enoto_cql", "lapo", "pex"])
def test_onnx(row, spec, state_of):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("jax2onnx")
    algorithm = build(tiny(row, layers=2), spec).online
    found = untrained(algorithm, state_of(algorithm))
    session = runtime.InferenceSession(export.files(found, {}, LOW, HIGH, onnx=True)["policy.onnx"])
    (acted,) = session.run(None, {session.get_inputs()[0].name: SEEN})
    np.testing.assert_allclose(acted, expected(found, SEEN)[:, 0], rtol=0, atol=2e-6)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a tiny run with two seeds, in an environment with actions in [-3, 3]."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    source = reach_source(env_id="ReachWide-v0", reference=(-50.0, -1.0))
    run.train(ROW, source, folder, seeds=[0, 5], eval_episodes=1, about={"method": "enoto_cql"})
    return folder


@pytest.fixture(scope="module")
def bundle(trained):
    path = trained.parent / "policy.zip"
    define_only(program)
    argv = ["export", str(trained), f"--out={path}", "--seed=5"]
    assert command.execute(program.main, argv, positional="run") == command.DONE
    return path


ROBOT = """
import sys
sys.path.insert(0, sys.argv[1])
from policy import load
import numpy as np
policy = load()
for observation in np.float32([[0.5, -0.2], [-1.0, 0.7]]):
    print(*policy.act(observation))
assert not {"jax", "flax", "enoto_jax", "gymnasium"} & set(sys.modules)
"""


@pytest.mark.parametrize("unzipped", [False, True])
def test_a_robot_needs_the_bundle_and_numpy_alone(bundle, trained, tmp_path, unzipped):
    where = bundle
    if unzipped:
        where = tmp_path / "bundle"
        zipfile.ZipFile(bundle).extractall(where)
    done = subprocess.run(
        [sys.executable, "-c", ROBOT, str(where)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stderr
    said = np.float32([line.split() for line in done.stdout.splitlines()])
    found = policies.kept(trained, seed=5)
    seen = np.float32(found.transform.observation(np.float32([[0.5, -0.2], [-1.0, 0.7]])))
    action = np.asarray(found.algorithm.mode(found.state, seen))
    np.testing.assert_allclose(said, 3.0 * action, rtol=0, atol=3e-6)  # ReachWide: [-3, 3]


def test_what_a_bundle_says(bundle, trained):
    about = export.load(bundle).about
    config = json.loads((trained / "config.json").read_text())
    assert (about["action_low"], about["action_high"]) == ([-3.0], [3.0])
    assert (about["phase"], about["step"], about["seed"]) == ("online", 12, 5)
    assert about["which"] == "latest"
    for name in ("method", "task", "data_hash", "env", "recipe"):
        assert about[name] == config[name], name
    rows = (trained / "evaluations.csv").read_text().splitlines()
    (last,) = [r.split(",") for r in rows if r.startswith("online,12,12,5,")]
    assert about["evaluation"]["score"] == float(last[6])
    assert about["evaluation"]["step"] == 12


def test_every_kind_of_checkpoint(trained):
    latest, first, best = (
        policies.kept(trained, which) for which in ("latest", "handover", "best")
    )
    about = {found.kind: export.described(trained, found) for found in (first, best)}
    assert (about["handover"]["phase"], about["handover"]["step"]) == ("offline", 20)
    assert about["handover"]["evaluation"]["step"] == 20
    kernels = [x.state.params["actor"]["params"]["mean"]["kernel"] for x in (latest, first)]
    assert kernels[0].shape == kernels[1].shape and (kernels[0] != kernels[1]).any()
    assert about["best"]["evaluation"]["step"] == best.step


def _flipped(data: bytes, member: str) -> bytes:
    """The archive with one bit flipped in a member's content."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        info = archive.getinfo(member)
    at = info.header_offset + 30 + len(member) + info.compress_size // 2
    return data[:at] + bytes([data[at] ^ 8]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[: len(x) // 2], "not a whole bundle"),
        (lambda x: b"", "not a whole bundle"),
        (lambda x: _flipped(x, numpy_runtime.ARRAYS), "damaged|not a whole bundle"),
        (lambda x: _flipped(x, numpy_runtime.PROGRAM), "damaged|not a whole bundle"),
    ],
)
def test_a_damaged_bundle_is_refused_in_one_line(bundle, tmp_path, change, message):
    path = tmp_path / "damaged.zip"
    path.write_bytes(change(bundle.read_bytes()))
    with pytest.raises(InputError, match=message) as caught:
        export.load(path)
    assert "\n" not in str(caught.value)


def step(op, *inputs, **options):
    return {"op": op, "in": inputs, "with": options, "out": "x"}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("policy.py", lambda x: bytes(2**28), "claims 26. MB"),
        ("arrays.npz", lambda x: nan_in(x), "contains NaN or infinity"),
        ("about.json", lambda x: x.replace(b'size": 2', b'size": 2e9'), "observation_size is 2"),
        (
            "about.json",
            lambda x: x.replace(b'action_size": 1', b'action_size": 2'),
            r"expected \[1, 2\]",
        ),
        *(
            ("program.json", lambda x, steps=steps: json.dumps(steps).encode(), message)
            for steps, message in (
                (
                    [
                        step(
                            "broadcast_in_dim",
                            "observation",
                            shape=[10**12, 2],
                            broadcast_dimensions=[1],
                        )
                    ],
                    "more memory than a policy does",
                ),
                ([step("add", "observation", 1, dtype="O")], "add takes no options"),
                ([step("integer_pow", 3, y=10**30)], "cannot be computed"),
                ([step("neg", "observation")] * 10_001, "a policy has 1 to 10000"),
                ([], "a policy has 1 to 10000"),
            )
        ),
    ],
)
def test_a_bundle_that_means_harm_is_refused_in_one_line(bundle, tmp_path, name, change, message):
    with pytest.raises(InputError, match=message) as caught:
        export.load(changed(bundle, tmp_path / "x.zip", name, change))
    assert "\n" not in str(caught.value)


def changed(bundle, path, name, change):
    """A copy of the bundle with one file changed and correct checksums."""
    with zipfile.ZipFile(bundle) as archive:
        files = {n: archive.read(n) for n in archive.namelist() if n != numpy_runtime.SUMS}
    files[name] = change(files[name])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for n, data in export.summed(files).items():
            archive.writestr(n, data)
    return path


def test_a_bundle_of_before_one_word_for_the_newest_checkpoint_opens(bundle, tmp_path):
    old = changed(
        bundle, tmp_path / "x.zip", "about.json", lambda x: x.replace(b'"latest"', b'"last"')
    )
    assert export.load(old).about["which"] == "last"
    np.testing.assert_array_equal(
        export.load(old).act([0.5, -0.2]), export.load(bundle).act([0.5, -0.2])
    )


def nan_in(npz):
    with np.load(io.BytesIO(npz)) as stored:
        arrays = {name: array * np.nan for name, array in stored.items()}
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def test_links_in_a_bundles_folder_are_not_followed(bundle, tmp_path):
    zipfile.ZipFile(bundle).extractall(tmp_path / "bundle")
    (tmp_path / "bundle" / "arrays.npz").rename(tmp_path / "arrays.npz")
    (tmp_path / "bundle" / "arrays.npz").symlink_to(tmp_path / "arrays.npz")
    with pytest.raises(InputError, match="a link or a device"):
        export.load(tmp_path / "bundle")


def test_every_file_of_a_bundle_is_guarded(bundle, tmp_path):
    zipfile.ZipFile(bundle).extractall(tmp_path / "whole")
    for path in sorted((tmp_path / "whole").iterdir()):
        kept = path.read_bytes()
        path.write_bytes(kept[:-3] + bytes([kept[-3] ^ 1]) + kept[-2:])
        with pytest.raises(InputError, match="export it again"):
            export.load(path.parent)
        path.write_bytes(kept)
    export.load(tmp_path / "whole")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{run}"], "--out=NAME.zip"),
        (["{run}", "--out={tmp}/x"], "give the name of a .zip file"),
        (["{tmp}", "--out={tmp}/x.zip"], "not a run's folder: it has no config.json"),
        (["{run}", "--out={tmp}/x.zip", "--seed=4"], r"trained seeds \[0, 5\], not 4"),
        (["{run}", "--out={tmp}/x.zip", "--which=worst"], "choose latest or best or handover"),
        (["{run}", "--out=/dev/null/x.zip"], "cannot write"),
    ],
)
def test_bad_input_writes_nothing(trained, tmp_path, capsys, arguments, message):
    define_only(program)
    argv = ["export", *(a.format(run=trained, tmp=tmp_path) for a in arguments)]
    assert command.execute(program.main, argv, positional="run") == command.BAD_INPUT
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error), error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seen", [np.zeros(3), np.zeros((1, 1, 2)), np.float32([np.nan, 0.0])])
def test_an_observation_that_cannot_be_used(bundle, seen):
    with pytest.raises(ValueError, match="observation"):
        export.load(bundle).act(seen)


def test_a_dictionary_is_to_be_flattened(bundle):
    with pytest.raises(ValueError, match=r"of type dict; expected \[2\] numbers; flatten .*gymnas"):
        export.load(bundle).act({"position": [0.0], "goal": [0.0]})


def test_what_is_unzipped_may_be_read_by_others(bundle):
    entries = zipfile.ZipFile(bundle).infolist()
    assert {entry.external_attr >> 16 for entry in entries} == {0o644}


def test_what_the_page_shows_runs(trained, bundle, tmp_path, monkeypatch, capsys):
    """The page's commands run on the tiny run, its Python on the bundle."""
    text = (Path(export.__file__).parents[2] / "docs" / "deploy.md").read_text()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "hopper").symlink_to(trained)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        doctor, "RENDERERS", {}
    )  # each starts a process; tests/cli/test_doctor.py tries one
    shown = [line for block in _blocks(text, "sh") for line in block.splitlines()]
    assert len(shown) == 4
    for line in shown:
        module, positional, arguments = parse_shell(line)
        called = import_module(module)
        define_only(called)
        arguments = [
            {"--hz=50": "--hz=1000", "--steps=1000": "--steps=30"}.get(a, a) for a in arguments
        ]
        code = command.execute(called.main, [module, *arguments], positional or "run")
        assert code in (command.DONE, command.BAD_INPUT if called is doctor else 0), line
    out = capsys.readouterr().out
    assert out.count("updates ") == 2 and out.count("late actions 0, ") >= 1
    zipfile.ZipFile("hopper.zip").extractall("bundle")
    monkeypatch.syspath_prepend(tmp_path / "bundle")
    source = reach_source(env_id="ReachWide-v0")
    given = {"observation": np.zeros(2), "recipe": ROW, "source": source, "enoto_jax": enoto_jax}
    for block in _blocks(text, "python"):
        exec(block, given)
    assert given["action"].shape == (1,)
    given["agent"].close()


def _blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
