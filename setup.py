"""The one part of the package that is compiled; pyproject.toml says everything else.

Without a C compiler it is left out, and the classifier runs in Python: slower, and the same.
"""

from pathlib import Path

from setuptools import Extension, setup

NATIVE = Path("gpuserve", "routing", "native")

setup(
    ext_modules=[
        Extension(
            "gpuserve.routing._compiled",
            sources=[str(NATIVE / "module.c")],
            depends=sorted(map(str, NATIVE.glob("*.h"))),
            # A product and a sum stay two steps, as in Python, also where a processor has one
            # instruction for both.
            extra_compile_args=["-O2", "-Wall", "-Wextra", "-ffp-contract=off"],
            py_limited_api=True,
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
