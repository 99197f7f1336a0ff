#!/usr/bin/python3 -B
"""Only allocated extents are read, each byte once; where the storage cannot tell holes, zeroes are found by looking and not stored."""
import os
import stat
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import images
import ovb
import readtrace
import tap

KIB, MIB, TIB = 1 << 10, 1 << 20, 1 << 40
NOTE = 'could not tell holes'


def pieces(path, data, grain=4096):
    """The parts of an image that hold a byte other than zero (data True), in whole pieces as a file system would allocate them."""
    found = []
    with open(path, 'rb') as f:
        for start, length in images.extents_of(f.fileno()):
            for at in range(start, start + length, grain):
                n = min(grain, start + length - at)
                f.seek(at)
                if any(f.read(n)) == data:
                    found.append((at, n))
    return images.union(found)


def total(ranges):
    return sum(n for _, n in ranges)


def traced(image, compression='none', quick=False, **keys):
    """Back up under strace; returns the new point and what was read of the image."""
    def runner(command, **kwargs):
        # 100,000 extents: fewer calls are followed.  A read() would then be seen at a wrong place, and fail the test.
        return tap.run([command[0], '--seccomp-bpf', *(w.replace('lseek,', '') for w in command[1:])] if quick else command,
                       env=tap.NO_LEAK_CHECK, **kwargs)
    before = ovb.points()
    trace = readtrace.run(ovb.once_command(ovb.make_config(ovb.image_job(image, compression=compression, **keys))), runner=runner)
    new = [p for p in ovb.points() if p not in before]
    tap.is_((trace.status, trace.result.stderr, len(new)), (0, '', 1), '%s: the run' % image)
    seen = trace.of(image)
    tap.ok(seen.opened > 0 and trace.io_uring == 0 and not seen.mmaps, '%s: the trace saw all that was read' % image)
    return new[0], seen.reads


def restored(image, folder, most, name):
    r = ovb.restore(folder, 'restored')
    tap.is_((r.status, r.stderr, images.first_difference(image, 'restored')), (0, '', None), name + ': restored to the identical image')
    have = total(images.extents('restored'))
    tap.ok(have <= most, '%s: with no more allocated than the source' % name) or tap.diag('%d bytes, at most %d' % (have, most))
    os.unlink('restored')


def check_sparse(image, folder, reads):
    extents = images.extents(image)
    tap.is_(readtrace.reads_only_extents(reads, extents), None, '%s: no hole is read' % image)
    tap.is_((images.union(reads) == images.union(extents), total(reads)), (True, total(extents)), '%s: each byte of each extent once' % image)
    m = ovb.manifest(folder)
    disk = m['disks'][0]
    tap.is_((disk['provisioned'], disk['read'], disk['data'], m['notes']), (total(extents),) * 3 + ([],), '%s: the manifest says so' % image)


def test_sparse():
    for kind, options in {'mixed': {}, 'huge': {}, 'odd': {}, 'holes': {}, 'trailing-hole': {}, 'full': {}}.items():
        image = kind + '.img'
        images.make(kind, image, **options)
        folder, reads = traced(image)
        check_sparse(image, folder, reads)
        restored(image, folder, total(images.extents(image)), image)
        os.unlink(image)


def test_many_extents():
    """100,000 extents, in 15 TiB."""
    folder = ovb.mount_tmpfs('many', 1 << 30)
    image = os.path.join(os.path.basename(folder), 'many.img')
    many = ovb.Extents(100000, 15 * TIB)
    many.make(image)
    point, reads = traced(image, 'zstd:1', quick=True)
    tap.is_(images.extents(image), many.map, '100,000 extents')
    check_sparse(image, point, reads)
    os.unlink(image)


def test_cannot_tell():
    """A file system that says that all is data: one pass to look, one that reads what is no zero."""
    os.mkdir('below')
    os.mkdir('blind')
    for kind, options in {'mixed': {'size': 8 * MIB}, 'odd': {}, 'holes': {'size': 4 * MIB}, 'one': {}}.items():
        images.make(kind, 'below/%s.img' % kind, **options)
    mount = tap.mount_imagefs('--no-holes', 'below', 'blind')
    for name in sorted(os.listdir('below')):
        image, below = os.path.join('blind', name), os.path.join('below', name)
        size, data = os.path.getsize(image), pieces(below, True)
        tap.is_(images.extents(image), [(0, size)], '%s: all looks like data' % image)
        folder, reads = traced(image, 'zstd:1')
        scan, rest, at = [], list(reads), 0
        while rest and rest[0][0] == at and at < size:
            scan.append(rest.pop(0))
            at += scan[-1][1]
        tap.is_((at, readtrace.reads_only_extents(rest, data), images.union(rest), total(rest)), (size, None, data, total(data)),
                '%s: read from end to end, then each byte of what is no zero once' % image)
        m = ovb.manifest(folder)
        disk = m['disks'][0]
        tap.is_((disk['data'], disk['zero'], disk['read']), (total(data), 0, size + total(data)), '%s: no zeroes are stored' % image)
        tap.ok(len(m['notes']) == 1 and NOTE in m['notes'][0], '%s: a note says so' % image) or tap.diag(m['notes'])
        restored(below, folder, total(images.extents(below)), image)
    tap.stop(mount)


def test_full_and_known():
    """A file without holes where holes can be told is not read twice, and no note doubts it."""
    images.make('zeroes', 'zeroes.img', size=4 * MIB)
    folder, reads = traced('zeroes.img')
    disk = ovb.manifest(folder)['disks'][0]
    tap.is_((total(reads), disk['data'], disk['zero'], ovb.manifest(folder)['notes']), (4 * MIB, 4 * MIB, 4 * MIB, []),
            'zeroes.img: read once, stored as the zeroes they are')
    restored('zeroes.img', folder, 0, 'zeroes.img')


def test_block_device():
    """A device tells nothing: all of it is read, zeroes are not stored."""
    images.make('mixed', 'disk.raw', size=8 * MIB + 512)      # a device is made of whole sectors
    loop = tap.run(['losetup', '--find', '--show', 'disk.raw'])
    if loop.status != 0:
        tap.skip(8, 'no loop device: ' + loop.stderr.strip())
        return
    device = loop.stdout.strip()
    try:
        tap.ok(stat.S_ISBLK(os.stat(device).st_mode), device + ': a block device')
        folder, reads = traced(device, 'zstd:1')
        size, data = os.path.getsize('disk.raw'), pieces('disk.raw', True)
        disk = ovb.manifest(folder)['disks'][0]
        tap.is_((disk['size'], disk['target']), (size, os.path.basename(device)), 'block device: its size and name')
        tap.is_(images.union(reads)[:1], [(0, size)], 'block device: read from end to end')
        tap.is_((disk['data'], disk['zero'], disk['read']), (total(data), 0, size + total(data)), 'block device: no zeroes are stored')
        tap.ok(NOTE in ' '.join(ovb.manifest(folder)['notes']), 'block device: a note says so')
        restored('disk.raw', folder, total(images.extents('disk.raw')), 'block device')
        r = ovb.oracle('verify', folder)
        tap.is_((r.status, r.stderr), (0, ''), 'block device: the second reader')
    finally:
        tap.run(['losetup', '--detach', device])


test_sparse()
test_full_and_known()
test_cannot_tell()
test_block_device()
test_many_extents()
tap.done_testing()
