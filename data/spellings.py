"""Names as people, drivers, clusters and hubs write them, taken apart: checkpoints and machines.

No catalogue is asked here: what a text says of a model's base name and precisions, of a chip's memory and
form, and of how many there are. `catalogue` compares what is left with what its entries are called.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

# Words of a checkpoint's name that state a number format: those of the weights, the narrowest first, since
# mixed checkpoints keep most weights in it; then the methods whose usual width is 4 bits.
_STATED = (
    (r"(nv|mx|moe)?fp4(a16)?|w4a4", "fp4"),
    (r"int4|i4|w4a(8|16|fp8)|4bits?|nf4|i?q[1-5]k?\w{0,3}|[1-5](\.\d+)?bpw", "int4"),
    (r"(mx)?fp8\w*|w8a8fp8|float8|f8", "fp8"),
    (r"int8|i8|w8a(8|16)|8bits?|q[68]k?\w{0,2}|[6-8](\.\d+)?bpw", "int8"),
    (r"bf16|fp16|f16|bfloat16|float16|16bits?", "bf16"),
    (r"fp32|f32|float32", "fp32"),
    (r"(auto)?(awq|gptq)\w*|bnb|autoround|hqq|exl[23]", "int4"),
)  # fmt: skip
_ANY_STATED = re.compile("|".join(pattern for pattern, _ in _STATED))
_KV = re.compile(r"-(?:kv(?:cache)?-?(fp8|int8|8|fp4|int4)|(?<=fp8)-?kv|(fp8|int8)-?kv(?:cache)?)(?=-)")
# Beside them, how the format was made, what holds it and how it was served: nothing of the model itself.
_FORMAT = re.compile(
    r"gguf|ggml|mlx|ud|quantized|quantised|quant|dynamic|dyn|static|pre|block(wise)?|ptpc|kv(cache)?(8|fp8|int8)?|marlin|unsloth|qat|compressed"
    r"|tensors|torchao|modelopt|quark|trtllm|a?sym|actorder|gs?\d+|\d+g|imatrix|i1|aw|(tp|dp|ep|pp|mtp)\d*"
    r"|of|\d{5}"
)
_REVISION = re.compile(r"v\d")  # of a quantised checkpoint, after its format
_TUNING = re.compile(
    r"instruct|chat|it|hf|base|pt|sft|dpo|thinking|think|reasoning|preview|exp|terminus|speciale|latest|v0\.1"
)
_VENDORS = (
    "meta", "nvidia", "google", "microsoft", "openai", "amd", "mistralai", "qwen", "moonshotai", "tencent",
    "unsloth", "redhatai", "neuralmagic", "ibm", "facebook", "bartowski",
)  # fmt: skip
_MONTH_DAY, _YEAR_MONTH = re.compile(r"(0\d|1[0-2])([0-2]\d|3[01])"), re.compile(r"2[3-9](0\d|1[0-2])")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([bt])")
_ACTIVE = re.compile(r"a\d+(\.\d+)?b")
_KQUANT = re.compile(r"(?<![a-z0-9])(i?q[1-8])[_-](0|1|k|xxs|xs|s|m|nl)(?:[_-](xs|s|m|l|xl))?(?![a-z0-9])")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint's name: keys of its model from exact to loose, and the precisions that it states.

    keys: as written; without number formats; without tuning and maker; without a date. unsized: without its
    size too, which is `billions` of parameters (0 where none is said); base: readable, for the nearest names.
    """

    keys: tuple[str, ...]
    base: str
    unsized: str = ""
    billions: float = 0.0
    weight_precision: str = ""
    kv_precision: str = ""


