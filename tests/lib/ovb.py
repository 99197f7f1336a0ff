"""The programs as scenario tests use them, after tap.py; paths are relative to the test's folder.

    folder = ovb.backup('vda.img', 'zstd:3')            a restore point in ./repo; the run must succeed
    r = ovb.restore(folder, 'out.img')                  tap's Result
    ovb.oracle('verify', folder)                 the second reader's word on it

    conf = ovb.make_config({'name': 'all', 'images': ['/srv/a.img'], 'compression': 'none'}, repository='repo')
    r = ovb.once(conf, 'all', '--json')                 any job, any outcome
"""
import glob
import json
import os
import re
import sys

import images
import tap

BACKUPD, RESTORE = (os.path.join(tap.BIN, name) for name in ('virt-backupd', 'virt-restore'))
ORACLE = os.path.join(tap.TOP, 'tests', 'oracle.py')
REPO = 'repo'
POINT = re.compile(r'\d{4}-\d\d-\d\dT\d{6}Z(-\d+)?')


# Jobs.

def quoted(text):
    """A libconfig string."""
    return '"%s"' % text.replace('\\', '\\\\').replace('"', '\\"')


def value(v):
    if isinstance(v, str):
        return quoted(v)
    if isinstance(v, bool):
        return 'true' if v else 'false'
    if isinstance(v, (list, tuple)):
        return '[ %s ]' % ', '.join(map(value, v))
    if isinstance(v, dict):
        return '{ %s }' % ' '.join('%s = %s;' % (key, value(x)) for key, x in v.items())
    return str(v)


def make_config(*jobs, repository=REPO, file='backupd.conf'):
    """Write a configuration with one repository, "local"; each job is a dict of keys.  Returns the file's path."""
    with open(file, 'w', encoding='utf-8') as f:
        f.write('repositories = ( { name = "local"; url = %s; } );\n' % quoted(os.path.abspath(repository)))
        f.write('jobs = ( %s );\n' % ',\n  '.join(map(value, jobs)))
    return os.path.abspath(file)


def image_job(*paths, compression='none', name='job', incremental=False, **keys):
    """A job over exactly these images, whose points are full ones unless incremental is set."""
    return dict(name=name, images=[re.sub(r'([*?[\\])', r'\\\1', os.path.abspath(p)) for p in paths], compression=compression,
                incremental=incremental, **keys)


def once_command(conf, job='job', *options):
    return [BACKUPD, '--config', conf, '--once', job, *options]


def once(conf, job='job', *options, **kwargs):
    return tap.run(once_command(conf, job, *options), **kwargs)


def backup(image, compression='none', repository=REPO, **keys):
    """Back up one image and return the folder of its new point."""
    before = points(repository)
    r = once(make_config(image_job(image, compression=compression, **keys), repository=repository))
    new = [p for p in points(repository) if p not in before]
    if r.status != 0 or len(new) != 1:
        raise RuntimeError('backup of %s: status %s, %d points: %s' % (image, r.status, len(new), r.stderr))
    return new[0]


# Points.

def points(repository=REPO):
    """The folders of the published points, by machine and time."""
    found = [f for f in glob.glob(os.path.join(glob.escape(repository), '*', '*')) if POINT.fullmatch(os.path.basename(f))]
    def place(folder):
        name = os.path.basename(folder)
        return os.path.dirname(folder), name[:name.index('Z')], int(name[name.index('Z') + 1:].lstrip('-') or 1)
    return sorted(found, key=place)


def leftovers(repository=REPO):
    """What is in the machines' folders and is no published point."""
    return sorted(set(glob.glob(os.path.join(glob.escape(repository), '*', '*'))) - set(points(repository)))


def manifest(folder):
    with open(os.path.join(folder, 'manifest.json'), encoding='utf-8') as f:
        return json.load(f)


def archive(folder):
    return os.path.join(folder, manifest(folder)['archive']['file'])


def spec(folder):
    """VM@TIME, as the command line takes it."""
    m, suffix = manifest(folder), POINT.fullmatch(os.path.basename(folder))[1]
    return '%s@%s%s' % (m['vm'], m['time'], suffix or '')


def repository_of(folder):
    return os.path.abspath(os.path.join(folder, '..', '..'))


# Restoring and checking.

def restore_command(folder, target, *options, disk=None):
    return [RESTORE, '--repository', repository_of(folder), *options, '--', 'disk', spec(folder),
            disk or manifest(folder)['disks'][0]['target'], target]


