"""Where `main.py serve` listens: refused before anything is started, and told as a client opens it."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from lib.cli.listening import address_of, check_listening
from lib.runtime.errors import UserError
from tests.support.command_line import exit_code, said


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::1", "http://[::1]:8000"),
        ("::", "http://[::1]:8000"),
        ("fe80::1", "http://[fe80::1]:8000"),
        ("localhost", "http://localhost:8000"),
    ],
)
def test_the_address_that_is_told_can_be_opened(host: str, address: str) -> None:
    assert address_of(host, 8000) == address


@pytest.fixture
def taken() -> Callable[[str], int]:
    """A port of a host that another program listens on."""
    listening = []

    def take(host: str) -> int:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening.append(socket.create_server((host, 0), family=family))
        return int(listening[-1].getsockname()[1])

    return take


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_a_port_that_another_program_has_is_refused_in_ipv4_and_ipv6(
    host: str, taken: Callable[[str], int]
) -> None:
    if host == "::1" and not socket.has_dualstack_ipv6():
        pytest.skip("this machine speaks no IPv6")
    port = taken("127.0.0.1" if host == "localhost" else host)
    with pytest.raises(UserError, match=rf":{port} must be free to listen on; another program listens there"):
        check_listening("127.0.0.1" if host == "localhost" else host, port)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost", "::1", "::"])
def test_a_free_port_is_accepted_in_ipv4_and_ipv6(host: str) -> None:
    if ":" in host and not socket.has_dualstack_ipv6():
        pytest.skip("this machine speaks no IPv6")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    check_listening(host, port)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "[::1]", "", "256.1.1.1", "a" * 300, "x y", "\0"])
def test_a_host_that_is_no_address_is_refused(host: str) -> None:
    with pytest.raises(UserError, match="--host must be an address"):
        check_listening(host, 8000)


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EACCES, "below port 1024"),
        (errno.EADDRNOTAVAIL, "does not have that address"),
        (errno.EAFNOSUPPORT, "does not speak"),
    ],
)
def test_why_a_port_cannot_be_used_is_told_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, number: int, advice: str
) -> None:
    class Refusing(socket.socket):
        def bind(self, _: object) -> None:
            raise OSError(number, "secret")

    monkeypatch.setattr(socket, "socket", Refusing)
    with pytest.raises(UserError, match=rf"127\.0\.0\.1:80 must be free to listen on; .*{advice}") as caught:
        check_listening("127.0.0.1", 80)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("port", [80_000, 0, -1, 65_536, "x", 10**30])
def test_a_number_that_is_no_port_ends_with_2_and_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], port: object
) -> None:
    assert exit_code("serve", tmp_path, "--port", port) == 2
    told = said(capsys.readouterr().err)
    assert "--port" in told
    assert "Traceback" not in told
