"""Messages of libraries that tell a user nothing: tips, deprecations of their own, warnings about intended use.

Held by tests/training/test_run.py.
"""

import logging
import warnings

# Start of a warning's text, as a regular expression, and its library.
WARNINGS = {
    r"`isinstance\(treespec, LeafSpec\)` is deprecated": "torch",
    r"Found \d+ module\(s\) in eval mode": "lightning",  # a frozen backbone
    r"The number of training batches \(\d+\) is smaller than the logging interval": "lightning",  # tiny data
    r"It is recommended to use `self.log": "lightning",  # all processes log the same
    r"Argument ``(multivariate|group|constant_liar)`` is an experimental feature": "optuna",
}
LEVELS = {
    "alembic": logging.WARNING,  # MLflow's and Optuna's databases
    "lightning.pytorch.utilities.rank_zero": logging.WARNING,  # devices, tips, the end of training
    "mlflow.store.db.utils": logging.CRITICAL,  # a traceback beside each error, which the run log tells in a line
    "ray.data": logging.ERROR,
    "timm": logging.ERROR,  # classifiers of another size are replaced on purpose
    "urllib3.connectionpool": logging.ERROR,  # the run log says once that MLflow does not answer
}


def silence_libraries() -> None:
    """Filters these messages, by name, in this process."""
    for pattern in WARNINGS:
        warnings.filterwarnings("ignore", pattern)
    for name, level in LEVELS.items():
        logging.getLogger(name).setLevel(level)
