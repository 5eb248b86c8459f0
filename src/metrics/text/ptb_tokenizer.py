"""PTB tokens of captions, as the Java program behind pycocoevalcap's `PTBTokenizer` writes them, without Java.

The rules were found by comparing with that program's output; no part of its source was used. They give the same
tokens for every caption of Flickr8k and for those of tests/metrics/text/test_ptb_tokenizer.py. Known to differ:
telephone numbers with spaces or brackets, addresses with odd signs, some smileys, tags with attributes, numeric HTML
entities, rare Unicode signs (South Asian vowel signs among them), rare abbreviations, brackets around half a word
("(x-)"), and several marks piled up inside one word; and a caption's tokens never depend on the next caption, as they
can in the Java program.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

# A letter or digit; a letter; the same of ASCII. Other signs than these have been taken out by _plain.
_W = r"[A-Za-z0-9\x80-\u200f\u2020-\uffff]"
_L = r"[A-Za-z\x80-\u200f\u2020-\uffff]"
_A = "[A-Za-z0-9]"
_END = rf"(?!{_W})"

# Abbreviations that keep their dot wherever they stand, and those that do so with a capital or before a number only.
_DOTTED = """adj adm adv al ala alex apr ariz assn assoc atty aug ave bldg blvd bros calif capt cf cmdr co col
    colo comdr conn corp cos cpl ct dec dept det dr drs elec esq est etc ext feb fla fri ft ga gen gov
    hon inc ind intl jan jos jr jul jun kan ky lt ltd maj mar md messrs mfg mich minn mlle mme mo mon
    mont mr mrs ms mt natl neb nev nov oct okla penn pfc ph.d plc pres prof profs pte pty pvt rd rep rev
    rt sen sep sept sgt sq sr st ste supt tel tenn thu thurs tue tues univ va vs vt wed wis wm wyo""".split()
_CAPITAL = "Ark Az Del Ill La Mass Miss Ore Pa Tex Wash ARK DEL ILL LA MASS MISS ORE PA TEX WASH".split()
_NUMBERED = "art ca fig figs no nos pp prop"
# Words after which, written with a capital, a letter's dot ("plan A. The") ends a sentence.
_OPENERS = """a about after an as at but had he her here however if in it last many more mr now once one other our she
    since so some such that the their then there these they this we what when while yet you""".split()

_ENDINGS = "(?i:s|d|m|ll|re|ve)"
_ALONE = rf"(?![-_/.!?]?{_W}|['’]{_ENDINGS}{_END})"
_SLASHED = rf"{_A}+(?:-[A-Za-z]+)*"
_TOKENS = (
    # Runs that are dropped whole, so that "...5" is no decimal.
    r"-{2,}|\.{3,}",
    r"https?://\S*\w",
    rf"{_A}[\w.-]*@{_A}(?:[\w.-]*{_A})?",
    r"</?[A-Za-z][\w./-]*>",
    rf">?(?:[:;=]-?[()\[\]DPp]|:-?[|O@]){_END}",
    r"\d+\x00\d+/\d+",
    r"(?:\d+-)?\d+/\d+(?:/\d+)?" + _END + "(?![-/])",
    # can | not, but cannot | 's; do | n't
    rf"(?i:can(?=not{_ALONE})|(?:gon|wan)(?=na{_ALONE})|got(?=ta{_ALONE})|(?:lem|gim)(?=me{_ALONE}))",
    r"[A-Za-z]+?(?=(?i:n['’`]t))",
    r"(?i:n['’`]t)[A-Za-z]*",
    # o'clock, O'Neil, l'eau; ma'am, Xi'an; then y'|all, ol', d'|e
    rf"(?:{_A}+-)*[dloDLO]['’](?!{_ENDINGS}{_END})[A-Za-z]{_A}+(?:-{_A}+)*",
    rf"[A-HJ-XZn]['’](?!{_ENDINGS}{_END})[A-Za-z]{{2,}}",
    r"(?i:[a-z]+[aeiouy]['’][aeiou][a-z]*|c'mon|li'l|nat'l|c['’]est|qu['’][a-z]+|s['’]mores)" + _END,
    rf"(?i:(?:d|l|ol)['’]|[jy]['’](?=[aeiouh]|know))(?!{_ENDINGS}{_END})",
    # 'tis is 't | is; 'n', '80s, '85; dog | 's
    r"'[tT](?=(?i:is|was))",
    r"['’](?i:em|till?|cause)",
    rf"['’][nN](?:['’]|$)|'[nN]{_END}|’[nN]",
    rf"['’]\d0s{_END}|['’]\d\d(?=\s|$)",
    rf"'{_ENDINGS}{_END}|’{_ENDINGS}",
    # AT&T, C++, US$
    rf"[A-Z]+(?:[&+][A-Z]+)+(?:-{_A}+)*",
    r"[CFc]#|[Cc]\+\+|[A-Z]+\$",
    # A dot before a comma stays with its word.
    rf"{_W}+(?:-{_W}+)*\.(?=[,;:])",
    # and/or; 1,000-year-old, non-U.S.; 1,000 3.5 10:30 -5
    rf"{_SLASHED}/{_SLASHED}(?:/{_SLASHED})?",
    rf"{_A}[A-Za-z0-9.,]{{0,30}}(?:-(?:(?:[A-Za-z]\.){{2,}}|{_A}+))+(?![-_]?{_W})",
    r"[-+]?\d*(?:[.,:]\d+)+|[-+]\d+",
    # U.S.; Mr.; No. 5; end.Next
    rf"(?:[A-Za-z]\.)+(?!{_L})",
    rf"(?:(?i:{'|'.join(_DOTTED)})|{'|'.join(_CAPITAL)})\.(?!{_L})",
    rf"(?i:{_NUMBERED.replace(' ', '|')})\.(?=\d)",
    rf"{_L}{_W}*(?:[.!?]{_L}{_W}*)+",
    rf"{_W}+(?:[-_\u2010\u2011]{_W}+)*",
    # Marks that stay; those that match nothing are the ones that are dropped.
    rf"#{_L}+|@[A-Za-z][A-Za-z0-9_]*",
    r"[!?]{2,}|<<|>>|\*+|_+|#+|[$%&@+=~^|\\<>/()\[\]{}‚„‟]",
)
_TOKEN = re.compile("|".join(_TOKENS))
_FRACTION = re.compile(r"(?<![\w.,/])(\d+) (?=\d{1,4}/\d{1,4}(?![\w/]))")
_NUMBER = re.compile(rf"(?<![\w-])(?i:({_NUMBERED.replace(' ', '|')}))\. +(?=\d)")
_LETTER = re.compile(rf"(?<![\w.])([A-Za-z])\.(?=\s+(?:{'|'.join(w.title() for w in _OPENERS)})(?!\S))")
_ENTITY = re.compile(r"(?i)&(amp|lt|gt|quot|apos|nbsp|ndash|mdash);")
_ENTITIES = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
_NAMES = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_SIGNS = {"‘": "`", "\xad": "", "£": " # ", "¢": " cents ", "¤": " $ ", "€": " $ ", "₠": " $ "}
_SIGNS |= {"¼": " 1/4 ", "½": " 1/2 ", "¾": " 3/4 ", "⅓": " 1/3 ", "⅔": " 2/3 "}
_SIGNS |= dict.fromkeys("“”«»‹›‛–—―…\ufe0e\ufe0f", " ")
_KEPT = re.compile(
    r"[\x80-\u1fff\u201a\u201e-\u2023\u2030-\u203b\u203e-\u2042\u2044\u2070-\u208e\u20a4\u2100-\u2bff"
    r"\u3001\u3002\u3012\u30fb\uff01-\uff65]"
)


def tokenize(captions: Sequence[str]) -> list[str]:
    """Each caption's tokens, in lower case and joined by single spaces.

    Punctuation is dropped, as pycocoevalcap drops it; a whole number and its fraction ("3 1/2") are one token, joined
    by a no-break space. Any white space, a line's end included, separates words.
    """
    return [_caption(caption) for caption in captions]


def _caption(text: str) -> str:
    """One caption's tokens: the few that depend on the next word are marked first, the rest is word by word."""
    if "/" in text:
        text = _FRACTION.sub("\\1\0", text)
    if ". " in text:
        text = _LETTER.sub(r"\1 ", _NUMBER.sub(r"\1.", text))
    return " ".join(filter(None, map(_word, text.split())))