@lru_cache(maxsize=4096)
def checkpoint(text: str) -> Checkpoint:
    """Take the name of a model apart: a hub's id, a folder, a file or what somebody typed.

    >>> c = checkpoint("nvidia/Llama-3.1-8B-Instruct-NVFP4")
    >>> c.keys[2], c.weight_precision, checkpoint("llama3.1:8b").keys[0]
    ('llama3|1|8b', 'fp4', 'llama3|1|8b')
    """
    name = _own_name(text)
    words = [word for word in re.split(r"[^a-z0-9.]+|\.(?!\d)|(?<!\d)\.", name) if word]
    weight, kv = _stated(words)
    plain = [*_without_formats(words)]
    bare = [word for word in plain if not _TUNING.fullmatch(word)]
    # "qwen-7b" is no 7b.
    if len(bare) > 1 and bare[0] in _VENDORS and not all(map(_SIZE.fullmatch, bare[1:])):
        bare = bare[1:]
    sized = any(map(_SIZE.fullmatch, bare))
    undated = [w for w in bare if not (_MONTH_DAY.fullmatch(w) or (sized and _YEAR_MONTH.fullmatch(w)))]
    size = next((found for word in undated if (found := _SIZE.fullmatch(word))), None)
    billions = float(size[1]) * (1e3 if size[2] == "t" else 1.0) if size else 0.0
    unsized = [w for w in undated if not (_SIZE.fullmatch(w) or _ACTIVE.fullmatch(w))]
    return Checkpoint(
        keys=tuple(map(squashed, (words, plain, bare, undated))), base="-".join(bare),
        unsized=squashed(unsized), billions=billions, weight_precision=weight, kv_precision=kv,
    )  # fmt: skip


def _own_name(text: str) -> str:
    """Return what a path, a hub's cache or an id calls the model itself, in lower case.

    A last part that states nothing but a format ("Qwen3-32B/fp8") is read with the one before.
    """
    parts = [part for part in re.split(r"[/\\]", text.strip().lower()) if part.strip(" .~")]
    inside = ("snapshots", *(("tree", "blob", "resolve") if "://" in text else ()))  # of a cache, of a hub
    ends = [place for place, part in enumerate(parts) if place and part in inside]
    parts = parts[: min(ends, default=len(parts))]
    name = parts.pop().rsplit("--", 1)[-1] if parts else ""
    if parts and _is_format(name):
        name = f"{parts[-1]}-{name}"
    name, _, revision = name.partition("@")
    name = f"{name}-{revision}" if revision and _is_format(revision) else name
    name = re.sub(r"(?<=\d)\.gguf$", "", name)
    name = _KQUANT.sub(lambda found: "".join(filter(None, found.groups())), name)
    name = re.sub(r"(?<=\d)p(?=\d)", ".", name)  # "llama-v3p1"
    name = re.sub(r"(?<=\d)_(?=\d)", ".", name)  # "Llama-3_3"
    return re.sub(r"(?<![a-z0-9])([48])-bit", r"\1bit", name)


def _is_format(text: str) -> bool:
    return not [*_without_formats([word for word in re.split(r"[^a-z0-9.]+", text) if word])]


def _stated(words: list[str]) -> tuple[str, str]:
    """Return the precisions of the weights and of the KV cache that the words state, "" where they do not."""
    line = f"-{'-'.join(words)}-"
    kv = _KV.search(line)
    cache = ""
    if kv:
        said = kv[1] or kv[2] or "fp8"
        cache = {"8": "fp8"}.get(said, said)
        line = line.replace(kv[0], "" if kv[1] else f"-{kv[2]}" if kv[2] else "", 1)
    left = [word for word in line.split("-") if _ANY_STATED.fullmatch(word)]
    stated = (name for pattern, name in _STATED for word in left if re.fullmatch(pattern, word))
    return next(stated, ""), cache


def _without_formats(words: list[str]) -> Iterator[str]:
    """Yield the words that do not speak of number formats, nor of a quantised checkpoint's revision."""
    after_format = False
    for word in words:
        stated = bool(_ANY_STATED.fullmatch(word))
        beside = bool(_FORMAT.fullmatch(word)) or (after_format and bool(_REVISION.fullmatch(word)))
        after_format = stated or (after_format and beside)
        if not (stated or beside):
            yield word


def squashed(words: list[str]) -> str:
    """Return words as a key that no separator changes: only numbers stay apart, a "v" before one falls.

    >>> squashed(["llama", "3.1", "8b"]), squashed(["llama3", "1", "8b"]), squashed(["deepseek", "v3"])
    ('llama3|1|8b', 'llama3|1|8b', 'deepseek3')
    """
    line = re.sub(r"(?<![a-z0-9.])v(?=\d)", "", "-".join(words))
    return re.sub(r"[^a-z0-9|]+", "", re.sub(r"(?<=\d)[.-]+(?=\d)", "|", line))


