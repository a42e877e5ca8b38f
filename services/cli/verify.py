"""`lathe verify`: is a package what Lathe made? Offline: it asks nobody, and unpacks nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError
from services.cli.output import TABLE, Column, Output, OutputFormat, error, note, plain, print_json, print_rows

if TYPE_CHECKING:
    from engines.package.delivered import Finding
    from engines.package.provenance import Provenance, Signed

_MOST_SHOWN = 5

FINDINGS: list[Column[Any]] = [
    Column("file", lambda finding: plain(_visible(finding.path))),
    Column("finding", lambda finding: f"[red]{finding.difference}[/]", whole=True),
]
FACTS: list[Column[Any]] = [
    Column("what", lambda fact: f"[bold]{plain(_visible(fact[0]))}[/]", whole=True),
    Column("the provenance says", lambda fact: plain(_visible(fact[1]))),
]


def verify(
    package: Annotated[Path, typer.Argument(help="A folder, zip file or tar file, as it was delivered.")],
    key: Annotated[
        list[Path] | None,
        typer.Option("--key", "-k", envvar="LATHE_VERIFY_KEYS", help="Public key (PEM) that you trust; repeatable."),
    ] = None,
    output: Output = TABLE,
) -> None:
    """Check a package: every file against its provenance, and the provenance against the keys that you trust.

    Exits with 0 only if all files are as they were made and a given key signed that. Exits with 13 if the files are,
    but the provenance is unsigned, or no key was given.
    """
    from engines.package.delivered import open_delivered
    from engines.package.provenance import ProvenanceError, read_key

    try:
        keys = [read_key(path) for path in key or []]
        with open_delivered(package) as delivered:
            signed = delivered.provenance.signed(keys)
            findings = list(delivered.findings())
    except ProvenanceError as problem:
        raise CliError(str(problem)) from problem
    _show(delivered.provenance, signed, findings, output)
    code = _judge(delivered.provenance, signed, findings)
    if code is not ExitCode.OK:
        raise typer.Exit(code)


def _show(provenance: Provenance, signed: Signed, findings: list[Finding], output: OutputFormat) -> None:
    if output is OutputFormat.JSON:
        print_json(
            {
                "signature": str(signed),
                "key_ids": list(provenance.key_ids),
                "findings": [{"path": each.path, "difference": str(each.difference)} for each in findings],
                "statement": provenance.statement,
            }
        )
        return
    print_rows(list(_facts(provenance)), FACTS)
    if findings:
        note("")
        print_rows(findings, FINDINGS)


def _judge(provenance: Provenance, signed: Signed, findings: list[Finding]) -> ExitCode:
    """Say in a sentence what the package is worth, and return the exit code."""
    from engines.package.provenance import Signed

    ids = ", ".join(provenance.key_ids)
    if signed is Signed.BAD:
        error(f"The signature is not of this provenance: one of them was changed (key {ids}).")
        return ExitCode.FAILED
    if signed is Signed.OTHER_KEY:
        error(f"None of the given keys signed it, but {ids}. Trust it only if that key is known to you.")
        return ExitCode.FAILED
    if findings:
        count = len(findings)
        error(f"{count} file{' differs' if count == 1 else 's differ'} from what was made. Fetch the package again.")
        return ExitCode.FAILED
    whole = f"All {len(provenance.files)} files are as the provenance says"
    if signed is Signed.GOOD:
        note(f"{whole}, and it is signed by the key {ids}.", style="green")
        return ExitCode.OK
    if signed is Signed.UNCHECKED:
        error(f"{whole}. It says that the key {ids} signed it: give that public key with --key to check this.")
    else:
        error(f"{whole}. It is UNSIGNED: anybody may have written it. Its installation has no LATHE_SIGNING_KEY_FILE.")
    return ExitCode.UNSIGNED


def _facts(provenance: Provenance) -> Iterator[tuple[str, str]]:
    """Yield what the provenance says, for people; what it does not say is left out."""
    predicate = provenance.predicate
    definition, run = _part(predicate, "buildDefinition"), _part(predicate, "runDetails")
    spec = _part(_part(definition, "externalParameters"), "spec")
    inside = _part(definition, "internalParameters")
    yield "made by", _text(_part(run, "metadata").get("invocationId"))
    yield "kind", _text(definition.get("buildType"))
    yield "Lathe", _text(_part(_part(run, "builder"), "version").get("lathe"))
    yield "finished", _text(_part(run, "metadata").get("finishedOn"))
    yield "from", _text(inside.get("sources") or spec.get("model_version"))
    template = _part(_part(_part(inside, "work"), "conversion") or _part(inside, "work"), "template")
    target = " ".join(_text(template.get(name)) for name in ("device", "runtime", "precision"))
    yield "for", target.replace("PRECISION_", "").strip()
    inputs = [each for each in definition.get("resolvedDependencies", []) if isinstance(each, dict)]
    for each in inputs[:_MOST_SHOWN]:
        yield "input", f"{_text(each.get('name'))} sha256:{_text(_part(each, 'digest').get('sha256'))}"
    if len(inputs) > _MOST_SHOWN:
        yield "input", f"and {len(inputs) - _MOST_SHOWN} more: see --output json"
    for component, report in _part(predicate, "lathe_verification").items():
        where = report.get("verified_on") or report.get("missing") if isinstance(report, dict) else ""
        verdict = _text(_part({"report": report}, "report").get("verdict")).removeprefix("VERDICT_")
        yield f"parity of {component}", f"{verdict} {_text(where)}".strip()
    environment = _part(inside, "environment")
    yield "worker", ", ".join(f"{name} {_text(each)}" for name, each in environment.items() if name != "software")
    yield "tools", _text(environment.get("software"))


def _part(value: Any, name: str) -> dict[str, Any]:
    """Return a part of what may be anything: a statement that nobody signed says what it likes."""
    part = value.get(name) if isinstance(value, dict) else None
    return part if isinstance(part, dict) else {}


def _text(value: Any) -> str:
    """Return any JSON value in a line, programs as `name version`."""
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    if isinstance(value, dict):
        return " ".join(map(_text, value.values()))
    return "" if value is None else str(value)


def _visible(text: str) -> str:
    """Return a text whose characters do nothing to a terminal."""
    return text if text.isprintable() else ascii(text)
