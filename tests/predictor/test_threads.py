"""Threads that share a predictor from its first answer on get what one thread alone gets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# Threads change hands as often as they can, so that each is caught in the middle of what it prepares.
FIRST_ANSWERS = """
import sys, threading
from roofcast.predictor import Predictor

QUESTIONS = [
    dict(model=model, gpu=gpu, tp=8, concurrency=concurrency)
    for model in ("qwen2.5-72b", "deepseek-r1")
    for gpu in ("b200-sxm", "h200-sxm")
    for concurrency in (4, 32, 256)
]
sys.setswitchinterval(1e-6)
found = []

def ask(predictor, start, place):
    start.wait()
    found.append((place, predictor.predict(**QUESTIONS[place]).to_dict()))

for _ in range({rounds}):
    predictor, start = Predictor.load({bundle!r}), threading.Barrier(len(QUESTIONS))
    threads = [threading.Thread(target=ask, args=(predictor, start, i)) for i in range(len(QUESTIONS))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
alone = Predictor.load({bundle!r})
wanted = [alone.predict(**question).to_dict() for question in QUESTIONS]
print(len(found), all(answer == wanted[place] for place, answer in found))
"""


@pytest.mark.parametrize("rounds", [1, 2, 20])
def test_first_answers_at_once_are_those_of_one_thread(rounds: int, bundle: Path) -> None:
    script = FIRST_ANSWERS.format(bundle=str(bundle), rounds=rounds)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stdout.split()) == (0, [str(12 * rounds), "True"]), done.stderr
