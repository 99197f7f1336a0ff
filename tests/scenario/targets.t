#!/usr/bin/python3 -B
"""Every kind of disk through every codec to every kind of target: identical, and no thicker than its source.  Also export."""
import glob
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import images
import ovb
import tap

CODECS = ['bzip2', 'xz:0', 'zstd', 'none']
MIB = 1 << 20
# 100,000 extents are tried with zstd; a codec does not know extents, so that the others get the same with fewer.
KINDS = {'sparse': ('mixed', {'size': 24 * MIB}), 'allzero': ('holes', {}), 'full': ('full', {'size': 4 * MIB}),
         'odd': ('odd', {'size': 3 * MIB + 777}), 'extents': ('extents', {'count': 2000}), 'many': ('extents', {'count': 100000})}


def qcow2_same(image, qcow2):
    """An image whose size is not a multiple of 512 gets zeroes up to it: qcow2 has no other sizes."""
    return tap.run(['qemu-img', 'compare', '-f', 'raw', '-F', 'qcow2', image, qcow2]).status == 0


def settled(path):
    """Allocated bytes, once the file system has made up its mind."""
    with open(path, 'rb') as f:
        os.fsync(f.fileno())
    return images.allocated(path)


def same_prefix(image, target):
    size = os.path.getsize(image)
    with open(image, 'rb') as a, open(target, 'rb') as b:
        for at in range(0, size, MIB):
            n = min(MIB, size - at)
            if a.read(n) != b.read(n):
                return False
    return True


