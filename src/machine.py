"""What a run ran on: code version, libraries, machine, and the resources it used over time."""

import importlib.metadata
import os
import platform
import shlex
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

    Args:
        folder: where to look; None: where this code lies.
    """
    folder = folder or Path(__file__).parent
    commit = _git(folder, "rev-parse", "HEAD")
    return commit, bool(commit and _git(folder, "status", "--porcelain", "--untracked-files=no"))


def _git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):  # no git on this machine
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide a run's numbers, where installed."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """The machine: name, system, usable cores, memory in GB, GPUs."""
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "gpus": gpus(),
    }


def gpus() -> list[str]:
    """Names of the CUDA devices that torch sees."""
    import torch

    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def command_line() -> str:
    """The command that started this process, as one would type it."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    words = ["python", "-m", spec.name.removesuffix(".__main__")] if spec else ["python", sys.argv[0]]
    return shlex.join([*words, *sys.argv[1:]])


def resources(process: psutil.Process) -> dict[str, float]:
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
    """Memory in GB and use in % of each CUDA device that this process has opened; use only where NVML is there."""
    torch = sys.modules.get("torch")
    used: dict[str, float] = {}
    if torch is None or not torch.cuda.is_initialized():
        return used
    for i in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(i)
        used[f"system/gpu{i}_memory_gb"] = (total - free) / 1e9
        try:
            used[f"system/gpu{i}_percent"] = float(torch.cuda.utilization(i))
        except (ImportError, RuntimeError):  # NVML's Python binding is optional
            continue
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
            self.report(resources(self.process))

    def stop(self) -> None:
        """Takes a last sample and ends the thread."""
        self.over.set()
        self.thread.join()
        self.report(resources(self.process))
