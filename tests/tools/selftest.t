#!/usr/bin/python3 -B
"""The instruments work: a fault that is asked for happens, at its place and nowhere else."""
import errno
import mmap
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import images
import readtrace
import tap

KIB, MIB = 1 << 10, 1 << 20
PYTHON = ['/usr/bin/python3', '-B', '-S', '-E', '-c']


def error_of(call, *args, **kwargs):
    """The errno's name, or None when the call does not fail."""
    try:
        call(*args, **kwargs)
    except OSError as e:
        return errno.errorcode[e.errno]
    return None


def python(code, *args, **kwargs):
    return tap.run(PYTHON + ['import os, sys, ctypes, mmap, threading\n' + textwrap.dedent(code), *map(str, args)], **kwargs)


def lines(path):
    if not os.path.exists(path):
        return []
    with open(path) as f:
        return f.read().splitlines()


# images.py

def test_image_kinds():
    small = {'extents': {'count': 2000}, 'zeroes': {'size': MIB}}
    for kind in images.KINDS:
        for name, seed in ('a', 1), ('b', 1), ('c', 2):
            images.make(kind, name, seed=seed, **small.get(kind, {}))
        tap.ok(images.same_content('a', 'b') and images.extents('a') == images.extents('b'), kind + ': the same twice')
        if kind not in ('holes', 'zeroes', 'empty'):
            tap.ok(not images.same_content('a', 'c'), kind + ': another seed, another content')
        os.rename('a', kind)
    for name in 'bc':
        os.unlink(name)


