"""Rules that clean training captions: each is a function from a caption to what it leaves, empty to remove it."""

import html
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from src.config.schema import CleanConfig
from src.data.sample import Sample

Rule = Callable[[str], str]
EXAMPLES = 3

TAG = re.compile(r"<!--.*?-->|</?[A-Za-z][^<>]*>", re.DOTALL)
LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")  # of Markdown
MARKS = re.compile(r"(\*\*|__|~~|`+|(?<!\w)[*_](?=\w)|(?<=\w)[*_](?!\w))|^\s*(?:#+|>|[-*+])\s+", re.MULTILINE)
ADDRESS = re.compile(
    r"\b(?:https?://|www\.)\S*[\w/]|\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+|\b(?:[\w-]+\.)+(?:com|org|net|kr)\b(?:/\S*\w)?", re.I
)
WHO = r"(?:there|all|everyone|everybody|guys|friends|folks|dear|again|and|you|so|very|much|a lot|to you|for \w+ing)"
HELLO = r"(?:hi|hello|hey|greetings|welcome|good (?:morning|afternoon|evening|night|day)|(?:good)?bye|thanks?|thx)"
GREETING = re.compile(rf"(?:^|(?<=[.!?,;]))\s*{HELLO}(?:[\s,]+{WHO})*\s*(?:[.!?,;:~]+|$)", re.I)
LAUGHTER = re.compile(r"\b(?:l+o+l+|lmao|rofl|(?:ha){2,}h?|(?:he){2,})\b[.!]*|[:;]-?[)(DP](?!\w)", re.I)
REPEATED_WORDS = re.compile(r"\b([^\W\d_]+)(?:\s+\1\b)+", re.I)
REPEATED_PHRASES = re.compile(r"\b([^\W\d_]+(?:\s+\w+){1,3})(?:\s*[,;]\s*\1\b)+", re.I)
REPEATED_MARKS = re.compile(r"([!?,;:~.])(?:\s*\1)+")
WORD = re.compile(r"[^\W\d_]+")
ENGLISH = frozenset(
    """the of and to is are was were it its this that these those with for by at from as has have be very too not but or
    which there here some a an in on his her he she they while more most so all""".split()
)
# Function words of French, German, Spanish, Italian, Portuguese and Dutch that are no English words.
FOREIGN = frozenset(
    """le la les des du une est et dans avec sur sont cette ce qui der das und ist ein eine mit auf dem den nicht
    sehr von zu el los las una es en con por muy que y del esta il lo gli di e della nel molto o os um uma
    com na em muito het een op niet zijn""".split()
)


def remove_markup(text: str) -> str:
    """Without HTML and Markdown; the text of links and tags stays."""
    return MARKS.sub("", LINK.sub(r"\1", TAG.sub(" ", html.unescape(text))))


def remove_addresses(text: str) -> str:
    """Without web and mail addresses."""
    return ADDRESS.sub(" ", text)


def remove_greetings(text: str) -> str:
    """Without greetings, thanks and laughter that are a clause of their own."""
    return GREETING.sub(" ", LAUGHTER.sub(" ", text))


def remove_repeats(text: str) -> str:
    """With words, phrases of two to four words between commas, and punctuation once that are repeated at once."""
    return REPEATED_MARKS.sub(r"\1", REPEATED_PHRASES.sub(r"\1", REPEATED_WORDS.sub(r"\1", text)))


def keep_english(text: str) -> str:
    """The text, or nothing where at least half of its letters are not Latin, or foreign function words prevail."""
    letters = [letter for letter in text if letter.isalpha()]
    if 2 * sum(letter > "\u024f" for letter in letters) >= max(1, len(letters)):
        return "" if letters else text
    words = [word.lower() for word in WORD.findall(text)]
    foreign = sum(word in FOREIGN for word in words)
    return "" if foreign >= 2 and foreign > sum(word in ENGLISH for word in words) else text


RULES: dict[str, Rule] = {
    "markup": remove_markup,
    "urls": remove_addresses,
    "greetings": remove_greetings,
    "repeats": remove_repeats,
    "non_english": keep_english,
}


@dataclass
class RuleChanges:
    """What a rule did: captions that it changed, captions that it removed, and the first of them, before and after."""

    changed: int = 0
    removed: int = 0
    examples: list[tuple[str, str]] = field(default_factory=list)


def clean_caption(text: str, rules: Sequence[str], changes: Mapping[str, RuleChanges]) -> str:
    """The caption after some rules, which are counted; empty: removed. An unchanged caption keeps its spaces."""
    for name in rules:
        after = tidy(RULES[name](text))
        if after == tidy(text):
            continue
        counts = changes[name]
        counts.changed += bool(after)
        counts.removed += not after
        if len(counts.examples) < EXAMPLES:
            counts.examples.append((text, after))
        if not after:
            return ""
        text = after
    return text


def tidy(text: str) -> str:
    """With single spaces, none before punctuation, and no punctuation at the start; empty without letter or digit."""
    text = re.sub(r"\s+([.,;:!?])", r"\1", " ".join(text.split())).lstrip(" .,;:!?-")
    return text if any(map(str.isalnum, text)) else ""


def clean_samples(samples: Sequence[Sample], config: CleanConfig) -> tuple[list[Sample], dict[str, RuleChanges]]:
    """Samples with clean captions, and the changes of each rule that the config switches on."""
    rules = [rule.name for rule in fields(config) if getattr(config, rule.name)]
    changes = {name: RuleChanges() for name in rules}
    if not rules:
        return list(samples), changes
    return [replace(sample, captions=tuple(_clean_captions(sample, rules, changes))) for sample in samples], changes


def _clean_captions(sample: Sample, rules: Sequence[str], changes: Mapping[str, RuleChanges]) -> Iterator[str]:
    return filter(None, (clean_caption(text, rules, changes) for text in sample.captions))


def changes_of_all_rules(samples: Sequence[Sample]) -> list[list[str]]:
    """A table of what each rule alone would do: rule, changed, removed, an example; the header first."""
    rows = [["data.clean", "changed", "removed", "example"]]
    for name in RULES:
        changes = {name: RuleChanges()}
        for sample in samples:
            for text in sample.captions:
                clean_caption(text, [name], changes)
        for number, (before, after) in enumerate(changes[name].examples):
            counts = ["", "", ""] if number else [name, f"{changes[name].changed:,}", f"{changes[name].removed:,}"]
            rows.append([*counts, f"{before[:60]!r} -> {after[:60]!r}" if after else f"{before[:60]!r}"])
    return rows
