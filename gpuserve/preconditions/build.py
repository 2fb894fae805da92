"""What a vLLM was built for, against the driver here and the options that a profile gives it."""

from collections.abc import Iterator
from difflib import get_close_matches

from gpuserve.errors import Problem
from gpuserve.memory.release import parse_release
from gpuserve.profile.spec import ModelSpec
from gpuserve.readings import Driver

Device = str  # "cuda" or "cpu"

# Gone from vLLM 0.26 at the latest: its parser ends with exit status 2 (vllm/engine/arg_utils.py
# of 0.32 and 0.33 has none of them).
DROPPED: dict[str, str] = {
    "--swap-space": "leave it out: preempted requests are computed again",
    "--num-scheduler-steps": "leave it out: the scheduler runs ahead by itself",
    "--multi-step-stream-outputs": "leave it out",
    "--disable-log-requests": "leave it out: requests are not logged unless --enable-log-requests",
    "--use-v2-block-manager": "leave it out",
    "--worker-use-ray": "write --distributed-executor-backend ray",
    "--num-lookahead-slots": "write --speculative-config",
    "--speculative-model": "write --speculative-config",
    "--num-speculative-tokens": "write --speculative-config",
    "--preemption-mode": "leave it out: preempted requests are computed again",
    "--guided-decoding-backend": "write --structured-outputs-config",
    "--enable-reasoning": "leave it out: `reasoning_parser` is enough",
    "--max-seq-len-to-capture": "write --max-cudagraph-capture-size",
    "--max-context-len-to-capture": "write --max-cudagraph-capture-size",
    "--cuda-graph-sizes": "write --cudagraph-capture-sizes",
    "--disable-async-output-proc": "leave it out",
    "--scheduler-delay-factor": "leave it out",
    "--enable-prompt-adapter": "leave it out: prompt adapters are gone",
    "--lora-extra-vocab-size": "leave it out",
    "--long-lora-scaling-factors": "leave it out",
    "--rope-scaling": "write --hf-overrides '{\"rope_parameters\": …}'",
    "--rope-theta": "write --hf-overrides '{\"rope_parameters\": …}'",
    "--task": "write --runner and --convert",
    "--tokenizer-pool-size": "leave it out",
    "--disable-frontend-multiprocessing": "leave it out",
}
# Oldest driver of each CUDA major release (NVIDIA, CUDA compatibility, minor version table).
_OLDEST_DRIVER = {11: "450", 12: "525", 13: "580"}
# From here on vLLM's allocator for sleep mode turns expandable segments off around its pool by
# itself; before, it ends with an assertion (vllm pull request 40812, merged in April 2026).
_SLEEP_TAKES_EXPANDABLE = (0, 21)
_ALLOCATOR = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")


def driver_problem(
    where: str, path: str, cuda: str | None, driver: Driver | None, device: Device
) -> Problem | None:
    """Return why the vLLM at *path*, built for *cuda*, cannot run on *device* here, or None.

    *cuda* is what its PyTorch states: "13.0", "" for a build without CUDA, None: not known.
    *driver* is this machine's.
    """
    if cuda is None or device != "cuda":
        return None
    if not cuda:
        return Problem(
            where=where,
            message=f"{path} is a build without CUDA, and the profile is for GPUs",
            hint='install the CUDA build there, or write [engine] device = "cpu"',
        )
    wanted = int(cuda.partition(".")[0]) if cuda.partition(".")[0].isdigit() else None
    if wanted is None or driver is None or driver.cuda is None or driver.cuda[0] >= wanted:
        return None
    least = _OLDEST_DRIVER.get(wanted)
    return Problem(
        where=where,
        message=f"{path} is built for CUDA {cuda}; the driver here, {driver.version}, runs CUDA "
        f"up to {driver.cuda[0]}.{driver.cuda[1]}",
        hint=(f"upgrade the driver to {least} or newer" if least else "upgrade the driver")
        + f", or install a vLLM that was built for CUDA {driver.cuda[0]}",
    )