# What stands beside a chip's own name.
_NOISE = re.compile(
    r"nvidia|amd|instinct|geforce|tesla|intel|habana|google|virtualized|grace|hopper|superchip|blackwell|edition"
    r"|generation|gpus?|accelerators?|graphics|card|cards|ac|lc|o|cg1|tensor|core|cores|aarch64|hbm\w*"
    r"|gddr\w*|nodes?|of|on|with|each|a|single|the|trt|tensorrt|triton|nvlink|nvswitch|cloud|gcp|gke|aws|azure"
    r"|vf|runpod|lambda|nebius|coreweave|(tp|dp|ep|pp|dep|tep)\d+"
)
# Forms of one chip that differ in speed; of several words the first counts ("Max-Q Workstation", "NVL PCIe").
_FORMS = (
    ("maxq", r"maxq"), ("workstation", r"workstation|ws"), ("server", r"server"), ("nvl", r"nvl"),
    ("pcie", r"pcie\d?"), ("sxm", r"sxm\d?|mega"), ("oam", r"oam"),
)  # fmt: skip
_MEMORY = re.compile(r"(?<![a-z0-9.])(\d{1,3}) ?g(?:i?b)?(?![a-z0-9.])")
_SWAPPED = {
    "rtx6000pro": "rtxpro6000", "6000pro": "rtxpro6000", "pro6000": "rtxpro6000", "6000ada": "rtx6000ada",
}  # fmt: skip
_MEMORY_KIND = {("h100", "hbm3"): "sxm", ("h100", "hbm2e"): "pcie"}  # how the driver tells the two apart
# The host's memory, which the driver puts into the chip's name, and the chip's own.
_LPDDR_GB = {("gh200", 120): 96, ("gh200", 480): 96}
_MEMORY_SLACK = 0.08
_BEFORE = re.compile(r"^(?:(\d{1,3})\s*(?:nodes?\s*)?[x×*]\s*(?=[a-z0-9])|(\d{1,3})\s+(?=[a-z]))")
_AFTER = re.compile(
    r"(?:[\s(\-]|(?<=gb)|(?<=\d))[x×*](\d{1,3})\)?$|[\s(]x\s(\d{1,3})\)?$|(?<=[a-z0-9]):(\d{1,3})$"
)
_MOST = 100_000  # GPUs of one deployment: more is no number of them
_OF_DRIVER = re.compile(r"^gpu \d+: | \(uuid: .*\)$")
_TIMES = re.compile(r"\d{1,3}\s*x|x\s*\d{1,3}")
_BRACKETS = re.compile(r"[(\[]([^()\[\]]*)[)\]]")
_LARGE = {"12xlarge": 4, "24xlarge": 4, "48xlarge": 8, "metal": 8}
_G2_GPUS = {"24": 2, "48": 4, "96": 8}
# Names that no rule reads: what cluster labels and compilers call a chip.
_PRINTED = {
    "nvidia-tesla-a100": "a100-40g", "nvidia-tesla-v100": "v100-16g", "gfx942": "mi300x", "gfx950": "mi355x",
    "gfx90a": "mi250-gcd",
}  # fmt: skip
# Instance types of clouds: the GPU, and how many: a number, or by the size that the pattern's group finds (1
# where it is not listed); the group itself where nothing is.
_INSTANCES: tuple[tuple[str, str, int | dict[str, int]], ...] = (
    (r"p3\.2xlarge", "v100-16g", 1), (r"p3\.8xlarge", "v100-16g", 4), (r"p3\.16xlarge", "v100-16g", 8),
    (r"p3dn\.24xlarge", "v100", 8), (r"p4d\.24xlarge", "a100-40g", 8), (r"p4de\.24xlarge", "a100-80g", 8),
    (r"p5\.4xlarge", "h100-sxm", 1), (r"p5\.48xlarge", "h100-sxm", 8), (r"p5en?\.48xlarge", "h200-sxm", 8),
    (r"p6-b200\.48xlarge", "b200-sxm", 8), (r"p6-b300\.48xlarge", "b300-sxm", 8),
    (r"p6e-gb200\.36xlarge", "gb200", 4), (r"g4dn\.(\w+)", "t4", _LARGE), (r"g5\.(\w+)", "a10g", _LARGE),
    (r"g6\.(\w+)", "l4", _LARGE), (r"g6e\.(\w+)", "l40s", _LARGE),
    (r"g7e\.(\w+)", "rtx-pro-6000", {"12xlarge": 2, "24xlarge": 4, "48xlarge": 8}),
    (r"a2-(?:highgpu|megagpu)-(\d+)g", "a100-40g", {}), (r"a2-ultragpu-(\d)g", "a100-80g", {}),
    (r"a3-(?:high|mega|edge)gpu-(\d)g", "h100-sxm", {}), (r"a3-ultragpu-(\d)g", "h200-sxm", {}),
    (r"a4-highgpu-(\d)g", "b200-sxm", {}), (r"a4x-highgpu-(\d)g", "gb200", {}),
    (r"a4x-maxgpu-(\d)g", "gb300", {}), (r"g2-standard-(\d+)", "l4", _G2_GPUS),
    (r"g4-standard-(\d+)", "rtx-pro-6000", {"96": 2, "192": 4, "384": 8}),
    (r"nd\w*[_ -]h100[_ -]v5", "h100-sxm", 8), (r"nd\w*[_ -]h200[_ -]v5", "h200-sxm", 8),
    (r"nd\w*[_ -]mi300x[_ -]v5", "mi300x", 8), (r"nd\w*[_ -](?:ndr[_ -])?gb200[_ -]v6", "gb200", 4),
    (r"nd\w*[_ -](?:ndr[_ -])?gb300[_ -]v6", "gb300", 4), (r"nd96asr[_ -](?:a100[_ -])?v4", "a100-40g", 8),
    (r"nd96ams?r[_ -]a100[_ -]v4", "a100-80g", 8), (r"nc24ads[_ -]a100[_ -]v4", "a100-pcie", 1),
    (r"nc48ads[_ -]a100[_ -]v4", "a100-pcie", 2), (r"nc96ads[_ -]a100[_ -]v4", "a100-pcie", 4),
    (r"nc40ads[_ -]h100[_ -]v5", "h100-nvl", 1), (r"nc80adi?s[_ -]h100[_ -]v5", "h100-nvl", 2),
    (r"bm\.gpu4\.8", "a100-40g", 8), (r"inf2\.(\w+)", "inf2", {"24xlarge": 6, "48xlarge": 12}),
    (r"trn1n?\.32xlarge", "trn1", 16), (r"trn2\.48xlarge", "trn2", 16),
    (r"(?:tpu[ -])?v5(?:e|litepod)-(\d+)", "tpu-v5e", {}), (r"ct5lp-hightpu-(\d)t", "tpu-v5e", {}),
    (r"(?:tpu[ -])?v6e-(\d+)", "tpu-v6e", {}), (r"ct6e-standard-(\d)t", "tpu-v6e", {}),
    (r"tpu7x-standard-(\d)t", "tpu-v7x", {}),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Chip:
    """A chip's name: the key that is left of it, its memory [GB, GiB] where said (0), and its form ("")."""

    core: str
    memory_gb: int = 0
    form: str = ""

    def holds(self, memory_bytes: float) -> bool:
        """Return whether a chip of this memory may be meant: in GiB or in GB, a few percent less usable."""
        sizes = (self.memory_gb * 2.0**30, self.memory_gb * 1e9)
        return not self.memory_gb or any(abs(memory_bytes / size - 1.0) < _MEMORY_SLACK for size in sizes)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One reading of what a text says of hardware: a chip's or platform's name, and how many (0: not said).

    known: the name is the catalogue's own, found in a table: of a cloud's instance type, of a label.
    """

    name: str
    count: int = 0
    known: bool = False


@lru_cache(maxsize=1024)
def chip(text: str) -> Chip:
    """Take one chip's name apart.

    >>> chip("NVIDIA H100 80GB HBM3"), chip("A100-SXM4-40GB")
    (Chip(core='h100', memory_gb=80, form='sxm'), Chip(core='a100', memory_gb=40, form='sxm'))
    """
    lower = re.sub(r"\((r|tm)\)", " ", text.lower()).replace("max-q", "maxq").replace("pci-e", "pcie")
    line = " ".join(re.split(r"[\s_\-/,()\[\]]+", lower))
    memory = [int(found) for found in _MEMORY.findall(line)]
    words = _MEMORY.sub(" ", line).split()
    core = [word for word in words if not _NOISE.fullmatch(word) and not _form(word)]
    key = _SWAPPED.get("".join(core), "".join(core))
    forms = [*map(_form, words), *(_MEMORY_KIND.get((key, word), "") for word in words)]
    form = next((name for name, _ in _FORMS if name in forms), "")
    size = memory[0] if memory else 0
    return Chip(core=f"rtx{key}" if re.fullmatch(r"\d{4}\w{0,2}", key) else key, form=form,
                memory_gb=_LPDDR_GB.get((key, size), size))  # fmt: skip


def _form(word: str) -> str:
    return next((name for name, pattern in _FORMS if re.fullmatch(pattern, word)), "")


@lru_cache(maxsize=1024)
def machines(text: str) -> tuple[Machine, ...]:
    """Return what a text may say of hardware, the likeliest first: outside its brackets, then inside them.

    >>> machines("p5en.48xlarge"), machines("2x 8x H800, 1P1D")[0].count
    ((Machine(name='h200-sxm', count=8, known=True),), 16)
    """
    line = _one_line(text)
    if line in _PRINTED:
        return (Machine(name=_PRINTED[line], known=True),)
    brackets = [inside.strip() for inside in _BRACKETS.findall(line)]
    count, name = _counted(" ".join(_BRACKETS.sub(" ", line).split()))
    for inside in filter(_TIMES.fullmatch, brackets):  # "H200 (8x)"
        count = max(count, 1) * int(inside.strip(" x"))
    if instance := _instance(name):
        return (Machine(name=instance[0], count=max(count, 1) * instance[1], known=True),)
    # "A100 (80G)", "(PCIe)": what says nothing of another chip speaks of the one before the brackets.
    about = [inside for inside in brackets if not chip(inside).core and not _TIMES.fullmatch(inside)]
    within = (each for inside in brackets if inside not in about for each in machines(inside))
    boxes = (replace(each, count=max(count, 1) * each.count) for each in within if each.count)
    return (Machine(name=" ".join([name, *about]), count=count), *boxes)


def _one_line(text: str) -> str:
    """Return a text as one line; a driver's list of like GPUs, one per line, as so many of one.

    >>> _one_line("GPU 0: NVIDIA H200 (UUID: GPU-5a)\\nGPU 1: NVIDIA H200 (UUID: GPU-7c)")
    '2x nvidia h200'
    """
    lines = [_OF_DRIVER.sub("", " ".join(line.split())) for line in text.lower().splitlines() if line.strip()]
    alike = len(lines) > 1 and len({*lines}) == 1
    return f"{len(lines)}x {lines[0]}" if alike else " ".join(lines)


def _counted(text: str) -> tuple[int, str]:
    """Return how many a text says there are (0: it does not say), and of what."""
    name = re.split(r"[,;]", text)[0].strip(" .")
    none = re.match(r"-\d|0+\s*[x×*]|0+\s", name)  # "0x H100"
    name = re.sub(r"^bm\.gpu\.([a-z]+\d+[a-z]*)\.(\d+)$", r"\2x \1", name)  # Oracle's shapes
    name, count = re.sub(r"^gpu[\s:-]+", "", name.replace("_", " ")), 0
    first = re.search(r"(?<![a-z0-9])\d{1,3}\s*[x×]", name)
    if first and not chip(name[: first.start()]).core:  # "Nebius 8xH200"
        name = name[first.start() :]
    while found := _BEFORE.match(name):
        count, name = max(count, 1) * int(found[1] or found[2]), name[found.end() :].strip()
    if found := _AFTER.search(name):
        count = max(count, 1) * int(next(filter(None, found.groups())))
        name = name[: found.start()]
    return (count, name.strip(" -_")) if count <= _MOST and not none else (0, "")


def _instance(name: str) -> tuple[str, int] | None:
    """Return the GPU of a cloud's instance type and how many it has, None where the text names none."""
    for pattern, gpu, count in _INSTANCES:
        if found := re.search(rf"(?<![a-z0-9])(?:{pattern})(?![a-z0-9])", name):
            if isinstance(count, int):
                return gpu, count
            size = found[1]
            return gpu, int(size) if size.isdecimal() and not count else count.get(size, 1)
    return None
