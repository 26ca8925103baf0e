"""A cable between clients and a server: it can be cut, be pulled out for a while, and go silent
without a word.
"""

from __future__ import annotations

import socket
import threading

import sqlalchemy as sa


class Cable:
    """Forwards TCP connections to the server of a URL."""

    def __init__(self, url: str) -> None:
        self._url = sa.make_url(url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._ends: set[socket.socket] = set()
        self._is_in = True
        self._speaks = threading.Event()
        self._speaks.set()
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """The URL of the server through this cable."""
        own = self._url.set(host="127.0.0.1", port=self._listener.getsockname()[1])
        return own.render_as_string(hide_password=False)

    def cut(self) -> None:
        """Break every connection at once, in the middle of whatever it carries; new ones work."""
        with self._lock:
            self.cuts += len(self._ends) // 2
            for end in self._ends:
                _shut(end)

    def pull(self) -> None:
        """Break every connection and refuse new ones."""
        self._is_in = False
        self.cut()

    def plug(self) -> None:
        """Accept connections again."""
        self._is_in = True

    def silence(self) -> None:
        """Carry nothing; nobody is told."""
        self._speaks.clear()

    def speak(self) -> None:
        """Carry everything again, also what was held back."""
        self._speaks.set()

    def close(self) -> None:
        _shut(self._listener)
        self._listener.close()
        self.speak()
        self.pull()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if not self._is_in:
                client.close()
                continue
            try:
                server = socket.create_connection(
                    (self._url.host or "127.0.0.1", self._url.port or 0), timeout=5
                )
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            with self._lock:
                self._ends |= {client, server}
            for source, target in ((client, server), (server, client)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._carry, args=(source, target), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                self._speaks.wait()
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            _shut(end)
        with self._lock:
            self._ends -= {source, target}


def _shut(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
