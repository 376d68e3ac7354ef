"""As much of a WebSocket client (RFC 6455) as running a program in a pod needs: binary messages in both directions."""

import base64
import os
import socket as sockets
import struct
import time
from collections.abc import Iterator, Mapping

PROTOCOL = "v4.channel.k8s.io"
_CLOSE, _PING, _PONG = 0x8, 0x9, 0xA
_BINARY = 0x2


class WebSocket:
    """Over a socket that is connected already. Raises TimeoutError when `deadline` seconds are over."""

    def __init__(self, socket: sockets.socket, deadline: float) -> None:
        self._socket = socket
        self._end = time.monotonic() + deadline
        self._buffer = bytearray()

    def open(self, host: str, path: str, headers: Mapping[str, str]) -> tuple[int, str] | None:
        """Ask for the protocol; status and text of the answer where the server refuses."""
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            f"GET {path} HTTP/1.1", f"Host: {host}", "Connection: Upgrade", "Upgrade: websocket",
            "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}", f"Sec-WebSocket-Protocol: {PROTOCOL}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]  # fmt: skip
        self._socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        while b"\r\n\r\n" not in self._buffer:
            self._fill()
        head, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        self._buffer[:] = rest
        status = int(head.split(b" ", 2)[1])
        if status == 101:
            return None
        return status, rest.decode("utf-8", "replace").strip() or f"HTTP {status}"

    def send(self, data: bytes, kind: int = _BINARY) -> None:
        """One message. A client's bytes are masked (section 5.3)."""
        mask = os.urandom(4)
        size = len(data)
        if size < 126:
            head = struct.pack("!BB", 0x80 | kind, 0x80 | size)
        elif size < 1 << 16:
            head = struct.pack("!BBH", 0x80 | kind, 0x80 | 126, size)
        else:
            head = struct.pack("!BBQ", 0x80 | kind, 0x80 | 127, size)
        pattern = int.from_bytes((mask * (size // 4 + 1))[:size])
        masked = (int.from_bytes(data) ^ pattern).to_bytes(size)
        self._socket.sendall(head + mask + masked)

    def messages(self) -> Iterator[bytes]:
        """What the server sends, until it closes."""
        whole = bytearray()
        while True:
            try:
                first, second = self._take(2)
            except ConnectionError:
                return
            size = second & 0x7F
            if size >= 126:
                size = int.from_bytes(self._take(2 if size == 126 else 8))
            data = self._take(size)
            kind = first & 0x0F
            if kind == _CLOSE:
                return
            if kind == _PING:
                self.send(data, _PONG)
            elif kind != _PONG:
                whole += data
                if first & 0x80:
                    yield bytes(whole)
                    whole.clear()

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._fill()
        found = bytes(self._buffer[:size])
        del self._buffer[:size]
        return found

    def _fill(self) -> None:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("the server closed the connection")
        self._buffer += data
