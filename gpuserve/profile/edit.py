"""Changes one key of a profile's text and leaves everything else, comments included, as it was."""

from typing import Any

import tomlkit

from gpuserve.profile.spec import Pin


def with_pin(text: str, model: str, pin: Pin | None) -> str:
    """Return the profile *text* with `pinned` of the model named *model* set, or removed (None).

    *text* is valid TOML. Raises KeyError where it names no such model.
    """
    document = tomlkit.parse(text)
    table: Any = next((t for t in document.get("model", []) if t.get("name") == model), None)
    if table is None:
        raise KeyError(model)
    if pin is None:
        table.pop("pinned", None)
    else:
        value = tomlkit.inline_table()
        value.update(
            {
                "kv_cache_memory_bytes": pin.kv_cache_memory_bytes,
                "vllm": pin.vllm,
                "cards": list(pin.cards),
                "settings": pin.settings,
            }
        )
        table["pinned"] = value
    return tomlkit.dumps(document)
