"""What a new profile changes of a running instance: which engines, and what needs none of them.

An engine is compared by what the profile says about it and by its GPUs, not by the command line
that follows: a release that derives one flag differently must not reload every model.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

from gpuserve.memory.report import Grant
from gpuserve.plan import Launch, Plan
from gpuserve.profile.spec import ModelSpec, Profile
from gpuserve.readings import Machine
from gpuserve.units import GIB, gib

# Not the engine's: what the router and the supervisor alone go by.
_NOT_OF_THE_ENGINE = ("index", "aliases", "patience")
# What the keeper and the socket were started with.
_OF_THE_KEEPER = ("host", "port", "workers")
# Readings of free memory differ by more than nothing between two plans.
_SAME_SHARE = 0.01
_LONGEST_VALUE_CHARS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One model, or one part of the profile, and what is different about it, for people."""

    name: str
    what: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanDiff:
    """From the plan in force to a new one.

    `changed` engines are replaced; `pending` ones run on with what they were started with, and
    get at their next start what gpuserve derives differently now. `service` changes at once and
    touches no engine. `restart` names what only a full restart changes.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[Change, ...] = ()
    untouched: tuple[str, ...] = ()
    pending: tuple[Change, ...] = ()
    service: tuple[Change, ...] = ()
    restart: tuple[str, ...] = ()

    @property
    def nothing(self) -> bool:
        """Whether both plans are the same in every respect."""
        found = (self.added, self.removed, self.changed, self.pending, self.service, self.restart)
        return not any(found)


def compare(old: Plan, new: Plan) -> PlanDiff:
    """Return what differs between *old*, which is in force, and *new*."""
    before = {spec.name: spec for spec in old.profile.models}
    after = {spec.name: spec for spec in new.profile.models}
    both = [name for name in after if name in before]
    engines = {name: tuple(_of_engine(name, old, new)) for name in both}
    untouched = tuple(name for name in both if not engines[name])
    derived = {name: tuple(_derived(_launch(old, name), _launch(new, name))) for name in untouched}
    return PlanDiff(
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        changed=tuple(Change(name=n, what=what) for n, what in engines.items() if what),
        untouched=untouched,
        pending=tuple(Change(name=n, what=what) for n, what in derived.items() if what),
        service=tuple(_of_service(old.profile, new.profile)),
        restart=tuple(_of_keeper(old.profile, new.profile)),
    )


def same_engine(one: ModelSpec, other: ModelSpec) -> bool:
    """Whether both mean the same engine, started the same way."""
    return not tuple(_settings(one, other))


def starts_alike(one: Launch, other: Launch) -> bool:
    """Whether both start the same process, whatever else it answers to."""
    return not any(_derived(one, other)) and one.gate == other.gate


def as_held(profile: Profile, running: Plan) -> Profile:
    """Return *profile* with what its unchanged engines hold now written down as stated.

    What they state nothing about they keep: their GPUs, and their share of the memory, which
    would else be another one with every reading of free memory.
    """
    grants = {grant.model: grant for grant in running.report.grants}
    return replace(
        profile,
        models=tuple(
            _held(spec, grants[spec.name]) if _kept(spec, running) else spec
            for spec in profile.models
        ),
    )


def with_held_memory(machine: Machine, profile: Profile, running: Plan) -> Machine:
    """Return *machine* with at least what unchanged engines were granted counted as free.

    They run with it, whatever others have taken since: it is the rest that is to be proven.
    """
    held: dict[str, int] = {}
    for launch in running.launches:
        spec = profile.model(launch.name)
        if spec is not None and _kept(spec, running):
            for device, needs_bytes in zip(launch.gate, launch.gate_needs, strict=True):
                held[device] = held.get(device, 0) + needs_bytes
    host = machine.host
    return replace(
        machine,
        gpus=tuple(
            replace(g, free_bytes=max(g.free_bytes, held.get(f"gpu{g.index}", 0)))
            for g in machine.gpus
        ),
        host=replace(host, ram_available_bytes=max(host.ram_available_bytes, held.get("cpu", 0))),
    )


def with_held_launches(plan: Plan, profile: Profile, running: Plan) -> Plan:
    """Return *plan*, made for `as_held(profile, running)`, as one for *profile*.

    An unchanged engine that shares what is left is started again as it was before.
    """
    launches = []
    for launch in plan.launches:
        spec = profile.model(launch.name)
        if spec is not None and shares(spec) and _kept(spec, running):
            launch = replace(
                _launch(running, launch.name),
                patience=launch.patience,
                aliases=launch.aliases,
                capabilities=launch.capabilities,
            )
        launches.append(launch)
    return replace(plan, profile=profile, launches=tuple(launches))


def shares(spec: ModelSpec) -> bool:
    """Whether *spec* states nothing about its memory, so that it gets a share of what is left."""
    return (
        spec.memory_bytes is None
        and spec.gpu_memory_utilization is None
        and spec.kv_cache_memory_bytes is None
        and spec.demand is None
    )


def with_engine_of(plan: Plan, other: Plan, name: str) -> Plan:
    """Return *plan* with the engine *name* as *other* has it: its settings, memory and launch."""
    spec, launch = other.profile.model(name), _launch(other, name)
    grants = {grant.model: grant for grant in other.report.grants}
    if spec is None:
        return plan
    models = tuple(
        replace(spec, index=m.index) if m.name == name else m for m in plan.profile.models
    )
    return replace(
        plan,
        profile=replace(plan.profile, models=models),
        report=replace(
            plan.report,
            grants=tuple(grants[name] if g.model == name else g for g in plan.report.grants),
        ),
        launches=tuple(launch if each.name == name else each for each in plan.launches),
    )


def _kept(spec: ModelSpec, running: Plan) -> bool:
    before = running.profile.model(spec.name)
    granted = any(grant.model == spec.name for grant in running.report.grants)
    return before is not None and granted and same_engine(before, spec)


def _held(spec: ModelSpec, grant: Grant) -> ModelSpec:
    spec = replace(spec, gpus=grant.gpus or None)
    if not shares(spec):
        return spec
    if grant.kv_cache_space_gib is not None:
        return replace(spec, kv_cache_memory_bytes=grant.kv_cache_space_gib * GIB)
    return replace(spec, gpu_memory_utilization=grant.gpu_memory_utilization)


def _launch(plan: Plan, name: str) -> Launch:
    return next(launch for launch in plan.launches if launch.name == name)


def _of_engine(name: str, old: Plan, new: Plan) -> Iterator[str]:
    before, after = old.profile.model(name), new.profile.model(name)
    assert before is not None  # noqa: S101 - for mypy: it is in both
    assert after is not None  # noqa: S101
    yield from _settings(before, after)
    one, other = _launch(old, name), _launch(new, name)
    if one.gpus != other.gpus and before.gpus == after.gpus:
        yield f"GPUs {_listed(one.gpus)} -> {_listed(other.gpus)}"
    less = min(one.reserved_bytes, other.reserved_bytes)
    moved = abs(one.reserved_bytes - other.reserved_bytes)
    if shares(after) and same_engine(before, after) and moved > less * _SAME_SHARE:
        yield (f"its share of the memory {gib(one.reserved_bytes)} -> {gib(other.reserved_bytes)}")


def _settings(before: ModelSpec, after: ModelSpec) -> Iterator[str]:
    for field in fields(ModelSpec):
        one, other = getattr(before, field.name), getattr(after, field.name)
        if field.name == "env":
            changed = sorted({key for key, _ in set(one) ^ set(other)})
            if changed:  # their values may be secrets
                yield f"env {', '.join(changed)}"
        elif field.name not in _NOT_OF_THE_ENGINE and one != other:
            yield _moved(field.name, one, other)


def _derived(one: Launch, other: Launch) -> Iterator[str]:
    """What the same settings come to now, and did not when the engine was started."""
    if one.vllm_version != other.vllm_version:
        yield f"vLLM {one.vllm_version} -> {other.vllm_version}"
    left, right = _without_names(one.argv), _without_names(other.argv)
    if left != right:
        gone = [word for word in left if word not in right]
        come = [word for word in right if word not in left]
        yield f"arguments {' '.join(gone) or '-'} -> {' '.join(come) or '-'}"
    changed = sorted({key for key, _ in set(one.env) ^ set(other.env)})
    if changed:
        yield f"env {', '.join(changed)}"


def _without_names(argv: tuple[str, ...]) -> list[str]:
    """The router puts the engine's own name into each request, so its other names do not count."""
    words, skipping = [], False
    for word in argv:
        skipping = word == "--served-model-name" or (skipping and not word.startswith("--"))
        if not skipping:
            words.append(word)
    return words


