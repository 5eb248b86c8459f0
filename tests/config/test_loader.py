from pathlib import Path

import pytest

from src.common.errors import UserError
from src.config.loader import config_from_dict, load_config, make_parser, merge_trees, parse_command
from src.config.schema import Config, Count, SourceConfig, to_dict


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_command_line_wins_over_file_and_file_over_include(tmp_path: Path) -> None:
    write(tmp_path, "model/small.yaml", "model: {decoder: {hidden: 32, embedding: 16}}\ntrain: {epochs: 9}")
    file = write(tmp_path, "x.yaml", "include: [model/small.yaml]\ntrain: {epochs: 5}\ndata: {sources: [{path: a}]}")
    parser = make_parser("train", "trains")
    parser.add_argument("--again", type=bool, default=False)
    config, options = parse_command(parser, ["--config", str(file), "--model.decoder.hidden", "64", "--again", "true"])
    assert (config.model.decoder.hidden, config.model.decoder.embedding, config.train.epochs) == (64, 16, 5)
    assert config.data.sources == [SourceConfig(path="a")]
    assert options.again is True


def test_config_survives_a_round_trip() -> None:
    config = load_config(None, {"model.backbone.options.pad_type": "same", "data.sources": [{"format": "coco"}]})
    assert config.model.backbone.options == {"pad_type": "same"}
    assert config_from_dict(to_dict(config)) == config != Config()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {epoch: 3}", "did you mean train.epochs"),
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


def test_bad_command_lines_are_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="did you mean train.epochs"):
        parse_command(make_parser("train", ""), ["--train.epohs", "3"])
    with pytest.raises(UserError, match="unknown key model.decoder.hiden; did you mean model.decoder.hidden"):
        load_config(None, {"model.decoder.hiden": 3})
    with pytest.raises(UserError, match="nowhere.yaml: cannot be read"):
        load_config("nowhere.yaml")


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("train.lr", "-1", "is -1, should be greater than 0"),
        ("train.epochs", "2.5", "is 2.5, should be a valid integer"),
        ("train.eval_every", "0", "is 0, should be greater than or equal to 1"),
        ("data.split_seed", "-1", "is -1, should be greater than or equal to 0"),
        ("train.seed", str(2**32), f"is {2**32}, should be less than or equal to {2**32 - 1}"),
        ("generate.seed", "-1", "is -1, should be greater than or equal to 0"),
        ("data.val", "1", "is 1, should be less than 1"),
        ("data.val", "-0.1", "is -0.1, should be greater than or equal to 0"),
        ("data.tokenizer.max_length", "2", "is 2, should be greater than or equal to 3"),
        ("data.folds", "-1", "is -1, should be greater than or equal to 0"),
        ("model.decoder.layers", "0", "is 0, should be greater than or equal to 1"),
        ("model.decoder.llama.layers", "0", "is 0, should be greater than or equal to 1"),
        ("model.decoder.llama.encoder_layers", "-1", "is -1, should be greater than or equal to 0"),
        ("model.decoder.layers", "4", "is 4, should be less than or equal to 3"),
        ("model.decoder.dropout", "much", "is much, should be a valid number"),
        ("generate.top_p", "0", "is 0, should be greater than 0"),
        ("train.compile", "maybe", "is maybe, should be true or false"),
        ("train.schedule", "step", "is step, should be one of cosine, plateau, constant"),
        ("model.backbone.mean", "x", "is x, should be a list"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_what_it_should_be(key: str, value: str, told: str) -> None:
    with pytest.raises(UserError, match=f"^{key}: {told}"):
        parse_command(make_parser("train", ""), [f"--{key}", value])


def test_an_option_is_named_as_it_is_typed() -> None:
    parser = make_parser("predict", "", config=False)
    parser.add_argument("--batch-size", type=Count)
    with pytest.raises(UserError, match="^--batch-size: is 0, should be greater than or equal to 1"):
        parser.parse_args(["--batch-size", "0"])


def test_a_wrong_data_source_on_the_command_line_is_named_by_its_key() -> None:
    with pytest.raises(UserError, match=r"^data.sources: share: is -1, should be greater than or equal to 0"):
        parse_command(make_parser("train", ""), ["--data.sources", "[{share: -1}]"])


def test_merge_keeps_both_sides() -> None:
    assert merge_trees({"a": {"b": 1, "c": [1]}}, {"a": {"c": [2]}, "d": 3}) == {"a": {"b": 1, "c": [2]}, "d": 3}
