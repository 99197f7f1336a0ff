#!/usr/bin/python3 -B
"""An SFTP server (version 3, on standard input and output) that misbehaves as a file says; to be the Subsystem of a real sshd.

    sftp_hostile.py PLAN

PLAN is a file with a JSON list of faults, read when a connection begins; an empty list makes it an honest server of the whole file system.
A fault is an object:

    "on":    which requests: a name of OPS, or a list of them; "*" for all but INIT
    "path":  only if it (or the handle's) contains this text
    "after": only from the n-th such request on, of this connection (0, the default: from the first)
    "times": at most so often (default: always)
    "do":    what: a method of Fault below
    "with":  its argument
"""
import json
import os
import stat
import struct
import sys
import time

OPS = {1: 'INIT', 3: 'OPEN', 4: 'CLOSE', 5: 'READ', 6: 'WRITE', 7: 'LSTAT', 8: 'FSTAT', 9: 'SETSTAT', 10: 'FSETSTAT', 11: 'OPENDIR', 12: 'READDIR',
       13: 'REMOVE', 14: 'MKDIR', 15: 'RMDIR', 16: 'REALPATH', 17: 'STAT', 18: 'RENAME', 200: 'EXTENDED'}
VERSION, STATUS, HANDLE, DATA, NAME, ATTRS, EXTENDED_REPLY = 2, 101, 102, 103, 104, 105, 201
OK, EOF, NO_FILE, DENIED, FAILURE, BAD, UNSUPPORTED = 0, 1, 2, 3, 4, 5, 8
BY_ERRNO = {'FileNotFoundError': NO_FILE, 'NotADirectoryError': NO_FILE, 'PermissionError': DENIED}


def u32(n):
    return struct.pack('>I', n)


def string(b):
    return u32(len(b)) + b


def attrs_of(st):
    """Size, owner, permissions and times."""
    return struct.pack('>IQIIIII', 0xf, st.st_size, st.st_uid, st.st_gid, st.st_mode, int(st.st_atime), int(st.st_mtime))


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        self.at += n
        return self.data[self.at - n:self.at]

    def u32(self):
        return struct.unpack('>I', self.take(4))[0]

    def u64(self):
        return struct.unpack('>Q', self.take(8))[0]

    def string(self):
        return self.take(self.u32())


def send(data):
    view = memoryview(data)
    while view:
        view = view[os.write(1, view):]


def packet(kind, body):
    return u32(len(body) + 1) + bytes([kind]) + body


