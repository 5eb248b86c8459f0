"""What a run ran on: code version, libraries, machine, and the resources it used over time."""

import importlib.metadata
import os
import platform
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

LIBRARIES = (
    "torch",
    "torchvision",
    "timm",
    "lightning",
    "ray",
    "optuna",
    "mlflow",
    "albumentations",
    "tokenizers",
    "numpy",
)


def git_version(folder: Path | None = None) -> tuple[str, bool]:
    """The commit that is checked out and whether tracked files differ from it; ("", False) outside of git.

    Submissions, which commands write, are no difference.

    Args:
        folder: where to look; None: where this code lies.
    """
    folder = folder or Path(__file__).parent
    commit = command_output(["git", "rev-parse", "HEAD"], folder)
    changes = ["git", "status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)submissions"]
    return commit, bool(commit and command_output(changes, folder))


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide a run's numbers, where installed."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def describe_machine() -> dict[str, Any]:
    """The machine: name, system, usable cores, memory in GB, GPUs."""
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "gpus": gpu_names(),
    }


def gpu_names() -> list[str]:
    """Names of the CUDA devices that this process may use."""
    return [name for (name,) in query_gpus("name")]


def query_gpus(*fields: str) -> list[list[str]]:
    """What nvidia-smi says of each CUDA device that this process may use: fields as its --help-query-gpu lists them.

    It needs no torch, and sees the use by all processes; none where there is no NVIDIA driver.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible == "" or not shutil.which("nvidia-smi"):
        return []
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    text = command_output([*command, *(["-i", visible] if visible else [])])
    return [[field.strip() for field in line.split(",")] for line in text.splitlines()]


def command_output(command: list[str], folder: Path | None = None) -> str:
    """What a command prints; nothing where it is not installed, fails or hangs for ten seconds."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def command_line() -> str:
    """The command that started this process, as one would type it."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    words = ["python", "-m", spec.name.removesuffix(".__main__")] if spec else ["python", sys.argv[0]]
    return shlex.join([*words, *sys.argv[1:]])


def resource_usage(process: psutil.Process) -> dict[str, float]:
    """Use of the machine now: CPU in % of all cores, memory of the process and its children in GB, GPUs."""
    used = {
        "system/cpu_percent": psutil.cpu_percent(),
        "system/memory_gb": tree_memory(process) / 1e9,
        "system/memory_free_gb": psutil.virtual_memory().available / 1e9,
    }
    return used | gpu_resources()


def tree_memory(process: psutil.Process) -> int:
    """Resident bytes of a process and all its children; pages they share count once each."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_info().rss
        except psutil.NoSuchProcess:  # a child ended meanwhile
            continue
    return total


def gpu_resources() -> dict[str, float]:
    """Memory in GB and use in % of each CUDA device; a figure that the driver does not know is left out."""
    used: dict[str, float] = {}
    for i, (mebibytes, percent) in enumerate(query_gpus("memory.used", "utilization.gpu")):
        if mebibytes.isdigit():
            used[f"system/gpu{i}_memory_gb"] = int(mebibytes) * 2**20 / 1e9
        if percent.isdigit():
            used[f"system/gpu{i}_percent"] = float(percent)
    return used


class ResourceMonitor:
    """Samples `resources` every few seconds in a thread until stopped.

    Args:
        report: takes each sample.
        seconds: between two samples.
    """

    def __init__(self, report: Callable[[dict[str, float]], None], seconds: float = 10.0) -> None:
        self.report, self.seconds = report, seconds
        self.over = threading.Event()
        self.process = psutil.Process()
        self.thread = threading.Thread(target=self._work, name="resources", daemon=True)
        psutil.cpu_percent()  # use is measured from one call to the next
        self.thread.start()

    def _work(self) -> None:
        while not self.over.wait(self.seconds):
            self.report(resource_usage(self.process))

    def stop(self) -> None:
        """Takes a last sample and ends the thread."""
        self.over.set()
        self.thread.join()
        self.report(resource_usage(self.process))
