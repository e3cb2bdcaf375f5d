"""A TCP proxy that can keep what clients sent and let it go later, even after the client is dead.

This is what a network, a kernel buffer or a paused host does to the last bytes of a killed producer. `hold()` takes effect on
the connections that are open at that moment; those opened later pass. Nothing is lost or reordered within a connection.
"""
import socket
import threading

from servers import HOST

CHUNK_BYTES = 65536


class Link:
    """One client connection and its connection to the server."""

    def __init__(self, client, server):
        self.client, self.server = client, server
        self.held = False
        self.bytes = bytearray()
        self.ended = False
        self.lock = threading.Lock()

    def start(self):
        for loop in (self.upstream, self.downstream):
            threading.Thread(target=loop, daemon=True).start()

    def upstream(self):
        while True:
            data = receive(self.client)
            with self.lock:
                if self.held:
                    self.bytes += data
                    self.ended = self.ended or not data
                elif data:
                    deliver(self.server, data)
                else:
                    finish(self.server)
            if not data:
                return

    def downstream(self):
        while True:
            data = receive(self.server)
            if not data:
                finish(self.client)
                return
            deliver(self.client, data)

    def hold(self):
        with self.lock:
            self.held = True

    def release(self):
        """How many bytes went on their way."""
        with self.lock:
            count, self.held = len(self.bytes), False
            if self.bytes:
                deliver(self.server, bytes(self.bytes))
                self.bytes.clear()
            if self.ended:
                finish(self.server)
            return count


def receive(source):
    try:
        return source.recv(CHUNK_BYTES)
    except OSError:
        return b""


def deliver(to, data):
    try:
        to.sendall(data)
    except OSError:
        pass


def finish(to):
    """No more bytes that way; the other way stays open, or a late answer would become a reset."""
    try:
        to.shutdown(socket.SHUT_WR)
    except OSError:
        pass


class Proxy:
    """Listens on `port` of loopback for one target."""

    def __init__(self, port, target_port):
        self.port, self.target_port = port, target_port
        self.links = []
        self.listener = socket.create_server((HOST, port))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection((HOST, self.target_port))
            except OSError:
                client.close()
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = Link(client, server)
            self.links.append(link)  # before its first byte moves, so that `hold` cannot miss it
            link.start()

    def hold(self):
        """Keeps what the clients connected now send from here on."""
        held = list(self.links)
        for link in held:
            link.hold()
        return held

    @staticmethod
    def held_bytes(links):
        return sum(len(link.bytes) for link in links)

    @staticmethod
    def release(links):
        return sum(link.release() for link in links)

    def close(self):
        self.listener.close()
        for link in self.links:
            for end in (link.client, link.server):
                try:
                    end.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads it
                except OSError:
                    pass
                end.close()