def restore(folder, target, *options, **kwargs):
    """Restore the point's disk (its first one)."""
    return tap.run(restore_command(folder, target, *options), **kwargs)


def verify_command(folder, *options):
    return [RESTORE, '--repository', repository_of(folder), *options, '--', 'verify', spec(folder)]


def verify(folder, *options, **kwargs):
    return tap.run(verify_command(folder, *options), **kwargs)


def oracle(command, folder, *args, **kwargs):
    """oracle.py's verdict: ovb.oracle('verify', folder), ovb.oracle('disk', folder, 'vda', 'out.img')."""
    return tap.run([sys.executable, '-B', ORACLE, command, repository_of(folder), manifest(folder)['vm'],
                    os.path.basename(folder), *args], **kwargs)


# Images that images.py has not.

class Extents:
    """An image of very many extents of one block, spread over its size, the last at its very end; they compress to next to nothing."""

    def __init__(self, count, size):
        self.size, stride = size, (size // images.BLOCK - 1) // (count - 1) * images.BLOCK
        self.map = [(i * stride, images.BLOCK) for i in range(count - 1)] + [(size - images.BLOCK, images.BLOCK)]

    @staticmethod
    def block(i):
        return (b'%d ' % i).ljust(images.BLOCK, b'.')

    def make(self, path):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.ftruncate(fd, self.size)
            for i, (offset, _) in enumerate(self.map):
                os.pwrite(fd, self.block(i), offset)
            os.fsync(fd)
        finally:
            os.close(fd)

    def wrong(self, path):
        """How a file is not this image, hole for hole."""
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
            if os.fstat(fd).st_size != self.size:
                return 'has %d bytes' % os.fstat(fd).st_size
            if images.extents_of(fd) != self.map:
                return 'has other extents'
            return next(('differs at %d' % at for i, (at, n) in enumerate(self.map) if os.pread(fd, n, at) != self.block(i)), '')
        finally:
            os.close(fd)


def mount_tmpfs(name, size):
    """A folder in memory, or on the disk where nothing can be mounted: for files with very many extents."""
    folder = os.path.abspath(name + '.mnt')
    os.mkdir(folder)
    tap.run(['mount', '-t', 'tmpfs', '-o', 'size=%d' % size, 'tmpfs', folder])
    return folder


def mount_disk(name, size, *options, env=None):
    """A new ext4 of its own in a mounted folder, or None where there are no loop devices."""
    if os.geteuid() != 0 or not os.path.exists('/dev/loop-control'):
        return None
    fs, folder = name + '.fs', os.path.abspath(name + '.mnt')
    with open(fs, 'wb') as f:
        f.truncate(size)
    made = tap.run(['mke2fs', '-q', '-F', '-E', 'lazy_itable_init=1,nodiscard', *(options or ['-t', 'ext4']), fs], env=env)
    if made.status != 0:
        raise RuntimeError('mke2fs: ' + made.stderr)
    # Direct I/O: the file under the device needs no memory, and its holes are read without a disk.
    for how in '--direct-io=on', '--direct-io=off':
        loop = tap.run(['losetup', '--find', '--show', how, fs])
        if loop.status == 0:
            break
    else:
        return None
    os.mkdir(folder)
    device = loop.stdout.strip()
    mounted = tap.run(['mount', '-t', 'ext4', '-o', 'noinit_itable', device, folder])
    tap.run(['losetup', '--detach', device])        # goes with the mount
    return folder if mounted.status == 0 else None


FULL_IMAGE = '''[defaults]
blocksize = 4096
inode_size = 256
base_features = extent,huge_file,sparse_super,large_file,filetype,64bit
[fs_types]
full = {
    make_hugefiles = true
    num_hugefiles = 1
    hugefiles_dir = /
    hugefiles_name = full.img
    hugefiles_digits = 0
    hugefiles_size = %dK
    zero_hugefiles = false
}
'''


def mount_full_image(name, size):
    """A file full.img of zeroes without a hole, however large, at once: mke2fs marks blocks of a fresh, sparse file system as written.
    Returns its path, or None where there are no loop devices."""
    conf = name + '.conf'
    with open(conf, 'w', encoding='utf-8') as f:
        f.write(FULL_IMAGE % (size // 1024))
    folder = mount_disk(name, size + size // 16 + (64 << 20), '-T', 'full', env={'MKE2FS_CONFIG': os.path.abspath(conf)})
    return folder and os.path.join(folder, 'full.img')
