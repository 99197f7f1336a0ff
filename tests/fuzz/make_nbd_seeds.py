#!/usr/bin/python3 -B
"""Make the seeds of fuzz_nbd, always the same: what an NBD server says, honest or not.    make_nbd_seeds.py CORPUS (writes CORPUS/nbd)"""
import struct

import seed_files

K, M = 64, 64 * 1024
TARGET, NO_BASE, NO_BITMAP, DIES, DIFFERS, BITMAP, LONG = 1, 2, 4, 8, 16, 32, 64
READ_ONLY, NO_ZERO, NO_FLUSH, FORCE = 4, 8, 16, 32
HOLE, ZERO, BOTH, DATA = 1, 2, 3, 0


def head(flags=0, alignment=0, size=M, where=0, whole=1):
    return struct.pack('<BBQIB', flags, alignment, size, where, whole)


def extents(*pairs, which=0, off=0, odd=False):
    body = b''.join(struct.pack('<IB', length & 0xffffffff, flags) for length, flags in pairs)
    return b'E' + bytes([which, off & 255, len(pairs) + (128 if odd else 0)]) + (body[:-1] if odd else body)


DONE = b'.'
HONEST = extents((64 * K, DATA), (512 * K, BOTH), (100 * K, DATA), (M - 676 * K, ZERO)) + DONE

SEEDS = {
    'honest': head() + HONEST,
    'honest-read': head(where=5000 | 200 << 18) + HONEST + DONE,
    'read-wide': head(LONG, 9, (8 << 20) + 512, 0xfff01) + extents(((8 << 20) + 512, DATA)) + DONE * 12,
    'read-late': head(LONG, 12, 4 << 20, 0x7fffffff) + extents((4 << 20, DATA)) + DONE + b'PP.P.F',
    'no-allocation': head(NO_BASE, 0, 3 * K + 7) + DONE,
    'empty-disk': head(BITMAP, 0, 0),
    'bitmap': head(BITMAP) + extents((64 * K, 0), (64 * K, 1), (M - 128 * K, 0)) + DONE + HONEST,
    'bitmap-gone': head(BITMAP | NO_BITMAP) + HONEST,
    'bitmap-dies': head(BITMAP | DIES) + HONEST,
    'many-connections-differ': head(DIFFERS) + HONEST,
    'length-zero': head() + extents((0, DATA), (0, ZERO), (M, DATA)) + DONE,
    'only-zero-lengths': head() + extents((0, DATA), (0, DATA)) + DONE,
    'nothing-told': head() + DONE,
    'beyond-the-end': head(size=100 * K + 13) + extents((64 * K, BOTH), (0xffffffff, DATA), (0xffffffff, DATA)) + DONE,
    'unaligned': head(size=4099) + extents((1, DATA), (510, BOTH), (1, DATA), (513, BOTH), (3, DATA), (4000, ZERO)) + DONE,
    'all-single-bytes': head(size=64) + extents(*[(1, i % 3) for i in range(64)]) + DONE,
    'out-of-order': head() + extents((64 * K, DATA), off=64) + extents((64 * K, BOTH)) + extents((64 * K, DATA), off=-1) +
                    extents((M, DATA)) + DONE,
    'two-chunks': head() + extents((512 * K, DATA)) + extents((512 * K, ZERO)) + DONE,
    'other-contexts': head() + extents((M, ZERO), which=1) + extents((M, ZERO), which=2) + extents((M, DATA)) + DONE,
    'too-many': head(size=254 * K) + extents(*[(1 * K, i % 2 * 3) for i in range(127)]) * 2 + DONE,
    'odd-count': head() + extents((M // 2, DATA), (M // 2, 0), odd=True) + DONE + extents((M, DATA)) + DONE,
    'several-requests': head(size=3 << 30) + extents((1 << 30, DATA)) + DONE + extents((1 << 30, BOTH)) + DONE + extents((1 << 30, DATA)) + DONE,
    'far': head(size=(1 << 63) - 1) + extents((0xfffffe00, DATA)) + DONE,
    'fails-half-way': head() + extents((64 * K, DATA)) + b'F',
    'is-lost': head() + extents((64 * K, DATA)) + DONE + b'PX',
    'alignment-odd': head(alignment=22) + HONEST,
    'alignment-none': head(alignment=24) + HONEST,
    'size-below-alignment': head(0, 12, 5000, 4500 | 500 << 18) + extents((5000, DATA)) + DONE * 2,
    'target-empty': head(TARGET, 0, M, 8192 | 9000 << 16) + extents((M, BOTH)) + DONE,
    'target-full': head(TARGET) + extents((M - 512, BOTH), (512, DATA)) + DONE,
    'target-full-first': head(TARGET) + extents((512, DATA), (M - 512, BOTH)) + DONE,
    'target-forced': head(TARGET | FORCE, 0, 96 * K, 700 | 30000 << 16) + extents((96 * K, DATA)) + DONE,
    'target-no-zero': head(TARGET | FORCE | NO_ZERO | NO_FLUSH, 0, 200 * K, 0xffff0fff) + extents((200 * K, DATA)) + DONE,
    'target-larger': head(TARGET, 0, M, 4096 | 8192 << 16, 0) + extents((M // 2, BOTH), (M // 2, DATA)) + DONE,
    'target-read-only': head(TARGET | READ_ONLY) + extents((M, BOTH)) + DONE,
    'target-write-fails': head(TARGET, 0, M, 1 << 16) + extents((M, BOTH)) + DONE + b'PF',
    'target-flush-fails': head(TARGET, 0, M, 8192 << 16) + extents((M, BOTH)) + DONE * 2 + b'F',
}


if __name__ == '__main__':
    seed_files.write(seed_files.corpus(), 'nbd', SEEDS.items())
