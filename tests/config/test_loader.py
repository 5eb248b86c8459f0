"""Experiment files, their includes and overrides."""

from pathlib import Path

import pytest

from src.common.errors import UserError
from src.config.loader import config_from_dict, load_config, mapping_prefixes, merge_trees
from src.config.schema import Config, to_dict

ALIASES = "a0: &a0 [1, 2]\n" + "".join(f"a{i + 1}: &a{i + 1} [{f'*a{i}, ' * 9}]\n" for i in range(12))  # 9^12 values


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_the_file_wins_over_its_includes_and_a_group_without_keys_has_the_defaults(tmp_path: Path) -> None:
    write(tmp_path, "model/small.yaml", "model: {decoder: {hidden: 32, embedding: 16}}\ntrain: {epochs: 9}")
    file = write(tmp_path, "x.yaml", "include: [model/small.yaml]\ntrain: {epochs: 5}\ndata:\ngenerate: {beam: null}")
    config = load_config(file)
    assert (config.model.decoder.hidden, config.model.decoder.embedding, config.train.epochs) == (32, 16, 5)
    assert (config.data, config.generate) == (Config().data, Config().generate)


def test_home_folders_are_expanded_in_every_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path, "base.yaml", "data: {sources: [{path: ~/data, images: ~/photos}], cache_dir: ~/cache}")
    file = write(tmp_path, "x/x.yaml", "include: ~/base.yaml\nmodel: {backbone: {weights: ~/w.pth}}\ntrack: {name: a~}")
    config = load_config(file)
    assert (config.data.sources[0].path, config.data.sources[0].images) == (f"{tmp_path}/data", f"{tmp_path}/photos")
    assert (config.data.cache_dir, config.model.backbone.weights) == (f"{tmp_path}/cache", f"{tmp_path}/w.pth")
    assert config.track.name == "a~"


def test_config_survives_a_round_trip() -> None:
    config = load_config(None, {"model.backbone.options.pad_type": "same", "data.sources": [{"format": "coco"}]})
    assert config.model.backbone.options == {"pad_type": "same"}
    assert config_from_dict(to_dict(config)) == config != Config()


def test_any_name_may_follow_the_key_of_a_mapping() -> None:
    assert mapping_prefixes() == (
        "model.backbone.options.",
        "model.mos.options.",
        "model.mos.losses.",
        "model.decoder.options.",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {epoch: 3}", "did you mean train.epochs"),
        ("train: 3", r"^\S+/x.yaml: train: is 3, should be keys and values: epochs, stop_after, minutes, "),
        ("model: {mos: {plcc: -1}}", r"^\S+/x.yaml: model.mos.plcc: is -1, should be greater"),
        ("train: {epochs: many}", "train.epochs"),
        ("data: {sources: [{}, {pathh: a}]}", r"^\S+/x.yaml: data.sources\[1\].pathh: .*; did you mean path\?"),
        ("data: {1: 2}", "unknown key data.1"),
        ("data: {sources: [{zzz: a}]}", r"data.sources\[0\].zzz: there is no such key; there are format, path, "),
        ("data: {sources: [{split: foo}]}", r"^\S+/x.yaml: data.sources\[0\].split: is foo, should be one of"),
        ("data: {sources: [{share: -1}]}", r"^\S+/x.yaml: data.sources\[0\].share: is -1, should be greater"),
        ("data: {sources: [samsung]}", r"^\S+/x.yaml: data.sources\[0\]: is samsung, should be keys and values"),
        ("train: [", "not valid YAML"),
        ("include: x.yaml", "includes itself"),
        ("just words", "must hold keys"),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_config(write(tmp_path, "x.yaml", text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: !!python/object/apply:os.system ['touch exploded']", "not valid YAML"),
        (ALIASES, "values"),
        ("a: &a [*a]", "values"),
        ("a: " + "[" * 20_000, "not valid YAML"),
        *((f"a: !!{tag}", "not valid YAML") for tag in ("int", "timestamp x", "bool x", "timestamp 2001-99-99")),
    ],
)
def test_hostile_yaml_is_one_line_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=rf"^\S+/x.yaml: .*{reason}"):
        load_config(write(tmp_path, "x.yaml", text))
    assert not Path("exploded").exists()


def test_wrong_overrides_and_paths_are_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="unknown key model.decoder.hiden; did you mean model.decoder.hidden"):
        load_config(None, {"model.decoder.hiden": 3})
    with pytest.raises(UserError, match="nowhere.yaml: cannot be read"):
        load_config("nowhere.yaml")


def test_merge_keeps_both_sides() -> None:
    assert merge_trees({"a": {"b": 1, "c": [1]}}, {"a": {"c": [2]}, "d": 3}) == {"a": {"b": 1, "c": [2]}, "d": 3}
