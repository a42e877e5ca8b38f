from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.formats.pytorch.architecture import (
    MAX_NAME_LENGTH,
    ArchitectureError,
    ArchitectureInfo,
    inspect_architecture,
)
from tests.unit.formats import networks

IDENTIFIERS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,99}", fullmatch=True)


@given(IDENTIFIERS, st.sampled_from(["architecture", "registry.register", "a.b.c"]), st.integers(0, 5))
def test_last_function_declares_the_class(name: str, decorator: str, blank_lines: int) -> None:
    source = (
        f"@other('Wrong')\ndef first(): ...\n{chr(10) * blank_lines}@{decorator}({name!r}, 3)\ndef build(n=1): ...\n"
    )
    source += "class Later:\n    def method(self): ...\nx = 1\n"
    assert inspect_architecture(source) == ArchitectureInfo(name, "build", 4 + blank_lines)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(source: str) -> None:
    with suppress(ArchitectureError):
        assert inspect_architecture(source).class_name.isidentifier()


@given(st.text(alphabet="@()\"'def:\n \tabX,.=[]{}#\\0", max_size=60))
def test_python_like_text_is_read_or_refused(text: str) -> None:
    with suppress(ArchitectureError):
        inspect_architecture(f"{text}\n@architecture('X')\ndef build(): ...")


@pytest.mark.parametrize(
    ("source", "line", "words"),
    [
        ("x = 1\ndef build(:\n", 2, "not valid Python: invalid syntax"),
        ("x = 1\n\0", 2, "null byte"),
        ("", 0, "no top-level function"),
        ("class A:\n    @architecture('A')\n    def build(self): ...", 0, "no top-level function"),
        ("@architecture('A')\nasync def build(): ...", 2, "'async'"),
        ("def build(): ...", 1, r"no decorator. (?s:.)*@architecture\(\"MyNetwork\"\)"),
        ("@architecture\ndef build(): ...", 1, "No decorator .* holds a string"),
        ("@architecture(3)\ndef build(): ...", 1, "No decorator .* holds a string"),
        ("@architecture(name)\ndef build(): ...", 1, "No decorator .* holds a string"),
        ("@architecture('A', 'B')\ndef build(): ...", 1, "more than one string"),
        ("@one('A')\n@two('B')\ndef build(): ...", 2, "more than one string"),
        ("@architecture('my net')\ndef build(): ...", 1, "'my net' is not an identifier"),
        ("@architecture('')\ndef build(): ...", 1, "not an identifier"),
        ("@architecture('Netz\u00e4')\ndef build(): ...", 1, "ASCII letters"),
        (f"@architecture('{'A' * 101}')\ndef build(): ...", 1, "101 characters; at most 100"),
        ("@architecture('A')\ndef build(): ...\ndef helper(): ...", 3, "'helper', has no decorator"),
        ("\ud800", 0, "not valid UTF-8"),
        ("#" * (2**20 + 1), 0, "1048577 bytes; at most 1048576"),
        ("x = " + "1" * 5000, 1, "not valid Python"),
    ],
)
def test_files_that_declare_nothing(source: str, line: int, words: str) -> None:
    with pytest.raises(ArchitectureError, match=words) as caught:
        inspect_architecture(source)
    assert caught.value.line == line


@pytest.mark.parametrize(
    "bomb",
    [
        "(" * 100_000,
        "-" * 500_000 + "1",
        "x" + ".a" * 200_000,
        "f" + "()" * 200_000,
        "[" * 90 + "]" * 90,
        "1" + "+1" * 200_000,
    ],
    ids=["parentheses", "minus", "attributes", "calls", "lists", "sums"],
)
def test_deeply_nested_files_do_no_harm(bomb: str) -> None:
    with pytest.raises(ArchitectureError):
        inspect_architecture(bomb)


def test_longest_name_and_keyword_argument() -> None:
    name = "A" * MAX_NAME_LENGTH
    assert inspect_architecture(f"@architecture(name='{name}')\ndef build(): ...").class_name == name


def test_nothing_of_the_file_is_run() -> None:
    assert inspect_architecture("raise SystemExit\n@architecture('A')\ndef build(): ...").class_name == "A"


@pytest.mark.parametrize("source", [networks.CNN, networks.LSTM, networks.VIT, networks.MLP])
def test_real_files(source: str) -> None:
    assert inspect_architecture(source).function == "build"