def option_problems(
    spec: ModelSpec, options: frozenset[str] | None, version: str | None
) -> tuple[Problem, ...]:
    """Return what is wrong with the `extra_args` and `env` of *spec*.

    *options* are those that the installed vLLM's source names, None where it was not read: then
    only what is known to be gone is reported.
    """
    return (*_arguments(spec, options), *_allocator(spec, version))


def _arguments(spec: ModelSpec, options: frozenset[str] | None) -> Iterator[Problem]:
    for index, word in enumerate(spec.extra_args):
        flag = option_of(word)
        if flag is None:
            continue
        where = f"model[{spec.index}].extra_args[{index}]"
        if flag in DROPPED and (options is None or flag not in options):
            yield Problem(
                where=where,
                message=f"this vLLM has no {flag} any more; it ends with exit status 2",
                hint=DROPPED[flag],
            )
        elif options is not None and not _takes(options, flag):
            close = get_close_matches(flag, options, n=1, cutoff=0.75)
            yield Problem(
                where=where,
                message=f"{flag} is no option that this vLLM's source names; vLLM ends with exit "
                "status 2 at one that it does not know",
                hint=f"did you mean {close[0]}?" if close else "`vllm serve --help=all` lists them",
                warning=True,
            )


def option_of(word: str) -> str | None:
    """Return the option that *word* of a command line names, as vLLM reads it; None: a value.

    vLLM takes `_` for `-`, values after `=`, and `--a.b` for a part of `--a`
    (vllm/utils/argparse_utils.py).
    """
    if not word.startswith("--") or len(word) < 4:
        return None
    return "--" + word[2:].partition("=")[0].partition(".")[0].replace("_", "-")


def _takes(options: frozenset[str], flag: str) -> bool:
    plain = f"--{flag.removeprefix('--no-')}" if flag.startswith("--no-") else flag
    # argparse takes the beginning of a name where it is the beginning of only one.
    return plain in options or any(option.startswith(flag) for option in options)


def _allocator(spec: ModelSpec, version: str | None) -> Iterator[Problem]:
    variables = dict(spec.env)
    named = [name for name in _ALLOCATOR if "expandable_segments:True" in variables.get(name, "")]
    if not named:
        return
    where = f"model[{spec.index}].env.{named[0]}"
    release = parse_release(version)
    old = release is None or release < _SLEEP_TAKES_EXPANDABLE
    if old and any(option_of(word) == "--enable-sleep-mode" for word in spec.extra_args):
        yield Problem(
            where=where,
            message="expandable segments and sleep mode exclude each other before vLLM 0.21: it "
            "ends with an assertion",
            hint="leave expandable_segments out",
            warning=release is None,
        )
    if spec.tensor_parallel_size > 1:
        # https://github.com/vllm-project/vllm/issues/42609
        yield Problem(
            where=where,
            message="with expandable segments the all-reduce of vLLM's own ends while it captures "
            "CUDA graphs ('invalid argument') on some releases",
            hint="leave expandable_segments out, or add --disable-custom-all-reduce to extra_args",
            warning=True,
        )


def awq_flag_problem(spec: ModelSpec, version: str | None) -> Problem | None:
    """Return a warning where `quantization = "awq"` may force the slow kernel, else None.

    vLLM 0.32 and newer read `awq`, `awq_marlin` and `auto_awq` alike; older ones take `awq` as
    the wish for the kernel without Marlin (quantization/__init__.py of 0.33; awq_marlin.py of
    older releases, override_quantization_method).
    """
    if spec.quantization != "awq":
        return None
    release = parse_release(version)
    if release is not None and release >= (0, 32):
        return None
    return Problem(
        where=f"model[{spec.index}].quantization",
        message='"awq" forces the slow AWQ kernel in vLLM before 0.32; without the key it takes '
        "the fast one by itself",
        hint="leave `quantization` out: the checkpoint says what it is",
        warning=True,
    )
