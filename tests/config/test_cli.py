"""The options that a person typed, apart from those that have their defaults."""

import pytest

from src.common.errors import UserError
from src.config.cli import add_image_options, add_prediction_options, parse_with_overrides
from src.config.loader import CommandParser, make_parser
from src.config.schema import GenerationConfig


@pytest.fixture
def parser() -> CommandParser:
    made = make_parser("predict", "", config=False)
    made.add_argument("--model", type=str, nargs="+", required=True)
    add_image_options(made)
    add_prediction_options(made, "style")
    return made


def test_overrides_hold_the_typed_options_alone(parser: CommandParser) -> None:
    options, overrides = parse_with_overrides(parser, ["--model", "a", "b", "--generate.beam", "3", "--cache", "false"])
    assert overrides == {"model": ["a", "b"], "generate.beam": 3, "cache": False}  # a default that is typed counts
    assert options.model == ["a", "b"]
    assert (options.batch_size, options.style, options.data) == (32, "", "")
    assert GenerationConfig(**options.generate.as_dict()) == GenerationConfig(beam=3)


def test_options_are_those_of_a_plain_parse(parser: CommandParser) -> None:
    args = ["--model", "a", "--batch-size", "4", "--generate", "{beam: 5, method: nucleus}", "--generate.top_p=0.5"]
    options, overrides = parse_with_overrides(parser, args)
    assert options == parser.parse_args(args)
    assert overrides["generate.beam"] == 5
    assert (overrides["generate.method"], overrides["generate.top_p"]) == ("nucleus", 0.5)


@pytest.mark.parametrize(
    ("args", "message"),
    [([], "model"), (["--model", "a", "--generate.beam", "0"], "generate.beam: is 0"), (["--model", "a", "--x"], "x")],
)
def test_mistakes_are_one_line(parser: CommandParser, args: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        parse_with_overrides(parser, args)
    assert "\n" not in str(raised.value)
