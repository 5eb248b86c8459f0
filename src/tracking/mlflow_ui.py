"""The MLflow UI on the runs, on this machine."""

import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

from src.common.errors import UserError
from src.tracking.abandoned_runs import end_all_abandoned, send_missed
from src.tracking.mlflow_client import connect_client, database_file
from src.tracking.mlflow_sync import RUN_ID
from src.tracking.mlflow_views import save_views
from src.tracking.run_log import LOG


def print_views(uri: str, where: str) -> None:
    """Saves views of the runs of the MLflow at `uri`, and prints their addresses in the UI, which is at `where`."""
    for name, path in save_views(connect_client(uri)).items():
        print(f"{name}: {where.rstrip('/')}{path}", flush=True)


def send_folder(run_folder: Path) -> int:
    """Sends what a run could not send, and prints the outcome. Exit code 1: some values still wait.

    Raises:
        UserError: not the folder of a run.
    """
    if not any((run_folder / name).exists() for name in (RUN_ID, LOG)):
        remedy = "give a run's folder, such as runs/both"
        raise UserError(f"{run_folder}: holds no run, neither {RUN_ID} nor {LOG}; {remedy}")
    sent = send_missed(run_folder)
    print(f"{run_folder}: everything is in MLflow" if sent else f"{run_folder}: values still wait in {LOG}")
    return 0 if sent else 1


def serve_ui(uri: str, port: int) -> NoReturn:
    """Runs the MLflow server on a database until Ctrl-C, with one worker: each takes a quarter of a gigabyte.

    Raises:
        UserError: the port is taken, or the database does not answer.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise UserError(f"port {port} is taken; choose another: make ui PORT={port + 1}") from error
    connect_client(uri)
    end_all_abandoned(uri)
    print_views(uri, f"http://127.0.0.1:{port}")
    print("the UI answers in some 15 s; Ctrl-C ends it", flush=True)
    command = ui_server_command(uri, port)
    os.execve(command[0], command, server_environment())  # this process becomes the server: no memory for a second


def ui_server_command(uri: str, port: int) -> list[str]:
    """The command of an MLflow server for this machine only."""
    file = database_file(uri)
    root = ["--default-artifact-root", (file.parent / "mlartifacts").as_uri()] if file else []
    address = ["--backend-store-uri", uri, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    quiet = ["--uvicorn-opts", "--log-level critical"]  # else each request is a line, and Ctrl-C a page of traceback
    return [sys.executable, "-m", "mlflow", "server", *address, *root, *quiet]


def server_environment() -> dict[str, str]:
    """Settings of the server: its background jobs serve language models, and take memory."""
    return {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
