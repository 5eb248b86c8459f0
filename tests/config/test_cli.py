"""Command lines over files, their errors, and the options that a person typed."""

from dataclasses import asdict
from pathlib import Path

import pytest

from src.common.errors import UserError
from src.config.cli import (
    CommandParser,
    add_image_options,
    add_prediction_options,
    make_parser,
    parse_command,
    parse_with_overrides,
)
from src.config.schema import Count, GenerationConfig, SourceConfig


@pytest.fixture
def parser() -> CommandParser:
    made = make_parser("predict", "", config=False)
    made.add_argument("--model", type=str, nargs="+", required=True, help="the model")
    add_image_options(made)
    add_prediction_options(made, "style")
    return made


def test_overrides_hold_the_typed_options_alone(parser: CommandParser) -> None:
    options, overrides = parse_with_overrides(parser, ["--model", "a", "b", "--generate.beam", "3", "--cache", "false"])
    assert overrides == {"model": ["a", "b"], "generate.beam": 3, "cache": False}  # a default that is typed counts
    assert options.model == ["a", "b"]
    assert (options.batch_size, options.style, options.data) == (32, "", "")
    assert options.generate.as_dict() == asdict(GenerationConfig(beam=3))


def test_options_are_those_of_a_plain_parse(parser: CommandParser) -> None:
    args = ["--model", "a", "--batch-size", "4", "--generate", "{beam: 5, method: nucleus}", "--generate.top_p=0.5"]
    options, overrides = parse_with_overrides(parser, args)
    assert options == parser.parse_args(args)
    assert overrides["generate.beam"] == 5
    assert (overrides["generate.method"], overrides["generate.top_p"]) == ("nucleus", 0.5)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], r"^missing on the command line: --model \(the model\)$"),
        (["--model", "a", "--generate.beam", "0"], "^--generate.beam: is 0"),
        (
            ["--model", "a", "--generate", "3"],
            "^--generate: is 3, should be keys and values; type --generate.KEY",
        ),
        (["--model", "a", "--generate", "{beam: 3"], "^--generate: is {beam: 3, should be keys and values"),
        (["--model", "a", "--batch_size", "3"], "^--batch_size: there is no such option; did you mean --batch-size"),
        (["--model", "a", "--data", "b", "c"], "^c: belongs to no option; quote a value that has spaces"),
        (["--model"], "^--model: expected at least one argument"),
    ],
)
def test_mistakes_are_one_line(parser: CommandParser, args: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        parse_with_overrides(parser, args)
    assert "\n" not in str(raised.value)


def test_command_line_wins_over_file_and_file_over_include(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text("model: {decoder: {hidden: 32, embedding: 16}}\ntrain: {epochs: 9}")
    file = tmp_path / "x.yaml"
    file.write_text("include: [small.yaml]\ntrain: {epochs: 5}\ndata: {sources: [{path: a}]}")
    parser = make_parser("train", "trains")
    parser.add_argument("--again", type=bool, default=False)
    config, options = parse_command(parser, ["--config", str(file), "--model.decoder.hidden", "64", "--again", "true"])
    assert (config.model.decoder.hidden, config.model.decoder.embedding, config.train.epochs) == (64, 16, 5)
    assert config.data.sources == [SourceConfig(path="a")]
    assert options.again is True


def test_a_list_on_the_command_line_replaces_that_of_the_file_or_is_added_to_it(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("data: {sources: [{path: a}]}")
    for option, paths in (("--data.sources", ["b"]), ("--data.sources+", ["a", "b"])):
        config, _ = parse_command(make_parser("train", ""), ["--config", str(file), option, "[{path: b}]"])
        assert [source.path for source in config.data.sources] == paths


def test_an_unknown_option_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(UserError, match="^--train.epohs: there is no such option; did you mean --train.epochs"):
        parse_command(make_parser("train", ""), ["--train.epohs", "3"])


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
    with pytest.raises(UserError, match=f"^(--)?{key}: {told}"):
        parse_command(make_parser("train", ""), [f"--{key}", value])


def test_an_option_is_named_as_it_is_typed() -> None:
    parser = make_parser("predict", "", config=False)
    parser.add_argument("--batch-size", type=Count)
    with pytest.raises(UserError, match="^--batch-size: is 0, should be greater than or equal to 1"):
        parser.parse_args(["--batch-size", "0"])


def test_a_wrong_data_source_on_the_command_line_is_named_by_its_key() -> None:
    with pytest.raises(UserError, match=r"^--data.sources\[0\].share: is -1, should be greater than or equal to 0"):
        parse_command(make_parser("train", ""), ["--data.sources", "[{share: -1}]"])


def test_a_home_folder_is_expanded_where_the_shell_leaves_it(
    parser: CommandParser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    options, overrides = parse_with_overrides(parser, ["--model=~/m", "--data=~/photos", "--style=~plain"])
    assert (options.model, options.data, options.style) == (["/home/me/m"], "/home/me/photos", "~plain")
    assert overrides["data"] == "/home/me/photos"
    assert options.generate == parser.get_defaults().generate
