"""Options of src.prepare's sub-commands that read or make data sets.

Held by tests/test_prepare.py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote

from jsonargparse import Namespace

from src.common.errors import UserError
from src.common.plugins import plugin_names
from src.config.cli import make_parser, parse_command
from src.config.schema import Above0, Config, Count, Seed, SourceConfig
from src.data.formats.base import FORMATS

Command = Callable[[Sequence[str]], int | None]
USAGE = """\
usage: python -m src.prepare COMMAND [options]; --help after a command explains its options

commands:
  check       say what is in a data set and what is wrong with it (exit code 1 where training would go wrong)
  demo        make the demo data: a few hundred rendered scenes in the challenge's and in Flickr's layout
  audit       list near-duplicates and doubtful labels, as a table that data.exclude takes, with a gallery
  split       cut the photos into train, val and test, and write the split down
  cache       compute the features of a frozen backbone once, for all later runs
  neighbours  put the training captions beside a trained model, for generate.rerank
  biq2021     turn BIQ2021's own download into the challenge's layout
  spice       fetch what src.evaluate --spice needs (some 400 MB)
"""
ABOUT = {
    "check": "Says what is in a data set and what is wrong with it. Writes nothing.",
    "split": "Cuts the photos into train, val and test, and writes that down.",
    "cache": "Computes the features of a frozen backbone once.",
}


def choose_command(name: str, commands: Mapping[str, Command]) -> Command:
    """The command of a name. Raises UserError where there is none."""
    if name not in commands:
        raise UserError(f"no command {name!r}; type one of {', '.join(commands)}")
    return commands[name]


def parse_data_options(command: str, args: Sequence[str]) -> tuple[Config, bool, str]:
    """The config of check, split or cache; --folder, which cache lacks, is its only data set where it is given.

    Returns:
        The config, whether --folder is given, and the next command's --config: the file that was read, or one that
        lists the folder.
    """
    parser = make_parser(f"prepare {command}", ABOUT[command])
    if command != "cache":
        formats = plugin_names(FORMATS)
        parser.add_argument("--folder", type=str, default="", help="look at this data set instead of the config's")
        parser.add_argument("--format", choices=formats, default="samsung", help="how --folder is laid out")
    config, options = parse_command(parser, args)
    if not (folder := options.get("folder")):
        return config, False, quote(options.config or "configs/X.yaml")
    source = SourceConfig(format=options.format, path=folder, split="auto")
    config = replace(config, data=replace(config.data, sources=[source]))
    next_config = f"X.yaml, where X.yaml lists {folder} under data.sources"
    return config, True, next_config


def parse_audit_options(args: Sequence[str]) -> Namespace:
    """The experiment, the model, thresholds and the folder of the audit."""
    parser = make_parser("prepare audit", "Lists near-duplicates and doubtful labels of the photos.", config=False)
    parser.add_argument("--config", type=str, required=True, help="an experiment's YAML file")
    about = "a group or a run, whose predictions for photos that it did not train on are compared with their mos"
    parser.add_argument("--model", type=str, default="", help=about)
    parser.add_argument("--output", type=str, default="reports/audit", help="folder of audit.csv and audit.html")
    parser.add_argument("--words", type=Count, default=3, help="a caption of fewer words says nothing")
    parser.add_argument("--z", type=Above0, default=3.5, help="robust z-score from which a mos is in doubt")
    return parser.parse_args(args)


def parse_neighbours_options(args: Sequence[str]) -> Namespace:
    """The model and whether to enable the choice of captions for it."""
    about = "Puts captions and features of the training photos beside a trained model, for generate.rerank."
    parser = make_parser("prepare neighbours", about, config=False)
    parser.add_argument("--model", type=str, required=True, help="model folder, run name, run id, or best")
    about = "make the choice the model's own setting, also on the page and in the API"
    parser.add_argument("--enable", type=bool, default=False, help=about)
    return parser.parse_args(args)


def parse_demo_options(args: Sequence[str]) -> tuple[Path, int | None, int | None, str]:
    """The folder, the number of photos, the seed and the next command's --folder; None for what is not given."""
    parser = make_parser("prepare demo", "Makes the demo data: rendered scenes with captions and mos.", config=False)
    parser.add_argument("--output", type=str, default="data/demo", help="a new folder for it")
    parser.add_argument("--photos", type=Count, help="photos in each of the two layouts, at least 50; 300 if not given")
    parser.add_argument("--seed", type=Seed, help="the same seed gives the same photos; 0 if not given")
    options = parser.parse_args(args)
    return Path(options.output), options.photos, options.seed, quote(f"{Path(options.output)}/challenge")
