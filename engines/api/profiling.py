"""Profile: a model in, figures of its speed and memory out. The entry that workers run in the sandboxed child.

read → a form for each runtime and number of streams           for each component
each form at each batch and number of threads, in interleaved rounds → throughput, memory, layers
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engines.formats.preparation import Progress
from engines.profiling.measuring import BatchProfile, Bench, Measurement, Settings
from engines.profiling.request import ProfileRequest
from engines.profiling.result import ProfiledComponent, most_costly, result_fields
from engines.profiling.subjects import Form, Subject, subjects
from engines.sandbox import Reporter
from engines.sandbox.tasklog import log_to_stdout
from engines.spec.toolchain import available_threads, hardware

log = logging.getLogger(__name__)

REPORT_DIR = "report"
JSON_NAME, HTML_NAME = "profile.json", "profile.html"
_BUILT, _MEASURED = 0.3, 0.95


def run(request: dict[str, Any], workdir: Path, report: Reporter) -> dict[str, Any]:
    """Profile what a request asks for, and write the reports to `workdir/report`.

    Args:
        request: The JSON form of `lathe.internal.v1.ProfileWork`. A package is in `package/`; the files of a source are
            at the paths that the conversion names; test data are at `samples/test.npz`.
        workdir: Directory to work in.
        report: Takes progress.

    Returns:
        The JSON form of `lathe.internal.v1.ProfileOutcome`, its files without digests.

    Raises:
        EngineFailure: The model cannot be read, the request is impossible, or no form ran at all: the failure of the
            first one.
    """
    log_to_stdout()
    report.progress(0.0, "reading the specification")
    work = ProfileRequest.parse(request)
    shutil.rmtree(workdir / "scratch", ignore_errors=True)
    threads = work.spec.threads or (available_threads(),)
    log.info("Profiling for %s with %s threads on %s", work.device, ", ".join(map(str, threads)), hardware())
    found = subjects(work, workdir, lambda fraction, words: report.progress(_BUILT * fraction, words))
    done = [_profiled(work, subject, threads, workdir, report.progress) for subject in found]
    failures = [row.failure for entry in done for row in entry.measurements]
    if failures and all(failures) and failures[0] is not None:
        raise failures[0]
    report.progress(_MEASURED, "writing the report")
    result = result_fields(done, work.device)
    files = _write(result, _title(request), workdir / REPORT_DIR)
    shutil.rmtree(workdir / "scratch", ignore_errors=True)
    report.progress(1.0, "done")
    return {"files": [{"path": name} for name in files], "result": most_costly(result)}


def _profiled(
    work: ProfileRequest, subject: Subject, threads: Sequence[int], workdir: Path, progress: Progress
) -> ProfiledComponent:
    batches = work.spec.batch_sizes or (subject.feeds.usual_batch,)
    for batch in batches:
        subject.feeds.check(batch)
    forms: list[Form] = []
    for form in subject.forms():
        forms.append(form)
        progress(_BUILT, f"{subject.component}: {form.spec.name} is built")
    settings = Settings(workdir / "scratch" / "processes", work.memory_bytes, work.spec.rounds, work.spec.seed)
    measured: list[BatchProfile] = []
    for number, batch in enumerate(batches):
        done = _BUILT + (_MEASURED - _BUILT) * number / len(batches)

        def tell(words: str, done: float = done) -> None:
            progress(done, f"{subject.component}: {words}")

        rows = [Measurement(form, batch, each, failure=form.failure) for form in forms for each in threads]
        bench = Bench(subject.feeds.at(batch), batch, settings, tell)
        profile = bench.measure(
            [row for row in rows if row.failure is None],
            lambda row: (row.batch, row.threads) == (batches[0], threads[0]),
        )
        measured.append(BatchProfile(rows, profile.control, profile.rounds))
        for row in rows:
            if row.latency is not None:
                log.info(
                    "%s: %s: p50 %.3f ms, p90 %.3f ms, p99 %.3f ms, %.4g samples/s",
                    *(subject.component, row.name, row.latency.median_ms, row.latency.p90_ms, row.latency.p99_ms),
                    row.samples_per_second,
                )
    return ProfiledComponent(subject.component, subject.feeds, measured, _warnings(subject, threads))


def _warnings(subject: Subject, threads: Sequence[int]) -> list[str]:
    here = available_threads()
    many = [f"{number} threads shared the {here} of this machine." for number in threads if number > here]
    return [*subject.warnings(), *many]


def _title(request: dict[str, Any]) -> str:
    template = (request.get("conversion") or {}).get("template") or {}
    return str(template.get("repo") or "Profile")


def _write(result: dict[str, Any], title: str, folder: Path) -> list[str]:
    from engines.reports.profile_page import profile_html

    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1, allow_nan=False) + "\n"
    (folder / JSON_NAME).write_text(text, encoding="utf-8")
    (folder / HTML_NAME).write_text(profile_html(result, title=title), encoding="utf-8", newline="\n")
    return [HTML_NAME, JSON_NAME]
