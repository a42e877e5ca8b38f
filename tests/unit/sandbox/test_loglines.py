from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engines.sandbox.loglines import BAR_INTERVAL, MAX_LINE, LineSplitter


def split(*pieces: bytes, clock: float = 0.0) -> list[str]:
    splitter = LineSplitter(lambda: clock)
    lines = [line for piece in pieces for line in splitter.feed(piece)]
    return [*lines, *splitter.close()]


def test_lines_end_at_newlines_of_either_kind() -> None:
    assert split(b"a\nb\r\n\nc") == ["a", "b", "", "c"]


def test_a_line_in_pieces_is_one_line() -> None:
    assert split(b"he", b"llo\r", b"\nnext") == ["hello", "next"]


def test_a_progress_bar_leaves_its_first_and_its_last_state() -> None:
    assert split(b"1%\r2%\r3%\r", b"4%\n") == ["1%", "4%"]


def test_a_progress_bar_that_is_left_standing_shows_its_last_state() -> None:
    assert split(b"1%\r2%\r3%\r") == ["1%", "3%"]
    assert split(b"1%\r2%\r3%\r\n") == ["1%", "3%"]


def test_a_slow_progress_bar_is_shown_step_by_step() -> None:
    now = 0.0
    splitter = LineSplitter(lambda: now)
    shown: list[str] = []
    for step in range(3):
        shown += splitter.feed(f"{step}\r".encode())
        now += BAR_INTERVAL
    assert shown == ["0", "1", "2"]


def test_a_long_line_is_cut_and_says_so() -> None:
    (line,) = split(b"x" * 10_000, b"x" * 10_000, b"\n")
    assert line == "x" * MAX_LINE + f" … ({20_000 - MAX_LINE:,} more bytes of this line are not shown)"


def test_bytes_that_are_not_text_are_replaced() -> None:
    assert split(b"\xff\xc3\xa9\xc3\n") == ["�é�"]


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_memory_is_bounded_and_lines_hold_no_breaks(pieces: list[bytes]) -> None:
    splitter = LineSplitter(lambda: 0.0)
    for piece in pieces:
        for line in splitter.feed(piece):
            assert "\n" not in line
            assert "\r" not in line
        assert len(splitter._line) <= MAX_LINE


@given(st.lists(st.text("abcé", max_size=5), max_size=10), st.integers(1, 7))
def test_any_cut_of_the_stream_gives_the_same_lines(lines: list[str], size: int) -> None:
    data = "".join(line + "\n" for line in lines).encode()
    assert split(*(data[at : at + size] for at in range(0, len(data), size))) == lines
