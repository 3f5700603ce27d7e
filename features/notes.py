"""What is wrong with requests and what was assumed of them: records by row, words where they are read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.intp]
_WRITTEN_OUT = 1e9  # whole numbers below are written in full
# What would have been allowed, by a fault's code. {value} and {limit} stand as people write them.
_ALLOWED = {
    "not-allowed": "{limit}",
    "unknown-word": "one of {limit}",
    "no-units": "this GPU has no {value} units, and no engine widens such weights on it, but bf16 or int4",
    "nvidia-only": "{value} runs on NVIDIA GPUs alone; here {limit}",
    "accepts": "at most draft_tokens + 1 = {limit}",
    "layers": "at most the {limit} layers",
    "degrees": "at least tp x pp = {limit}",
    "divisor": "a divisor of tp = {limit}",
    "heads": "{value} does not divide the {limit} attention heads",
    "no-experts": "only with a model that has experts",
    "required-rate": "only with request_rate",
    "too-long": "isl + osl up to the model's limit of {limit}",
}
_FAULTS = {  # that are no value out of range, and in words of its own one that is
    "unknown-name": "{value}",  # a catalogue's error, which names the nearest
    "too-long": "isl + osl = {value} is not allowed: the model's limit is {limit}",
    "required": "{column} is required",
    "required-rate": "mode = open-loop needs request_rate",
    "required-host": "{column} is required: no link from this GPU to host memory is known",
    "gpu-or-platform": "gpu or platform is required",
    "gpu-and-platform": "gpu and platform disagree: give one of them",
    "no-experts": "{column} is not allowed: this model has no experts",
    "heads": "{column} = {value} does not divide the {limit} attention heads",
}
_NOTES = {  # how the row was understood
    "assumed": "{column} assumed {value}",
    "assumed-from-gpus": "{column} assumed from num_gpus",
    "assumed-fewest": "{column} assumed {value}: the fewest that hold the model and its load",
    "chosen-layout": "layout chosen: {value}; next {limit}",
    "only-layout": "layout chosen: {value}, the only one that fits",
    "assumed-half": "{column} assumed: half of the GPUs",
    "assumed-every-step": "{column} assumed 1: the cold cache is read at every step",
    "mean-lengths": "isl and osl are taken {value} times: the mean of lengths that vary",
    "understood": "{column} {value} understood from {limit!r}",
    "nearest-release": "{column} {value} assumed: that of {limit}, the nearest known release below",
    "usual": "{column} {value} assumed, the usual one of {limit}",
    "gpu-taken": "gpu {quoted} is the platform {limit}: taken as platform",
    "platform-taken": "platform {quoted} is the GPU {limit}: taken as gpu",
    "config": "model read from {limit}: {value}",
    "scaled": "model of size {limit}: the shape of {value}, scaled",
    "uncommon": "{column} {quoted} is not known: assumed like the less common ones",
    "widened": "this GPU has no {value} units: weights are widened and multiplied in 16 bits",
    "copies": "dp of a dense model is counted as independent replicas",
    "replicas": "{column} above tp is counted as independent replicas",
    "spread-experts": "{column} counted beside tp: one copy on tp x dp GPUs, which share the experts",
    "no-experts-to-spread": "{column} is not used: this model has no experts",
    "idle": "{value} of the {limit} GPUs are idle in this layout",
    "rate-unused": "{column} = {value} is not used: mode is {limit}",
    "endless-rate": "{column} inf sets no load: concurrency does, or with arrival burst all come at once",
    "implied": "{column} assumed: {limit} is given",
    "narrowed": "{column} = {value} is taken as {limit}: more than its GPUs",
    "rate-rules": "request_rate = {limit} rules: {column} = {value} is not used",
    "future": "{column} lies in the future: the software is taken as if it went on as it does",
    "cache-off": "{column} is not used: prefix_caching is off",
    "converted": "{column} assumed {value}: no engine runs the published {limit} on this GPU",
    "attention-dp": "attention data parallelism assumed: tp does not divide the heads",
    "pools": "num_gpus counted as prefill_gpus + decode_gpus",
    "skips": "attention skips the cold tokens between re-reads: quality may change",
    "long": "isl + osl passes the model's limit of {limit} tokens",
}


@dataclass(frozen=True, kw_only=True)
class Note:
    """One thing to say of a row; `limit`: what would have been allowed.

    Of many rows, value and limit are one for all, or arrays with one for each.
    """

    code: str
    column: str
    value: Any = None
    limit: Any = ""

    @property
    def fault(self) -> bool:
        """Whether the row cannot be answered."""
        return self.code not in _NOTES

    @property
    def allowed(self) -> str:
        """What would have been allowed, in words; the whole text where it is not of a value's range."""
        return self._words(_ALLOWED[self.code]) if self.code in _ALLOWED else str(self)

    def __str__(self) -> str:
        template = _FAULTS.get(self.code) or _NOTES.get(self.code)
        return self._words(template or "{column} = {shown} is not allowed: " + _ALLOWED[self.code])

    def _words(self, template: str) -> str:
        value, limit = _plain(self.value), _plain(self.limit)
        quoted = repr(self.value) if isinstance(self.value, str) else value
        shown = quoted if self.code == "unknown-word" else value
        return template.format(column=self.column, value=value, quoted=quoted, shown=shown, limit=limit)

    def of(self, at: int | NDArray[Any]) -> Note:
        """Return the note of the row at this place of its rows, or of several of them."""
        value, limit = (v[at] if isinstance(v, np.ndarray) else v for v in (self.value, self.limit))
        return replace(self, value=value, limit=limit)