def test_image_shapes():
    size = {kind: os.stat(kind).st_size for kind in images.KINDS}
    ends = {kind: [o + n for o, n in images.extents(kind)] for kind in images.KINDS}
    tap.is_((size['holes'], images.extents('holes'), images.allocated('holes')), (64 * MIB, [], 0), 'holes: only a hole')
    tap.ok(ends['trailing-hole'] and ends['trailing-hole'][-1] < size['trailing-hole'], 'trailing-hole: ends in a hole')
    tap.ok(size['odd'] % 512 and ends['odd'][-1] == size['odd'], 'odd: data to an odd end')
    with open('odd', 'rb') as f:
        f.seek(-1, os.SEEK_END)
        tap.ok(f.read() != b'\0', 'odd: the last byte is not zero')
    tap.ok(size['odd-hole'] % 512 and ends['odd-hole'][-1] < size['odd-hole'], 'odd-hole: an odd end in a hole')
    tap.is_(images.extents('full'), [(0, size['full'])], 'full: no hole')
    with open('zeroes', 'rb') as f:
        tap.ok(f.read() == bytes(MIB) and images.allocated('zeroes') >= MIB, 'zeroes: all zero and all written')
    tap.ok(len(ends['mixed']) > 10 and images.allocated('mixed') < size['mixed'], 'mixed: many extents, not all allocated')
    with open('mixed', 'rb') as f:
        blocks = [f.read(images.BLOCK) for _ in range(ends['mixed'][-1] // images.BLOCK)]
    zero_blocks = blocks.count(bytes(images.BLOCK))
    hole_blocks = len(blocks) - sum(n for _, n in images.extents('mixed')) // images.BLOCK
    tap.ok(zero_blocks > hole_blocks > 0, 'mixed: zeroes in holes and in data')
    tap.is_(images.extents('extents'), [(i * 8192, 4096) for i in range(2000)], 'extents: as many as asked for')
    tap.is_((size['empty'], size['one']), (0, 1), 'empty and one: 0 bytes and 1 byte')
    z = subprocess.run(['gzip', '-1c', 'text'], stdout=subprocess.PIPE, check=True)
    tap.ok(0.05 < len(z.stdout) / size['text'] < 0.7, 'text: can be compressed, but not to nothing')
    tap.is_((size['huge'], len(ends['huge']), ends['huge'][-1]), (15 << 40, 1000, 15 << 40), 'huge: 1,000 places, one at the end')
    tap.is_(sum(n for _, n in images.extents('huge')), 64 * MIB, 'huge: 64 MiB of data')


def test_same_content():
    subprocess.run(['cp', '--sparse=always', 'mixed', 'copy'], check=True)
    tap.ok(images.extents('copy') != images.extents('mixed') and images.same_content('copy', 'mixed'),
           'equal content is told whatever the holes')
    hole = images.extents('mixed')[0]
    hole = hole[0] + hole[1] + 5
    for offset in hole, 0, os.stat('mixed').st_size - 1:
        subprocess.run(['cp', '--sparse=always', 'mixed', 'copy'], check=True)
        with open('copy', 'r+b') as f:
            old = os.pread(f.fileno(), 1, offset)
            os.pwrite(f.fileno(), bytes([old[0] ^ 64]), offset)
        tap.is_(images.first_difference('mixed', 'copy'), offset, 'a changed byte is found at %d' % offset)
    size = os.stat('mixed').st_size
    subprocess.run(['cp', 'mixed', 'copy'], check=True)
    os.truncate('copy', size + 1)
    tap.is_(images.first_difference('mixed', 'copy'), size, 'another length is a difference')
    images.make('huge', 'copy')
    start = time.monotonic()
    tap.ok(images.same_content('huge', 'copy') and time.monotonic() - start < 20, '15 TiB are compared without reading holes')
    with open('copy', 'r+b') as f:
        os.pwrite(f.fileno(), b'\0', (15 << 40) - 1)
    tap.is_(images.first_difference('huge', 'copy'), (15 << 40) - 1, 'the last of 15 TiB differs')
    os.unlink('copy')
    r = tap.run([tap.LIB + '/images.py', '--same', 'odd', 'odd-hole'])
    tap.ok(r.status == 1 and r.stdout.strip().isdigit(), 'images.py --same tells it to a shell')


# imagefs

def mounted(*options):
    """Mount src at mnt, do what the caller does, unmount."""
    class Mounted:
        def __enter__(self):
            os.makedirs('src', exist_ok=True)
            os.makedirs('mnt', exist_ok=True)
            self.child = tap.mount_imagefs(*options, 'src', 'mnt')
            return self.child

        def __exit__(self, *_):
            status = tap.stop(self.child)
            if status != 0 or os.path.ismount('mnt'):
                raise RuntimeError('imagefs did not unmount: status %d' % status)
    return Mounted()


def open_file(name, flags=os.O_RDONLY):
    class Opened:
        def __enter__(self):
            self.fd = os.open(name, flags, 0o600)
            return self.fd

        def __exit__(self, *_):
            os.close(self.fd)
    return Opened()


def test_fs_plain():
    os.makedirs('src')
    images.make('mixed', 'src/mixed')
    with mounted() as child:
        tap.ok(os.path.ismount('mnt'), 'imagefs mounts')
        tap.is_(images.extents('mnt/mixed'), images.extents('src/mixed'), 'it shows the holes')
        tap.ok(images.same_content('mnt/mixed', 'src/mixed'), 'and the content')
        tap.is_(images.allocated('mnt/mixed'), images.allocated('src/mixed'), 'and the blocks')
        with open_file('mnt/mixed') as fd:
            shared = mmap.mmap(fd, 4096, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
            tap.is_(shared[:], os.pread(fd, 4096, 0), 'shared mappings work')
        child.terminate()
        tap.is_((child.wait(10), os.path.ismount('mnt')), (0, False), 'SIGTERM unmounts and ends it')
    tap.is_(tap.run([tap.TOOLS + '/imagefs', 'src', 'mnt']).status, 0, 'in the background it returns')
    tap.ok(os.path.ismount('mnt'), 'and is mounted')
    subprocess.run(['umount', 'mnt'], check=True)


def test_fs_tree():
    with mounted():
        os.mkdir('mnt/d', 0o750)
        with open_file('mnt/d/a', os.O_RDWR | os.O_CREAT | os.O_EXCL) as fd:
            os.write(fd, b'0123456789')
            os.ftruncate(fd, 5)
            os.fsync(fd)
        tap.is_(error_of(os.open, 'mnt/d/a', os.O_CREAT | os.O_EXCL | os.O_WRONLY), 'EEXIST', 'O_EXCL holds')
        os.link('mnt/d/a', 'mnt/d/b')
        os.truncate('mnt/d/b', 3)
        os.chmod('mnt/d/b', 0o640)
        os.utime('mnt/d/b', ns=(5 * 10**9, 7 * 10**9))
        st = os.stat('src/d/a')
        tap.is_((st.st_size, st.st_mode & 0o7777, st.st_mtime_ns, st.st_nlink), (3, 0o640, 7 * 10**9, 2),
                'link, truncate, chmod and utimens reach the source')
        with open_file('mnt/d') as fd:
            os.fsync(fd)
        os.rename('mnt/d/a', 'mnt/d/c')
        tap.is_(sorted(os.listdir('mnt/d')), ['b', 'c'], 'rename and readdir')
        code = '''
            libc = ctypes.CDLL(None, use_errno=True)
            print(libc.renameat2(-100, b"mnt/d/b", -100, b"mnt/d/c", 1), ctypes.get_errno())
        '''
        tap.is_(python(code).stdout.split(), ['-1', str(errno.EEXIST)], 'rename with RENAME_NOREPLACE')
        os.unlink('mnt/d/b')
        tap.is_(error_of(os.rmdir, 'mnt/d'), 'ENOTEMPTY', 'rmdir of a full folder fails')
        os.unlink('mnt/d/c')
        os.rmdir('mnt/d')
        tap.is_(os.listdir('src'), ['mixed'], 'unlink and rmdir')
        tap.ok(os.statvfs('mnt').f_blocks == os.statvfs('src').f_blocks, 'statfs')


def test_fs_no_holes():
    size = os.stat('src/mixed').st_size
    with mounted('--no-holes'), open_file('mnt/mixed') as fd:
        tap.is_(os.lseek(fd, 0, os.SEEK_HOLE), size, '--no-holes: the first hole is the end')
        start, length = images.extents('src/mixed')[0]
        tap.is_(os.lseek(fd, start + length, os.SEEK_DATA), start + length, '--no-holes: a hole counts as data')
        tap.ok(images.same_content('mnt/mixed', 'src/mixed'), '--no-holes: the content is the same')
        tap.is_(images.allocated('mnt/mixed'), images.allocated('src/mixed'), '--no-holes: st_blocks as beneath')


def test_fs_read_errors():
    with mounted('--eio', '8000:100', '--eio', '1048576:1', '--log', 'log') as child, open_file('mnt/mixed') as fd:
        tap.is_(len(os.pread(fd, 8000, 0)), 8000, '--eio: a read up to the place works')
        tap.is_(error_of(os.pread, fd, 8001, 0), 'EIO', '--eio: one that touches it fails')
        tap.is_(error_of(os.pread, fd, 1, 8099), 'EIO', '--eio: at its last byte too')
        tap.is_(len(os.pread(fd, 10, 8100)), 10, '--eio: behind it works again')
        tap.is_(error_of(os.pread, fd, 4096, MIB), 'EIO', '--eio: a second place')
        with mmap.mmap(fd, 4096, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ) as private:
            with open('src/mixed', 'rb') as f:
                tap.is_(private[:], f.read(4096), 'a private mapping works beside faults')
        tap.is_(lines('log')[:5], ['read mixed 0 8000', 'read mixed 0 8001 error 5', 'read mixed 8099 1 error 5',
                                   'read mixed 8100 10', 'read mixed 1048576 4096 error 5'], '--log: each read, as issued')
        child.send_signal(signal.SIGUSR1)
        time.sleep(0.2)
        tap.is_(error_of(os.pread, fd, 8001, 0), None, 'SIGUSR1 heals')
    with mounted('--eio', '0:100', '--match', '*.img'), open_file('mnt/mixed') as fd:
        tap.is_(error_of(os.pread, fd, 10, 0), None, '--match: other files are spared')
    with mounted('--eio', '0:100', '--match', 'm*d'), open_file('mnt/mixed') as fd:
        tap.is_(error_of(os.pread, fd, 10, 0), 'EIO', '--match: those named are not')


def test_fs_write_errors():
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC
    with mounted('--eio-write', '65536'), open_file('mnt/w', flags) as fd:
        tap.is_(os.pwrite(fd, bytes(65536), 0), 65536, '--eio-write: before the place')
        tap.is_(error_of(os.pwrite, fd, b'x', 65536), 'EIO', '--eio-write: at the place')
        tap.is_(error_of(os.pwrite, fd, b'xx', 65535), 'EIO', '--eio-write: across it')
    with mounted('--enospc-after', '100000'), open_file('mnt/w', flags) as fd:
        tap.is_(os.statvfs('mnt').f_bavail, 100000 // os.statvfs('mnt').f_frsize, '--enospc-after: statfs tells the space left')
        tap.is_(os.write(fd, bytes(90000)), 90000, '--enospc-after: what fits')
        tap.is_(os.write(fd, bytes(20000)), 10000, '--enospc-after: the rest that fits')
        tap.is_(error_of(os.write, fd, b'x'), 'ENOSPC', '--enospc-after: full')
        with open_file('mnt/w2', flags) as other:
            tap.is_(error_of(os.write, other, b'x'), 'ENOSPC', '--enospc-after: full for all files')
    tap.is_(os.stat('src/w').st_size, 100000, '--enospc-after: nothing more was written')
    for name in 'w', 'w2':
        os.unlink('src/' + name)


def test_fs_resize():
    for option, new in ('--shrink-after', 20000), ('--grow-after', 90000):
        with open('src/r', 'wb') as f:
            f.write(b'x' * 50000)
        with mounted(option, '40000:%d' % new), open_file('mnt/r') as fd:
            got = [len(os.pread(fd, 10000, i * 10000)) for i in range(3)]
            tap.is_((got, os.fstat(fd).st_size), ([10000] * 3, 50000), option + ': not before its time')
            got = len(os.pread(fd, 10000, 30000))
            tap.is_((got, os.fstat(fd).st_size, os.stat('src/r').st_size), (10000, new, new), option + ': at its time')
            tap.is_(len(os.pread(fd, 10000, 45000)), 0 if new < 45000 else 10000, option + ': reads see it')
            os.truncate('mnt/r', 50000)
            os.pread(fd, 50000, 0)
            tap.is_(os.stat('src/r').st_size, 50000, option + ': only once')
    os.unlink('src/r')


def test_fs_slow_and_log():
    with mounted('--slow', '150'), open_file('mnt/mixed') as fd:
        start = time.monotonic()
        for i in range(3):
            os.pread(fd, 10, i)
        tap.ok(0.4 < time.monotonic() - start < 10, '--slow: each read takes its time')
    with mounted('--log', 'log2'):
        os.mkdir('mnt/d')
        with open_file('mnt/d/x', os.O_RDWR | os.O_CREAT) as fd:
            os.write(fd, bytes(1000))
            os.write(fd, bytes(24))
            os.pread(fd, 4096, 1000)
            os.pread(fd, 4096, 1024)
    tap.is_(lines('log2'), ['write d/x 0 1000', 'write d/x 1000 24', 'read d/x 1000 24', 'read d/x 1024 0'],
            '--log: names, offsets and what was done')
    for args in ['--eio', '5', 'src', 'mnt'], ['--slow', 'x', 'src', 'mnt'], ['--eio-write', '-1', 'src', 'mnt'], ['src']:
        tap.is_(tap.run([tap.TOOLS + '/imagefs', *args]).status, 2, 'imagefs %s is refused' % ' '.join(args))


# preload_fixed

def test_preload_fixed():
    code = 'c = ctypes.CDLL(None); b = ctypes.create_string_buffer(16); c.getrandom(b, 16, 0); print(c.time(None), b.raw.hex())'
    env = {'LD_PRELOAD': os.path.join(tap.TOOLS, 'preload_fixed.so'), 'FIXED_TIME': 1893456000, 'FIXED_SEED': 1,
           'ASAN_OPTIONS': 'verify_asan_link_order=0:' + os.environ.get('ASAN_OPTIONS', '')}
    got = [python(code, env=env).stdout.split() for _ in range(2)]
    tap.is_([g[0] for g in got], ['1893456000'] * 2, 'preload_fixed: time() stands still')
    tap.ok(got[0][1] != got[1][1], 'preload_fixed: libraries get real random bytes (programs: see sftp-same.t)')


# preload_die

STEPS = '''
    os.chdir(sys.argv[1])
    os.mkdir('d')
    fd = os.open('d/new', os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(fd, b'hello')
    os.fsync(fd)
    os.close(fd)
    os.rename('d/new', 'd/name')
    dirfd = os.open('d', os.O_RDONLY)
    os.fsync(dirfd)
    os.unlink('name', dir_fd=dirfd)
    os.close(dirfd)
    os.rmdir('d')
'''


def steps_in(folder):
    d = os.path.realpath(folder)
    return ['1 mkdir %s/d' % d, '2 open %s/d/new' % d, '3 fsync %s/d/new' % d, '4 rename %s/d/new -> %s/d/name' % (d, d),
            '5 fsync %s/d' % d, '6 unlink %s/d/name' % d, '7 rmdir %s/d' % d]


def calls_in(log):
    return [line.split()[1] for line in lines(log)]


def tree(folder):
    return sorted(os.path.relpath(os.path.join(at, n), folder) for at, dirs, files in os.walk(folder) for n in dirs + files)


STATES = [[], ['d'], ['d', 'd/new'], ['d', 'd/new'], ['d', 'd/name'], ['d', 'd/name'], ['d'], []]


def fresh(name):
    os.mkdir(name)
    return os.path.abspath(name)


def test_die_log():
    folder = fresh('p0')
    r = python(STEPS, folder, env=tap.preload_die(STEP_LOG='steps', DIE_UNDER=folder))
    tap.is_((r.status, r.stdout, r.stderr), (0, '', ''), 'preload_die: silent when nothing is asked for')
    tap.is_(lines('steps'), steps_in(folder), 'STEP_LOG: each step and its path')
    r = python(STEPS, folder, env=tap.preload_die(STEP_LOG='steps-w', DIE_UNDER=folder, PRELOAD_WRITES=1))
    tap.is_(calls_in('steps-w'), 'mkdir open write fsync rename fsync unlink rmdir'.split(), 'PRELOAD_WRITES')
    python(STEPS, folder, env=tap.preload_die(STEP_LOG='steps-none', DIE_UNDER=folder + '/other'))
    tap.is_(lines('steps-none'), [], 'DIE_UNDER: other folders do not count')
    os.symlink(folder, 'alias')
    python(STEPS, 'alias', env=tap.preload_die(STEP_LOG='steps-alias', DIE_UNDER='alias'))
    tap.is_(lines('steps-alias'), steps_in(folder), 'DIE_UNDER: symbolic links are seen through')


def test_die_at():
    for n in range(1, 8):
        for variable, state in ('DIE_AT', STATES[n - 1]), ('DIE_AFTER', STATES[n]):
            folder = fresh('p-%s-%d' % (variable, n))
            r = python(STEPS, folder, env=tap.preload_die(**{variable: n, 'DIE_UNDER': folder, 'STEP_LOG': folder + '.log'}))
            tap.is_((r.status, tree(folder), len(lines(folder + '.log'))), (-signal.SIGKILL, state, n), '%s=%d' % (variable, n))
    folder = fresh('p-8')
    tap.is_(python(STEPS, folder, env=tap.preload_die(DIE_AT=8, DIE_UNDER=folder)).status, 0, 'no 8th step, no death')


def test_fail_at():
    for n in range(1, 8):
        folder = fresh('p-fail-%d' % n)
        r = python(STEPS, folder, env=tap.preload_die(FAIL_AT=n, FAIL_ERRNO=errno.ENOSPC, DIE_UNDER=folder))
        tap.is_((r.status, 'Errno 28' in r.stderr, tree(folder)), (1, True, STATES[n - 1]), 'FAIL_AT=%d is not done' % n)
    code = '''
        def e(call, *args):
            try:
                call(*args)
                return 0
            except OSError as x:
                return x.errno
        print([e(os.mkdir, sys.argv[1] + '/%d' % i) for i in range(5)])
    '''
    for count, wanted in (None, [0, 5, 0, 0, 0]), ('2', [0, 5, 5, 0, 0]), ('0', [0, 5, 5, 5, 5]):
        folder = fresh('p-count-%s' % count)
        r = python(code, folder, env=tap.preload_die(FAIL_AT=2, FAIL_COUNT=count, DIE_UNDER=folder))
        tap.is_(r.stdout.strip(), str(wanted), 'FAIL_COUNT=%s' % count)


CALLS = '''
    libc = ctypes.CDLL(None, use_errno=True)
    os.chdir(sys.argv[1])
    def call(name, *args):
        f = getattr(libc, name)
        if name == 'mkdtemp' or name.startswith('fopen'):
            f.restype = ctypes.c_void_p
        r = f(*(a.encode() if isinstance(a, str) else a for a in args))
        assert r not in (-1, None), (name, ctypes.get_errno())
        return r
    for i, name in enumerate(('open', 'open64')):
        fd = call(name, 'o%d' % i, os.O_RDWR | os.O_CREAT, 0o640)
        fd = call(name + 'at' if name == 'open' else 'openat64', -100, 'p%d' % i, os.O_RDWR | os.O_CREAT, 0o600)
    assert os.stat('o0').st_mode & 0o777 == 0o640
    call('creat', 'c0', 0o600); call('creat64', 'c1', 0o600)
    call('fopen', 'f0', 'w'); call('fopen64', 'f1', 'a')
    for name in '__open_2', '__open64_2':
        call(name, 'o0', os.O_RDONLY)
    for name in '__openat_2', '__openat64_2':
        call(name, -100, 'o0', os.O_RDONLY)
    call('open', 'o0', os.O_RDONLY); call('fopen', 'o0', 'r')
    for name, more in ('mkstemp', 0), ('mkstemp64', 0), ('mkostemp', 1), ('mkostemp64', 1), ('mkstemps', 1), ('mkostemps', 2):
        call(name, ctypes.create_string_buffer(b'XXXXXX'), *[0] * more)
    call('mkdtemp', ctypes.create_string_buffer(b'XXXXXX'))
    call('mkdir', 'd', 0o700)
    dfd = os.open('d', os.O_RDONLY)
    call('mkdirat', dfd, 'e', 0o700)
    call('link', 'o0', 'l0'); call('linkat', -100, 'o0', dfd, 'l1', 0)
    call('rename', 'l0', 'l2'); call('renameat', -100, 'l2', dfd, 'l3'); call('renameat2', dfd, 'l3', dfd, 'l4', 1)
    call('fsync', fd); call('fdatasync', fd)
    call('ftruncate', fd, ctypes.c_long(9)); call('ftruncate64', fd, ctypes.c_long(9))
    class Iovec(ctypes.Structure):
        _fields_ = [('base', ctypes.c_char_p), ('len', ctypes.c_size_t)]
    iov, off = ctypes.byref(Iovec(b'abc', 3)), ctypes.c_long(4)
    call('write', fd, 'abc', 3); call('pwrite', fd, 'abc', 3, off); call('pwrite64', fd, 'abc', 3, off)
    call('writev', fd, iov, 1); call('pwritev', fd, iov, 1, off); call('pwritev64', fd, iov, 1, off)
    call('pwritev2', fd, iov, 1, off, 0); call('pwritev64v2', fd, iov, 1, off, 0)
    call('unlink', 'o0'); call('unlinkat', dfd, 'l4', 0); call('remove', 'o1'); call('unlinkat', dfd, 'e', 0x200)
    call('unlink', 'd/l1'); call('rmdir', 'd')
    call('mkdir', 'd', 0o700); call('remove', 'd')
'''
CALL_STEPS = (['open'] * 14 + ['mkdir'] * 3 + ['link'] * 2 + ['rename'] * 3 + ['fsync', 'fdatasync'] + ['ftruncate'] * 2 +
              ['write'] * 8 + ['unlink'] * 3 + ['rmdir', 'unlink', 'rmdir', 'mkdir', 'rmdir'])


def test_die_calls():
    folder = fresh('p-calls')
    r = python(CALLS, folder, env=tap.preload_die(STEP_LOG='steps-calls', DIE_UNDER=folder, PRELOAD_WRITES=1))
    tap.is_((r.status, r.stderr), (0, ''), 'every variant of every call works')
    tap.is_(calls_in('steps-calls'), CALL_STEPS, 'and is counted')
    step = ' %s/l2 -> %s/d/l3' % (folder, folder)
    tap.ok(any(s.endswith(step) for s in lines('steps-calls')), 'folder descriptors are resolved')


def test_die_threads_and_processes():
    folder = fresh('p-threads')
    code = '''
        def work(i):
            fd = os.open(sys.argv[1] + '/%s-%d' % (sys.argv[2], i), os.O_CREAT | os.O_WRONLY)
            for _ in range(49):
                os.fdatasync(fd)
        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        [t.start() for t in threads]
        [t.join() for t in threads]
    '''
    python(code, folder, 'a', env=tap.preload_die(STEP_LOG='steps-t', DIE_UNDER=folder))
    tap.is_(sorted(int(s.split()[0]) for s in lines('steps-t')), list(range(1, 401)), 'threads share one count')
    env = tap.preload_die(STEP_LOG='steps-p', DIE_UNDER=folder, STEP_COUNTER='count', DIE_AFTER=700)
    results = []
    workers = [threading.Thread(target=lambda n=n: results.append(python(code, folder, n, env=env).status)) for n in 'bc']
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    numbers = [int(s.split()[0]) for s in lines('steps-p')]
    tap.ok(len(set(numbers)) == len(numbers) >= 700 and 700 in numbers, 'STEP_COUNTER: processes share one count')
    tap.is_(sorted(results), [-signal.SIGKILL, 0], 'STEP_COUNTER: one of them dies')


# readtrace

READS = '''
    fd = os.open(sys.argv[1], os.O_RDONLY)
    os.pread(fd, 100, 5000); os.preadv(fd, [bytearray(10), bytearray(20)], 8192); os.read(fd, 10); os.readv(fd, [bytearray(5)])
    copy = os.dup(fd)
    t = threading.Thread(target=os.read, args=(copy, 7)); t.start(); t.join()
    if os.fork() == 0:
        os.read(copy, 3)
        os._exit(0)
    os.wait()
    os.lseek(fd, 4096, os.SEEK_SET); os.read(fd, 1)
    out = os.open('out', os.O_RDWR | os.O_CREAT)
    os.sendfile(out, fd, 777, 50); os.copy_file_range(fd, out, 33, 20000); os.copy_file_range(fd, out, 4)
    os.pread(fd, 100, 1 << 40); os.pread(fd, 100, os.fstat(fd).st_size - 1)
    a = mmap.mmap(fd, 8192, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ, offset=4096)
    b = mmap.mmap(fd, 4096, flags=mmap.MAP_SHARED, prot=0)
'''


def test_readtrace():
    images.make('text', 'img', size=MIB)
    code = 'import os, sys, mmap, threading\n' + textwrap.dedent(READS)
    trace = readtrace.run(PYTHON + [code, 'img'], runner=tap.run)
    f = trace.of('img')
    tap.is_(trace.status, 0, 'readtrace: the command ran')
    tap.is_(f.reads, [(5000, 100), (8192, 30), (0, 10), (10, 5), (15, 7), (22, 3), (4096, 1), (777, 50), (20000, 33), (4097, 4),
                      (MIB - 1, 1)], 'readtrace: every read with its offset')
    tap.is_((f.opened, f.mmaps, f.unreadable, trace.io_uring), (1, [(4096, 8192)], [(0, 4096)], 0), 'readtrace: mappings apart')
    tap.is_(trace.of('out').reads, [], 'readtrace: nothing for other files')
    trace = readtrace.run(['sh', '-c', 'dd bs=1000 count=3 <img >/dev/null; cat img | wc -c'], runner=tap.run)
    tap.is_((trace.of('img').opened, sum(n for _, n in trace.of('img').reads)), (2, 3000 + MIB), 'readtrace: through shells')
    tap.is_(trace.result.stdout, '%d\n' % MIB, 'readtrace: the output is kept')
    tap.is_(readtrace.run(['sh', '-c', 'exit 7'], runner=tap.run).status, 7, 'readtrace: the status too')
    r = tap.run([tap.LIB + '/readtrace.py', 'img', 'head', '-c', '10', 'img'])
    tap.ok('opened 1' in r.stdout and 'read 0 ' in r.stdout, 'readtrace.py for a shell')


def test_readtrace_extents():
    def ask(*reads):
        return readtrace.reads_only_extents(reads, [(4096, 4096), (8192, 4096), (65536, 4096)])
    tap.is_(ask((4096, 8192), (65536, 4096), (70, 0)), None, 'reads in extents are fine')
    tap.is_([ask((4095, 2)), ask((4096, 8193)), ask((65536, 1), (100, 1)), ask((1 << 40, 1))], [4095, 12288, 100, 1 << 40],
            'the first byte in a hole is told')
    trace = readtrace.run(['cat', 'mixed'], runner=tap.run)
    tap.ok(readtrace.reads_only_extents(trace.of('mixed').reads, images.extents('mixed')) is not None, 'cat reads holes')
    trace = readtrace.run(['cp', '--sparse=auto', '--reflink=never', 'mixed', 'out'], runner=tap.run)
    tap.ok(trace.of('mixed').reads and readtrace.reads_only_extents(trace.of('mixed').reads, images.extents('mixed')) is None,
           'cp does not')


# tap.py and tap.sh

PY_TEST = '''\
import os, sys, time
sys.dont_write_bytecode = True
sys.path.insert(0, %r)
import tap
os.mkdir('src'); os.mkdir('mnt')
child = tap.start(['sleep', '1000'])
fs = tap.mount_imagefs('src', 'mnt')
print('#', tap.WORK, child.pid, fs.pid, flush=True)
tap.ok(True, 'fine')
''' % tap.LIB
SH_TEST = '''\
. %s/tap.sh
mkdir src mnt
mount_imagefs src mnt; fs=$pid
start sleep 1000
echo "# $WORK $pid $fs"
pass fine
''' % tap.LIB
ENDS = {    # what follows in the script, and the status
    'py': [('tap.done_testing()', 0), ('tap.is_(1, 2, "n"); tap.done_testing()', 1), ('raise ValueError', 1), ('pass', 1),
           ('sys.exit(3)', 1), ('os.kill(os.getpid(), 15); time.sleep(9)', 1), ('tap.skip(2, "no"); tap.done_testing()', 0)],
    'sh': [('done_testing', 0), ('is 1 2 n; done_testing', 1), ('exit 3', 3), (':', 1), ('kill $$; sleep 9', 143),
           ('skip 2 no; done_testing', 0), ('nok n true; done_testing', 1), ('like abc "^b" n; done_testing', 1)],
}


def gone(pid):
    return not os.path.exists('/proc/%s' % pid)


def test_tap_ends():
    os.makedirs('t/scenario')
    for kind, head, program in ('py', PY_TEST, ['/usr/bin/python3', '-B']), ('sh', SH_TEST, ['sh']):
        for end, status in ENDS[kind]:
            script = os.path.abspath('t/scenario/x.t')
            with open(script, 'w') as f:
                f.write(head + end + '\n')
            r = tap.run(program + [script])
            work, *pids = r.stdout.split('\n')[0].split()[1:]
            left = os.path.exists(os.path.dirname(work)) or any(m.startswith(work) for m in tap.mounts())
            if not tap.ok(r.status == status and not left and all(gone(p) for p in pids) and len(pids) == 2,
                          'tap.%s: "%s" ends with %d and leaves nothing' % (kind, end, status)):
                tap.diag('%s %s %s' % (r.status, r.stdout, r.stderr))


def test_tap_sh_helpers():
    os.makedirs('u/scenario')
    with open('u/scenario/y.t', 'w') as f:
        f.write('''. %s/tap.sh
            is "$(pwd) $(ls -A)" "$WORK " 'an empty folder'
            run sh -c 'echo out; echo err >&2; exit 4'
            is "$status $stdout $stderr" '4 out err' 'run'
            like "$(printf 'one\\ntwo\\n')" '^tw[o]$' 'like'
            unlike "$stdout" 'x' 'unlike'
            ok 'ok' test -x "$TOOLS/imagefs"
            nok 'nok' false
            RUN_TIMEOUT=1 run sleep 20
            is "$status" 124 'a time limit'
            preload_die DIE_AT=1 mkdir new
            is "$status" 137 'preload_die'
            nok 'preload_die: not done' test -e new
            start sleep 100
            stop "$pid"
            is "$status" 143 'start and stop'
            done_testing\n''' % tap.LIB)
    r = tap.run(['sh', os.path.abspath('u/scenario/y.t')])
    if not tap.ok(r.status == 0 and 'not ok' not in r.stdout and '1..10' in r.stdout, 'tap.sh: its helpers'):
        tap.diag(r.stdout + r.stderr)
    py_head = PY_TEST.split('os.mkdir')[0]
    for program, text in ['sh', '. %s/tap.sh\nskip_all why\n' % tap.LIB], ['/usr/bin/python3', py_head + 'tap.skip_all("why")\n']:
        with open('u/scenario/y.t', 'w') as f:
            f.write(text)
        r = tap.run([program, os.path.abspath('u/scenario/y.t')])
        tap.is_((r.status, r.stdout), (0, '1..0 # SKIP why\n'), 'skip_all')


def test_tap_py_run():
    start = time.monotonic()
    r = tap.run(['sh', '-c', 'echo early; sleep 50'], timeout=1)
    tap.ok(r.status is None and r.stdout == 'early\n' and time.monotonic() - start < 20, 'tap.run has a time limit')
    r = tap.run(['sh', '-c', 'cat; echo $X >&2; exit 5'], input='text', env={'X': 7})
    tap.is_((r.status, r.stdout, r.stderr), (5, 'text', '7\n'), 'tap.run keeps status and output')


def test_sanitized():
    """A report fails the goal, whoever wrote it and however it ended; else it is the command's status that counts."""
    for script, status, says in (
            ('true', 0, ''),
            ('exit 3', 3, ''),
            ('set ${TSAN_OPTIONS%%:*}; echo a race >"${1#log_path=}.1"', 1, 'a race'),
            (': >sane/reports/valgrind.1', 0, ''),
            ('(echo a leak >sane/reports/asan.7 &) ; sleep 1; exit 3', 1, 'a leak')):
        r = tap.run([os.path.join(tap.TOP, 'tests', 'sanitized'), 'tsan', os.path.abspath('sane'), 'sh', '-c', script], env={'TSAN_OPTIONS': None})
        tap.ok(r.status == status and says in r.stdout, 'sanitized: %s' % script) or tap.diag((r.status, r.stdout, r.stderr))


def main():
    if os.geteuid() != 0 or not os.path.exists('/dev/fuse'):
        tap.skip_all('needs root and /dev/fuse')
    for test in [f for name, f in globals().items() if name.startswith('test_')]:    # in the order they stand here
        test()
    tap.done_testing()


main()
