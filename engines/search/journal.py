"""The state of a search, for the process that continues it after a form ended the process before.

Forms are built and quantized in the search's own process, whose death cannot be caught. The task's worker then runs the
request again in the same folder, with the step that the process died of (`engines.sandbox.Reporter.risk`). The search
continues from here: it repeats neither known results nor deadly steps.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

from engines.failures import EngineFailure, FailureReason
from engines.runtimes.form import FormSpec
from engines.sandbox import DEATHS
from engines.search.entry import Entry
from engines.search.record import entry_of, values_of

LASTING = "search"
"""Folder of the work directory that outlives a process of the search, with a folder for each component."""


class Death(NamedTuple):
    """The end of a process: why, and when by `time.monotonic()`."""

    failure: EngineFailure
    at: float


def deaths_of(request: Mapping[str, Any]) -> dict[str, Death]:
    """Return the deaths of earlier processes of a request, by step."""
    told = request.get(DEATHS, ())
    return {death["step"]: Death(EngineFailure.from_dict(death["failure"]), death["at"]) for death in told}


@dataclass
class Journal:
    """The journal of one component's search; one without a path is kept in memory alone.

    Attributes:
        component: Name of the component, which tells its steps from those of others.
        path: Its file; None if it is kept in memory.
        risk: Takes the step that is risked, and nothing once it is over.
        deaths: The deaths of earlier processes, by step.
    """

    component: str = ""
    path: Path | None = None
    risk: Callable[[str], None] = lambda _step: None
    deaths: Mapping[str, Death] = field(default_factory=dict)
    _began: float | None = None
    _entries: dict[FormSpec, Entry] = field(default_factory=dict)

    @classmethod
    def of_component(
        cls, component: str, workdir: Path, risk: Callable[[str], None], deaths: Mapping[str, Death]
    ) -> Self:
        """Return the journal of a component of a work, in the folder that outlives a process."""
        return cls.open(component, workdir / LASTING / component / "journal.json", risk, deaths)

    @classmethod
    def open(cls, component: str, path: Path, risk: Callable[[str], None], deaths: Mapping[str, Death]) -> Self:
        """Return the journal of a component, with what earlier processes of this work wrote into it."""
        journal = cls(component, path, risk, deaths)
        if deaths and path.is_file():
            values = json.loads(path.read_text(encoding="utf-8"))
            entries = map(entry_of, values["entries"])
            journal._began = values["began"]
            journal._entries = {entry.spec: entry for entry in entries}
        return journal

    def begin(self) -> float:
        """Return when the search began, by `time.monotonic()`: now, unless it has.

        The time from the last death to this call does not count: the source had to be read again.
        """
        now = time.monotonic()
        if self._began is None:
            self._began = now
        elif self.deaths:
            self._began += now - max(death.at for death in self.deaths.values())
        self._write()
        return self._began

    def find(self, spec: FormSpec) -> Entry | None:
        """Return what an earlier process found out about a form, or that it died of it; None if neither."""
        death = self.deaths.get(self._step(spec.name))
        return Entry(spec, failure=_deadly(spec.name, death.failure)) if death else self._entries.get(spec)

    def held(self, spec: FormSpec) -> bool:
        """Return whether an earlier process made and measured the form, and nothing speaks against it."""
        entry = self.find(spec)
        return entry is not None and entry.holds

    def keep(self, entries: Iterable[Entry]) -> None:
        """Write down what is known of forms so far."""
        self._entries |= {entry.spec: entry for entry in entries}
        self._write()

    def died_of(self, step: str) -> bool:
        """Return whether an earlier process died of a step."""
        return self._step(step) in self.deaths

    @contextmanager
    def risking(self, step: str) -> Iterator[None]:
        """Report, while the body runs, that the process may die of a step."""
        self.risk(self._step(step))
        try:
            yield
        finally:
            self.risk("")

    def _step(self, name: str) -> str:
        return f"{self.component}: {name}"

    def _write(self) -> None:
        if self.path is None:
            return
        entries = [values_of(entry) for entry in self._entries.values()]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        written = self.path.with_suffix(".new")
        written.write_text(json.dumps({"began": self._began, "entries": entries}), encoding="utf-8")
        written.replace(self.path)


def _deadly(what: str, death: EngineFailure) -> EngineFailure:
    memory = death.reason is FailureReason.OUT_OF_MEMORY
    return EngineFailure(
        death.reason,
        f"{what} ended the process that made it, and the search continued without it: {death.message}",
        evidence=death.evidence,
        suggested_fix="Raise the task's memory limit." if memory else "Other forms are not affected.",
    )
