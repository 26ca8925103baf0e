"""A wire between a client and its database that can be cut at the worst moment."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import sqlalchemy as sa


class Wire:
    """Forwards connections to a server.

    Armed, it cuts the connection whose server has just confirmed a write: the server has committed,
    the client does not know. Down, it refuses everything.
    """

    def __init__(self, url: str) -> None:
        self._target = sa.make_url(url)
        self._is_postgres = self._target.get_backend_name() == "postgresql"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._must_cut: Callable[[bytes], bool] | None = None
        self._is_down = False
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """The URL of the database through this wire."""
        url = self._target.set(host="127.0.0.1", port=self._listener.getsockname()[1])
        if self._is_postgres:
            url = url.update_query_dict({"sslmode": "disable", "gssencmode": "disable"})
        return url.render_as_string(hide_password=False)

    def cut_after_commit(self) -> None:
        """Cut the next connection that has committed a write, before its client hears of it."""
        self._must_cut = lambda sent: any(
            word in sent for word in (b"INSERT", b"UPDATE", b"DELETE")
        )

    def go_down(self) -> None:
        """Cut everything and refuse everything."""
        self._is_down = True
        with self._lock:
            for end in self._open:
                _shut(end)

    def come_up(self) -> None:
        """Work again."""
        self._is_down = False

    def close(self) -> None:
        """Stop for good."""
        _shut(self._listener)
        self._listener.close()
        self.go_down()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._is_down:
                client.close()
                continue
            server = socket.create_connection(
                (self._target.host or "127.0.0.1", self._target.port or 5432)
            )
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open |= {client, server}
            sent = bytearray()
            threading.Thread(target=self._forward, args=(client, server, sent), daemon=True).start()
            threading.Thread(target=self._answer, args=(server, client, sent), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket, sent: bytearray) -> None:
        while data := _receive(client):
            if self._must_cut is not None:
                sent += data
            _send(server, data)
        self._end(client, server)

    def _answer(self, server: socket.socket, client: socket.socket, sent: bytearray) -> None:
        while data := _receive(server):
            must_cut = self._must_cut
            if must_cut is not None and must_cut(sent) and self._has_committed(data):
                self._must_cut = None
                self.cuts += 1
                break
            _send(client, data)
        self._end(client, server)

    def _has_committed(self, answer: bytes) -> bool:
        if self._is_postgres:  # ready for the next query, and in no transaction
            return answer.endswith(b"Z\x00\x00\x00\x05I")
        return answer[4:5] == b"\x00" and not _status_of(answer[5:]) & 1

    def _end(self, *ends: socket.socket) -> None:
        for end in ends:
            _shut(end)
            with self._lock:
                if end in self._open:
                    self._open.discard(end)
                    end.close()


def _status_of(ok: bytes) -> int:
    """Return the status flags of a MySQL OK packet, which follow two numbers of variable length.

    1 is "in a transaction".
    """
    for _ in range(2):
        ok = ok[1 + {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(ok[0], 0) :]
    return int.from_bytes(ok[:2], "little")


def _receive(end: socket.socket) -> bytes:
    try:
        return end.recv(1 << 20)
    except OSError:
        return b""


def _send(end: socket.socket, data: bytes) -> None:
    try:
        end.sendall(data)
    except OSError:
        _shut(end)


def _shut(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
