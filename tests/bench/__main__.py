"""Every benchmark, one after the other: `python -m tests.bench [NAME…]`. Each prints a table and asserts nothing."""

import subprocess
import sys

BENCHES = {
    "stack": "start, memory, conversion overhead, cache hit",
    "transfers": "uploads and downloads against raw S3, and finalizing beside large files",
    "calls": "Get and List against a bare echo, and what logging a call costs",
    "tasks": "creates and no-op tasks per second, claim latency",
    "simulation": "100,000 tasks of many owners on 1,000 workers: who waits how long; minutes on idle cores",
    "overhead": "the conversion pipeline against the same by hand",
    "listing": "pages of a list of a million versions",
    "datasets": "pages and selections of a dataset of a million items",
    "imports": "the import of a COCO file of 100,000 images, through the engine and the registry",
    "quantization": "int8 against FP32 on digits, ResNet-50 and MiniLM, and what making it costs",
    "zoo": "trained models from pip packages through every job, beside what computes them without Lathe",
    "optimizer": "what the optimizer chooses against every runtime as it comes, on fourteen configurations of models",
}


def main() -> int:
    """Run the named benchmarks, or all."""
    names = sys.argv[1:] or list(BENCHES)
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        print(f"There is no benchmark {', '.join(unknown)}; there are:")
        for name, what in BENCHES.items():
            print(f"  {name:12} {what}")
        return 2
    return max(subprocess.run([sys.executable, "-m", f"tests.bench.{name}"], check=False).returncode for name in names)


if __name__ == "__main__":
    sys.exit(main())
