"""What a profile asks of a model or a machine that cannot be, apart from memory.

Each problem names its TOML path; the caller, who has read the file, adds file and line.
"""

from collections.abc import Iterator, Mapping, Sequence

from gpuserve.errors import Problem
from gpuserve.memory.architecture import Architecture
from gpuserve.memory.engine import ModelFacts
from gpuserve.profile.spec import ModelSpec, Profile
from gpuserve.readings import Gpu

_ALLOW_LONG = "VLLM_ALLOW_LONG_MAX_MODEL_LEN"


def validity_problems(
    profile: Profile,
    facts: Mapping[str, ModelFacts],
    gpus: Sequence[Gpu] | None,
    hidden: Sequence[int] = (),
) -> tuple[Problem, ...]:
    """Return every such problem; `gpus` None: a CPU box; `hidden`: there, but not ours."""
    found: list[Problem] = []
    for spec in profile.models:
        if gpus is not None:
            found += _gpus(f"model[{spec.index}]", spec.gpus, spec, gpus, hidden)
        arch = facts[spec.name].architecture
        if arch is not None:
            found += _guesses(spec, facts[spec.name], arch)
            found += _length(spec, arch)
            found += _parallel(spec, arch)
        found += _batch(spec)
    for upstream in profile.upstreams if gpus is not None else ():
        found += _gpus(f"upstream[{upstream.index}]", upstream.gpus, None, gpus or (), hidden)
    found += _chat_routes(profile, facts)
    return tuple(found)


def _gpus(
    where: str,
    named: tuple[int, ...] | None,
    spec: ModelSpec | None,
    gpus: Sequence[Gpu],
    hidden: Sequence[int],
) -> Iterator[Problem]:
    known = {gpu.index for gpu in gpus}
    have = _have(gpus, hidden)
    for position, index in enumerate(named or ()):
        if index in hidden:
            yield Problem(
                where=f"{where}.gpus[{position}]",
                message=f"GPU {index} is hidden: {have}",
                hint="name another, or run gpuserve with a CUDA_VISIBLE_DEVICES that lists it",
            )
        elif index not in known:
            yield Problem(
                where=f"{where}.gpus[{position}]",
                message=f"there is no GPU {index}: {have}",
                hint="GPUs are counted from 0 in PCI bus order, as `nvidia-smi` lists them",
            )
    if spec is not None and named is None:
        needed = spec.tensor_parallel_size * spec.pipeline_parallel_size
        if needed > len(gpus):
            yield Problem(
                where=f"{where}.tensor_parallel_size",
                message=f"it needs {needed} GPUs, {have}",
            )


def _have(gpus: Sequence[Gpu], hidden: Sequence[int]) -> str:
    listed = f" ({', '.join(f'{gpu.index}: {gpu.name}' for gpu in gpus)})" if gpus else ""
    if hidden:
        every = len(gpus) + len(hidden)
        return f"CUDA_VISIBLE_DEVICES leaves {len(gpus) or 'none'} of {every}{listed}"
    return f"this machine has {len(gpus) or 'none'}{listed}"


def _guesses(spec: ModelSpec, facts: ModelFacts, arch: Architecture) -> Iterator[Problem]:
    for guess in arch.guesses:
        yield Problem(
            where=f"model[{spec.index}].model",
            message=f"{facts.source or spec.model}: {guess}; sizes may be off",
            hint="after the first start, compare with what `gpuserve status` shows, and `pin` it",
            warning=True,
        )


def _length(spec: ModelSpec, arch: Architecture) -> Iterator[Problem]:
    where = f"model[{spec.index}].max_model_len"
    if arch.trained_len is None or arch.derived_len is None:
        return
    length = spec.max_model_len
    if spec.demand is not None and length in {None, spec.demand.context_tokens}:
        # What a profile leaves out follows from the demand, which is then the place to change.
        length = spec.demand.context_tokens
        where = f"model[{spec.index}].demand.context_tokens"
    allowed = dict(spec.env).get(_ALLOW_LONG) not in {None, "", "0"}
    if length is None and arch.derived_len > arch.trained_len:
        yield Problem(
            where=where,
            message=f"not set: vLLM would derive {arch.derived_len} tokens from the rope factor, "
            f"the model was trained for {arch.trained_len}; {arch.trained_len} is used",
            hint=f"write max_model_len = {arch.trained_len}",
            warning=True,
        )
    elif length is not None and length > arch.derived_len and not allowed:
        yield Problem(
            where=where,
            message=f"{length} tokens is beyond the model, which takes {arch.derived_len}; "
            "vLLM refuses to start",
            hint=f"write at most {arch.derived_len}, or set rope scaling through extra_args and "
            f'env = {{ {_ALLOW_LONG} = "1" }}',
        )
    elif length is not None and length > arch.trained_len:
        yield Problem(
            where=where,
            message=f"{length} tokens is more than the {arch.trained_len} that the model was "
            "trained for; answers to long prompts get worse",
            warning=True,
        )


def _parallel(spec: ModelSpec, arch: Architecture) -> Iterator[Problem]:
    ranks = spec.tensor_parallel_size
    where = f"model[{spec.index}].tensor_parallel_size"
    if ranks == 1:
        return
    if arch.heads % ranks:
        yield Problem(
            where=where,
            message=f"{arch.heads} attention heads cannot be divided among {ranks} GPUs",
            hint=f"possible: {_divisors(arch.heads)}",
        )
    elif arch.kv_heads % ranks and ranks % arch.kv_heads:
        yield Problem(
            where=where,
            message=f"{arch.kv_heads} key/value heads can be neither divided among nor "
            f"replicated on {ranks} GPUs",
        )
    quant = arch.quantization
    width = arch.experts.intermediate if arch.experts is not None else arch.intermediate
    if quant is not None and quant.group_size and (width / ranks) % quant.group_size:
        yield Problem(
            where=where,
            message=f"the {quant.method} groups of {quant.group_size} weights do not divide a "
            f"rank's {width}/{ranks} columns; vLLM refuses to load it",
            hint="use fewer GPUs for this model, or a checkpoint with smaller groups",
        )


def _divisors(heads: int) -> str:
    return ", ".join(str(n) for n in range(1, min(heads, 16) + 1) if heads % n == 0)


def _batch(spec: ModelSpec) -> Iterator[Problem]:
    tokens, seqs = spec.max_num_batched_tokens, spec.max_num_seqs
    if seqs is None and spec.demand is not None:
        seqs = spec.demand.concurrency
    if tokens is not None and seqs is not None and tokens < seqs:
        yield Problem(
            where=f"model[{spec.index}].max_num_batched_tokens",
            message=f"{tokens} is less than max_num_seqs {seqs}; vLLM refuses to start",
            hint=f"write at least {seqs}",
        )


def _chat_routes(profile: Profile, facts: Mapping[str, ModelFacts]) -> Iterator[Problem]:
    seen = set()
    for key in ("code", "general", "default"):
        spec = profile.model(getattr(profile.routing, key) or "")
        if spec is None or spec.name in seen or spec.chat_template is not None:
            continue
        seen.add(spec.name)
        arch = facts[spec.name].architecture
        if arch is not None and arch.chat_template is False:
            yield Problem(
                where=f"routing.{key}",
                message=f'"{spec.name}" ({spec.model}) has no chat template, as base models: '
                "every chat request that is routed there would get 400",
                hint="use its instruct version, or set chat_template",
                warning=True,
            )
