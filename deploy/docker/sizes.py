"""Prints what the wheels of each image weigh, as a table: `pip install uv packaging && python deploy/docker/sizes.py`.

Nothing is downloaded but metadata: uv resolves each role with the lock for each platform, and the index tells the size
of each wheel. uv, because pip cannot resolve for another platform: it asks this machine for what depends on the
processor.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from functools import cache
from pathlib import Path

from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

ROOT = Path(__file__).parents[2]
BOTH = ("x86_64", "aarch64")
# The image, its extras as in the Dockerfile, its processors.
IMAGES = (
    ("api", "api", BOTH),
    ("registry", "api,registry", BOTH),
    ("evaluator", "api,evaluator", BOTH),
    ("worker-cpu", "api,worker-arm,diffusers,tensorflow", BOTH),
    ("worker-mmdet", "api,worker-arm,diffusers,tensorflow,mmdetection", BOTH[:1]),
    ("worker-detectron2", "api,worker-arm,diffusers,tensorflow,detectron2", BOTH[:1]),
    ("worker-nvidia", "api,worker-nvidia,diffusers,tensorflow", BOTH[:1]),
    ("worker-ascend", "api,worker-cpu,diffusers,tensorflow", BOTH),
)
# torch's CPU build, from an index of its own that tells no sizes; for ARM it is not known here.
CPU_TORCH = {"x86_64": 191_794_682}
ONLY_CUDA = re.compile(r"(nvidia|cuda)-|triton$")


def resolved(extras: str, machine: str) -> list[tuple[str, str]]:
    """Return the packages of a role, each with its version."""
    asked = f"lathe-protos @ {(ROOT / 'protos').as_uri()}\nlathe[{extras}] @ {ROOT.as_uri()}\n"
    # glibc of the base image.
    command = ["uv", "pip", "compile", "-q", "--no-annotate", "--no-header", "--no-sources", "--python-version", "3.11"]
    command += ["--python-platform", f"{machine}-manylinux_2_36", "--constraint", str(ROOT / "constraints.txt")]
    told = subprocess.run([*command, "-"], input=asked, text=True, stdout=subprocess.PIPE, check=True).stdout
    return re.findall(r"^([\w.-]+)==(\S+)$", told, re.MULTILINE)


@cache
def files(name: str) -> list[dict[str, object]]:
    """Return the files of a package, as the index tells them."""
    request = urllib.request.Request(
        f"{os.environ['PIP_INDEX_URL'].rstrip('/')}/{name}/", headers={"Accept": "application/vnd.pypi.simple.v1+json"}
    )
    with urllib.request.urlopen(request) as answer:
        found: list[dict[str, object]] = json.load(answer)["files"]
    return found


@cache
def tags(machine: str) -> dict[Tag, int]:
    """Return what wheels the image takes, each with its rank."""
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(36, 4, -1)]
    platforms += [f"manylinux{year}_{machine}" for year in ("2014", "2010", "1")] + [f"linux_{machine}"]
    taken = [*cpython_tags((3, 11), platforms=platforms), *compatible_tags((3, 11), platforms=platforms)]
    return {tag: rank for rank, tag in enumerate(taken)}


def size(name: str, version: str, machine: str) -> int:
    """Return the bytes of the wheel that would be installed, or of the source if there is none.

    TensorRT has sources alone, which fetch its libraries from an index of NVIDIA's.
    """
    best = (len(tags(machine)), 0)
    for file in files(name):
        filename = str(file["filename"])
        if filename.endswith(".whl"):
            try:
                _, found, _, offered = parse_wheel_filename(filename)
            except ValueError:
                continue
            ranks = [tags(machine)[tag] for tag in offered if tag in tags(machine)]
            if str(found) == version and ranks:
                best = min(best, (min(ranks), int(str(file["size"]))))
        elif filename.lower() in (f"{name}-{version}.tar.gz", f"{name.replace('-', '_')}-{version}.tar.gz"):
            best = max(best, (len(tags(machine)), int(str(file["size"])))) if not best[1] else best
    return best[1]


def main() -> None:
    """Print the table."""
    print("| image | processor | packages | wheels | largest |\n|---|---|---|---|---|")
    for image, extras, machines in IMAGES:
        for machine in machines:
            weights = {}
            for name, version in resolved(extras, machine):
                if "nvidia" not in image and ONLY_CUDA.match(name):
                    continue
                weights[name] = size(name, version, machine)
            if "nvidia" not in image and "torch" in weights:
                weights["torch"] = CPU_TORCH.get(machine, 0)
            top = sorted(weights, key=lambda each: -weights[each])[:4]
            largest = ", ".join(f"{name} {weights[name] / 1e6:.0f}" for name in top)
            unknown = [name for name, weight in weights.items() if not weight]
            more = f"; without {', '.join(unknown)}" if unknown else ""
            total = sum(weights.values()) / 1e6
            print(f"| {image} | {machine} | {len(weights)} | {total:,.0f} MB | {largest}{more} |", flush=True)


if __name__ == "__main__":
    if not os.environ.get("PIP_INDEX_URL"):
        sys.exit("Set PIP_INDEX_URL to the address of a package index that tells sizes (PEP 700).")
    main()
