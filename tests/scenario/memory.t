#!/usr/bin/python3 -B
"""Memory stays below a fixed budget whatever the image; the page cache is left as it was found."""
import ctypes
import mmap
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import images
import ovb
import tap

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40
BUDGET = 192 * MIB
PAGE = mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


# Memory.

# A process's peak begins with that of its parent, which must therefore be a small one.
MEASURE = '''
import os, resource, sys
child = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
with open(sys.argv[1], "w") as f:
    f.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024))
sys.exit(status if status >= 0 else 128 - status)
'''


def fits(command, name):
    r = tap.run([sys.executable, '-B', '-I', '-S', '-c', MEASURE, os.path.join(tap.WORK, 'peak'), *command])
    with open(os.path.join(tap.WORK, 'peak'), encoding='ascii') as f:
        peak = int(f.read())
    tap.is_((r.status, r.stderr), (0, ''), name + ': succeeds')
    if tap.ok(peak <= BUDGET, '%s: in at most %d MiB' % (name, BUDGET // MIB)):
        tap.diag('%s: %d MiB' % (name, peak // MIB))
    else:
        tap.diag('%.1f MiB' % (peak / MIB))


def check_memory(image, differs, compressions=('bzip2:9', 'zstd:9')):
    for compression in compressions:
        what = '%s, %s' % (os.path.basename(image), compression)
        conf = ovb.make_config(ovb.image_job(image, compression=compression), repository=os.path.join(tap.WORK, 'repo'),
                               file=os.path.join(tap.WORK, 'memory.conf'))
        fits(ovb.once_command(conf), what + ', backup')
        folder = ovb.points(os.path.join(tap.WORK, 'repo'))[-1]
        fits(ovb.verify_command(folder), what + ', verify')
        fits(ovb.restore_command(folder, 'restored'), what + ', restore')
        tap.is_(differs('restored') or '', '', what + ': restored to the same')
        os.unlink('restored')
        tap.run(['rm', '-r', os.path.join(tap.WORK, 'repo')])


def test_huge():
    images.make('huge', 'huge.img')
    check_memory('huge.img', lambda copy: images.first_difference('huge.img', copy))
    os.unlink('huge.img')


def test_many_extents():
    """A million extents, or 300,000 where memory is short, as they lie in memory: a file system on a disk takes too long.  Image and restored image need room
    at the same time.  tests/memory-bench has far more."""
    with open('/proc/meminfo', encoding='ascii') as f:
        free = next(int(line.split()[1]) * 1024 for line in f if line.startswith('MemAvailable'))
    count = next((n for n in (1000000, 300000) if 3 * n * images.BLOCK < free), None)
    if count is None:
        tap.skip(7, 'too little memory free')
        return
    os.chdir(ovb.mount_tmpfs('many', 2 * count * images.BLOCK + 64 * MIB))
    many = ovb.Extents(count, 15 * TIB)
    many.make('%d.img' % count)
    check_memory('%d.img' % count, many.wrong, ['zstd:9'])
    os.unlink('%d.img' % count)
    os.chdir(tap.WORK)


def test_full():
    """1 GiB without a hole: noise that fills every buffer, then zeroes, which are quick."""
    image = ovb.mount_full_image('big', GIB)
    if image is None:
        image = 'full.img'
        images.make('zeroes', image, size=GIB)
    with open(image, 'r+b') as f:
        rng = random.Random(1)
        for _ in range(32):
            f.write(rng.randbytes(MIB))
    check_memory(image, lambda copy: images.first_difference(image, copy))
    os.unlink(image)


# The page cache.

def resident(path):
    """The numbers of the file's pages that are in memory."""
    size = os.path.getsize(path)
    pages = (size + PAGE - 1) // PAGE
    if not pages:
        return set()
    fd = os.open(path, os.O_RDONLY)
    try:
        address = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
        if address == ctypes.c_void_p(-1).value:
            raise OSError(ctypes.get_errno(), 'mmap')
        vector = ctypes.create_string_buffer(pages)
        if libc.mincore(address, size, vector) == -1:
            raise OSError(ctypes.get_errno(), 'mincore')
        libc.munmap(address, size)
    finally:
        os.close(fd)
    return {n for n, byte in enumerate(vector.raw[:pages]) if byte & 1}


def ranges(pages):
    """Page numbers as text: 0-3 7 9-12."""
    return ' '.join('%d' % at if n == 1 else '%d-%d' % (at, at + n - 1) for at, n in images.union([(p, 1) for p in pages])) or 'none'


def evict(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def warm(path, parts):
    """Bring exactly these (first page, pages) into memory, and nothing else of the file."""
    evict(path)
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    for first, count in parts:
        os.pread(fd, count * PAGE, first * PAGE)
    os.close(fd)
    return resident(path)


def some_parts(path, seed=1):
    """Single pages, runs, the first and the last page; about a tenth of the file."""
    pages = (os.path.getsize(path) + PAGE - 1) // PAGE
    rng = random.Random(seed)
    parts = [(0, 1), (pages - 1, 1)]
    while sum(n for _, n in parts) < pages // 10:
        parts.append((rng.randrange(pages), rng.choice((1, 1, 2, 3, 15, 16, 17, 64, 300))))
    return [(first, min(n, pages - first)) for first, n in parts]


def stay(files, run, name):
    """After run() each file has the very pages in memory that it had before; files gives the parts of each that are to be there.

    The kernel itself takes single clean pages away now and then, also when nothing runs, but never the same ones each time: a page
    counts as dropped when it went in each of several runs.  One that comes has come once too often."""
    came, went = {}, {}
    for attempt in range(6):
        before = {path: warm(path, parts) for path, parts in files.items()}
        run()
        for path, pages in before.items():
            after = resident(path)
            came[path] = after - pages
            went[path] = (pages - after) & went.get(path, pages)
        if any(came.values()) or not any(went.values()):
            break
    for path in files:
        if not tap.ok(not came[path] and not went[path], '%s: %s as it was' % (name, os.path.basename(path))):
            tap.diag('came: %s' % ranges(came[path])[:500])
            tap.diag('went, %d times: %s' % (attempt + 1, ranges(went[path])[:500]))


def none_resident(paths, name):
    left = {path: resident(path) for path in paths}
    if not tap.ok(not any(left.values()), name):
        for path, pages in left.items():
            if pages:
                tap.diag('%s: pages %s of %d' % (path, ranges(pages)[:500], (os.path.getsize(path) + PAGE - 1) // PAGE))


def files_below(folder):
    return sorted(os.path.join(at, name) for at, _, names in os.walk(folder) for name in names)


def check_reader(command, files, name):
    """A program that reads a point: with nothing of it in memory, and with some of its larger files."""
    def run():
        if os.path.exists('restored'):
            os.unlink('restored')
        result.append(tap.run(command))
    for how in 'cold', 'warm':
        result = []
        stay({f: some_parts(f) if how == 'warm' and os.path.getsize(f) > 10 * PAGE else [] for f in files}, run, '%s, %s' % (name, how))
        tap.is_({(r.status, r.stderr) for r in result}, {(0, '')}, '%s, %s: succeeds' % (name, how))
        if os.path.exists('restored'):
            none_resident(['restored'], '%s, %s: nothing of the target stays' % (name, how))
            os.unlink('restored')


def test_page_cache():
    images.make('mixed', 'guest.img', size=96 * MIB)
    if warm('guest.img', []):
        tap.skip(1, 'this file system keeps its pages')
        return
    parts = some_parts('guest.img')
    for compression in 'none', 'zstd:3':
        repository = 'cache-' + compression
        for how, wanted in ('cold', []), ('warm', parts), ('all of it in memory', [(0, 96 * MIB // PAGE)]):
            stay({'guest.img': wanted}, lambda: ovb.backup('guest.img', compression, repository), '%s, backup, %s' % (compression, how))
            none_resident(files_below(repository), '%s, backup, %s: nothing of the repository stays' % (compression, how))
        folder = ovb.points(repository)[-1]
        files = [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
        check_reader(ovb.restore_command(folder, 'restored'), files, compression + ', restore')
        check_reader(ovb.verify_command(folder), files, compression + ', verify')
        target = ovb.manifest(folder)['disks'][0]['target']
        check_reader([ovb.RESTORE, '--archive', ovb.archive(folder), 'disk', target, 'restored'], [ovb.archive(folder)],
                     compression + ', restore --archive')


if tap.SANITIZE:
    tap.skip_all('the memory is also that of ' + tap.SANITIZE)
test_page_cache()
test_huge()
test_many_extents()
test_full()
tap.done_testing()
