"""A real sshd on loopback that serves a folder by SFTP, and what stands between it and a client; after tap.py.

    server = sshd.Server('server')                  its files in ./server; ends with the test
    server.authorize(sshd.keygen('id'))             ./id and ./id.pub
    server.url('/abs/folder')                       sftp://USER@127.0.0.1:PORT/abs/folder
    server.known_hosts('known')                     a file that knows its Ed25519 and ECDSA keys
    server.kill_sessions()                          the processes that serve connections die; the listener goes on

    proxy = sshd.Proxy(server.port)                 .port; .stall() makes it a black hole, .reset() cuts its connections; .delay seconds each way
"""
import ctypes
import getpass
import os
import select
import signal
import socket
import threading
import time

import tap

SSHD = '/usr/sbin/sshd'
LIBC = ctypes.CDLL(None)
USER = getpass.getuser()


def keygen(path, kind='ed25519', passphrase=''):
    """A new key; returns its absolute path."""
    r = tap.run(['ssh-keygen', '-q', '-t', kind, '-N', passphrase, '-C', os.path.basename(path), '-f', path])
    if r.status != 0:
        raise RuntimeError(r.stderr)
    return os.path.abspath(path)


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def children(pid):
    found = []
    for name in os.listdir('/proc'):
        if name.isdigit():
            try:
                with open('/proc/%s/stat' % name, encoding='utf-8', errors='replace') as f:
                    parent = int(f.read().rpartition(')')[2].split()[1])
            except OSError:
                continue
            if parent == pid:
                found.append(int(name))
    return found


class Server:
    def __init__(self, folder, kinds=('ed25519', 'ecdsa', 'rsa'), sftp='internal-sftp', options=(), force=True, wrap=(), log='ERROR'):
        self.folder = os.path.abspath(folder)
        os.makedirs(self.folder, exist_ok=True)
        os.makedirs('/run/sshd', exist_ok=True)
        self.keys = {kind: keygen(os.path.join(self.folder, 'host_' + kind), kind) for kind in kinds}
        self.authorized = os.path.join(self.folder, 'authorized_keys')
        with open(self.authorized, 'w', encoding='utf-8'):
            pass
        self.sftp, self.options, self.log_level = sftp, options, log
        self.force = ['ForceCommand ' + sftp] if force else []
        self.wrap = wrap        # a command that runs sshd
        self.port = free_port()
        self.child = None
        self.start()

    def start(self):
        """Listen, on the same port as before."""
        config = os.path.join(self.folder, 'sshd_config')
        with open(config, 'w', encoding='utf-8') as f:
            f.write(''.join(line + '\n' for line in (
                'ListenAddress 127.0.0.1', 'Port %d' % self.port, 'PidFile none', 'StrictModes no', 'UsePAM no', 'LogLevel ' + self.log_level,
                'PasswordAuthentication no', 'KbdInteractiveAuthentication no', 'PermitRootLogin yes', 'MaxStartups 50', 'UseDNS no',
                'AuthorizedKeysFile ' + self.authorized, 'Subsystem sftp ' + self.sftp, *self.force,
                *('HostKey ' + key for key in self.keys.values()), *self.options)))
        with open(os.path.join(self.folder, 'log'), 'ab') as log:
            self.child = tap.start([*self.wrap, SSHD, '-D', '-e', '-f', config], stdout=log, stderr=log, stdin=-3)
        until = time.monotonic() + 10 * tap.SLOWER
        while time.monotonic() < until:
            with socket.socket() as s:
                if s.connect_ex(('127.0.0.1', self.port)) == 0:
                    return
            if self.child.poll() is not None:
                break
            time.sleep(0.02)
        with open(os.path.join(self.folder, 'log'), encoding='utf-8', errors='replace') as log:
            raise RuntimeError('sshd does not listen: ' + log.read())

    def authorize(self, *keys):
        with open(self.authorized, 'w', encoding='utf-8') as out:
            for key in keys:
                with open(key + '.pub', encoding='utf-8') as f:
                    out.write(f.read())

    def known_hosts(self, path, kinds=('ed25519', 'ecdsa'), port=None):
        with open(path, 'w', encoding='utf-8') as out:
            for kind in kinds:
                with open(self.keys[kind] + '.pub', encoding='utf-8') as f:
                    out.write('[127.0.0.1]:%d %s\n' % (port or self.port, ' '.join(f.read().split()[:2])))
        return os.path.abspath(path)

    def url(self, path, port=None):
        return 'sftp://%s@127.0.0.1:%d%s' % (USER, port or self.port, path)

    def sessions(self):
        return children(self.child.pid)

    def kill_sessions(self):
        """Every process of every connection; returns how many connections there were."""
        found = self.sessions()
        for pid in found:
            for victim in children(pid) + [pid]:
                try:
                    os.kill(victim, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        return len(found)

    def stop(self):
        self.kill_sessions()
        tap.stop(self.child)


class Proxy:
    """Bytes to and from a port of this host, each way ${delay} seconds late."""

    def __init__(self, to, delay=0.0):
        self.to, self.delay, self.stalled, self.bytes = to, delay, False, 0
        self.pairs = []
        self.listener = socket.create_server(('127.0.0.1', 0), backlog=50)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def stall(self):
        """From now on nothing passes, and nothing is closed."""
        self.stalled = True

    def reset(self):
        """The connections are reset; new ones pass."""
        for pair in self.pairs:
            for s in pair:
                # To connect it to nowhere resets a connection at once (Linux), also while a thread waits for it.
                LIBC.connect(s.fileno(), b'\0' * 16, 16)
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        self.pairs = []

    def _accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(('127.0.0.1', self.to))
            for s in (client, server):
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.pairs.append((client, server))
            for a, b in ((client, server), (server, client)):
                threading.Thread(target=self._pass, args=(a, b), daemon=True).start()

    def _pass(self, source, target):
        late = []       # (when, bytes)
        size = 0
        try:
            while True:
                wait = None if not late else max(0.0, late[0][0] - time.monotonic())
                readable = select.select([source], [], [], wait)[0] if size < 1 << 24 else []
                if not readable and size >= 1 << 24:
                    time.sleep(wait)
                while self.stalled:
                    time.sleep(0.05)
                if readable:
                    data = source.recv(1 << 16)
                    if not data:
                        for _, rest in late:
                            target.sendall(rest)
                        target.shutdown(socket.SHUT_WR)
                        return
                    self.bytes += len(data)
                    size += len(data)
                    late.append((time.monotonic() + self.delay, data))
                while late and late[0][0] <= time.monotonic():
                    size -= len(late[0][1])
                    target.sendall(late.pop(0)[1])
        except OSError:
            for s in (source, target):
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