class Notes:
    """The notes and faults of n rows, in the order in which they were made."""

    def __init__(self, n: int) -> None:
        self._entries: list[tuple[Rows, Note]] = []
        self._index: Rows = np.arange(n)
        self._made_for = n

    def add(self, rows: Rows, note: Note) -> None:
        """Add one note to the rows at these positions; only for notes that were not taken from others."""
        self._entries.append((rows, note))

    def and_also(self, rows: Rows, note: Note) -> Notes:
        """Return the notes with one more, of the rows at these positions."""
        more = self.take(np.arange(len(self._index)))
        more._entries = [*self._entries, (self._index[rows], note)]
        return more

    def take(self, rows: NDArray[Any]) -> Notes:
        """Return the notes of a subset of rows."""
        taken = Notes(0)
        taken._entries, taken._index, taken._made_for = self._entries, self._index[rows], self._made_for
        return taken

    def of(self, row: int) -> list[Note]:
        """Return the notes of one row; of one with faults the faults alone."""
        base = self._index[row]
        found = [note.of(int(at)) for rows, note in self._entries for at in np.flatnonzero(rows == base)]
        return [note for note in found if note.fault] or found

    def texts(self) -> NDArray[np.object_]:
        """Return each row's notes in words, shape (n,), joined by "; "; where faults are, they alone."""
        faulty = np.zeros(self._made_for, dtype=bool)
        for rows, note in self._entries:
            faulty[rows] |= note.fault
        out = np.full(self._made_for, "", dtype=object)
        for rows, note in self._entries:
            differ = isinstance(note.value, np.ndarray) or isinstance(note.limit, np.ndarray)
            of_all = "" if differ else str(note)
            for at, row in enumerate(rows):
                if note.fault or not faulty[row]:
                    text = of_all or str(note.of(at))
                    out[row] = f"{out[row]}; {text}" if out[row] else text
        return out[self._index]


def _plain(value: Any) -> str:
    """Return a value as a person would write it.

    >>> _plain(np.float64(8)), _plain(131072.0), _plain("fp8")
    ('8', '131072', 'fp8')
    """
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, float):
        return f"{plain:.0f}" if plain.is_integer() and abs(plain) < _WRITTEN_OUT else f"{plain:g}"
    return "".join(c if c.isprintable() else " " for c in str(plain))
