"""A TCP proxy through which a server's bytes come late: a standby behind it lags by that time.

What clients send passes at once. `cut()` drops what is under way, as the death of a host does.
"""
import queue
import socket
import threading
import time

from proxy import deliver, receive
from servers import HOST


class LateProxy:
    """Listens on `port` of loopback for one server. `seconds` may be changed at any time."""

    def __init__(self, port, target_port):
        self.port, self.target_port, self.seconds = port, target_port, 0.0
        self.over = threading.Event()
        self.sockets = []
        self.listener = socket.create_server((HOST, port))
        spawn(self.accept)

    def accept(self):
        while not self.over.is_set():
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
            self.sockets += [client, server]
            waiting = queue.Queue()
            spawn(self.pass_on, client, server)
            spawn(self.take, server, waiting)
            spawn(self.give, client, waiting)

    def pass_on(self, client, server):
        """From the client to the server."""
        while data := receive(client):
            deliver(server, data)
        shut(server)

    def take(self, server, waiting):
        """From the server into the queue, with the time at which it is due."""
        while data := receive(server):
            waiting.put((time.monotonic() + self.seconds, data))
        waiting.put((time.monotonic() + self.seconds, b""))

    def give(self, client, waiting):
        """From the queue to the client, when it is due."""
        while True:
            due, data = waiting.get()
            if self.over.wait(max(0.0, due - time.monotonic())):
                return
            if not data:
                return shut(client)
            deliver(client, data)

    def cut(self):
        """Ends all connections; what is under way is lost."""
        self.over.set()
        self.listener.close()
        for end in self.sockets:
            shut(end)
            end.close()

    kill = cut


def spawn(work, *arguments):
    threading.Thread(target=work, args=arguments, daemon=True).start()


def shut(end):
    try:
        end.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads it
    except OSError:
        pass
