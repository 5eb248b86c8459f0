"""Texts of known encodings, and texts whose encoding is in doubt."""

from pathlib import Path

import pytest

from src.common.errors import UserError
from src.data.text_encoding import decode_text

ENGLISH = ["the barn’s roof isn’t sharp", "a red kite, a blue barn", "soft light"]
FRENCH = ["une photo prise à l’été", "le détail est flou", "ŒUVRE D’ART"]
PORTUGUESE = ["coração", "composição sem foco"]  # each pair of its accented letters is a Chinese character in cp949
SPANISH = ["¿qué niño?", "¡12°–15°, 20 €!"]
KOREAN = ["좋은 사진입니다", "JPEG로 저장", "색감이 자연스럽다…"]
RUSSIAN = ["хорошее фото, но темно"]
JAPANESE = ["きれいな写真です"]
CHINESE = ["很好的照片，色彩自然"]
POLISH = ["zdjęcie jest żółte"]
TURKISH = ["ışık çok iyi"]


def table(captions: list[str], rows: int = 60) -> str:
    return "img_name,comments\n" + "".join(f'p{i},"{captions[i % len(captions)]}"\n' for i in range(rows))


@pytest.mark.parametrize(
    ("encoding", "captions"),
    [
        ("cp1252", ENGLISH),
        ("cp1252", [*ENGLISH[1:] * 30, ENGLISH[0]]),
        ("cp1252", FRENCH),
        ("cp1252", PORTUGUESE),
        ("cp1252", SPANISH),
        ("cp949", KOREAN),
        ("cp949", [*ENGLISH[1:] * 30, KOREAN[0]]),
        ("cp949", ENGLISH),  # as Korean Windows writes an apostrophe
    ],
)
def test_the_encoding_is_that_of_the_letters_and_named_once(
    encoding: str, captions: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = table(captions, rows=70)
    for _ in range(2):
        assert decode_text(text.encode(encoding), tmp_path / "x.csv") == text
    notice = f"{tmp_path}/x.csv: is not UTF-8; read as {encoding}, in which its letters make sense\n"
    assert capsys.readouterr().err == notice


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_unicode_needs_no_notice(encoding: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = table([*ENGLISH, *KOREAN, *RUSSIAN])
    assert decode_text(text.encode(encoding), tmp_path / "x.csv") == text
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "data",
    [
        table(RUSSIAN).encode("cp1251"),
        table(JAPANESE).encode("shift_jis"),
        table(JAPANESE).encode("euc_jp"),
        table(CHINESE).encode("gb18030"),
        table(POLISH).encode("cp1250"),
        table(TURKISH).encode("cp1254"),
        table(ENGLISH).encode("mac_roman"),
        table(["a café"]).encode("cp437"),
        table(KOREAN + ENGLISH).encode() + b"p,\x92s\n",
        table(KOREAN).encode("cp949") + table(FRENCH).encode("cp1252"),
    ],
)
def test_text_of_another_or_of_two_encodings_is_refused(data: bytes) -> None:
    with pytest.raises(UserError, match=r"x\.csv: line \d+ is not UTF-8, and neither cp949 nor cp1252 makes sense of"):
        decode_text(data, Path("x.csv"))


def test_text_that_two_encodings_explain_is_refused() -> None:
    with pytest.raises(UserError, match=r"line 2 is not UTF-8, and cp949 and cp1252 both make sense of the file; save"):
        decode_text("img_name\n산\n".encode("cp949"), Path("x.csv"))
