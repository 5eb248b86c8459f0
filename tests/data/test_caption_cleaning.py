"""Each rule on captions that it must change and on those that it must leave; cleaning touches training alone."""

from dataclasses import replace
from pathlib import Path

import pytest

from src.config.schema import CleanConfig, Config, DataConfig, SourceConfig
from src.data.caption_cleaning import RULES, RuleChanges, changes_of_all_rules, clean_caption, clean_samples
from src.data.labels import load_training_samples
from src.data.sample import Sample
from src.data.sources import load_part
from src.data.validation import check_data
from tests.tiny import write_photo


def cleaned(rule: str, text: str) -> str:
    return clean_caption(text, [rule], {rule: RuleChanges()})


@pytest.mark.parametrize(
    ("rule", "before", "after"),
    [
        ("markup", "a <b>sharp</b> photo &amp; calm<br/>", "a sharp photo & calm"),
        ("markup", "&lt;p&gt;dark scene&lt;/p&gt;", "dark scene"),
        ("markup", "**bold** colours, *soft* light and `blur`", "bold colours, soft light and blur"),
        ("markup", "# a [clear view](http://x.org/a) of ![the sea](sea.jpg)", "a clear view of the sea"),
        ("urls", "see https://example.org/a?b=1, it is dark", "see, it is dark"),
        ("urls", "soft light www.photos.com/x", "soft light"),
        ("urls", "mail me.you@example.co.kr", "mail"),
        ("urls", "http://example.org", ""),
        ("greetings", "Hello everyone! The sky is dull.", "The sky is dull."),
        ("greetings", "The light is soft. Thank you so much!", "The light is soft."),
        ("greetings", "Good morning", ""),
        ("greetings", "haha the focus is off lol", "the focus is off"),
        ("repeats", "very very dark dark photo", "very dark photo"),
        ("repeats", "nice light, nice light, nice light", "nice light"),
        ("repeats", "what a view!!! so calm...", "what a view! so calm."),
        ("non_english", "사진이 조금 어둡지만 색이 자연스럽다", ""),
        ("non_english", "la photo est un peu sombre et les couleurs sont douces", ""),
        ("non_english", "das Bild ist sehr dunkel und nicht scharf", ""),
    ],
)  # fmt: skip
def test_a_rule_changes(rule: str, before: str, after: str) -> None:
    assert cleaned(rule, before) == after


@pytest.mark.parametrize(
    "text",
    [
        "a dog runs on the grass .", "the picture is dark, but 3 * 4 tiles < 13 are sharp", "snake_case 5-star",
        "a good morning light over hello kitty bags", "f/2.8 at 1/200 s e.g. soft", "two 2 2 numbers", "he thanks them",
        "a café in the old town of El Paso", "the man on la playa with his dog", "  spaces   stay  ", "Mr. X.",
        "skis in the snow , snow flies behind", "one brown and one brown and white dog", "a potty-potty",
    ],
)  # fmt: skip
def test_good_captions_stay_as_they_are(text: str) -> None:
    assert clean_caption(text, list(RULES), {name: RuleChanges() for name in RULES}) == text


def test_rules_follow_one_another_and_are_counted() -> None:
    samples = [Sample(Path("a"), "a", "s", None, ("<i>Hi!</i>", "a very very dark <b>sky</b>", "fine light"))]
    clean, changes = clean_samples(samples, CleanConfig(markup=True, greetings=True, repeats=True))
    assert clean[0].captions == ("a very dark sky", "fine light")
    assert {name: (c.changed, c.removed) for name, c in changes.items()} == {
        "markup": (2, 0),
        "greetings": (0, 1),
        "repeats": (1, 0),
    }
    assert changes["greetings"].examples == [("Hi!", "")]
    assert clean_samples(samples, CleanConfig()) == (samples, {})
    assert changes_of_all_rules(samples)[1] == ["markup", "2", "0", "'<i>Hi!</i>' -> 'Hi!'"]


def test_training_captions_are_cleaned_and_references_are_not(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["img_name,img_path,mos,comments"]
    for i in range(20):
        write_photo(Path(f"set/train/{i:02}.jpg"), i)
        rows += [f"{i:02},./train/{i:02}.jpg,{i / 3:.2f},{text}" for text in ("a <b>dark</b> sky", "Hello!")]
    Path("set/train.csv").write_text("\n".join(rows) + "\n")
    data = DataConfig([SourceConfig(path="set", name="s")], val=0.25, test=0.25, split_dir="splits")
    config = Config(replace(data, clean=CleanConfig(markup=True, greetings=True)))
    assert {sample.captions for sample in load_training_samples(config)} == {("a dark sky",)}
    assert "data.clean.greetings: changed 0 and removed 10 of 20 training captions" in capsys.readouterr().err
    for part in ("val", "test"):
        assert {sample.captions for sample in load_part(config, part)} == {("a <b>dark</b> sky", "Hello!")}
    report = str(check_data(Config(data)))
    rows = [line.split(maxsplit=3) for line in report.splitlines()]
    assert ["markup", "10", "0", "'a <b>dark</b> sky' -> 'a dark sky'"] in rows
    assert ["greetings", "0", "10", "'Hello!'"] in rows
