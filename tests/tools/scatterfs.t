#!/usr/bin/python3 -B
"""scatterfs shows the image that its help promises: what is measured with it is worth nothing else."""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import tap

BLOCK, WINDOW, TIB = 4096, 65536, 1 << 40
IMAGE = 'mnt/image.img'


class Mounted:
    def __init__(self, *options):
        self.options = options

    def __enter__(self):
        self.server = tap.start([os.path.join(tap.TOOLS, 'scatterfs'), '--foreground', *map(str, self.options), 'mnt'])
        deadline = time.monotonic() + 10
        while not os.path.exists(IMAGE):
            if self.server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError('scatterfs did not mount')
            time.sleep(0.02)
        return os.open(IMAGE, os.O_RDONLY)

    def __exit__(self, *_):
        tap.stop(self.server)


def extents(fd, size):
    """(offset, length) as the file system tells them."""
    found, at = [], 0
    while at < size:
        try:
            begin = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:
            break
        at = os.lseek(fd, begin, os.SEEK_HOLE)
        found.append((begin, at - begin))
    return found


def test_extents():
    for size, count in (64 << 20, 100), (15 * TIB, 3000), (1 << 20, 8):
        name = '%d extents in %d bytes: ' % (count, size)
        with Mounted('--size', size, '--count', count) as fd:
            found = extents(fd, size)
            st = os.fstat(fd)
            tap.is_((st.st_size, st.st_blocks * 512), (size, count * 2 * BLOCK), name + 'size and allocation')
            tap.is_((len(found), {n for _, n in found}), (count, {2 * BLOCK}), name + 'as many, of 8 KiB each')
            tap.is_({(at + BLOCK) % WINDOW for at, _ in found}, {0}, name + 'each across a multiple of 64 KiB')
            wrong = [at for at, _ in found
                     if (os.lseek(fd, at + BLOCK, os.SEEK_DATA), os.lseek(fd, at, os.SEEK_HOLE)) != (at + BLOCK, at + 2 * BLOCK)]
            tap.is_(wrong, [], name + 'also when asked within one')
            os.close(fd)


def test_content():
    size, count = 64 << 20, 100
    with Mounted('--size', size, '--count', count) as fd:
        found = extents(fd, size)
        whole = b''.join(os.pread(fd, 1 << 20, at) for at in range(0, size, 1 << 20))
        blocks = [whole[at + i:at + i + BLOCK] for at, _ in found for i in (0, BLOCK)]
        tap.is_(len(whole), size, 'all of it can be read')
        tap.is_([b for b in blocks if 0 in b[8:] or b == bytes(BLOCK)], [], 'no block is zero')
        tap.is_(len(set(blocks)), len(blocks), 'no two are the same')
        data = {(at + i) // BLOCK for at, _ in found for i in (0, BLOCK)}
        tap.is_([i for i in range(size // BLOCK) if i not in data and any(whole[i * BLOCK:(i + 1) * BLOCK])], [], 'and all else is')
        pieces = [(at + skip, n) for at, _ in found for skip, n in ((-7, 20), (BLOCK - 3, 9), (2 * BLOCK - 1, 5000))]
        tap.is_([p for p in pieces if os.pread(fd, p[1], p[0]) != whole[p[0]:p[0] + p[1]]], [], 'also in odd pieces')
        os.close(fd)
    with Mounted('--size', size, '--count', count) as fd:
        tap.is_(os.pread(fd, 1 << 20, found[50][0]), whole[found[50][0]:found[50][0] + (1 << 20)], 'the next time it is the same')
        os.close(fd)


def test_generations():
    size, count, held = 1 << 40, 5000, []
    for generation in range(3):
        with Mounted('--size', size, '--count', count, '--changed', 100000, '--generation', generation) as fd:
            found = extents(fd, size)
            held.append([os.pread(fd, BLOCK, at + i) for at, _ in found for i in (0, BLOCK)])
            os.close(fd)
    for a, b in (0, 1), (1, 2):
        differ = sum(x != y for x, y in zip(held[a], held[b]))
        tap.ok(900 <= differ <= 1100, 'generation %d: about a tenth of the blocks is another one' % b) or tap.diag('%d of 10000' % differ)


def test_refused():
    for args in ([], ['--count', 'x', 'mnt'], ['--count', 10, '--size', WINDOW, 'mnt'], ['--other', 'mnt'], ['nowhere']):
        tap.is_(tap.run([os.path.join(tap.TOOLS, 'scatterfs'), *map(str, args)]).status, 2, 'scatterfs %s is refused' % ' '.join(map(str, args)))
    with Mounted('--count', 10) as fd:
        try:
            os.open(IMAGE, os.O_WRONLY)
            tap.failed('it cannot be written to')
        except OSError:
            tap.passed('it cannot be written to')
        os.close(fd)


if os.geteuid() != 0 or not os.path.exists('/dev/fuse'):
    tap.skip_all('needs root and /dev/fuse')
os.mkdir('mnt')
for test in test_extents, test_content, test_generations, test_refused:
    test()
tap.done_testing()
