"""Comparison of results with the files under expected/, and the small models' weights."""

import csv
import io
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from src.models.model_folder import load_model_folder

EXPECTED = Path(__file__).parent / "expected"
INPUTS = Path(__file__).parent / "inputs"
VOLATILE = {"command", "config", "data_hash", "date", "git", "model_hash", "seconds", "sha256", "versions"}
MOS_TOLERANCE = 1e-4


def compare_text(name: str, text: str) -> None:
    """Compares a text with expected/NAME."""
    assert text == expected_text(name, text)


def compare_json(name: str, value: Any, relative: float = 1e-6, absolute: float = 1e-9) -> None:
    """Compares a JSON value with expected/NAME; floats within a tolerance, the values of VOLATILE keys not at all."""
    value = without_volatile(value)
    text = json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    assert differences(value, json.loads(expected_text(name, text)), relative, absolute) == []


def compare_submission(name: str, path: Path) -> None:
    """Compares a submission with expected/NAME: header, names and captions are equal, mos within a tolerance."""
    text = path.read_text(encoding="utf-8")
    assert_same_submission(text, expected_text(name, text), MOS_TOLERANCE)


def assert_same_submission(text: str, expected: str, mos_tolerance: float) -> None:
    """Asserts that two CSV texts have the same header, names and captions, and mos within a tolerance."""
    table, expected_table = (list(csv.DictReader(io.StringIO(one))) for one in (text, expected))
    numbers, expected_numbers = ([float(row.pop("mos", 0)) for row in one] for one in (table, expected_table))
    assert text.splitlines()[0] == expected.splitlines()[0]
    assert table == expected_table
    np.testing.assert_allclose(numbers, expected_numbers, rtol=0, atol=mos_tolerance)


def expected_text(name: str, text: str) -> str:
    """The stored text; with UPDATE_GOLDEN=1, `text` is stored first."""
    path = EXPECTED / name
    if os.environ.get("UPDATE_GOLDEN") == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return path.read_text(encoding="utf-8")


def without_volatile(value: Any) -> Any:
    """A JSON value in which each value of a VOLATILE key is an ellipsis: the key must stay, its value differs."""
    if isinstance(value, dict):
        return {key: "..." if key in VOLATILE else without_volatile(item) for key, item in value.items()}
    return [without_volatile(item) for item in value] if isinstance(value, list) else value


def differences(value: Any, expected: Any, relative: float, absolute: float, where: str = "") -> list[str]:
    """One line for each place where two JSON values differ; two floats may differ by a tolerance."""
    if isinstance(value, dict) and isinstance(expected, dict) and value.keys() == expected.keys():
        pairs = [(f"{where}.{key}", value[key], expected[key]) for key in expected]
    elif isinstance(value, list) and isinstance(expected, list) and len(value) == len(expected):
        pairs = [(f"{where}[{i}]", *items) for i, items in enumerate(zip(value, expected, strict=True))]
    elif isinstance(value, float) and isinstance(expected, float):
        close = math.isclose(value, expected, rel_tol=relative, abs_tol=absolute)
        return [] if close else [f"{where}: {value}, expected {expected}"]
    else:
        return [] if value == expected else [f"{where}: {value}, expected {expected}"]
    return [line for place, one, other in pairs for line in differences(one, other, relative, absolute, place)]


def set_weights(folder: Path, name: str) -> None:
    """Replaces the weights of a model folder by those of inputs/weights/NAME.npz."""
    file = folder / "model.safetensors"
    with safe_open(file, framework="np") as opened:
        head, state = opened.metadata(), {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    order = [key for key in load_model_folder(folder).model.state_dict() if key in state]
    with np.load(INPUTS / "weights" / f"{name}.npz") as arrays:
        values = [arrays[f"arr_{i}"] for i in range(len(arrays.files))]
    assert [value.shape for value in values] == [state[key].shape for key in order], "the model has other tensors now"
    save_file({key: value.astype(state[key].dtype) for key, value in zip(order, values, strict=True)}, file, head)
