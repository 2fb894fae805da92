"""The JSON Schema of a profile, for editors: generated from `document`, checked in under data/.

A line `#:schema URL` at the top of a profile gives completion and checks in editors that know
Even Better TOML or taplo.
"""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from gpuserve.profile.document import Document
from gpuserve.profile.spec import Patience

SCHEMA_FILE = Path(__file__).parents[1] / "data" / "profile.schema.json"


def schema_text() -> str:
    """Return the schema as it is checked in: JSON, indented, ending in a newline."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def schema() -> dict[str, Any]:
    """Return the schema, a JSON Schema of draft 2020-12.

    It knows what one key may hold. What spans several keys only `gpuserve check` tells.
    """
    found = _for_toml(Document.model_json_schema(mode="validation"))
    engine = found["$defs"]["EngineTable"]["properties"]
    for field in fields(Patience):
        engine[field.name]["default"] = getattr(Patience(), field.name)
    engine["vllm"]["default"] = "vllm"
    for table in found["properties"].values():
        table.pop("default", None)  # a table that is left out; its keys tell their own defaults
    found["anyOf"] = [{"required": ["model"]}, {"required": ["upstream"]}]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}


def _for_toml(node: Any) -> Any:
    """Return *node* without what TOML has no word for (null) and without generated titles."""
    if isinstance(node, list):
        return [_for_toml(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {}
    for key, value in node.items():
        # A property may be called "title"; its value is then a schema, not a string.
        generated = key == "title" and isinstance(value, str)
        if not generated and not (key == "default" and value is None):
            kept[key] = _for_toml(value)
    arms = [arm for arm in kept.get("anyOf", []) if arm != {"type": "null"}]
    if len(arms) == 1:
        del kept["anyOf"]
        kept = {**arms[0], **kept}
    elif "anyOf" in kept:
        kept["anyOf"] = arms
    return kept
