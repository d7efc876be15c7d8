"""Raw sockets: sends exactly these bytes and reads what comes back."""

import http.client
import re
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass
class Answer:
    """What came back; status 0 means that the connection ended without an answer."""

    status: int
    headers: dict
    body: bytes
    closed: bool

    @property
    def code(self):
        """The S3 code in the XML, or an empty string."""
        found = re.search(rb"<Code>([^<]*)</Code>", self.body)
        return found[1].decode() if found else ""


def address(endpoint):
    """Host and port of a URL."""
    parts = urlsplit(endpoint)
    return parts.hostname, parts.port


def exchange(endpoint, data, finish=False, seconds=20, method="GET", watch_end=True):
    """Sends bytes on a new connection and reads one answer.

    `finish` ends our side after the bytes, as a client does that gave up. The answer's `closed` says
    whether the server announced the end of the connection or, with `watch_end`, ended it.
    """
    with socket.create_connection(address(endpoint), timeout=seconds) as connection:
        try:
            connection.sendall(data)
            if finish:
                connection.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # The server may refuse early; its answer may still be readable.
        reader = http.client.HTTPResponse(connection, method=method)
        try:
            reader.begin()
            body = reader.read()
        except (http.client.HTTPException, ConnectionError):
            return Answer(0, {}, b"", True)
        headers = {name.lower(): value for name, value in reader.getheaders()}
        closed = headers.get("connection", "").lower() == "close"
        closed = closed or (watch_end and ended(connection))
        return Answer(reader.status, headers, body, closed)


def everything(endpoint, data, seconds=20):
    """Sends bytes on a new connection and returns all that comes until the server ends it."""
    with socket.create_connection(address(endpoint), timeout=seconds) as connection:
        connection.sendall(data)
        received = bytearray()
        while piece := connection.recv(65536):
            received += piece
        return bytes(received)


def ended(connection):
    """Whether the server closed the connection (or does so at once)."""
    connection.settimeout(0.2)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True
