"""The month in which a version of an engine came out, from the text in which people state the version."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

from .vocabulary import ENGINES, printed_engine

_NUMBERS = r"v?(?P<numbers>\d+(?:\.\d+)+)(?P<any>\.x)?"
_VERSION = _NUMBERS + r"(?:[-._]?(?:rc|a|b)(?P<rc>\d*))?(?:[-._]?post(?P<post>\d+))?"
_BUILD = re.compile(r"(?<![\w.])b?(\d{3,5})(?![\w.])")  # llama.cpp's: b6969
_DAY = re.compile(r"(?<![\da-f.])(202\d)(?:-(0[1-9]|1[0-2])(?!\d)|(0[1-9]|1[0-2])[0-3]\d)")
_CONTAINER = re.compile(r"(?<![\w.])(2[3-9])\.(0[1-9]|1[0-2])(?![\d.])")  # NVIDIA's: 25.09-py3
FINAL = 10**6  # above every number of a candidate

Key = tuple[tuple[int, ...], int, int]  # the numbers, that of the candidate, that of the post-release


@dataclass(frozen=True, kw_only=True)
class Release:
    """A month, YYYY-MM, and what it was read from; not `exact`: from the nearest known release below."""

    month: str
    name: str
    exact: bool = True


def released(engine: str, version: str) -> Release | None:
    """Return the release that a version means, None where it means none ("nightly", a commit).

    engine: as asked, "" for the usual one; version: a number, an image, or the engine's name with a number in
    it. A day stated in the text goes before the version: images built between releases carry both.

    >>> released("vllm", "v0.9.1"), released("vllm", "latest")
    (Release(month='2025-06', name='vllm 0.9.1', exact=True), None)
    >>> released("", "lmsysorg/sglang:v0.4.99-cu130")
    Release(month='2025-08', name='sglang 0.4.10.post2', exact=False)
    """
    text = version.lower()
    if day := _DAY.search(text):
        return Release(month=f"{day[1]}-{day[2] or day[3]}", name=version)
    text = text.split("+")[0]  # what follows is the builder's own
    owner = _owner(text) or _owner(engine.lower() or ENGINES[0])
    if not owner:
        return None
    if owner == "llamacpp":
        build = _BUILD.search(text)
        below = _below(owner, _key(build[1])) if build else None
        return replace(below, name=f"{owner} {build[0]}", exact=True) if build and below else None
    if container := _CONTAINER.search(text):
        return Release(month=f"20{container[1]}-{container[2]}", name=version)
    beside = re.search(rf"{owner}[-_ :=@]*{_VERSION}", text)
    stated = beside or re.search(rf"(?<![a-z\d.]){_VERSION}", text)
    return _of(owner, stated) if stated else None


def _owner(text: str) -> str:
    """Return whose versions a text states, "" where it names no engine whose releases are known."""
    if "ai-dynamo" in text or re.match(r"(nvidia[- ])?dynamo\b(?!-)", text):
        return "dynamo"
    if re.search(r"tensorrt[- ]?v?\d", text):
        return "tensorrt"
    name = printed_engine(text).removesuffix("-atom")
    return name if name in _table() else ""


def _of(owner: str, stated: re.Match[str]) -> Release | None:
    """Return the release of a stated version: its own, else of what it leads to, else the nearest below."""
    numbers, final = stated["numbers"], _key(stated["numbers"])
    known = releases(owner)
    # An image of NVIDIA Dynamo is often called a version of the TensorRT-LLM in it.
    if owner == "trtllm" and final in releases("dynamo") and all(final[0] != other[0] for other in known):
        known = releases(owner := "dynamo")
    if stated["any"]:
        width = numbers.count(".") + 1
        series = [release for key, release in known.items() if key[0][:width] == final[0][:width]]
        return series[len(series) // 2] if series else None
    key = _key(numbers, stated["rc"], stated["post"])
    for same in (key, (key[0], key[1], 0), final if stated["rc"] is not None else key):
        if same in known:
            return known[same]
    return _below(owner, key)


def _below(owner: str, key: Key) -> Release | None:
    """Return the nearest known release below, marked so, None where none has the same first number."""
    below = [known for known in releases(owner) if known <= key and known[0][0] == key[0][0]]
    return replace(releases(owner)[below[-1]], exact=False) if below else None


def _key(numbers: str, candidate: str | None = None, post: str | None = None) -> Key:
    """Return what orders versions; a build, which is one number, comes as the second of them.

    >>> _key("0.9.1") < _key("0.9.1", post="1") < _key("0.10", "2") < _key("0.10") < _key("0.10.0.1")
    True
    """
    read = [int(number) for number in (numbers if "." in numbers else f"0.{numbers}").split(".")]
    return (
        (*read, *[0] * (4 - len(read))),
        FINAL if candidate is None else int(candidate or 0),
        int(post or 0),
    )


def known_engines() -> tuple[str, ...]:
    """Return the names under which releases are known."""
    return tuple(_table())


@cache
def _table() -> dict[str, dict[str, str]]:
    table = tomllib.loads(resources.files(__package__).joinpath("engine_releases.toml").read_text("utf-8"))
    return {engine: {m: v for m, v in rows.items() if m[0] == "2"} for engine, rows in table.items()}


@cache
def releases(owner: str) -> dict[Key, Release]:
    """Return the known releases of an engine in the order of their versions."""
    found = {}
    for month, versions in _table()[owner].items():
        for version in versions.split():
            stated = re.fullmatch(_VERSION, version)
            key = _key(stated["numbers"], stated["rc"], stated["post"]) if stated else _key(version)
            found[key] = Release(month=month, name=f"{owner} {version}")
    return dict(sorted(found.items()))
