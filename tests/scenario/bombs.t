#!/usr/bin/python3 -B
"""Small archives that claim a very long index, and unpack to one: they are refused before they fill the folder for temporary files."""
import os
import struct
import sys

sys.path[0:0] = [os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', d) for d in ('lib', 'oracle_selftest', 'fuzz')]
import make_sample
import make_seeds
import ovb
import tap

MIB, GIB, FRAME = 1 << 20, 1 << 30, 4 << 20
DAMAGED = b'\x28\xb5\x2f\xfd' + b'\xff' * 60      # begins like a frame of zstd


def zeroes(a, n):
    """Frames of so many zero bytes."""
    return a.compress(bytes(FRAME)) * (n // FRAME) + a.compress(bytes(n % FRAME))


def bomb(path, length, header_length=None, fill=True, mark=None, rest=zeroes):
    """An archive whose index has so many bytes, nearly all of them blocks; its first frame has all that stands before these.
    `fill`: the section table accounts for them."""
    a = make_sample.make_archive('bomb', 3, make_sample.TIME0, make_seeds.small_disks())
    a.flush()
    index, _ = a.index()
    n = struct.unpack_from('<I', index, 12)[0]
    table, body = bytearray(index[512:512 + 64 * n]), index[512 + 64 * n:]
    at, size = struct.unpack_from('<QQ', table, 64 * (n - 1) + 8)
    if fill:
        size = (length - 512 - at) // 32 * 32
        struct.pack_into('<QQ', table, 64 * (n - 1) + 16, size, size // 32)
    head = bytearray(index[:496])
    struct.pack_into('<Q', head, 56, header_length or length)
    own = make_sample.digest(bytes(head + table))
    start = make_sample.header(b'index.bin', length) + head + own + table + body
    trailer = struct.pack('<8sII16sQQQ16s424x', b'OVBTRAIL', 1, 3, a.id, length, len(a.out), a.raw, mark or own)
    out = bytes(a.out) + a.compress(start) + rest(a, length - 512 - (len(start) - 512)) + a.compress(trailer + make_sample.digest(trailer) + bytes(1024))
    with open(path, 'wb') as f:
        f.write(out)
    return len(out)


def refused(path, regex, name, **env):
    r = tap.run([ovb.RESTORE, '--archive', path, 'list'], env=env)
    tap.like(r.stderr, regex, name)
    return r


os.mkdir('tmp')
mounted = ovb.mount_tmpfs('small', 64 * MIB)
if os.path.ismount(mounted):
    # 60 GiB behind a head that is beyond reproach.
    size = bomb('claim', 60 * GIB)
    tap.ok(size < 8 * MIB, 'an archive of %d bytes with an index of 60 GiB' % size)
    r = refused('claim', r'claim: its index takes 64 GB, and the folder for temporary files, %s, has \d+ MB free \(set TMPDIR' % mounted,
                'there is no room for it: says how much it takes, how much there is, and what to do', TMPDIR=mounted)
    tap.is_((r.status, r.stdout), (1, ''), 'and no index is made up instead')
    # The same for an honest one.
    bomb('honest', 96 * MIB)
    refused('honest', 'set TMPDIR', 'an index that is longer than the room', TMPDIR=mounted)
else:
    tap.skip(4, 'nothing can be mounted')

# A head that does not account for the length is seen before the next frame is looked at, which here is a damaged one.
for name, regex, options in (
        ('a header with another length', 'its length is not what its header says', {'header_length': 96 * MIB - 512}),
        ('a table that leaves most of it out', 'it is longer than its sections', {'fill': False}),
        ('a header that the trailer does not name', 'not the one that the end of the archive names', {'mark': bytes(16)}),
        ('nothing wrong with the head', 'the frame at offset \\d+ is damaged', {})):
    bomb('lie', 96 * MIB, rest=lambda a, n: DAMAGED, **options)
    refused('lie', regex, name, TMPDIR=os.path.abspath('tmp'))
tap.is_(os.listdir('tmp'), [], 'nothing is left')
tap.done_testing()
