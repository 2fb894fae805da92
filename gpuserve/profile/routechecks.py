"""The rules of a profile's routes: where they lead, and whether they can ever be taken.

Like the other rules across keys, these read the tables as the parser gave them.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from gpuserve.errors import Problem
from gpuserve.profile.source import Source
from gpuserve.profile.words import near

Tables = dict[str, Any]

# Words that x-gpuserve-route says of requests that no route of the profile took.
TAKEN_NAMES = frozenset({"explicit", "only", "none", "default"})
_OF_ROUTING = ("code", "general")
_NOT_CONDITIONS = frozenset({"name", "model", "fallback", "scope"})
_ANY_OF = ("keywords", "regex", "language", "system")
# What a plain completion has no place for in its body.
_CHAT_ONLY = ("tools", "images", "system")


def check_routes(tables: Tables, names: set[str], source: Source) -> Iterator[Problem]:
    """Yield what is wrong with `[routing]` and `[[route]]`; *names* are those a request may use."""
    # After a refused name a route to it would be reported too, and mislead.
    complete = all("name" in model for model in tables.get("model", []))
    known = names if complete else None
    yield from _routing(tables, known, source)
    yield from _leads(tables, known, source)
    routes = tables.get("route", [])
    # Of a rule with a refused key it cannot be told what it would take.
    whole = {n for n, r in enumerate(routes) if _stated(f"route[{n}]", source) <= set(r)}
    for index in sorted(whole):
        yield from _conditions(f"route[{index}]", routes[index], source)
        earlier = [n for n in range(index) if n in whole]
        yield from _shadowed(routes[index], index, [(n, routes[n]) for n in earlier], source)


def _routing(tables: Tables, names: set[str] | None, source: Source) -> Iterator[Problem]:
    routing = tables.get("routing", {})
    chosen = [key for key in ("code", "general", "default") if key in routing]
    # With rules of its own a profile may do without the two; a default alone is then the rest.
    needed = chosen and not (chosen == ["default"] and tables.get("route"))
    for key in _OF_ROUTING if needed else ():
        if key not in routing:
            message = f"`{key}` is missing: [routing] has {', '.join(chosen)}"
            hint = "give code and general; both may name the same model"
            yield source.problem(f"routing.{key}", message, hint)
    for key in chosen:
        yield from _unknown(f"routing.{key}", routing[key], names, source)
    for index, name in enumerate(routing.get("fallback", [])):
        yield from _unknown(f"routing.fallback[{index}]", name, names, source)


def _leads(tables: Tables, names: set[str] | None, source: Source) -> Iterator[Problem]:
    """Each route has one model: said once, by the first rule of its name."""
    routing = tables.get("routing", {})
    first: dict[str, int] = {}
    for index, route in enumerate(tables.get("route", [])):
        where, model = f"route[{index}]", route.get("model")
        if model is not None:
            yield from _unknown(f"{where}.model", model, names, source)
        for at, name in enumerate(route.get("fallback", [])):
            yield from _unknown(f"{where}.fallback[{at}]", name, names, source)
        label = route.get("name", model)
        if label is None and not _stated(where, source) & {"name", "model"}:
            yield source.problem(where, "`model` is missing", 'for example: model = "coder"')
        elif label is None:
            continue  # it was refused for its form
        elif label in TAKEN_NAMES:
            message = f'"{label}" is what x-gpuserve-route says where no rule decided'
            key = "name" if "name" in route else "model"
            hint = "choose another name" if key == "name" else "give this rule a `name`"
            yield source.problem(f"{where}.{key}", message, hint)
        elif label in _OF_ROUTING and "name" not in route:
            if model != routing.get(label, model):
                message = f"[routing] has a route `{label}`, which is not this model's"
                yield source.problem(f"{where}.model", message, "give this rule a `name`")
        elif label in _OF_ROUTING:
            yield from _of_routing(where, label, route, routing, source)
        elif label in first:
            yield from _again(where, label, route, tables["route"][first[label]], source)
        elif model is None and "model" not in _stated(where, source):
            message = f'`model` is missing, and no [[route]] above is called "{label}"'
            yield source.problem(where, message, 'for example: model = "coder"')
        first.setdefault(label or "", index)


def _of_routing(
    where: str, label: str, route: Tables, routing: Tables, source: Source
) -> Iterator[Problem]:
    for key in ("model", "fallback"):
        if key in route:
            message = f"the route `{label}` has its {key} from [routing]"
            yield source.problem(f"{where}.{key}", message, "leave it out, or choose another name")
    if label not in routing and "model" not in route:
        message = f"[routing] has no `{label}` that this could lead to"
        yield source.problem(f"{where}.name", message, "give this rule a model and another name")


def _again(
    where: str, label: str, route: Tables, first: Tables, source: Source
) -> Iterator[Problem]:
    for key in ("model", "fallback"):
        if key in route and route[key] != first.get(key):
            message = f'the route "{label}" has its {key} from the [[route]] above'
            yield source.problem(f"{where}.{key}", message, "leave it out, or choose another name")


def _conditions(where: str, route: Tables, source: Source) -> Iterator[Problem]:
    if not set(route) - _NOT_CONDITIONS:
        message = "no condition: this rule would take every request that names no model"
        yield source.problem(where, message, "say when it applies, or set [routing] default")
    least, most = route.get("min_prompt_tokens"), route.get("max_prompt_tokens")
    if least is not None and most is not None and least > most:
        message = f"can never match: no prompt has at least {least} and at most {most} tokens"
        yield source.problem(f"{where}.max_prompt_tokens", message)
    kind = route.get("kind")
    for key in _CHAT_ONLY if kind in ("completion", "fim") else ():
        # `tools = false` and `images = false` hold for every completion, and say nothing.
        if route.get(key) not in (None, False):
            message = f'can never match: a request of kind "{kind}" has no {key}'
            yield source.problem(f"{where}.{key}", message, f"leave out `kind` or `{key}`")
    if kind == "fim" and "label" in route:
        message = "can never match: fill-in-the-middle is not classified"
        yield source.problem(f"{where}.label", message, "leave out `kind` or `label`")


def _shadowed(
    route: Tables, index: int, earlier: list[tuple[int, Tables]], source: Source
) -> Iterator[Problem]:
    for before, wide in earlier:
        if set(wide) - _NOT_CONDITIONS and _covers(wide, route):
            line = source.line(f"route[{before}]")
            at = f" (line {line})" if line else ""
            message = f"can never match: route[{before}]{at} takes whatever this would"
            yield source.problem(f"route[{index}]", message, "put the narrower rule first")
            return


def _covers(wide: Tables, narrow: Tables) -> bool:
    """Whether every request that *narrow* would take, *wide* takes."""
    if wide.get("scope") == "turn" and narrow.get("scope") != "turn":
        return False
    return all(
        key in narrow and _implied(key, wide[key], narrow[key])
        for key in set(wide) - _NOT_CONDITIONS
    )


def _implied(key: str, wide: Any, narrow: Any) -> bool:
    if key in _ANY_OF:
        return _set(narrow) <= _set(wide)
    if key == "tools" and not isinstance(wide, bool):
        return not isinstance(narrow, bool) and _set(narrow) <= _set(wide)
    if key == "tools" and wide is True:
        return narrow is not False
    if key == "min_prompt_tokens":
        return bool(narrow >= wide)
    if key == "max_prompt_tokens":
        return bool(narrow <= wide)
    if isinstance(wide, Mapping):
        return all(name in narrow and _set(narrow[name]) <= _set(wide[name]) for name in wide)
    return bool(narrow == wide)


def _stated(where: str, source: Source) -> set[str]:
    """Return the keys that the file has in the table *where*, those that were refused too."""
    begin = f"{where}."
    return {
        line[len(begin) :].partition(".")[0].partition("[")[0]
        for line in source.lines
        if line.startswith(begin)
    }


def _set(value: Any) -> set[Any]:
    return {value} if isinstance(value, str) else set(value)


def _unknown(where: str, name: str, names: set[str] | None, source: Source) -> Iterator[Problem]:
    if names is None or name in names:
        return
    close = near(name, names)
    hint = f'did you mean "{close}"?' if close else f"known: {', '.join(sorted(names))}"
    yield source.problem(where, f'no model or upstream is called "{name}"', hint)
