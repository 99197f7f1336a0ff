"""Many clients of the daemon's socket at once, half of which behave: in one thread, so that it takes little of the machine.

    c = crowd.Crowd('api.sock')         250 that ask every two seconds, all at one moment, and 250 that are slow or malformed, and come again
    c.start()
    ...
    c.finish()                          no more is asked; what was asked is waited for
    c.asked, c.wrong, c.longest         requests; those that were not answered as they should be; seconds
"""
import re
import selectors
import socket
import threading
import time

PATIENCE = 30       # seconds within which an answer must be there
TARGETS = ['/v1/status', '/v1/jobs', '/v1/history', '/metrics', '/v1/schedule']
BAD = [b'', b'GET /v1/status HTTP/1.1\r\nHost: x\r\nX-', b'\x00\xff\xfe garbage \r\n\r\n\r\n', b'GET /v1/status\r\n', b'A' * 100000,
       b'POST /v1/jobs/x/run HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{', b'GET /' + b'a' * 20000 + b' HTTP/1.1\r\n\r\n',
       b'POST /v1/pause HTTP/1.1\r\nContent-Length: -5\r\n\r\n', b'POST /v1/pause HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n',
       b'GET /v1/history?limit=10000 HTTP/1.1\r\nHost: x\r\n\r\n']      # the last one does not read its answer
DRIP = b'GET /v1/status HTTP/1.1\r\n' + b'X: y\r\n' * 1000              # a byte at a time


class _Client:
    def __init__(self, crowd, number, good):
        self.crowd, self.number, self.good = crowd, number, good
        kind = number % (len(BAD) + 1)
        self.drips, self.deaf = not good and kind == len(BAD), not good and kind == len(BAD) - 1
        self.sock, self.rounds, self.at, self.since = None, 0, 0.0, None
        self.out = self.answer = b''

    def begin(self, now):
        """Connect; a full queue of the kernel's is waited for, as connect(2) would."""
        if self.since is None:
            self.since = now
        s = socket.socket(socket.AF_UNIX)
        s.setblocking(False)
        try:
            s.connect(self.crowd.path)
        except OSError as e:
            s.close()
            if self.good and not isinstance(e, BlockingIOError):
                return self.end(now, str(e))
            self.at = now + 0.02
            return None
        self.sock, self.answer = s, b''
        if self.good:
            self.out = b'GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n' % TARGETS[(self.number + self.rounds) % len(TARGETS)].encode()
            self.at = now + PATIENCE
        else:
            self.out = DRIP if self.drips else BAD[self.number % (len(BAD) + 1)]
            self.at = now + 1
        self.crowd.selector.register(s, selectors.EVENT_READ | (selectors.EVENT_WRITE if self.out and not self.drips else 0), self)
        return None

    def send(self):
        try:
            self.out = self.out[self.sock.send(self.out[:1] if self.drips else self.out):]
        except BlockingIOError:
            return
        except OSError:
            self.out = b''
        if not self.out and not self.drips:
            self.crowd.selector.modify(self.sock, selectors.EVENT_READ, self)

    def receive(self, now):
        if self.deaf:
            self.crowd.selector.unregister(self.sock)       # it waits for its answer to be taken away
            self.at = now + 15
            return
        try:
            piece = self.sock.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            piece = b''
        self.answer += piece
        if not piece:
            self.end(now)

    def judge(self):
        top, _, body = self.answer.partition(b'\r\n\r\n')
        m = re.search(rb'(?i)^content-length: *(\d+)', top, re.M)
        return '' if top.startswith(b'HTTP/1.1 200 ') and m and int(m[1]) == len(body) else 'answered with %r and %d bytes' % (top[:40], len(body))

    def end(self, now, why=None):
        if self.sock is not None:
            try:
                self.crowd.selector.unregister(self.sock)
            except KeyError:
                pass
            self.sock.close()
            self.sock = None
        if self.good:
            why = why if why is not None else self.judge()
            self.crowd.asked += 1
            self.crowd.longest = max(self.crowd.longest, now - self.since)
            if why:
                self.crowd.wrong.append((TARGETS[(self.number + self.rounds) % len(TARGETS)], why))
        self.since, self.rounds = None, self.rounds + 1
        self.at = self.crowd.next_moment(now) if self.good else now + 1

    def wake(self, now):
        if self.sock is None:
            self.begin(now)
        elif self.good:
            self.end(now, 'no answer within %d s' % PATIENCE)
        elif self.drips:
            self.send()
            self.at = now + 0.5
        elif now - self.since > 15:
            self.end(now)
        else:
            self.at = now + 1


class Crowd(threading.Thread):
    def __init__(self, path, good=250, bad=250, every=2.0):
        super().__init__(daemon=True)
        self.path, self.every = path, every
        self.selector, self.ending = selectors.DefaultSelector(), threading.Event()
        self.asked, self.wrong, self.longest, self.most = 0, [], 0.0, 0
        self.begun = time.monotonic()
        self.clients = [_Client(self, n, False) for n in range(bad)] + [_Client(self, n, True) for n in range(good)]

    def next_moment(self, now):
        """All who behave come at once."""
        return self.begun + self.every * ((now - self.begun) // self.every + 1)

    def run(self):
        while True:
            now = time.monotonic()
            ending = self.ending.is_set()
            for c in self.clients:
                if c.at <= now and not (ending and c.since is None):
                    c.wake(now)
            waiting = [c for c in self.clients if c.since is not None and c.good]
            self.most = max(self.most, sum(c.sock is not None for c in self.clients))
            if ending and not waiting:
                break
            for key, events in self.selector.select(max(0.0, min(0.05, min(c.at for c in self.clients) - now))):
                client = key.data
                if events & selectors.EVENT_WRITE and client.sock is not None:
                    client.send()
                if events & selectors.EVENT_READ and client.sock is not None:
                    client.receive(time.monotonic())
        for c in self.clients:
            if c.sock is not None:
                c.sock.close()

    def finish(self):
        self.ending.set()
        self.join()