def no_thicker(target, image):
    """Not one byte more of data; the file system's own tree of extents may be packed less tightly (ext4: 340 in a block, half as many after splits)."""
    return (sum(n for _, n in images.extents(target)) <= sum(n for _, n in images.extents(image)) and
            settled(target) <= settled(image) + 4096 * (len(images.extents(image)) // 170))


def to_raw(folder, image, name):
    r = ovb.restore(folder, 'out.raw')
    tap.ok(r.status == 0 and images.same_content(image, 'out.raw'), name + ' to raw: identical')
    tap.ok(no_thicker('out.raw', image), name + ' to raw: no thicker')
    os.unlink('out.raw')


def to_qcow2(folder, image, name):
    r = ovb.restore(folder, 'out.qcow2', '--format', 'qcow2')
    tap.ok(r.status == 0 and qcow2_same(image, 'out.qcow2'), name + ' to qcow2: identical')
    if r.status != 0:
        tap.diag(r.stderr)
    # Its tables of clusters and reference counts are no data: at most 2 % of it, and 2 MiB.
    tap.ok(images.allocated('out.qcow2') <= images.allocated(image) * 1.02 + 2 * MIB, name + ' to qcow2: no thicker')
    tap.is_(tap.run(['qemu-img', 'check', '-q', 'out.qcow2']).status, 0, name + ' to qcow2: sound')
    os.unlink('out.qcow2')


def dirty(path, size):
    with open(path, 'wb') as f:
        f.write(b'old content' * (size // 11 + 1))
        f.truncate(size)


def to_loop(folder, image, name):
    size = (os.path.getsize(image) + 4095) // 4096 * 4096
    dirty('dev.img', min(size, 128 * MIB))
    os.truncate('dev.img', size)
    loop = tap.run(['losetup', '--find', '--show', 'dev.img'])
    if loop.status != 0:
        tap.skip(4, 'no loop devices')
        return
    device = loop.stdout.strip()
    try:
        r = ovb.restore(folder, device)
        tap.like(r.stderr, 'use --force', name + ' to a block device: not without --force')
        r = ovb.restore(folder, device, '--force')
        tap.is_(r.status, 0, name + ' to a block device')
        if r.status != 0:
            tap.diag(r.stderr)
        tap.ok(same_prefix(image, device), name + ' to a block device: identical, nothing of the old content shows')
    finally:
        tap.run(['losetup', '--detach', device])
    with open('dev.img', 'rb') as f:
        os.fsync(f.fileno())
    tap.ok(no_thicker('dev.img', image) or settled('dev.img') <= settled(image) + 4096, name + ' to a block device: zeroes were discarded')
    os.unlink('dev.img')


def kind_is_small(image):
    return 0 < images.allocated(image) < 64 * MIB


def to_nbd(folder, image, name):
    size = (os.path.getsize(image) + 511) // 512 * 512
    with open('nbd.img', 'wb') as f:
        f.truncate(size)
    uri = 'nbd+unix:///?socket=' + os.path.abspath('sock')
    server = tap.start(['qemu-nbd', '--persistent', '--format=raw', '--discard=unmap', '--socket', os.path.abspath('sock'), 'nbd.img'])
    for _ in range(100):
        if os.path.exists('sock'):
            break
        time.sleep(0.05)
    r = ovb.restore(folder, uri)
    tap.is_(r.status, 0, name + ' to an empty NBD export')
    if r.status != 0:
        tap.diag(r.stderr)
    if kind_is_small(image):
        tap.like(ovb.restore(folder, uri).stderr, 'not empty.*--force', name + ' to NBD: what is there is not overwritten without --force')
        tap.is_(ovb.restore(folder, uri, '--force').status, 0, name + ' to NBD with --force')
    tap.stop(server)
    tap.ok(same_prefix(image, 'nbd.img'), name + ' to NBD: identical')
    tap.ok(no_thicker('nbd.img', image) or settled('nbd.img') <= settled(image) + 4096, name + ' to NBD: no thicker')
    os.unlink('nbd.img')


def export(folder, image, name, suffix):
    out = 'out' + suffix
    r = tap.run([ovb.RESTORE, '--repository', ovb.repository_of(folder), 'export', ovb.spec(folder), out])
    tap.is_(r.status, 0, name + ' export to ' + suffix)
    os.mkdir('tar')
    member = os.path.join('tar', os.path.basename(image))
    tap.is_(tap.run(['tar', '-xf', out, '-C', 'tar']).status, 0, name + ' export: GNU tar')
    tap.ok(images.same_content(image, member), name + ' export: identical')
    tap.ok(settled(member) <= settled(image), name + ' export: no thicker')
    tap.is_(tap.run([sys.executable, '-B', ovb.ORACLE, 'verify-archive', out]).status, 0, name + ' export: sound for the second reader')
    tap.run(['rm', '-rf', 'tar', out])


def names(folder, image):
    """What to QEMU would be an option, a protocol or another file is a name."""
    for name in 'x:y.qcow2', 'nbd:z.qcow2', 'file:q.qcow2', 'json:{}.qcow2', '-o.qcow2', 'a,b=c.qcow2':
        r = ovb.restore(folder, name, '--format', 'qcow2')
        tap.ok(r.status == 0 and qcow2_same(image, './' + name), 'to the qcow2 file %s' % name) or tap.diag(r.stderr)
    tap.is_(sorted(f for f in os.listdir('.') if f.endswith('.partial')), [], '... and no other file was made')
    for options in ([], ['--format', 'qcow2']):
        r = ovb.restore(folder, '', *options)
        tap.ok(r.status == 1 and 'is no name for a file' in r.stderr and not os.path.lexists('.partial'), 'no name: refused before anything is written')


def number(path):
    """The file's; None while there is none."""
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return None


def stopped(folder, changed, *options):
    """A restore to both.img that stands still once it has made its file; strace makes it slow, and without its tracer a program waits."""
    child = tap.start(['strace', '-f', '-qq', '-o', '/dev/null', '-e', 'inject=pwrite64:delay_enter=500000',
                       *ovb.restore_command(folder, 'both.img', *options)], env=tap.NO_LEAK_CHECK, stdout=-1, stderr=-1)
    while child.poll() is None and number('both.img.partial') in (None, changed):
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGSTOP)
    return child


def overtaken(folder, image):
    """A restore that was forgotten, and another one with --force: the first does not give its name to the half image of the second."""
    first = stopped(folder, None)
    with open('both.img.partial', 'rb') as f:       # while it is open no other file gets its number
        second = stopped(folder, os.fstat(f.fileno()).st_ino, '--force')
    os.kill(first.pid, signal.SIGCONT)
    _, err = first.communicate()
    tap.ok(first.returncode == 1 and b'was taken away: another restore' in err, 'of two restores to one file, the one that lost its own fails') or tap.diag(err)
    tap.ok(not os.path.exists('both.img') and os.path.exists('both.img.partial'), '... and leaves what is not its own')
    os.kill(second.pid, signal.SIGCONT)
    _, err = second.communicate()
    tap.ok(second.returncode == 0 and images.same_content(image, 'both.img'), '... and the other one is whole') or tap.diag(err)


def not_into_a_point(folder, image):
    archive = glob.glob(folder + '/disks.tar*')[0]
    with open(archive, 'rb') as f:
        before = f.read()
    repository = ['--repository', os.path.abspath(ovb.repository_of(folder)), '--force']
    spec = ovb.spec(folder)
    for what, target, cwd in ('disk', archive, None), ('disk', os.path.basename(archive), folder), ('export', os.path.abspath(folder) + '/new.tar', None):
        r = tap.run([ovb.RESTORE, *repository, what, spec, *(['pipe'] if what == 'disk' else []), target], cwd=cwd)
        tap.ok(r.status == 1 and '%s would lie in a restore point' % target in r.stderr, 'no %s to %s, not with --force either' % (what, target)) or \
            tap.diag(r.stderr)
    with open(archive, 'rb') as f:
        tap.ok(f.read() == before and not glob.glob(folder + '/*.partial') and not os.path.exists(folder + '/new.tar'), 'the point is as it was')
    os.mkdir('repo/by-hand')
    r = ovb.restore(folder, 'repo/by-hand/out.img')
    tap.ok(r.status == 0 and images.same_content(image, 'repo/by-hand/out.img'), 'a folder beside the machines is no restore point')


def main():
    if os.geteuid() != 0:
        tap.skip_all('block devices need root')
    for kind, (maker, options) in KINDS.items():
        image = kind + '.img'
        images.make(maker, image, **options)
        if kind == 'odd':
            tap.ok(os.path.getsize(image) % 512 != 0, 'the odd image is odd')
        for codec in CODECS if kind != 'many' else ['zstd:1']:
            folder = ovb.backup(image, codec, repository='repo-' + codec.replace(':', '-'))
            name = '%s, %s' % (kind, codec)
            to_raw(folder, image, name)
            to_qcow2(folder, image, name)
            to_loop(folder, image, name)
            to_nbd(folder, image, name)
            if kind != 'many':
                export(folder, image, name, {'bzip2': '.tar.xz', 'xz:0': '.tar.zst', 'zstd': '.tar.bz2', 'none': '.tar'}[codec])
        os.unlink(image)
    images.make('mixed', 'pipe.img', size=4 * MIB)
    folder = ovb.backup('pipe.img', 'zstd')
    r = tap.run(['sh', '-c', '"$0" --repository repo/ export pipe@latest - | cat > piped.tar', ovb.RESTORE])
    tap.is_(r.status, 0, 'export to standard output')
    tap.is_(tap.run(['tar', '-xf', 'piped.tar', 'pipe.img', '--transform', 's/^/x-/']).status, 0, 'and GNU tar reads it')
    tap.ok(images.same_content('pipe.img', 'x-pipe.img'), 'identical')
    r = tap.run([ovb.RESTORE, '--repository', 'repo/', 'export', 'pipe@latest', 'out.zip'])
    tap.ok(r.status == 1 and 'must end in .tar' in r.stderr, 'export to a name that says no codec')
    r = ovb.restore(folder, 'nbd+unix:///?socket=' + os.path.abspath('nobody'))
    tap.ok(r.status == 1 and 'cannot connect' in r.stderr and 'nobody' in r.stderr, 'nobody answers')
    names(folder, 'pipe.img')
    overtaken(folder, 'pipe.img')
    not_into_a_point(folder, 'pipe.img')
    r = ovb.restore(folder, 'x.qcow2', '--format', 'vmdk')
    tap.is_(r.status, 2, 'a format that is none')
    tap.done_testing()


main()