class Fault:
    """What may be done instead of an honest answer.  Each gets the answer (kind, id, body) and sends what it likes."""

    def status(self, _kind, number, _body, code):
        send(packet(STATUS, u32(number) + u32(code) + string(b'because') + string(b'')))

    def slow(self, kind, number, body, seconds):
        time.sleep(seconds)
        send(packet(kind, u32(number) + body))

    def silent(self, *_):
        pass

    def eof(self, *_):
        os._exit(0)

    def half(self, kind, number, body, _arg):
        """Half an answer, and the end."""
        whole = packet(kind, u32(number) + body)
        send(whole[:max(1, len(whole) // 2)])
        os._exit(1)

    def stall(self, kind, number, body, _arg):
        """Half an answer, and nothing more."""
        whole = packet(kind, u32(number) + body)
        send(whole[:len(whole) // 2])
        while os.read(0, 1 << 16):
            pass
        os._exit(1)

    def wrong_id(self, kind, number, body, _arg):
        send(packet(kind, u32(number + 1000) + body))

    def flood(self, kind, number, body, _arg):
        """Answers that nobody asked for, without end."""
        many = b''.join(packet(kind, u32(number + 1000 + i) + body[:8]) for i in range(1000))
        while True:
            send(many)

    def length(self, kind, number, body, n):
        """A packet that claims to have ${n} bytes, with the honest ones."""
        send(u32(n) + packet(kind, u32(number) + body)[4:])

    def kind(self, _kind, number, body, other):
        send(packet(other, u32(number) + body))

    def cut(self, kind, number, body, n):
        """A whole packet with only ${n} bytes of its body."""
        send(packet(kind, u32(number) + body[:n]))

    def body(self, kind, number, _body, text):
        """The body in hex."""
        send(packet(kind, u32(number) + bytes.fromhex(text)))

    def raw(self, _kind, _number, _body, text):
        send(text.encode('latin-1'))

    def short(self, kind, number, body, n):
        """DATA: at most ${n} bytes, as if the server had small buffers."""
        if kind == DATA:
            body = string(body[4:4 + n])
        send(packet(kind, u32(number) + body))

    def longer(self, kind, number, body, n):
        """DATA: ${n} bytes more than were asked for."""
        if kind == DATA:
            body = string(body[4:] + b'x' * n)
        send(packet(kind, u32(number) + body))

    def flip(self, kind, number, body, _arg):
        """DATA: with one bit another."""
        if kind == DATA:
            body = body[:-1] + bytes([body[-1] ^ 1])
        send(packet(kind, u32(number) + body))

    def size(self, kind, number, body, n):
        """ATTRS: with ${n} added to the size."""
        if kind == ATTRS:
            body = body[:4] + struct.pack('>Q', (struct.unpack('>Q', body[4:12])[0] + n) % (1 << 64)) + body[12:]
        send(packet(kind, u32(number) + body))

    def mode(self, kind, number, body, n):
        """ATTRS: with another type of file."""
        if kind == ATTRS:
            body = body[:20] + u32(n) + body[24:]
        send(packet(kind, u32(number) + body))

    def names(self, kind, number, body, names):
        """NAME: these, before the honest ones; a number makes so many."""
        if isinstance(names, int):
            names = ['%06d' % i for i in range(names)]
        if kind == NAME:
            more = [string(n.encode('latin-1')) + string(b'-') + u32(0) for n in names]
            while len(more) > 500:
                # The rest comes with the next READDIRs, which are answered before they are asked: so only whole parts of them.
                self.pending.append(u32(500) + b''.join(more[:500]))
                more = more[500:]
            if self.pending:
                self.pending += [u32(len(more)) + b''.join(more), body]
                body = self.pending.pop(0)
            else:
                body = u32(struct.unpack('>I', body[:4])[0] + len(more)) + b''.join(more) + body[4:]
        send(packet(kind, u32(number) + body))

    def endless(self, kind, number, body, _arg):
        """NAME: the same answer to every READDIR."""
        self.again = self.again or (body if kind == NAME else b'')
        send(packet(NAME, u32(number) + self.again) if self.again else packet(kind, u32(number) + body))

    pending, again = [], b''


class Server:
    def __init__(self, plan):
        self.plan, self.fault = plan, Fault()
        self.seen = {}
        self.handles, self.next = {}, 0

    def path(self, raw):
        return raw or b'.'

    def new_handle(self, what):
        self.next += 1
        name = b'h%d' % self.next
        self.handles[name] = what
        return HANDLE, string(name)

    def open(self, r):
        name, flags = self.path(r.string()), r.u32()
        mode = os.O_RDWR if flags & 3 == 3 else os.O_WRONLY if flags & 2 else os.O_RDONLY
        mode |= (os.O_CREAT if flags & 8 else 0) | (os.O_TRUNC if flags & 16 else 0) | (os.O_EXCL if flags & 32 else 0)
        return self.new_handle((os.open(name, mode, 0o600), name))

    def close(self, r):
        fd, _ = self.handles.pop(r.string())
        if isinstance(fd, int):
            os.close(fd)

    def read(self, r):
        fd, offset, n = self.handles[r.string()][0], r.u64(), r.u32()
        data = os.pread(fd, min(n, 1 << 17), offset)
        return (DATA, string(data)) if data else EOF

    def write(self, r):
        fd, offset = self.handles[r.string()][0], r.u64()
        data = r.string()
        while data:
            n = os.pwrite(fd, data, offset)
            data, offset = data[n:], offset + n

    def lstat(self, r):
        return ATTRS, attrs_of(os.lstat(self.path(r.string())))

    def stat(self, r):
        return ATTRS, attrs_of(os.stat(self.path(r.string())))

    def fstat(self, r):
        return ATTRS, attrs_of(os.fstat(self.handles[r.string()][0]))

    def setstat(self, r):
        name, flags = self.path(r.string()), r.u32()
        if flags & 1:
            os.truncate(name, r.u64())

    def fsetstat(self, r):
        fd, flags = self.handles[r.string()][0], r.u32()
        if flags & 1:
            os.ftruncate(fd, r.u64())

    def opendir(self, r):
        name = self.path(r.string())
        return self.new_handle((iter([os.listdir(name)]), name))

    def readdir(self, r):
        if self.fault.pending:
            return NAME, self.fault.pending.pop(0)
        names, where = self.handles[r.string()]
        for found in names:
            out = [n for n in [b'.', b'..', *found] if os.path.lexists(os.path.join(where, n))]
            return NAME, u32(len(out)) + b''.join(string(n) + string(n) + attrs_of(os.lstat(os.path.join(where, n))) for n in out)
        return EOF

    def remove(self, r):
        name = self.path(r.string())
        if stat.S_ISDIR(os.lstat(name).st_mode):
            return FAILURE
        os.unlink(name)
        return OK

    def mkdir(self, r):
        os.mkdir(self.path(r.string()), 0o700)

    def rmdir(self, r):
        os.rmdir(self.path(r.string()))

    def realpath(self, r):
        name = os.path.realpath(self.path(r.string()))
        return NAME, u32(1) + string(name) + string(name) + u32(0)

    def rename(self, r):
        old, new = self.path(r.string()), self.path(r.string())
        if os.path.lexists(new):
            return FAILURE
        os.rename(old, new)
        return OK

    def extended(self, r):
        name = r.string()
        if name == b'fsync@openssh.com':
            os.fsync(self.handles[r.string()][0])
            return OK
        if name == b'statvfs@openssh.com':
            v = os.statvfs(self.path(r.string()))
            return EXTENDED_REPLY, struct.pack('>11Q', v.f_bsize, v.f_frsize, v.f_blocks, v.f_bfree, v.f_bavail, v.f_files, v.f_ffree, v.f_favail,
                                               0, v.f_flag & 3, v.f_namemax)
        return UNSUPPORTED

    def answer(self, op, r):
        """(kind, body) of the honest answer."""
        try:
            got = getattr(self, op.lower())(r) if op else UNSUPPORTED
        except OSError as e:
            got = BY_ERRNO.get(type(e).__name__, FAILURE)
        except (KeyError, struct.error):
            got = BAD
        if isinstance(got, tuple):
            return got
        return STATUS, u32(got or OK) + string(b'') + string(b'')

    def find(self, op, data):
        for i, f in enumerate(self.plan):
            on = f['on']
            if op not in ([on] if isinstance(on, str) else on) and not (on == '*' and op != 'INIT'):
                continue
            if 'path' in f:
                # The first string after the id is a path or a handle.
                first = Reader(data[5:]).string()
                name = self.handles.get(first, (None, first))[1]
                if f['path'].encode() not in name:
                    continue
            n = self.seen[i] = self.seen.get(i, 0) + 1
            if f.get('after', 0) < n <= f.get('after', 0) + f.get('times', 1 << 60):
                return f
        return None

    def request(self, data):
        op = OPS.get(data[0])
        fault = self.find(op, data)
        if op == 'INIT':
            kind, number, body = VERSION, 3, string(b'fsync@openssh.com') + string(b'1') + string(b'statvfs@openssh.com') + string(b'2')
        else:
            number = struct.unpack('>I', data[1:5])[0]
            # What is refused is not done.
            kind, body = (STATUS, b'') if fault and fault['do'] == 'status' else self.answer(op, Reader(data[5:]))
        if fault:
            getattr(self.fault, fault['do'])(kind, number, body, fault.get('with'))
        else:
            send(packet(kind, u32(number) + body))


def main():
    with open(sys.argv[1], encoding='utf-8') as f:
        server = Server(json.load(f))
    buf = b''
    while True:
        more = os.read(0, 1 << 18)
        if not more:
            return
        buf += more
        while len(buf) >= 4 and len(buf) >= 4 + struct.unpack('>I', buf[:4])[0]:
            n = struct.unpack('>I', buf[:4])[0]
            data, buf = buf[4:4 + n], buf[4 + n:]
            server.request(data)


if __name__ == '__main__':
    try:
        main()
    except BrokenPipeError:
        os._exit(0)
