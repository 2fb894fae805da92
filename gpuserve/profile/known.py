"""The values of vLLM's open lists that are known, and a warning for one that is not.

A later vLLM may know more, so an unknown value is doubted and not refused. Lists as in vLLM
0.32: CacheDType in vllm/config/cache.py, QuantizationMethods in
vllm/model_executor/layers/quantization/__init__.py.
"""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches

from gpuserve.errors import Problem
from gpuserve.profile.source import Source
from gpuserve.profile.spec import Profile

KNOWN: Mapping[str, frozenset[str]] = {
    "kv_cache_dtype": frozenset(
        [
            "auto",
            "float16",
            "bfloat16",
            "fp8",
            "fp8_e4m3",
            "fp8_e5m2",
            "fp8_inc",
            "fp8_ds_mla",
            "nvfp4_ds_mla",
            "turboquant_k8v4",
            "turboquant_4bit_nc",
            "turboquant_k3v4_nc",
            "turboquant_3bit_nc",
            "ultraquant_4bit",
            "int4_per_token_head",
            "int8_per_token_head",
            "fp8_per_token_head",
            "nvfp4",
            "nvfp4_4over6",
        ]
    ),
    "quantization": frozenset(
        [
            "awq",
            "auto_awq",
            "fp8",
            "fbgemm_fp8",
            "fp_quant",
            "modelopt",
            "modelopt_fp4",
            "modelopt_mxfp8",
            "modelopt_mixed",
            "auto_gptq",
            "gptq",
            "gptq_marlin",
            "awq_marlin",
            "humming",
            "compressed-tensors",
            "experts_int8",
            "quark",
            "moe_wna16",
            "torchao",
            "inc",
            "mxfp4",
            "gpt_oss_mxfp4",
            "deepseek_v4_fp8",
            "online",
            "fp8_per_tensor",
            "fp8_per_block",
            "fp8_per_channel",
            "int8_per_channel_weight_only",
            "nvfp4_per_token",
            "mxfp8",
        ]
    ),
}


def unknown_values(profile: Profile, source: Source) -> tuple[Problem, ...]:
    """Return one warning for each place in the profile that holds an unknown value."""
    return tuple(_unknown(profile, source))


def _unknown(profile: Profile, source: Source) -> Iterator[Problem]:
    seen = set()
    for spec in profile.models:
        for key, known in KNOWN.items():
            value: str | None = getattr(spec, key)
            where = source.stated(f"model[{spec.index}].{key}")
            if value is None or value in known or where in seen:
                continue
            seen.add(where)
            # Short names: "fp9" is to "fp8" as two letters in three.
            close = get_close_matches(value.lower(), sorted(known), n=1, cutoff=0.6)
            yield source.problem(
                where,
                f'"{value}" is no {key} that vLLM 0.32 knows',
                f'did you mean "{close[0]}"?' if close else f"known: {', '.join(sorted(known))}",
                warning=True,
            )
