from __future__ import annotations

import socket
import subprocess
import sys

from services.local.ports import free_port, is_free


def test_a_free_port_is_kept() -> None:
    port = free_port()
    assert free_port(port) == port


def test_a_taken_port_is_replaced_by_a_free_one() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken = listener.getsockname()[1]
        assert not is_free(taken)
        port = free_port(taken)
    assert port != taken
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))


def test_a_port_on_all_addresses_counts_as_taken() -> None:
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        assert not is_free(listener.getsockname()[1])


def test_a_port_to_avoid_is_not_returned() -> None:
    port = free_port()
    assert free_port(port, avoid={port}) != port


def test_no_port_is_chosen_twice() -> None:
    ports = [free_port() for _ in range(30)]
    assert len(set(ports)) == 30


def test_two_processes_that_start_at_once_do_not_choose_the_same_port() -> None:
    port = free_port()
    program = f"from services.local.ports import free_port; print(free_port({port}))"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert is_free(port)
    assert int(said) != port
