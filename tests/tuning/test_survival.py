"""Sweeps whose driver, workers or machines are really killed, two sweeps at once, and a sweep over two Ray nodes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest

import src
from src.tracking.run_log import read_metrics
from src.tracking.run_registry import RunRecord, list_runs
from tests.tuning.test_sweep_runner import sweep_file

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(src.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
SECRET = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a-token-of-this-test-alone"}  # shared by all of a cluster
TRIALS = 4


def start(file: Path, *more: str, **env: str) -> subprocess.Popen:
    """The sweep's command in a process group of its own; what it says goes to a file beside its own."""
    command = [sys.executable, "-m", "src.sweep", "--config", str(file), *more]
    with file.with_suffix(".log").open("a") as log:
        return subprocess.Popen(
            command, env={**ENVIRONMENT, **env}, stdout=log, stderr=log, start_new_session=True, cwd=file.parent
        )


def finish(process: subprocess.Popen, file: Path) -> str:
    """Waits for a sweep that is to end well; all that it and those before it said."""
    code = process.wait(timeout=800)  # which guards against hanging only
    said = file.with_suffix(".log").read_text()
    assert code == 0, said[-3000:]
    return said


def until(met: Callable[[], Any], process: subprocess.Popen) -> Any:
    """Waits until something is there, as long as the process lives."""
    end = time.monotonic() + 400
    while process.poll() is None and time.monotonic() < end:
        if found := met():
            return found
        time.sleep(0.1)
    raise AssertionError("it never came to that")


def busy(folder: Path) -> bool:
    """Whether one trial is done and another has a checkpoint, but no result."""
    runs = [path for path in (folder / "runs").glob("little-????????") if path.is_dir()]
    done = [path for path in runs if (path / "result.json").exists()]
    return bool(done) and any((path / "checkpoints/last.ckpt").exists() for path in set(runs) - set(done))


def trial_processes(process: subprocess.Popen) -> list[psutil.Process]:
    """The processes below a driver in which trials run."""
    below = psutil.Process(process.pid).children(recursive=True)
    return [one for one in below if any("ImplicitFunc" in word for word in command_of(one))]


def command_of(process: psutil.Process) -> list[str]:
    """A process's command; nothing of one that has just ended."""
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []


def gone(processes: list[psutil.Process]) -> None:
    """Waits until trials' processes have noticed that their driver is gone; some of Ray's own take minutes for it."""
    assert not psutil.wait_procs(processes, timeout=60)[1]


def little(folder: Path, **settings: object) -> Path:
    """A sweep whose trials take some seconds, none of them stopped early."""
    file = sweep_file(folder, scheduler="none", trials=TRIALS, fixed={"train.epochs": 12}, predict="", **settings)
    text = (folder / "tiny.yaml").read_text()
    (folder / "tiny.yaml").write_text(text.replace("checkpoint_steps: 0", "checkpoint_steps: 1"))
    return file


def trials_of(name: str = "little") -> list[RunRecord]:
    return [
        run
        for run in list_runs("multitask")
        if run.tags.get("sweep") == name and "status" in run.tags and run.tags.get("kind") != "sweep"
    ]


