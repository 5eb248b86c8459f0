"""python -m src.ui: the MLflow UI on the runs; --send runs/X sends what a run could not send."""

from collections.abc import Sequence
from pathlib import Path

from src.common.errors import run_command
from src.config.cli import make_parser
from src.config.schema import Port


def main(args: Sequence[str] | None = None) -> int:
    """Opens the UI, or sends what a run could not send."""
    parser = make_parser("ui", "Opens the MLflow UI on the runs, on this machine only.", config=False)
    parser.add_argument("--port", type=Port, default=5000, help="where the UI listens, on 127.0.0.1")
    parser.add_argument("--send", type=str, default="", help="a run's folder: send what it could not send, open no UI")
    options = parser.parse_args(args)
    from src.tracking.mlflow_client import tracking_uri
    from src.tracking.mlflow_ui import print_views, send_folder, serve_ui

    if options.send:
        return send_folder(Path(options.send))
    if (uri := tracking_uri()).startswith(("http://", "https://")):
        print_views(uri, uri)
    else:
        serve_ui(uri, options.port)
    return 0


if __name__ == "__main__":
    run_command(main)
