"""The extensions; everything else about the package is in pyproject.toml."""

import os
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup

SANITIZE = (
    ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    if os.environ.get("TW_SANITIZE")
    else []
)
FLAGS = [
    "-std=c11",
    "-O1" if SANITIZE else "-O3",
    "-g1",  # what a backtrace needs: the rest would be more than half of the wheel
    "-fvisibility=hidden",
    "-Wno-unused-function",
    *SANITIZE,
]


def extension(name: str, *sources: str) -> Extension:
    return Extension(
        f"tensorwire.{name}",
        [f"_ext/tensorwire/{name}.pyx", *(f"_ext/c/{source}" for source in sources)],
        depends=[str(path) for path in Path("_ext").rglob("*.[hp]*") if path.suffix in (".h", ".pxd")],
        include_dirs=["_ext/c", "_ext/tensorwire", numpy.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"), ("_GNU_SOURCE", "1")],
        extra_compile_args=FLAGS,
        extra_link_args=SANITIZE,
    )


setup(
    options={"build_ext": {"parallel": os.cpu_count()}},
    ext_modules=cythonize(
        [
            extension("_budget"),
            extension("_copies"),
            extension("_memory"),
            extension("_dtypes"),
            extension("_dlpack"),
            extension("_messages"),
            extension("_frame"),
            extension("_layout"),
            extension("_encode", "writer.c"),
            extension("_decode", "reader.c", "cursor.c"),
            extension("_head"),
            extension("_heads"),
            extension("_poll"),
            extension("_incoming"),
            extension("_pace"),
            extension("_gather"),
            extension("_outgoing"),
            extension("_pending"),
            extension("_net"),
            extension("_answer"),
            extension("_exchange"),
            extension("_spin"),
            extension("_limit"),
            extension("_plain"),
            extension("_http"),
            extension("_idle"),
            extension("_result"),
            extension("_calls"),
            extension("_fit"),
            extension("_tally"),
            extension("_direct"),
            extension("_fast_path"),
        ],
        include_path=["_ext"],
        build_dir="build/cython",
        compiler_directives={
            "language_level": 3,
            "binding": True,
            "embedsignature": True,  # for inspect.signature and help()
            "embedsignature.format": "clinic",
        },
    )
)