def check_whole(folder: Path, name: str = "little", trials: int = TRIALS) -> None:
    """Every trial once: one run in MLflow, finished; one folder; a score in the study."""
    runs = trials_of(name)
    assert len({run.name for run in runs}) == len(runs) == trials
    assert {run.status for run in list_runs("multitask")} == {"FINISHED"}
    study = optuna.load_study(study_name=name, storage=f"sqlite:///{folder}/runs/sweep-{name}/study.db")
    done = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    assert len(done) == trials
    assert len({json.dumps(trial.params, sort_keys=True) for trial in done}) == trials
    for run in runs:
        assert run.folder
        assert read_metrics(run.folder / "history.jsonl")["train/loss"][-1][0] == 47  # twelve epochs of four steps


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_sweep_survives_the_kill_of_a_worker_of_its_driver_and_ctrl_c(elsewhere: Path) -> None:
    file = little(elsewhere)
    first = start(file)
    until(lambda: busy(elsewhere), first)
    victim = until(lambda: trial_processes(first), first)[0]
    victim.kill()
    until(lambda: "died; it is queued again" in file.with_suffix(".log").read_text(), first)
    below = trial_processes(first)
    first.kill()
    gone(below)
    first.wait()
    kept = {path: path.stat().st_mtime_ns for path in (elsewhere / "runs").glob("little-*/result.json")}
    ids = {path: path.read_text() for path in (elsewhere / "runs").glob("little-*/run_id.txt")}
    assert kept

    second = start(file)
    until(lambda: trial_processes(second), second)
    os.killpg(second.pid, signal.SIGINT)  # as a terminal does
    assert second.wait(timeout=120) == 130, file.with_suffix(".log").read_text()[-3000:]
    assert not [run for run in list_runs("multitask") if run.status == "RUNNING"]
    assert next(run for run in list_runs("multitask") if run.name == "little").status == "KILLED"

    finish(start(file), file)
    check_whole(elsewhere)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert {path: path.read_text() for path in ids} == ids


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_sweeps_at_once_do_not_mix(elsewhere: Path) -> None:
    file = little(elsewhere)
    other = elsewhere / "other.yaml"
    other.write_text(file.read_text())
    again = {path: start(path, "--trials", "2") for path in (file, other)}
    for path, process in again.items():
        finish(process, path)
    for path in again:
        check_whole(elsewhere, path.stem, trials=2)
    parents = {run.name: run.id for run in list_runs("multitask") if run.tags.get("kind") == "sweep"}
    for name, parent in parents.items():
        assert {run.tags["mlflow.parentRunId"] for run in trials_of(name)} == {parent}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_trials_of_two_workers_each_are_stopped_and_finished(elsewhere: Path) -> None:
    file = little(elsewhere, resources={"cpu": 0.5, "workers": 2}, at_once=1)
    file.write_text(file.read_text().replace("scheduler: none", "scheduler: asha"))
    finish(start(file, "--trials", "3"), file)
    runs = trials_of()
    assert {run.status for run in runs} == {"FINISHED"}
    assert {run.tags["status"] for run in runs} <= {"finished", "stopped"}
    assert {run.params["train.workers"] for run in runs} == {"2"}


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Ends what a failed test left running. Ctrl-C reaches commands also where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
    for one in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            one.kill()


@pytest.fixture
def nodes(elsewhere: Path) -> Iterator[list[subprocess.Popen]]:
    """Two Ray nodes on this machine, each with CPUs of its own; killed in the end, whatever happens."""
    port = 6300 + os.getpid() % 600
    same = ["--block", "--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats"]
    head = ["--head", f"--port={port}", f"--temp-dir=/tmp/ray-{port}", "--include-dashboard=false"]
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start"]
    started: list[subprocess.Popen] = []
    env = {**ENVIRONMENT, **SECRET, "RAY_CHDIR_TO_TRIAL_DIR": "0"}
    try:
        for more in (head, [f"--address=127.0.0.1:{port}"]):
            with (elsewhere / f"node{len(started)}.log").open("w") as log:
                started.append(
                    subprocess.Popen([*ray, *more, *same], env=env, stdout=log, stderr=log, start_new_session=True)
                )
            said = elsewhere / f"node{len(started) - 1}.log"
            until(lambda said=said: "runtime started" in said.read_text(), started[-1])
        os.environ["RAY_ADDRESS"] = f"127.0.0.1:{port}"
        yield started
    finally:
        os.environ.pop("RAY_ADDRESS", None)
        for one in started:
            kill_tree(one)


def kill_tree(process: subprocess.Popen) -> None:
    """A machine that loses its power."""
    if process.poll() is None:
        below = psutil.Process(process.pid).children(recursive=True)
        for one in [*below, psutil.Process(process.pid)]:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(below, timeout=30)
    process.wait()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_trials_land_on_two_nodes_and_go_on_when_one_is_killed(elsewhere: Path, nodes: list[subprocess.Popen]) -> None:
    file = little(elsewhere, resources={"cpu": 1})
    address = {"RAY_ADDRESS": os.environ["RAY_ADDRESS"], **SECRET}
    sweep = start(file, **address)

    def both_at_work() -> bool:
        return all(trial_processes(node) for node in nodes) and busy(elsewhere)

    until(both_at_work, sweep)
    kill_tree(nodes[1])
    said = finish(sweep, file)
    assert "died; it is queued again" in said
    check_whole(elsewhere)
