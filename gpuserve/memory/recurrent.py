"""Linear attention and Mamba: what a layer weighs, and the state that each sequence keeps.

Shapes as in vLLM (model_executor/layers/mamba/mamba_utils.py, MambaStateShapeCalculator).
"""

from collections.abc import Mapping
from typing import Any

from gpuserve.memory.confignumbers import number, optional_number
from gpuserve.memory.layers import Recurrent

_STATE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def delta_net(text: Mapping[str, Any], hidden: int) -> tuple[Recurrent, int]:
    """Return a gated delta net (Qwen3-Next, Qwen3.5) and its parameters that ranks replicate.

    Raises ValueError when a number is missing or absurd.
    """
    keys = number(text, "linear_num_key_heads") * number(text, "linear_key_head_dim")
    value_heads = number(text, "linear_num_value_heads")
    value_dim = number(text, "linear_value_head_dim")
    values = value_heads * value_dim
    kernel = optional_number(text, "linear_conv_kernel_dim") or 4
    conv = 2 * keys + values
    recurrent = Recurrent(
        conv_width=conv,
        conv_kernel=kernel,
        state=values * number(text, "linear_key_head_dim"),
        state_bytes=_STATE_BYTES.get(str(text.get("mamba_ssm_dtype"))),
        # q, k, v and the gate z in; the output; two numbers for each value head; the convolution.
        parameters=hidden * (2 * keys + 2 * values)
        + values * hidden
        + hidden * 2 * value_heads
        + conv * kernel,
        delta=True,
    )
    return recurrent, value_dim + 2 * value_heads


def mamba2(
    *,
    hidden: int,
    heads: int,
    head_dim: int,
    state: int,
    groups: int,
    kernel: int,
    state_bytes: int | None,
) -> tuple[Recurrent, int]:
    """Return a Mamba 2 layer (mamba_mixer2.py) and its parameters that ranks replicate."""
    inner = heads * head_dim
    conv = inner + 2 * groups * state
    recurrent = Recurrent(
        conv_width=conv,
        conv_kernel=kernel,
        state=inner * state,
        state_bytes=state_bytes,
        parameters=hidden * (inner + conv + heads) + inner * hidden + conv * (kernel + 1),
    )
    return recurrent, inner + 3 * heads
