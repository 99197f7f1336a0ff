#!/usr/bin/python3 -B
"""tests/storage-matrix with tiny disks: it says what they take, skips in plain words what is not here, and notices a disk that comes back wrong or thicker."""
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import guest_disks
import images
import tap

PROGRAM = os.path.join(tap.TOP, 'tests', 'storage-matrix')
FILES = os.path.join(tap.WORK, 'usr')


def matrix(build, *what, **env):
    return tap.run([sys.executable, '-B', PROGRAM, build, *what], env={
        'SCALE': '0.01', 'COMPRESSION': 'zstd:1', 'PEER': '0', 'STORAGE_DIR': os.path.join(tap.WORK, 'matrix'), 'SYSTEM_FOLDERS': FILES, **env})


def cells(r, first):
    """A table's row."""
    return next(([c.strip() for c in line.split('|')[1:-1]] for line in r.stdout.splitlines() if line.startswith('| %s ' % first)), [])


def build_with(name, restore):
    """A build folder whose virt-restore is this script; the real one is $REAL."""
    build = os.path.join(tap.WORK, name)
    os.makedirs(os.path.join(build, 'bin'))
    os.symlink(os.path.join(tap.BIN, 'virt-backupd'), os.path.join(build, 'bin', 'virt-backupd'))
    os.symlink(os.path.join(tap.BUILD, 'tests'), os.path.join(build, 'tests'))
    script = os.path.join(build, 'bin', 'virt-restore')
    with open(script, 'w', encoding='ascii') as f:
        f.write('#!/bin/sh\nREAL=%s\nfor out; do :; done\n%s\n' % (os.path.join(tap.BIN, 'virt-restore'), restore))
    os.chmod(script, 0o755)
    return build


def megabytes(cell):
    return float(cell.split()[0])


def same_build(name):
    return build_with(name, 'exec "$REAL" "$@"')


def test_disk():
    """The same disk each time, with a partition table and a sound file system in it."""
    for path in 'a.img', 'b.img':
        guest_disks.make('appliance', path, 0.01)
    size = os.path.getsize('a.img')
    with open('a.img', 'rb') as f:
        table = f.read(512)
        f.seek(1 << 20)
        with open('part.img', 'wb') as out:
            shutil.copyfileobj(f, out)
    tap.is_((size, table[450], int.from_bytes(table[454:458], 'little'), table[510:]), (100000000 // 512 * 512, 0x83, 2048, b'\x55\xaa'),
            'its size, and a DOS partition table')
    r = tap.run(['e2fsck', '-fn', 'part.img'])
    tap.is_(r.status, 0, 'a sound file system') or tap.diag(r.stdout + r.stderr)
    tap.ok(abs(images.allocated('a.img') / 3260000 - 1) < 0.25, 'about as much in it as it should have') or tap.diag(images.allocated('a.img'))
    r = tap.run(['debugfs', '-R', 'dump database/table a.table', 'a.img?offset=1048576'])
    tap.run(['debugfs', '-R', 'dump database/table b.table', 'b.img?offset=1048576'])
    tap.ok(os.path.getsize('a.table') == int(3260000 * 0.96) * 6 // 100 and images.same_content('a.table', 'b.table'), 'the same content each time')


def test_storages():
    build = same_build('build')
    r = matrix(build, 'raw, holes cannot be told (FUSE)', 'block device (loop)', 'raw on ext4', 'appliance')
    tap.is_(r.status, 0, 'each storage, and a guest: exit status 0') or tap.diag(r.stdout + r.stderr)
    blind, guest = cells(r, 'raw, holes cannot be told (FUSE)'), cells(r, 'a small appliance')
    tap.is_((blind[1:3], blind[6].split(',')[0]), (['image', '100 MB'], 'identical'), 'where holes cannot be told: the same bytes')
    tap.ok(0 < megabytes(blind[5]) < megabytes(blind[3]) < 5 and megabytes(blind[4]) > 100, 'all of it is read, little of it is stored') or tap.diag(blind)
    for what in 'block device (loop)', 'raw on ext4':
        row = cells(r, what)
        if row[1].startswith('not here: '):
            tap.skip(1, row[1])
        else:
            tap.is_((row[2], row[3], row[6].split(',')[0]), (blind[2], blind[3], 'identical'), '%s: the same' % what)
    tap.is_((guest[2], guest[5], guest[7].split(',')[0]), ('100 MB', '', 'identical'), 'a guest')
    with open(os.path.join(build, 'storage-matrix.md'), encoding='utf-8') as f:
        tap.is_([line for line in f.read().splitlines() if line], [line for line in r.stdout.splitlines() if line and not line.startswith(('ok', '1..'))],
                'storage-matrix.md has the tables')
    tap.is_(os.listdir('matrix'), [], 'nothing is left behind')


def test_faults():
    """What it is there to notice."""
    wrong = build_with('wrong', '"$REAL" "$@" && printf x | dd of="$out" bs=1 seek=50000000 conv=notrunc status=none')
    r = matrix(wrong, 'raw, holes cannot be told (FUSE)')
    tap.ok(r.status == 1 and 'DIFFERENT at 50000000' in r.stdout, 'a disk that comes back with another byte') or tap.diag(r.stdout + r.stderr)
    thick = build_with('thick', '"$REAL" "$@" && dd if=/dev/zero of="$out" bs=1M seek=50 count=4 conv=notrunc status=none')
    r = matrix(thick, 'appliance')
    tap.ok(r.status == 1 and 'THICKER' in r.stdout and 'DIFFERENT' not in r.stdout, 'a disk that comes back thicker') or tap.diag(r.stdout + r.stderr)
    r = matrix(build_with('none', 'exit 1'), 'appliance')
    tap.ok(r.status == 1 and cells(r, 'a small appliance')[1].startswith('FAILED: restore'), 'a disk that does not come back') or tap.diag(r.stdout + r.stderr)
    r = matrix(wrong, 'floppy')
    tap.ok(r.status == 1 and 'there is no floppy; there are raw on ext4' in r.stderr, 'a storage that there is not')


os.makedirs(FILES)
for i in range(12):
    images.make('text', os.path.join(FILES, '%d.txt' % i), seed=i, size=300000)
guest_disks.FOLDERS = [FILES]
test_disk()
test_storages()
test_faults()
tap.done_testing()
