"""The PTB tokenizer against the Java program that it stands in for."""

from pathlib import Path

import pytest

from src.metrics.text.ptb_tokenizer import tokenize
from tests.metrics.reference import java_path, java_tokens, read_lines

# Caption and its tokens, as the Java program wrote them.
KNOWN = [
    ("A man's dog doesn't bark.", "a man 's dog does n't bark"),
    ("You cannot, they won't, we're gonna", "you can not they wo n't we 're gon na"),
    ("a t-shirt, a merry-go-round -- and a half- finished", "a t-shirt a merry-go-round and a half finished"),
    ("The U.S. army at 5 p.m. with Mr. Smith, etc.", "the u.s. army at 5 p.m. with mr. smith etc."),
    ("$5.00 or 1,000 (50%) at 10:30", "$ 5.00 or 1,000 -lrb- 50 % -rrb- at 10:30"),
    ("£10, €20", "# 10 $ 20"),
    ("men and/or women w/ AT&T", "men and/or women w / at&t"),
    ("“curly” ‘single’ ``back'' \"straight\" … – —", "curly single back straight"),
    ("No. 5 is no. but no, no.", "no. 5 is no but no no"),
    ("한국어 사진 좋다. good 😀😂 café", "한국어 사진 좋다 good café"),
    ("rock 'n' roll at 5 o'clock in the '80s and 1990s", "rock 'n' roll at 5 o'clock in the '80s and 1990s"),
    ("grey colour of the theatre", "grey colour of the theatre"),
    ("what?! really?? yes!", "what ?! really ?? yes"),
    ("see http://a.b/c?d=1 or foo@bar.com", "see http://a.b/c?d=1 or foo@bar.com"),
    ("", ""),
    (" . , ! ? ... ", ""),
    ("two\nlines\r\nand\ttabs", "two lines and tabs"),
]
TRICKY = [
    "He isn't, she'd've, they'll, I'm, you're, we've; that's it's' its'",
    "He isn’t, she’d’ve, they’ll, I’m, you’re, we’ve; that’s the dogs’ toy",
    "DON'T STOP! THE DOG'S BALL CAN'T FLY. CANNOT. I'LL",
    "cannot Cannot gonna wanna gotta lemme gimme gonna. \"cannot\" cannot's gonna-be cant dont",
    "'tis the season, 'Tisn't, 'twas not; tell 'em 'til noon 'cause",
    "rock 'n' roll, rock'n'roll, rock ’n’ roll, more'n enough",
    "five-o'clock shadow at 5 o'clock near O'Neil's and d'Artagnan, l'eau",
    "y'all y'know ma'am c'mon ol' dog li'l boy, s'mores, Hawai'i, Xi'an, qu'il",
    "the boys' 'quoted' word, 'slide and slide', nothin' doin'",
    "the 'slide' says 'Don't walk', ‘it’s ok’",
    "it`s a dog and he don`t bark, don‘t",
    "a black-and-white t-shirt, X-ray, 4-year-old's mother-in-law",
    "half-finished- -dangling re- - and -5 to +3",
    "a dog--running--fast --- or a cat -- here ----",
    "pages 5–6, 1990—2000, dog–cat, one — two ― three",
    "a post-9/11 pre-1990s 1-on-1 game, 2-for-1, 50-50, mid-air-café",
    'he says "stop," then "go." and "left"! ("right")',
    "“stop,” he says; “go.” «left» ‹right› „down“ ‚up‘",
    "``stop'' `go' ''left'' doesn''t",
    "1,000 dogs, 1,000,000. 3.5 miles 10,000.50 .5 1.2.3 5. 5,",
    "10:30, 10:30am 5:00PM 5:30 p.m. 5pm 5p.m. 12:00: 3:1",
    "1/2 a pie, 3 1/2 pies, 2-1/2 cups, 12/25/2010, 9/11, 24/7, 1/2cup 1/2-inch",
    "about 3 1/2, then (10 1/2) or 3 1/2-inch. 2/3rds",
    '5\'11" tall, 6\'2 and 5\' or 12" wide, 10x10ft 6-foot 35mm 3.5mm',
    "$5 $5.00 $1,000, 5$ US$5 A$10 $5-10 $.50 $5k",
    "£5 €20 ¥100 5¢ ₤7 10€",
    "50% 5.5% 100%! %5 a%b 5%-10%",
    "#1 dog, #12's #tag ## C# F# C++ g++ # 5",
    "@user @ 5 a@b me@here.com @user_name. foo.bar@x-y.com",
    "* ** f**k s*** a*b 4*4 **bold** *x*",
    "AT&T at&t R&B's Q&A black&white A & B & S&P-500 A&E&F &",
    "a+b 4+4 +82 = a=b ~5 ^ | \\ a\\b < > 5<6 -> => << >>",
    "snake_case _x_ __ a__b _",
    "and/or w/ w/o n/a his/her dog/cat/bird a/b/c/d / // /x x/ don't/won't",
    "the dog (brown) and (the (cat)) [here] {there} t-shirt(s) (1) a) (b",
    "<b>bold</b> <br/> <3 < 3 x<y>z",
    ":) :( ;) :-) :-( :D :P =) :] :| :-/ nice:) :))",
    "&amp; &lt; &gt; &quot;x&quot; don&apos;t AT&amp;T a&nbsp;b &mdash;",
    "The U.S. army, U.S.A. U.S U.K.'s non-U.S. U.S.-based u.s. R.V. D.C.",
    "Mr. Smith, Mrs. Jones, Dr. No, St. Louis, Jr. Gen. Prof. Sgt. Capt. Lt. mr. st.",
    "etc. etc etc., (etc.) vs. e.g. i.e. a.k.a. Ph.D. et al. cf. No.",
    "Jan. Feb. Mar. Apr. May. Jun. Jul. Aug. Sept. Oct. Nov. Dec. Mon. Tues. Wed. Thurs. Fri. Sat. Sun.",
    "Inc. Corp. Co. Ltd. Ave. Rd. Blvd. Mt. Ft. bldg. dept. apt. approx. ft. in. lb.",
    "She will miss. A wash. He looks ill. Miss. Wash. Ill. del. Pa. la. La.",
    "No. 5, no. 5, No.5 no. Fig. 3 pp. 4 nos. 7 art. 5 spin-art. 5 No. five",
    "Plan A. The dog. plan B. dog. I. She group C. Many X. Dogs J. Smith J.R.R. T. A",
    "p.m. The end. a.m., noon. A.M. (p.m.)",
    "The end.Next one, cat.; dog., photo.jpg avrovulcan.com www.foo.com Yahoo.com.",
    "wait...what ... .... . . . .. ..x x.. ...5 end...",
    "wait…what … end…",
    "ok!!! ok! !! what?! ?! ?!? hi!? yes!no (!) !. ?.",
    "a,b a,,b ,a a, b,c-d 1,a a,1 a:b a:1 a;b ; : , ::",
    "mp3 4x4 K9 K2 1st 2nd 3rd 21st 80's '80s '85 ('85 ’80s 1950's 90s 747 B2B 10k",
    "café naïve Über señor œuvre Straße ÀÉÎ É.",
    "привет мир. ελληνικά 日本語。 中文，好 עברית العربية",
    "한국어 캡션입니다. 개가 공을 물고 있다! '한국어' \"한국어\" 한국어, 1개 dog가 한국어-영어",
    "😀 a😀b good😀. 👍🏽 ❤️ 👨‍👩‍👧 (😀) 1️⃣",
    "½ 2½ ¼ 25°C 25° © ® ™ × ÷ ² m² ★ → ♥ • № ¿que ¡hola",
    "no\u00a0break thin\u2009space ideo\u3000graphic zero\u200bwidth so\u00adft bom\ufeff",
    "tabs\tand  many   spaces \t ",
    "new\nlines\nhere",
    "A MAN IN A RED HAT AND AN L.A. SHIRT STANDS NEXT TO A T-REX.",
    "  leading and trailing  ",
    "tikes' 's-eye-view n't S.C.U.B.A. RIF=ding at&t avrovulcan.com -ependent 'slide bro! 's ,",
]  # fmt: skip
WORDS = ["dog", "Dog", "DOG", "t-shirt", "café", "한국어", "cannot", "5", "1990s", "well-known"]
FRAMES = [
    "{}", "{}.", "{},", "{}!", "{}?", "{};", "{}:", "{}...", "{}…", "{}!!", '"{}"', '"{}."', "'{}'", "“{}”", "({})",
    "[{}]", "{{{}}}", "({}).", "{}'s", "{}’s", "{}'", "{}’", "{}-", "-{}", "{}--x", "{}—x", "{} - x", "{}/", "/{}", "{}%",
    "${}", "{}$", "#{}", "*{}*", "{} & x", "{}=x", "<{}", "{}😀", "{}\tx", "{}, x", "{}. X", "x.{}", "x,{}", "{}, 5",
    "~{}", "{}.)",
]  # fmt: skip


