"""Disks that stand for four guests that people know, each made of the same four things in other shares:

    system      this machine's own files from /usr and /opt (SYSTEM_FOLDERS), picked and ordered by a digest of their names
    logs        lines as syslog has them
    database    pages of 8 KiB: a header, rows with numbers, words and keys, some room left
    media       bytes that do not get smaller, as compressed pictures and films have them

    disk = guest_disks.make('appliance', 'vda.img', scale=1.0)

All have a DOS partition table and one partition: ext4, written by mke2fs without mounting it, or NTFS, which takes a loop device, FUSE and ntfs-3g.
Generated parts are the same bytes each time.
"""
import collections
import contextlib
import hashlib
import os
import random
import shutil
import struct
import subprocess
import time

import images

MB, SECTOR, START = 1000000, 512, 1 << 20
BIG_FILE = 64 << 20
SMALLEST_NTFS = 128 << 10       # thousands of small files take ntfs-3g longer than all the rest
OWN = {'ext4': 0.04, 'ntfs': 0.01}   # what a file system takes of its room for itself
UUID = '6f766f72-7461-7262-6163-6b7570303031'
THEN = 1767225600               # a file's time
FOLDERS = (os.environ.get('SYSTEM_FOLDERS') or '/usr:/opt').split(':')

# size and allocated: bytes; backup: what people know that a bzip2 backup of it takes; shares: percent of what is in it.
Kind = collections.namedtuple('Kind', 'title size allocated backup fs shares')
KINDS = {
    'appliance': Kind('a small appliance', 10000 * MB, 326 * MB, 96 * MB, 'ext4', dict(system=85, logs=4, database=6, media=5)),
    'server': Kind('a server', 20000 * MB, 2900 * MB, 926 * MB, 'ext4', dict(system=75, logs=8, database=12, media=5)),
    'big-server': Kind('a big server', 30000 * MB, 5800 * MB, 3700 * MB, 'ext4', dict(system=30, logs=4, database=14, media=52)),
    'ntfs': Kind('an NTFS guest', 50000 * MB, 6600 * MB, 2600 * MB, 'ntfs', dict(system=80, logs=3, database=8, media=9)),
}
WORDS = ('accepted address backup cache client closed connection customer delivery denied disk error failed file invoice key mail message network opened order '
         'password payment query queue reloaded request retry server session started status stopped timeout update user volume warning').split()


class Missing(Exception):
    """What this machine has not got."""


def sh(*words, **kwargs):
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **kwargs)
    if done.returncode != 0:
        raise RuntimeError('%s: status %d: %s' % (' '.join(words), done.returncode, done.stderr.strip()[-500:]))
    return done.stdout.strip()


