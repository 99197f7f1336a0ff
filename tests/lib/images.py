#!/usr/bin/python3
"""Disk images for tests: the same bytes and the same holes for the same arguments.

    images.py KIND FILE [--seed N] [--size BYTES] [--count N]
    images.py --same A B            exit 0 when the contents are equal, else 1 and the first offset that differs
    images.py --allocated FILE      bytes that the file takes on disk
    images.py --extents FILE        a line 'OFFSET LENGTH' for each data extent

Kinds are the keys of KINDS below; each has its default size.
"""
import argparse
import os
import random
import sys

BLOCK = 4096
KIB, MIB, TIB = 1 << 10, 1 << 20, 1 << 40
WORDS = ('extent hole quiesce checkpoint restore point retention scratch guest disk image block frame index digest '
         'archive manifest chain bitmap journal thaw snapshot commit pivot replicate verify').split()


# Content.

def text(rng, length):
    """Compressible lines, no two pieces alike."""
    out, have = [], 0
    while have < length:
        line = '%08x %s\n' % (rng.getrandbits(32), ' '.join(rng.choices(WORDS, k=9)))
        out.append(line)
        have += len(line)
    return ''.join(out).encode()[:length]


def noise(rng, length):
    """Random bytes that neither begin nor end with a zero, so that an extent's edges are seen in its content."""
    data = bytearray(rng.randbytes(length))
    data[0] |= 1
    data[-1] |= 1
    return bytes(data)


def some_data(rng, length):
    return noise(rng, length) if rng.random() < 0.5 else text(rng, length)


def write(fd, offset, data):
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, offset)
        offset, view = offset + done, view[done:]


def fill(fd, start, end, make):
    for offset in range(start, end, MIB):
        write(fd, offset, make(min(MIB, end - offset)))


# Kinds: each writes into an empty file of the right size, that is, one hole.

def make_holes(fd, size, rng, count):
    """All hole."""


