"""The environment of a run: code version, libraries, machine, and its use of resources over time."""

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
    """The current commit, and whether tracked files other than submissions differ from it; ("", False) outside of git.

    Args:
        folder: in the repository; None: the folder of this code.
    """
    folder = folder or Path(__file__).parent
    commit = command_output(["git", "rev-parse", "HEAD"], folder)
    changes = ["git", "status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)submissions"]
    return commit, bool(commit and command_output(changes, folder))


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide a run's numbers, where installed."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


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
    """Fields of nvidia-smi (--help-query-gpu lists them) for each CUDA device that this process may use.

    It needs no torch, and counts the use by all processes; empty where there is no NVIDIA driver.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible == "" or not shutil.which("nvidia-smi"):
        return []
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    text = command_output([*command, *(["-i", visible] if visible else [])])
    return [[field.strip() for field in line.split(",")] for line in text.splitlines()]


def command_output(command: list[str], folder: Path | None = None) -> str:
    """The output of a command; empty where it is not installed, fails or takes over ten seconds."""
    try:
        process = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return process.stdout.strip() if process.returncode == 0 else ""


def command_line() -> str:
    """The command that started this process, as a person types it."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    words = ["python", "-m", spec.name.removesuffix(".__main__")] if spec else ["python", sys.argv[0]]
    return shlex.join([*words, *sys.argv[1:]])


def resource_usage(process: psutil.Process) -> dict[str, float]:
    """Use of the machine now: CPU in % of all cores, memory of the process and its children in GB, GPUs."""
    return {
        "system/cpu_percent": psutil.cpu_percent(),
        "system/memory_gb": tree_memory(process) / 1e9,
        "system/memory_free_gb": psutil.virtual_memory().available / 1e9,
        **gpu_resources(),
    }


def tree_memory(process: psutil.Process) -> int:
    """Resident bytes of a process and all its children; pages they share count once each."""
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:  # it has just ended
            continue
    return total


def gpu_resources() -> dict[str, float]:
    """Memory in GB and use in % of each CUDA device; a value that the driver does not know is left out."""
    usage: dict[str, float] = {}
    for i, (mebibytes, percent) in enumerate(query_gpus("memory.used", "utilization.gpu")):
        if mebibytes.isdigit():
            usage[f"system/gpu{i}_memory_gb"] = int(mebibytes) * 2**20 / 1e9
        if percent.isdigit():
            usage[f"system/gpu{i}_percent"] = float(percent)
    return usage


class ResourceMonitor:
    """Samples `resource_usage` every few seconds in a thread, until it is stopped.

    Args:
        report: takes each sample.
        seconds: between two samples.
    """

    def __init__(self, report: Callable[[dict[str, float]], None], seconds: float = 10.0) -> None:
        self.report, self.seconds = report, seconds
        self.stopped = threading.Event()
        self.process = psutil.Process()
        self.thread = threading.Thread(target=self._sample, name="resources", daemon=True)
        psutil.cpu_percent()  # use is measured from one call to the next
        self.thread.start()

    def _sample(self) -> None:
        while not self.stopped.wait(self.seconds):
            self.report(resource_usage(self.process))

    def stop(self) -> None:
        """Takes a last sample and ends the thread."""
        self.stopped.set()
        self.thread.join()
        self.report(resource_usage(self.process))