def on_disk(length):
    return -(-length // 4096) * 4096


# What is in them.

def system_files():
    """(path, size) in an order that has nothing to do with their folders."""
    found = []
    for top in FOLDERS:
        for folder, _, names in os.walk(top):
            for path in (os.path.join(folder, name) for name in names):
                with contextlib.suppress(OSError):
                    st = os.lstat(path)
                    if (st.st_mode & 0o170000) == 0o100000 and 0 < st.st_size < BIG_FILE:
                        found.append((hashlib.md5(path.encode(errors='surrogateescape')).digest(), path, st.st_size))
    return [(path, size) for _, path, size in sorted(found)]


def put_system(folder, length, smallest):
    """Files up to that length; where the machine has fewer, again in another folder, which bzip2 does not notice."""
    files, again = [f for f in system_files() if f[1] >= smallest], 0
    if not files:
        raise Missing('this machine has no files in %s' % ' and '.join(FOLDERS))
    while length > 0:
        again += 1
        for path, size in files:
            if on_disk(size) > length:
                if length < BIG_FILE:
                    return
                continue
            target = os.path.join(folder, '%d' % again, path[1:])
            with contextlib.suppress(PermissionError, FileNotFoundError):
                if not os.path.isdir(os.path.dirname(target)):
                    os.makedirs(os.path.dirname(target))
                    length -= 4096
                shutil.copyfile(path, target)
                os.utime(target, (THEN, THEN))
                length -= on_disk(size)


def log_lines(rng):
    clock = THEN
    while True:
        clock += rng.random() * 2
        stamp, source = time.strftime('%b %d %H:%M:%S', time.gmtime(clock)), '.'.join(str(rng.randrange(n)) for n in (4, 256, 256))
        who = rng.choice(('sshd', 'postfix/smtpd', 'kernel', 'nginx', 'systemd', 'cron'))
        yield '%s host%d %s[%d]: %s from 10.%s port %d id=%016x\n' % (
            stamp, rng.randrange(4), who, rng.randrange(400, 32000), ' '.join(rng.choices(WORDS, k=6)), source, rng.randrange(1024, 65536), rng.getrandbits(64))


def database_pages(rng):
    row = 0
    while True:
        page = bytearray(struct.pack('<QIIQ', row * 97, rng.getrandbits(32), 0, row))
        while len(page) < 7000:
            row += 1
            page += struct.pack('<IQdI', row, THEN + row // 9, rng.randrange(100000) / 100, rng.randrange(5000))
            page += (' '.join(rng.choices(WORDS, k=5)) + '%08x' % rng.getrandbits(32)).encode() + b'\0'
        yield bytes(page.ljust(8192, b'\0'))


def put_pieces(path, length, pieces):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'wb') as f:
        have = 0
        for piece in pieces:
            piece = piece.encode() if isinstance(piece, str) else piece
            f.write(piece)
            have += len(piece)
            if have >= length:
                break
        f.truncate(length)
    os.utime(path, (THEN, THEN))


def put_media(folder, length, rng):
    while length > 0:
        part = min(BIG_FILE, length)
        put_pieces(os.path.join(folder, '%06d.mp4' % (length // MB)), part, (rng.randbytes(1 << 20) for _ in range(-(-part // (1 << 20)))))
        length -= part


def fill(folder, kind, length, smallest=0):
    part = {name: length * share // 100 for name, share in kind.shares.items()}
    rng = random.Random(kind.title)
    put_pieces(os.path.join(folder, 'log/messages'), part['logs'], log_lines(rng))
    put_pieces(os.path.join(folder, 'database/table'), part['database'], database_pages(rng))
    put_media(os.path.join(folder, 'media'), part['media'], rng)
    put_system(os.path.join(folder, 'system'), part['system'], smallest)


# What holds it.

def partition(path, size, kind):
    """A DOS partition table with one partition up to the disk's end; whoever asks for cylinders learns that there are none."""
    entry = struct.pack('<B3sB3sII', 0, b'\xfe\xff\xff', 7 if kind.fs == 'ntfs' else 0x83, b'\xfe\xff\xff', START // SECTOR, (size - START) // SECTOR)
    with open(path, 'r+b') as f:
        f.seek(440)
        f.write((b'ovbt\0\0' + entry).ljust(70, b'\0') + b'\x55\xaa')


def make_ext4(path, size, kind, length):
    tree = path + '.tree'
    shutil.rmtree(tree, ignore_errors=True)
    os.mkdir(tree)
    fill(tree, kind, length)
    sh('mke2fs', '-q', '-F', '-t', 'ext4', '-U', UUID, '-E', 'offset=%d,hash_seed=%s' % (START, UUID), '-d', tree, path, '%dk' % ((size - START) // 4096 * 4))
    shutil.rmtree(tree)


@contextlib.contextmanager
def partition_device(path):
    try:
        device = sh('losetup', '--find', '--show', '--offset', str(START), path)
    except (RuntimeError, FileNotFoundError) as e:
        raise Missing('no loop device: %s' % e) from e
    try:
        yield device
    finally:
        sh('losetup', '--detach', device)


def make_ntfs(path, _size, kind, length):
    if not shutil.which('mkntfs') or not shutil.which('ntfs-3g') or not os.path.exists('/dev/fuse'):
        raise Missing('NTFS needs the package ntfs-3g, and /dev/fuse')
    mount = path + '.mnt'
    os.makedirs(mount, exist_ok=True)
    with partition_device(path) as device:
        sh('mkntfs', '-q', '-Q', '-F', '-p', str(START // SECTOR), '-H', '255', '-S', '63', '-L', 'guest', device)
        sh('ntfs-3g', '-o', 'big_writes', device, mount)
        try:
            fill(mount, kind, length, SMALLEST_NTFS)
        finally:
            sh('umount', mount)
    os.rmdir(mount)


def punch_reserved(path):
    """Room that nobody has written to, such as the journal of a new file system, becomes holes: on other storage it is nothing else."""
    size, at = os.path.getsize(path), 0
    for begin, length in [*images.extents(path), (size, 0)]:
        if begin > at:
            sh('fallocate', '--punch-hole', '--offset', str(at), '--length', str(begin - at), path)
        at = begin + length


def make(name, path, scale=1.0):
    """Make the disk anew; it is on disk when this returns.  With a scale, disk and content are that much smaller.  Raises Missing."""
    kind = KINDS[name]
    size = int(kind.size * scale) // SECTOR * SECTOR
    with open(path, 'wb') as f:
        f.truncate(size)
    partition(path, size, kind)
    {'ext4': make_ext4, 'ntfs': make_ntfs}[kind.fs](path, size, kind, int(kind.allocated * scale * (1 - OWN[kind.fs])))
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    punch_reserved(path)
    return path
