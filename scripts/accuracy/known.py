"""What the operator of a logged start knew before it: model, flags, card, release."""

import json
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from gpuserve.machine.cards import find_card
from gpuserve.machine.checkpoint import catalogue_facts
from gpuserve.memory.engine import ModelFacts
from gpuserve.memory.quantization import Quantization, read_quantization
from gpuserve.memory.release import Release, default_fraction, parse_release
from gpuserve.profile.spec import ModelSpec
from gpuserve.readings import Gpu
from gpuserve.units import GIB
from scripts.accuracy.startups import Startup

# What the words of a log say about a checkpoint whose config it does not show. The operator
# has the config; where the log leaves out bits or groups, the usual ones are taken.
_FOUR_BIT = {"quant_method": "gptq", "bits": 4, "group_size": 128}
_QUANTIZATIONS: dict[str, dict[str, Any]] = {
    "awq": {"quant_method": "awq", "bits": 4, "group_size": 128},
    "gptq": _FOUR_BIT,
    "mxfp4": {"quant_method": "mxfp4"},
    "nvfp4": {"quant_method": "modelopt", "quant_algo": "NVFP4"},
    "fp8": {"quant_method": "fp8"},
    "w8a8": {"quant_method": "fp8"},
    "w8a16": {"quant_method": "gptq", "bits": 8, "group_size": 128},
    "w4a16": _FOUR_BIT,
    "int8": {"quant_method": "fp8"},
    "bitsandbytes": {"quant_method": "bitsandbytes"},
    "gguf": {"quant_method": "gguf"},
    "modelopt": {"quant_method": "modelopt", "quant_algo": "FP8"},
    "compressed": _FOUR_BIT,
}
CATALOGUE = Path(__file__).resolve().parents[2] / "gpuserve" / "data" / "catalogue.json"
# Endings of names that say how a model was trained or stored, not what shape it has.
_ENDINGS = re.compile(
    r"[-_.](instruct|it|chat|base|hf|thinking|\d{4}|awq|gptq|gptq-int[48]|int[48]|fp8|fp8-dynamic"
    r"|nvfp4|mxfp4|bf16|w[48]a(?:8|16)|quantized|bnb-4bit|gguf|q[48]_[0k](?:_[ms])?)$",
    re.IGNORECASE,
)
_CARDS = {
    "RTX PRO 6000 Blackwell Server": "NVIDIA RTX PRO 6000 Blackwell Server Edition",
    "A100-SXM4-80GB": "NVIDIA A100-SXM4-80GB",
    "A100-80GB": "A100",
    "H100 80GB HBM3": "NVIDIA H100 80GB HBM3",
    "H100": "H100",
    "H200": "NVIDIA H200",
    "A40": "NVIDIA A40",
    "RTX 3090": "NVIDIA GeForce RTX 3090",
    "RTX 4090": "NVIDIA GeForce RTX 4090",
    "RTX 5090": "NVIDIA GeForce RTX 5090",
    "T4": "NVIDIA T4",
}
# Words in the log's name of a model, and the row of the catalogue with that shape.
_SHAPES = {
    "Qwen2.5-VL-7B": "Qwen/Qwen2.5-VL-7B-Instruct",
    "Qwen3-Embedding-8B": "Qwen/Qwen3-Embedding-8B",
    "Meta-Llama-3-8B": "meta-llama/Meta-Llama-3-8B",
    "Qwen2.5-72B-Instruct-AWQ": "Qwen/Qwen2.5-72B-Instruct-AWQ",
}
# Releases of rows whose log does not state one, by its words (the notes of the row say which).
_V0 = (0, 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A start before it happened; `total_bytes` and `fraction` None: not known from the log."""

    spec: ModelSpec
    facts: ModelFacts
    release: Release | None
    total_bytes: int | None
    fraction: float | None
    assumed: tuple[str, ...]


def known_of(row: Startup) -> Known:
    """Return what was known before *row*; the facts are empty where its model is not named.

    Settings that neither the log nor its flags state are vLLM's defaults for that release and
    card; `assumed` names them.
    """
    release = parse_release(row.vllm_version) or _release_by_words(row)
    if row.engine == "V0" and release is not None and release >= (0, 8):
        release = (0, 7)  # the old engine, asked for in a release that had both
    assumed = []
    total = _total(row)
    if row.max_num_seqs is None:
        assumed.append("max_num_seqs")
    if row.max_num_batched_tokens is None:
        assumed.append("max_num_batched_tokens")
    if row.vllm_version is None:
        assumed.append("release")
    seqs = row.max_num_seqs or _default_seqs(row, total)
    fraction = row.gpu_memory_utilization
    if fraction is None and (row.util_is_default or "default utilization" in row.notes):
        fraction = default_fraction(release)
    if "0.9 x" in row.notes:
        fraction = 0.9
    facts = _facts(row)
    length = row.max_model_len
    if length is None and facts.architecture is not None:
        assumed.append("max_model_len")
        length = facts.architecture.trained_len
    spec = ModelSpec(
        index=0,
        name=row.model_id or "unnamed",
        model=row.model_id or "unnamed",
        max_model_len=length,
        max_num_seqs=seqs,
        max_num_batched_tokens=row.max_num_batched_tokens
        or _default_batched(row, total, length, seqs, release),
        tensor_parallel_size=row.tensor_parallel_size or row.num_gpus or 1,
        pipeline_parallel_size=row.pipeline_parallel_size or 1,
        kv_cache_dtype=None if row.kv_cache_dtype == "auto" else row.kv_cache_dtype,
        enforce_eager=bool(row.enforce_eager),
        gpu_memory_utilization=fraction,
        block_size=row.block_size,
        # A start beyond the trained length set this, or a rope factor that the log leaves out.
        env=(("VLLM_ALLOW_LONG_MAX_MODEL_LEN", "1"),),
    )
    return Known(
        spec=spec,
        facts=replace(facts, release=release, hopper=_hopper(row)),
        release=release,
        total_bytes=total,
        fraction=fraction,
        assumed=tuple(assumed),
    )


def card_of(known: Known) -> tuple[Gpu, ...]:
    """Return as many cards as the start had, idle."""
    total = known.total_bytes or 0
    ranks = known.spec.tensor_parallel_size * known.spec.pipeline_parallel_size
    return tuple(
        Gpu(index=n, name="card", total_bytes=total, free_bytes=total) for n in range(ranks)
    )


def _release_by_words(row: Startup) -> Release | None:
    if "MEM_ALIGN_KV_CACHE=0" in row.notes:
        return (0, 7)
    for word in row.notes.replace(",", " ").replace("/", " ").replace("(", " ").split():
        release = parse_release(word) if word.lower().startswith(("v0.", "0.")) else None
        if release is not None and release < (0, 40):
            return release
    if row.engine == "V0":
        return _V0
    return (0, 10) if row.notes.endswith("2025-07") else None


def _total(row: Startup) -> int | None:
    if row.gpu_total_gib is not None:
        return round(row.gpu_total_gib * GIB)
    said = row.gpu_type or ""
    for name in (_CARDS.get(said, ""), said, said.partition("(")[0].strip()):
        card = find_card(name) if name else None
        if card is not None:
            return card.total_bytes
    return None


def _hopper(row: Startup) -> bool:
    return any(name in (row.gpu_type or "") for name in ("H100", "H200"))


def _facts(row: Startup) -> ModelFacts:
    facts = _shape(row)
    arch = facts.architecture
    stated = _stated_quantization(row)
    if arch is None or stated is None or arch.quantization is not None:
        return facts
    quant: Quantization | None = read_quantization({"quantization_config": stated}, {})
    return replace(facts, architecture=replace(arch, quantization=quant))


def _shape(row: Startup) -> ModelFacts:
    """The catalogue's row of the model, or of one whose name differs in its ending only."""
    known = next((s for word, s in _SHAPES.items() if word in (row.model or "")), None)
    names = [known, row.model_id, (row.model or "").partition(" ")[0].rstrip("*")]
    for stated in filter(None, names):
        name: str | None = stated
        while name:
            row_name = _by_tail().get(name.rpartition("/")[2].lower())
            if row_name is not None:
                exact = catalogue_facts(name, None)
                return exact if exact.architecture else catalogue_facts(row_name, None)
            shorter = _ENDINGS.sub("", name)
            name = None if shorter == name else shorter
    return ModelFacts(architecture=None)


@cache
def _by_tail() -> dict[str, str]:
    """Rows of the catalogue by the name of the repository without its owner, lower case."""
    names = json.loads(CATALOGUE.read_text(encoding="utf-8"))["models"]
    return {name.rpartition("/")[2].lower(): name for name in names if "@" not in name}


def _stated_quantization(row: Startup) -> dict[str, Any] | None:
    """What the log, or else the name of the model, says about how weights are stored."""
    said = (row.quantization or "").lower()
    if not said:
        return None
    # "compressed-tensors w8a8": the narrower word says more.
    words = f"{said} {(row.model or row.model_id or '').lower()}"
    narrow = [w for w in _QUANTIZATIONS if w in words and w not in {"compressed", "modelopt"}]
    broad = [w for w in _QUANTIZATIONS if w in said]
    own = [w for w in narrow if w in said]
    chosen = own or (narrow if broad else []) or broad
    return _QUANTIZATIONS[chosen[0]] if chosen else None


def _large(row: Startup, total: int | None) -> bool:
    """Whether vLLM takes its larger defaults: 70 GiB and more, but not an A100 (arg_utils.py)."""
    if total is None or "A100" in (row.gpu_type or ""):
        return False
    return total >= 70 * GIB


def _default_seqs(row: Startup, total: int | None) -> int:
    return 1024 if row.engine == "V1" and _large(row, total) else 256


def _default_batched(
    row: Startup, total: int | None, length: int | None, seqs: int, release: Release | None
) -> int:
    if row.engine == "V0":
        # A prompt is one step, unless it is longer than 32K: then it is split (0.6 and later).
        whole = length or 2048
        old = release is not None and release < (0, 6)
        return 2048 if whole > 32768 and not old else max(2048, whole)
    tokens = 8192 if _large(row, total) else 2048
    return max(seqs, min(tokens, seqs * (length or tokens)))