@lru_cache(maxsize=1 << 16)
def _word(text: str) -> str:
    """The tokens of a piece of text without white space."""
    return " ".join(_written(token) for token in _TOKEN.findall(_plain(text)) if token.strip("-."))


def _plain(text: str) -> str:
    """text without HTML entities and quotes of two signs, and with other signs than ASCII replaced by _sign."""
    if "&" in text:
        text = _ENTITY.sub(lambda match: _ENTITIES.get(match[1].lower(), " "), text)
    text = text.replace("''", " ")
    return text if text.isascii() else "".join(map(_sign, text))


def _sign(sign: str) -> str:
    """What stands for one sign of a text: letters and ’ stay, known marks stand alone, the others part words."""
    if sign < "\x80" or sign in "’‐‑":
        return sign
    if sign in _SIGNS:
        return _SIGNS[sign]
    kind = unicodedata.category(sign)
    if sign <= "\uffff" and (kind[0] == "L" or kind in ("Mn", "Mc", "Nd")):
        return sign
    return f" {sign} " if kind[0] in "PSN" and _KEPT.match(sign) else " "


def _written(token: str) -> str:
    """A token as the program writes it: lower case, brackets by name, straight apostrophes in endings."""
    word = token.lower()
    if token in _NAMES:
        return _NAMES[token]
    if (word[0] == "’" and word[1:] in ("s", "d", "m", "ll", "re", "ve")) or word[:3] == "n’t":
        word = word.replace("’", "'")
    return word.replace("(", "-lrb-").replace(")", "-rrb-").replace("\0", "\xa0")