def make_trailing_hole(fd, size, rng, count):
    """Data in the first half, the rest a hole."""
    fill(fd, 0, blocks_down(size // 2), lambda n: some_data(rng, n))


def make_odd(fd, size, rng, count):
    """Data, a hole, and data up to a last byte that ends no sector."""
    fill(fd, 0, blocks_down(size // 4), lambda n: some_data(rng, n))
    fill(fd, blocks_down(size * 3 // 4), size, lambda n: noise(rng, n))


def make_odd_hole(fd, size, rng, count):
    """As odd, but the odd tail lies in a hole."""
    fill(fd, 0, blocks_down(size // 4), lambda n: some_data(rng, n))


def make_full(fd, size, rng, count):
    """No hole: random bytes and text by turns."""
    fill(fd, 0, size, lambda n: some_data(rng, n))


def make_zeroes(fd, size, rng, count):
    """No hole, and all bytes zero."""
    fill(fd, 0, size, bytes)


def make_mixed(fd, size, rng, count):
    """Runs of 1 to 64 blocks: data, zeroes that are written, or hole."""
    offset = 0
    while offset < size:
        length = min(rng.randint(1, 64) * BLOCK, size - offset)
        kind = rng.choice(('data', 'zeroes', 'hole'))
        if kind != 'hole':
            write(fd, offset, some_data(rng, length) if kind == 'data' else bytes(length))
        offset += length


def make_extents(fd, size, rng, count):
    """count extents of one block each, with holes between."""
    stride = size // count // BLOCK * BLOCK
    if stride < 2 * BLOCK:
        raise ValueError('%d extents need at least %d bytes' % (count, count * 2 * BLOCK))
    for i in range(count):
        write(fd, i * stride, noise(rng, BLOCK))


def make_huge(fd, size, rng, count):
    """count places of data far apart, 64 MiB in all, the last at the very end."""
    total, slot = 64 * MIB // BLOCK, size // count // BLOCK
    for i in range(count):
        length = total // count + (1 if i < total % count else 0)
        if slot < length + 2:
            raise ValueError('%d places do not fit in %d bytes' % (count, size))
        offset = (i * slot + rng.randrange(slot - length - 1)) * BLOCK
        if i == count - 1:
            offset = size - length * BLOCK
        write(fd, offset, noise(rng, length * BLOCK))


def make_text(fd, size, rng, count):
    """No hole, compressible lines."""
    fill(fd, 0, size, lambda n: text(rng, n))


KINDS = {   # name: (maker, default size, default count)
    'holes': (make_holes, 64 * MIB, 0),
    'trailing-hole': (make_trailing_hole, 16 * MIB, 0),
    'odd': (make_odd, 8 * MIB + 123, 0),
    'odd-hole': (make_odd_hole, 8 * MIB + 123, 0),
    'full': (make_full, 16 * MIB, 0),
    'zeroes': (make_zeroes, 16 * MIB, 0),
    'mixed': (make_mixed, 32 * MIB, 0),
    'extents': (make_extents, None, 100000),
    'huge': (make_huge, 15 * TIB, 1000),
    'empty': (make_holes, 0, 0),
    'one': (make_full, 1, 0),
    'text': (make_text, 16 * MIB, 0),
}


def blocks_down(n):
    return n // BLOCK * BLOCK


def make(kind, path, seed=1, size=None, count=None):
    """Make the image anew and return its size; the blocks are allocated for good when this returns."""
    maker, usual_size, usual_count = KINDS[kind]
    count = usual_count if count is None else count
    if size is None:
        size = count * 2 * BLOCK if usual_size is None else usual_size
    if kind.startswith('odd') and size % 512 == 0:
        raise ValueError('%d is a multiple of 512' % size)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.ftruncate(fd, size)
        maker(fd, size, random.Random('%s %d' % (kind, seed)), count)
        os.fsync(fd)
    finally:
        os.close(fd)
    return size


# Looking at images.

def allocated(path):
    """Bytes that the file takes on disk."""
    return os.stat(path).st_blocks * 512


def extents_of(fd):
    found, offset = [], 0
    size = os.lseek(fd, 0, os.SEEK_END)
    while offset < size:
        try:
            start = os.lseek(fd, offset, os.SEEK_DATA)
        except OSError as e:
            if e.errno == 6:        # ENXIO: only hole from here
                break
            raise
        offset = os.lseek(fd, start, os.SEEK_HOLE)
        found.append((start, offset - start))
    return found


def extents(path):
    """The data extents as SEEK_DATA and SEEK_HOLE tell them: [(offset, length), ...]."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return extents_of(fd)
    finally:
        os.close(fd)


def union(*lists):
    """The ranges that lie in any of the lists, joined and in order."""
    out = []
    for start, length in sorted(e for extent_list in lists for e in extent_list):
        if out and start <= out[-1][0] + out[-1][1]:
            out[-1][1] = max(out[-1][1], start + length - out[-1][0])
        else:
            out.append([start, length])
    return [(start, length) for start, length in out]


def pread_full(fd, length, offset):
    data = os.pread(fd, length, offset)
    while len(data) < length:
        more = os.pread(fd, length - len(data), offset + len(data))
        if not more:
            raise EOFError('the file ends at %d, before %d' % (offset + len(data), offset + length))
        data += more
    return data


def difference_of(a, b):
    size_a, size_b = (os.lseek(fd, 0, os.SEEK_END) for fd in (a, b))
    for start, length in union(extents_of(a), extents_of(b)):
        for offset in range(start, min(start + length, size_a, size_b), MIB):
            n = min(MIB, start + length - offset, size_a - offset, size_b - offset)
            left, right = pread_full(a, n, offset), pread_full(b, n, offset)
            if left != right:
                return offset + next(i for i in range(n) if left[i] != right[i])
    return None if size_a == size_b else min(size_a, size_b)


def first_difference(a, b):
    """The lowest offset where two images differ, or None.  What is a hole in both is not read."""
    fd_a = os.open(a, os.O_RDONLY)
    fd_b = os.open(b, os.O_RDONLY)
    try:
        return difference_of(fd_a, fd_b)
    finally:
        os.close(fd_a)
        os.close(fd_b)


def same_content(a, b):
    """Whether two images have the same size and the same bytes, wherever their holes are."""
    return first_difference(a, b) is None


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('kind', nargs='?', choices=sorted(KINDS), metavar='KIND', help=' '.join(KINDS))
    p.add_argument('file', nargs='?', metavar='FILE')
    p.add_argument('--seed', type=int, default=1)
    p.add_argument('--size', type=int)
    p.add_argument('--count', type=int)
    p.add_argument('--same', nargs=2, metavar=('A', 'B'))
    p.add_argument('--allocated', metavar='FILE')
    p.add_argument('--extents', metavar='FILE')
    args = p.parse_args()
    if args.same:
        offset = first_difference(*args.same)
        if offset is not None:
            print(offset)
            return 1
    elif args.allocated:
        print(allocated(args.allocated))
    elif args.extents:
        for extent in extents(args.extents):
            print('%d %d' % extent)
    elif args.file:
        make(args.kind, args.file, args.seed, args.size, args.count)
    else:
        p.error('KIND and FILE are needed')
    return 0


if __name__ == '__main__':
    sys.exit(main())
