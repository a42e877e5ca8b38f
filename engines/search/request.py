"""The request of a search: its candidates, and how they are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.runtimes.form import FormSpec
from engines.search.repair import NodeOrder


@dataclass(frozen=True)
class SearchSettings:
    """The settings of a search.

    Attributes:
        workdir: Folder in which processes exchange files.
        threads: Threads of every form.
        objective: `LATENCY`, `THROUGHPUT` or `SIZE`.
        budget_seconds: Time for all; may be infinite.
        final_seconds: Time for the final, and the most for a rung; `final.FINAL_SECONDS` if None.
        must_choose: Whether the form that misses the tolerance by least is measured if every form misses it.
        judged_on: Digest of the data that the judge measures accuracy on, for the record.
        calibrated_on: Digest of what quantized forms are calibrated on, for the record.
        memory_bytes: Most memory of the work; the machine's free memory if 0.
        seed: Seed of all random numbers.
    """

    workdir: Path
    threads: int
    objective: str = "LATENCY"
    budget_seconds: float = 600.0
    final_seconds: float | None = None
    must_choose: bool = False
    judged_on: str = ""
    calibrated_on: str = ""
    memory_bytes: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Plan:
    """The candidates of a search.

    Attributes:
        baselines: Candidates for the source form; the first one that can be made and computes what the source computes
            is the baseline.
        specs: The candidates, the most promising first.
        otherwise: Quantized candidates for runtimes in which no quantized form holds and is faster than the source.
        nodes: Orders the nodes of quantized forms by their cost; None if nothing is repaired.
    """

    baselines: Sequence[FormSpec]
    specs: Sequence[FormSpec]
    otherwise: Sequence[FormSpec] = ()
    nodes: NodeOrder | None = None
