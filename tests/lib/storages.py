"""The kinds of storage that a machine can have here, each with a guest's disk on it; after tap, and after guest for those that need libvirt.

    with storages.KINDS['raw on XFS'](disk) as place:      raises Missing where this machine cannot do it
        place.job           the job's keys that name what is backed up
        place.source        the file that takes the disk's room
        place.target        what virt-restore writes to, with place.options ...
        place.restored      ... and the file that takes its room
        place.format        of both files
"""
import contextlib
import os
import shutil
import subprocess
import sys

import guest_disks
import images
import ovb
import tap

Missing = guest_disks.Missing
GUEST = 'guest'


class Place:
    def __init__(self, job, source, target, restored, options=(), fmt='raw'):
        self.job, self.source, self.target, self.restored, self.options, self.format = job, source, target, restored, list(options), fmt


def must(*command):
    r = tap.run(list(command), timeout=3600)
    if r.status != 0:
        raise RuntimeError('%s: status %s: %s' % (' '.join(command), r.status, (r.stdout + r.stderr).strip()[-500:]))
    return r.stdout.strip()


def may(why, *command):
    """What this machine may not be able to do."""
    if not shutil.which(command[0]):
        raise Missing('there is no %s' % command[0])
    r = tap.run(list(command), timeout=600)
    if r.status != 0:
        raise Missing('%s: %s' % (why, ' '.join(r.stderr.split())[-200:]))
    return r.stdout.strip()


def copy(disk, path):
    """With the same holes.  The file has its size before its content: XFS keeps room behind the end of one that grows, and that stays when the end moves on."""
    with open(disk, 'rb') as source, open(path, 'wb') as f:
        f.truncate(os.path.getsize(disk))
        for begin, length in images.extents_of(source.fileno()):
            for at in range(begin, begin + length, images.MIB):
                images.write(f.fileno(), at, images.pread_full(source.fileno(), min(images.MIB, begin + length - at), at))
        os.fsync(f.fileno())


@contextlib.contextmanager
def folder(name):
    path = os.path.abspath(name)
    os.mkdir(path)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def in_folder(disk, path, below):
    """A raw file in a folder; below is where the file system keeps it."""
    copy(disk, os.path.join(below, GUEST + '.img'))
    restored = GUEST + '.restored'
    return Place(ovb.image_job(os.path.join(path, GUEST + '.img')), os.path.join(below, GUEST + '.img'), os.path.join(path, restored), os.path.join(below, restored))


