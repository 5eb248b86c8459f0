"""The encoding of a text file: UTF-8, or the encoding of Korean or Western Windows in which its letters make sense."""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from src.common.errors import UserError
from src.common.progress import print_once

MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
LEAST_SENSE = 0.9  # share of letters outside ASCII

NOT_ASCII = re.compile(r"[^\x00-\x7f]")
NEAR_NOT_ASCII = re.compile(r"[A-Za-z]?[^\x00-\x7f]+[A-Za-z]?")
SYMBOLS = "\xa1-\xbf\xd7\xf7ˆ˜ƒ†‡‰‹›‚„€™"
LETTERS = "A-Za-zÀ-ÖØ-öø-ÿŠŒŽšœžŸ"
# No Western text has these. Text of another encoding that is decoded as cp1252 is full of them.
WESTERN_NONSENSE = re.compile(
    "(?<=[a-zß-öø-ÿšœž])[À-ÖØ-ÞŠŒŽŸ]"  # a capital within a word
    "|[À-ÖØ-öø-ÿŠŒŽšœžŸ]{3,}"
    f"|[{SYMBOLS}]{{2,}}"
    f"|(?<=[{LETTERS}])[{SYMBOLS}“”](?=[{LETTERS}])"
    f"|(?<=[{LETTERS}])[‚„]"
    "|[ðþýÐÞÝ]"  # Icelandic, and what is left of Turkish
)


def decode_text(data: bytes, path: Path) -> str:
    """Text in UTF-8 or UTF-16 with a byte order mark, in UTF-8, or in cp949 (Korean) or cp1252 (Western).

    Of the last two, the whole text decides: one must make sense of its letters outside ASCII, and the other must not.
    Another encoding than UTF-8 is named on stderr, once a file.

    Args:
        data: the file's bytes.
        path: the file's name, for messages.

    Raises:
        UserError: no encoding makes sense of the text, or two do; the first line that is not UTF-8 is named.
    """
    encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
    texts = {name: text for name in SENSE if (text := _sensible_text(data, name)) is not None}
    if len(texts) == 1:
        ((name, text),) = texts.items()
        print_once(f"{path}: is not UTF-8; read as {name}, in which its letters make sense")
        return text
    kinds = list(SENSE)
    reason = f"{' and '.join(kinds)} both make sense" if texts else f"neither {' nor '.join(kinds)} makes sense"
    raise UserError(f"{path}: line {line} is not UTF-8, and {reason} of the file; save it as UTF-8")


def _sensible_text(data: bytes, encoding: str) -> str | None:
    """The decoded text; None where it cannot be decoded or makes no sense."""
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        return None
    return text if SENSE[encoding](text) >= LEAST_SENSE else None


def _korean_sense(text: str) -> float:
    """Share of letters outside ASCII that are Hangul or punctuation of the Korean standard KS X 1001.

    cp949 adds 8,822 syllables that no word has; bytes of other encodings decode to these and to Chinese characters.
    """
    letters = {letter: count for letter, count in Counter(text).items() if letter > "\x7f"}
    return sum(count for letter, count in letters.items() if _is_korean(letter)) / sum(letters.values())


def _is_korean(letter: str) -> bool:
    code = letter.encode("euc_kr", "ignore")
    return len(code) == 2 and (0xA1 <= code[0] <= 0xA3 or 0xB0 <= code[0] <= 0xC8)


def _western_sense(text: str) -> float:
    """Share of letters outside ASCII that stand where Western languages may have them."""
    words = " ".join(NEAR_NOT_ASCII.findall(text))
    return 1 - sum(map(len, WESTERN_NONSENSE.findall(words))) / len(NOT_ASCII.findall(words))


SENSE: dict[str, Callable[[str], float]] = {"cp949": _korean_sense, "cp1252": _western_sense}
