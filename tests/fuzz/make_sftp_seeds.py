#!/usr/bin/python3 -B
"""Make the seeds of fuzz_sftp, always the same: what an SFTP server says, honest or not.    make_sftp_seeds.py CORPUS (writes CORPUS/sftp)"""
import struct

import seed_files

VERSION, STATUS, HANDLE, DATA, NAME, ATTRS, REPLY = 2, 101, 102, 103, 104, 105, 201
LIST, READ, PAGES, SMALL, WRITE, NAMES, REST = range(7)


def u32(n):
    return struct.pack('>I', n & 0xffffffff)


def string(b):
    return u32(len(b)) + b


def answer(kind, body=b''):
    return b'A' + struct.pack('>H', 1 + len(body)) + bytes([kind]) + body


def raw(b):
    return b'R' + struct.pack('>H', len(b)) + b


def attrs(mode=0o100600, size=100, flags=0xf):
    return struct.pack('>IQIIIII', flags, size, 0, 0, mode, 1, 1)


def status(code):
    return answer(STATUS, u32(code) + string(b'why') + string(b''))


def data(n):
    return answer(DATA, string(bytes(i * 7 % 251 for i in range(n))))


def names(*of):
    return answer(NAME, u32(len(of)) + b''.join(string(n) + string(n) + attrs() for n in of))


OK, EOF, NONE, DENIED, FAILURE = (status(n) for n in range(5))
HELLO = answer(VERSION, u32(3) + string(b'fsync@openssh.com') + string(b'1') + string(b'statvfs@openssh.com') + string(b'2'))
FOLDER, FILE, OPENED = answer(ATTRS, attrs(0o40700)), answer(ATTRS, attrs()), answer(HANDLE, string(b'h1'))
BEGIN = HELLO + FOLDER
LISTING = names(b'.', b'..', b'vda', b'a/b', b'x\0y', b'n' * 300) + names(b'\xff', b'') + names(b'later')


def seeds():
    """Name, what is done, what the server says."""
    yield 'list', LIST, BEGIN + OPENED + LISTING + EOF + OK
    yield 'list-waits', LIST, BEGIN + b'WW' + OPENED + b'W' + LISTING + b'W' + EOF + OK
    yield 'list-count', LIST, BEGIN + OPENED + answer(NAME, u32(-1) + string(b'a'))
    yield 'list-length', LIST, BEGIN + OPENED + answer(NAME, u32(2) + string(b'a') + string(b'a') + attrs() + u32(0xfffffff0) + b'b')
    yield 'list-extended', LIST, BEGIN + OPENED + answer(NAME, u32(1) + string(b'a') * 2 + u32(0x80000000) + u32(-1)) + EOF
    yield 'list-cut', LIST, BEGIN + OPENED + raw(u32(50) + bytes([NAME])) + b'E'
    yield 'read', READ, BEGIN + answer(ATTRS, attrs(size=150000)) + OPENED + data(30000) * 2 + data(10000) + data(30000) * 3 + EOF + OK
    yield 'read-less', READ, BEGIN + answer(ATTRS, attrs(size=90000)) + OPENED + data(1000) * 3 + HELLO + OPENED + data(1000) * 80
    yield 'read-more', READ, BEGIN + answer(ATTRS, attrs(size=90000)) + OPENED + data(30010)
    yield 'read-lies', READ, BEGIN + answer(ATTRS, attrs(size=1 << 63)) + OPENED + answer(DATA, u32(0x7fffffff) + b'abc')
    yield 'read-status', READ, BEGIN + FILE + OPENED + FAILURE
    yield 'read-fifo', READ, BEGIN + answer(ATTRS, attrs(0o10600))
    yield 'pages', PAGES, BEGIN + answer(ATTRS, attrs(size=60000)) + OPENED + data(30000) + data(2768) + data(27232) + OK
    yield 'small', SMALL, BEGIN + FILE + OPENED + data(100) + OK
    yield 'small-large', SMALL, BEGIN + answer(ATTRS, attrs(size=5000)) + OPENED + OK
    yield 'small-handle', SMALL, BEGIN + FILE + answer(HANDLE, string(b'h' * 300)) + data(100) + OK
    yield 'small-no-handle', SMALL, BEGIN + FILE + answer(HANDLE, u32(-1) + b'h') + answer(HANDLE) + OK
    yield 'write', WRITE, BEGIN + OPENED + OK * 13
    yield 'write-full', WRITE, BEGIN + OPENED + OK * 3 + FAILURE + HELLO + answer(REPLY, bytes(88))
    yield 'write-no-fsync', WRITE, BEGIN + OPENED + OK * 11 + status(8) + OK
    yield 'write-ends', WRITE, BEGIN + OPENED + OK * 2 + b'EC'
    yield 'names', NAMES, BEGIN + OK + OPENED + OK * 2 + NONE + OK + OPENED + data(1) + OK * 5
    yield 'names-taken', NAMES, BEGIN + FAILURE + FILE
    yield 'names-denied', NAMES, BEGIN + DENIED
    yield 'rest', REST, BEGIN + answer(REPLY, struct.pack('>11Q', 4096, 4096, 100, 50, 50, 10, 5, 5, 0, 0, 255)) + FILE + OPENED + \
        names(b'..', b'f') + EOF + OK + FILE + OK + OK
    yield 'rest-statvfs', REST, BEGIN + answer(REPLY, b'\xff' * 88) + answer(ATTRS, u32(0))
    yield 'rest-deep', REST, BEGIN + status(8) + FILE + (OPENED + names(b'd') + EOF + OK + FOLDER) * 6
    yield 'begin-greeting', LIST, raw(b'Welcome to the jungle!\r\n')
    yield 'begin-version', LIST, answer(VERSION, u32(99) + string(b'x') + u32(0xffffff00))
    yield 'begin-short', LIST, raw(u32(0)) + raw(u32(1) + b'\x02') + raw(u32(300000) + b'\x02')
    yield 'begin-folder', LIST, HELLO + FILE
    yield 'ids', LIST, BEGIN + OPENED + raw(u32(9) + bytes([STATUS]) + u32(77) + u32(0)) * 9 + b'W' + names(b'a') + EOF
    yield 'types', LIST, BEGIN + answer(250, b'x') + answer(0) + answer(NAME, u32(0)) + answer(DATA, string(b'')) + EOF


if __name__ == '__main__':
    seed_files.write(seed_files.corpus(), 'sftp', ((name, bytes([what]) + said) for name, what, said in seeds()))
