"""The models and cards of the worked examples, as values, and a short way to assess them."""

from collections.abc import Mapping
from dataclasses import replace

from gpuserve.memory.architecture import Architecture
from gpuserve.memory.assess import assess
from gpuserve.memory.engine import ModelFacts
from gpuserve.memory.quantization import Quantization
from gpuserve.memory.report import FitReport, Footprint, Grant
from gpuserve.profile.spec import ModelSpec, Profile, ServerSpec
from gpuserve.readings import Gpu, Host, Machine
from gpuserve.units import GIB

AWQ = Quantization(method="awq", bits=4, group_size=128, zero_points=True)
GPTQ8 = Quantization(method="gptq", bits=8, group_size=128, zero_points=True)

DEEPSEEK = Architecture(
    model_type="llama",
    layers=62,
    heads=56,
    kv_heads=8,
    head_dim=128,
    hidden=7168,
    intermediate=19200,
    vocab=32256,
    trained_len=16384,
    derived_len=65536,
    chat_template=True,
)
MISTRAL = Architecture(
    model_type="mistral",
    layers=32,
    heads=32,
    kv_heads=8,
    head_dim=128,
    hidden=4096,
    intermediate=14336,
    vocab=32000,
    trained_len=32768,
    derived_len=32768,
    chat_template=True,
)
QWEN_7B = Architecture(
    model_type="qwen2",
    layers=28,
    heads=28,
    kv_heads=4,
    head_dim=128,
    hidden=3584,
    intermediate=18944,
    vocab=152064,
    qkv_bias=True,
    trained_len=32768,
    derived_len=32768,
    chat_template=True,
)
QWEN_14B = replace(
    QWEN_7B, layers=48, heads=40, kv_heads=8, hidden=5120, intermediate=13824, vocab=152064
)
QWEN_32B = replace(QWEN_14B, layers=64, intermediate=27648)


def awq(arch: Architecture) -> Architecture:
    return replace(arch, quantization=AWQ)


def gptq8(arch: Architecture) -> Architecture:
    return replace(arch, quantization=GPTQ8)


def card(total_gib: float = 94.97, *, index: int = 0, free_gib: float | None = None) -> Gpu:
    total = round(total_gib * GIB)
    free = total if free_gib is None else round(free_gib * GIB)
    return Gpu(index=index, name="card", total_bytes=total, free_bytes=free)


def machine(*gpus: Gpu, ram_gib: float = 64) -> Machine:
    ram = round(ram_gib * GIB)
    host = Host(ram_total_bytes=ram, ram_available_bytes=ram, cpus=8)
    return Machine(gpus=gpus, host=host)


def profile(*models: ModelSpec) -> Profile:
    numbered = tuple(replace(m, index=n) for n, m in enumerate(models))
    return Profile(path="/profile.toml", server=ServerSpec(), device="auto", models=numbered)


def model(name: str, **settings: object) -> ModelSpec:
    return replace(ModelSpec(index=0, name=name, model=f"org/{name}"), **settings)  # type: ignore[arg-type]


def assessed(
    given: Profile, archs: Mapping[str, Architecture | None], on: Machine, *, cpu: bool = False
) -> FitReport:
    facts = {name: ModelFacts(architecture=arch) for name, arch in archs.items()}
    return assess(given, facts, on, "cpu" if cpu else "cuda")


def grant_of(report: FitReport, name: str) -> Grant:
    return next(grant for grant in report.grants if grant.model == name)


def footprint_of(report: FitReport, name: str) -> Footprint:
    footprint = grant_of(report, name).footprint
    assert footprint is not None
    return footprint