@pytest.mark.parametrize(("caption", "tokens"), KNOWN)
def test_known_captions(caption: str, tokens: str) -> None:
    assert tokenize([caption]) == [tokens]


@pytest.mark.parametrize("texts", [TRICKY, [frame.format(word) for frame in FRAMES for word in WORDS]])
def test_equals_java(monkeypatch: pytest.MonkeyPatch, texts: list[str]) -> None:
    java_path(monkeypatch)
    pairs = zip(texts, tokenize(texts), java_tokens(texts), strict=True)
    assert [pair for pair in pairs if pair[1] != pair[2]] == []


@pytest.mark.real
def test_equals_java_on_every_caption_of_flickr8k(monkeypatch: pytest.MonkeyPatch) -> None:
    java_path(monkeypatch)
    lines = read_lines(Path("data/real/flickr8k/Flickr8k.token.txt"))
    captions = [line.split("\t")[1] for line in lines]
    assert len(captions) > 35_000
    assert tokenize(captions) == java_tokens(captions)


@pytest.mark.parametrize(
    "piece", ["a-", "a.", "<a b=", "1,", "'", "a/", "a@b.", "=(", ". ", "가", "A+", "(12) ", "1 1/2 "]
)
@pytest.mark.timeout(10)
def test_long_odd_text_takes_no_quadratic_time(piece: str) -> None:
    assert len(tokenize([piece * 3000])) == 1


def test_a_piece_that_depends_on_its_neighbour_is_not_remembered_for_all() -> None:
    assert tokenize(["no. 5", "no. dog", "no. 5"]) == ["no. 5", "no dog", "no. 5"]
