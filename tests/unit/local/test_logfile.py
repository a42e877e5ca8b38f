from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from services.local.logfile import rotate, tail


def test_a_short_log_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("short\n")
    assert not rotate(log, max_bytes=100)
    assert not rotate(tmp_path / "absent.log")
    assert [path.name for path in tmp_path.iterdir()] == ["a.log"]


def test_a_long_log_is_rotated_while_its_writer_continues(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    with log.open("ab", buffering=0) as writer:
        for number in range(5):
            writer.write(f"{number}".encode() * 200)
            assert rotate(log, max_bytes=100, keep=3)
        writer.write(b"after\n")
    assert log.read_text() == "after\n"
    assert {path.name: path.read_text()[0] for path in tmp_path.glob("a.log.*")} == {
        "a.log.1": "4",
        "a.log.2": "3",
        "a.log.3": "2",
    }


LINE = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), max_size=30)


@given(st.lists(LINE), st.integers(0, 40))
def test_tail_gives_the_last_lines(lines: list[str], count: int) -> None:
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
        file.write("".join(line + "\n" for line in lines))
        file.flush()
        assert tail(Path(file.name), count) == lines[len(lines) - min(count, len(lines)) :]


def test_tail_reads_a_long_file_from_its_end(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("".join(f"line {number}\n" for number in range(50_000)))
    assert tail(log, 3) == ["line 49997", "line 49998", "line 49999"]
    assert len(tail(log, 20_000)) == 20_000


def test_the_tail_of_a_missing_file_is_empty(tmp_path: Path) -> None:
    assert tail(tmp_path / "absent.log", 5) == []
