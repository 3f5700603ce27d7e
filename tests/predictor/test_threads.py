"""Threads that share a predictor from its first answer on get what one thread alone gets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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

for _ in range(20):
    predictor, start = Predictor.load(sys.argv[1]), threading.Barrier(len(QUESTIONS))
    threads = [threading.Thread(target=ask, args=(predictor, start, i)) for i in range(len(QUESTIONS))]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
alone = Predictor.load(sys.argv[1])
wanted = [alone.predict(**question).to_dict() for question in QUESTIONS]
print(len(found), all(answer == wanted[place] for place, answer in found))
"""


def test_first_answers_at_once_are_those_of_one_thread(bundle: Path) -> None:
    command = [sys.executable, "-c", FIRST_ANSWERS, str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["240", "True"]), done.stderr