def _of_service(old: Profile, new: Profile) -> Iterator[Change]:
    for field in fields(Profile):
        one, other = getattr(old, field.name), getattr(new, field.name)
        if field.name in ("models", "device", "path") or one == other:
            continue
        if field.name in ("on_event", "upstreams"):  # they may hold secrets
            yield Change(name=field.name, what=(f"{len(one)} -> {len(other)} entries",))
        elif field.name == "server":
            moved = tuple(_fields(one, other, but=_OF_THE_KEEPER))
            if moved:
                yield Change(name="server", what=moved)
        else:
            yield Change(name=field.name, what=tuple(_fields(one, other)))
    for spec in new.models:
        before = old.model(spec.name)
        if before is None or before.name != spec.name:
            continue
        moved = tuple(_fields(before.patience, spec.patience))
        if before.aliases != spec.aliases:
            moved = (_moved("aliases", before.aliases, spec.aliases), *moved)
        if moved:
            yield Change(name=spec.name, what=moved)


def _of_keeper(old: Profile, new: Profile) -> Iterator[str]:
    for line in _fields(old.server, new.server):
        if line.split(" ")[0] in _OF_THE_KEEPER:
            yield f"[server] {line}"
    if old.device != new.device:
        yield f"[engine] device {old.device} -> {new.device}"


def _fields(one: object, other: object, but: tuple[str, ...] = ()) -> Iterator[str]:
    for field in fields(one):  # type: ignore[arg-type]  # both are dataclasses of one kind
        left, right = getattr(one, field.name), getattr(other, field.name)
        if left != right and field.name not in but:
            yield _moved(field.name, left, right)


def _moved(key: str, one: object, other: object) -> str:
    text = f"{_value(one)} -> {_value(other)}"
    return key if len(text) > _LONGEST_VALUE_CHARS or "\n" in text else f"{key} {text}"


def _value(value: object) -> str:
    if value is None:
        return "not stated"
    if isinstance(value, tuple):
        return _listed(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _listed(values: tuple[object, ...]) -> str:
    return "[" + ", ".join(str(value) for value in values) + "]"
