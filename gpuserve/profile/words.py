"""The names that a profile may use, those kept for later, and the nearest to a wrong one."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

RESERVED: Mapping[str, frozenset[str]] = {
    "": frozenset({"keys", "tls", "presets"}),
    "server": frozenset({"on_event", "tls", "presets"}),
    "engine": frozenset({"replicas", "sleep_after_s", "on_event", "presets"}),
    "model": frozenset({"lora", "replicas", "sleep_after_s", "on_event", "presets"}),
}

# What people bring from elsewhere: vLLM's flags that are another key here, and other launchers.
_ELSEWHERE = {
    "served_model_name": "the name clients use is `name`; more of them are `aliases`",
    "api_key": "keys for clients are reserved for a later version",
    "uds": "without `port`, an engine listens on a Unix socket in the run directory",
    "cuda_visible_devices": "GPUs are chosen with `gpus`",
    "device_ids": "GPUs are chosen with `gpus`",
    "gpu": "GPUs are a list: gpus = [0]",
    "tp": "write `tensor_parallel_size`",
    "pp": "write `pipeline_parallel_size`",
    "context": "write `max_model_len`, in tokens",
    "max_tokens": "write `max_model_len`, in tokens",
    "args": "write `extra_args`",
    "min_length": "write `min_prompt_tokens`: about 4 bytes are a token",
    "max_length": "write `max_prompt_tokens`: about 4 bytes are a token",
    "pattern": "write `regex`",
}


def near(wrong: str, known: Iterable[str]) -> str | None:
    """Return the one of *known* that *wrong* was most likely meant to be, or None."""
    by_form = {_form(name): name for name in known}
    form = _form(wrong)
    if form in by_form:
        return by_form[form]
    matches = get_close_matches(form, by_form, n=1, cutoff=0.7)
    return by_form[matches[0]] if matches else None


def key_hint(table: str, wrong: str, tables: Mapping[str, frozenset[str]]) -> str | None:
    """Return what to write instead of the unknown key *wrong* of *table*, if that can be told.

    *tables* holds the known keys of each table; "" is the top level.
    """
    known = tables[table]
    close = near(wrong, known)
    if close is not None and _form(close) == _form(wrong):
        return f"write `{close}`"
    if close is not None and _form(close).rstrip("s") == _form(wrong).rstrip("s"):
        return f"did you mean `{close}`?"
    for other, keys in tables.items():
        if wrong in keys and other != table:
            return f"`{wrong}` belongs {_place(other)}"
    if _form(wrong) in _ELSEWHERE:
        return _ELSEWHERE[_form(wrong)]
    if close is not None:
        return f"did you mean {_place_name(close) if not table else f'`{close}`'}?"
    if table in {"model", "engine"}:
        flag = "--" + wrong.replace("_", "-")
        return f'a vLLM flag without a key of its own goes into extra_args, as "{flag}"'
    return "known here: " + ", ".join(sorted(known))


def _form(name: str) -> str:
    return name.lower().replace("-", "_").replace(" ", "_").lstrip("_")


def _place(table: str) -> str:
    return f"in {_place_name(table)}" if table else "at the top level"


def _place_name(table: str) -> str:
    if table == "model.demand":
        return "demand = { … } of a [[model]]"
    if table == "engine.demand":
        return "demand = { … } of [engine]"
    return f"[[{table}]]" if table in {"model", "upstream", "on_event", "route"} else f"[{table}]"