def file_system(fs, *mkfs):
    """A file system of its own, with room for the disk twice, in a file through a loop device."""
    @contextlib.contextmanager
    def put(disk):
        with folder('fs') as work:
            image, mount = os.path.join(work, 'image'), os.path.join(work, 'mnt')
            with open(image, 'wb') as f:
                f.truncate(images.allocated(disk) * 5 // 2 + (1 << 30))
            os.mkdir(mount)
            may('no %s can be made here' % fs, *mkfs, image)
            may('the kernel does not mount %s here' % fs, 'mount', '-t', fs, '-o', 'loop', image, mount)
            try:
                yield in_folder(disk, mount, mount)
            finally:
                must('umount', mount)
    return put


@contextlib.contextmanager
def blind_file_system(disk):
    """FUSE without lseek: all is data, it says."""
    with folder('fs') as work:
        below, mount = os.path.join(work, 'below'), os.path.join(work, 'mnt')
        os.mkdir(below)
        os.mkdir(mount)
        if not os.path.exists('/dev/fuse'):
            raise Missing('there is no /dev/fuse')
        try:
            server = tap.mount_imagefs('--no-holes', '--cached', below, mount)
        except RuntimeError as e:
            raise Missing(str(e)) from e
        try:
            yield in_folder(disk, mount, below)
        finally:
            tap.stop(server)


@contextlib.contextmanager
def block_device(disk):
    """Two loop devices over sparse files: the disk's, and one to restore to."""
    with folder('device') as work, contextlib.ExitStack() as stack:
        files = [os.path.join(work, name) for name in (GUEST, 'restored')]
        copy(disk, files[0])
        with open(files[1], 'wb') as f:
            f.truncate(os.path.getsize(disk))
        devices = []
        for file in files:
            devices.append(may('no loop device', 'losetup', '--find', '--show', file))
            stack.callback(must, 'losetup', '--detach', devices[-1])
        yield Place(ovb.image_job(devices[0]), files[0], devices[1], files[1], ['--force'])


# Those that are read by way of a guest that is shut off.

def libvirt():
    """The module guest, if this program was begun with it."""
    if 'guest' not in sys.modules:
        raise Missing('it takes libvirtd, qemu-nbd and root')
    return sys.modules['guest']


def shut_off(disk):
    """The job over a new guest with just this disk."""
    vm = libvirt().Guest(Host.get(), GUEST, [disk], agent='none', define=False)
    vm.define()
    return dict(name='job', connection=vm.host.uri, domains=[GUEST], incremental=False)


class Host:
    """One libvirtd for all that need it."""
    one = None

    @classmethod
    def get(cls):
        cls.one = cls.one or libvirt().Host()
        return cls.one


@contextlib.contextmanager
def qcow2(disk):
    guest, host = libvirt(), Host.get()
    with folder('qcow2') as work:
        source, restored = (os.path.join(work, name + '.qcow2') for name in (GUEST, 'restored'))
        must('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', disk, source)
        must('sync', source)
        job = shut_off(guest.Disk('vda', 'qcow2', path=source))
        try:
            yield Place(job, source, restored, restored, ['--format', 'qcow2'], 'qcow2')
        finally:
            host.virsh('undefine', GUEST)


@contextlib.contextmanager
def iscsi(disk):
    """tgtd on loopback with two thin LUNs; the one to restore to is reached through qemu-nbd and QEMU's own iSCSI client, as the kernel may have none."""
    guest, host = libvirt(), Host.get()
    may('no iSCSI target', 'tgtd', '--version')
    may('no qemu-nbd', 'qemu-nbd', '--version')
    target = guest.Target(GUEST, os.path.getsize(disk))
    copy(disk, target.path)
    restored, socket = target.path + '.restored', os.path.join(guest.SOCKETS, 'lun')
    with open(restored, 'wb') as f:
        f.truncate(os.path.getsize(disk))
    for words in (('new', '-b', restored), ('update', '--params', 'thin_provisioning=1')):
        must('tgtadm', '--lld', 'iscsi', '--mode', 'logicalunit', '--tid', '1', '--lun', '2', '--op', *words)
    server = tap.start(['qemu-nbd', '-f', 'raw', '--discard=unmap', '--persistent', '-k', socket, target.url[:-1] + '2'], stderr=subprocess.DEVNULL)
    try:
        if not guest.wait_until(lambda: os.path.exists(socket) or server.poll() is not None) or server.poll() is not None:
            raise Missing('qemu-nbd has no iscsi:// driver: package qemu-block-extra')
        job = shut_off(target.disk('vda'))
        yield Place(job, target.path, 'nbd+unix:///?socket=' + socket, restored)
    finally:
        tap.stop(server)
        target.daemon.kill()
        tap.stop(target.daemon)
        host.virsh('undefine', GUEST, check=False)
        os.unlink(target.path)
        os.unlink(restored)


KINDS = {
    'raw on ext4': file_system('ext4', 'mke2fs', '-q', '-F', '-t', 'ext4'),
    'raw on XFS': file_system('xfs', 'mkfs.xfs', '-q'),
    'raw on btrfs': file_system('btrfs', 'mkfs.btrfs', '-q'),
    'raw, holes cannot be told (FUSE)': blind_file_system,
    'block device (loop)': block_device,
    'qcow2': qcow2,
    'iSCSI thin LUN': iscsi,
}
