"""`ErrorReason` and the code that gives reasons: each word is in both."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from lathe.type.v1.error_reason_pb2 import ErrorReason

from services.platform.words import words
from services.registry.descriptions import REFUSED

ROOT = Path(__file__).parents[3]
# Where each of these takes the reason, by its place.
PLACES = {
    "LatheError": 1,
    "invalid_argument": 2,
    "invalid_fields": 1,
    "failed_precondition": 0,
    "aborted": 0,
    "resource_exhausted": 0,
    "unauthenticated": 1,
}
BY_DEFAULT = {"INVALID_ARGUMENT", "UNAUTHENTICATED"}
# What passes on a reason that comes from elsewhere.
PASSED_ON = {
    ("services/platform/errors.py", "reason"),  # the makers of errors themselves
    ("services/platform/errors.py", "error.code().name"),  # an answer without details
    ("services/platform/failures.py", "work.too_large"),  # found as `too_large=`
    ("services/registry/descriptions.py", "told"),  # REFUSED
    ("services/optimizer/profiles/rules.py", "wrong.code"),  # of the engines
    ("services/siblings/recipes.py", "told.reason"),  # of the template service
}


def reasons_of(call: ast.Call) -> Iterator[ast.expr]:
    """Yield what a call gives as a reason."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    if "too_large" in keywords:
        yield keywords["too_large"]
    if name == "InvalidField" and "code" in keywords:
        yield keywords["code"]
    if name in PLACES and "reason" in keywords:
        yield keywords["reason"]
    elif name in PLACES and len(call.args) > PLACES[name]:
        yield call.args[PLACES[name]]


def given() -> tuple[dict[str, str], set[tuple[str, str]]]:
    """Return the words that the code gives, each with a file, and the expressions that are no words."""
    found, others = {}, set()
    for folder in ("services", "engines"):
        for path in (ROOT / folder).rglob("*.py"):
            file = path.relative_to(ROOT).as_posix()
            for call in filter(lambda node: isinstance(node, ast.Call), ast.walk(ast.parse(path.read_text("utf-8")))):
                assert isinstance(call, ast.Call)
                for reason in reasons_of(call):
                    for each in (reason.body, reason.orelse) if isinstance(reason, ast.IfExp) else (reason,):
                        if isinstance(each, ast.Constant) and isinstance(each.value, str):
                            found[each.value] = file
                        elif (file, ast.unparse(each)) != ("engines/failures.py", "self.code"):
                            others.add((file, ast.unparse(each)))
    return found, others


def test_every_reason_is_published_and_every_published_one_is_given() -> None:
    found, others = given()
    assert others == PASSED_ON
    published = set(words(ErrorReason)) - {"UNSPECIFIED"}
    code = {*found, *REFUSED.values(), *BY_DEFAULT}
    assert {word: found[word] for word in code - published} == {}, "add them to lathe/type/v1/error_reason.proto"
    assert published - code == set(), "nothing gives these: take them out before they are promised"
