"""Small sample repositories with chains, written from the format alone: fulls, deltas, what was pruned.

    chains.repository('top')                                 makes top/repo
    chains.machine('top', 'web', 'FdFd')                     four points, an hour apart: F is a full one, d a delta on all before it
    chains.restores(folder, 'top')                           '' or what is wrong: the point's disk must be what it was
"""
import os
import sys

import ovb
import tap

sys.path.insert(0, os.path.join(tap.TOP, 'tests', 'oracle_selftest'))
import make_sample as sample

W = sample.W


def repository(top):
    sample.make_repository(top)
    return os.path.join(top, 'repo')


def fresh_disk(old, size=16 * W):
    """A disk that no archive has yet, with the same content."""
    disk = sample.Disk('vda', size)
    if old is None:
        disk.write(0, sample.content('base', 4 * W))
    else:
        for begin, end, _ in old.segments:
            disk.write(begin, bytes(old.image[begin:end]))
    return disk


def machine(top, vm, kinds, codec=0, begin=0, pruned=''):
    """Each delta changes a part of its own and a shared one.  pruned: numbers of the points (from 0) that are no longer listed."""
    disk, folders = None, []
    for n, kind in enumerate(kinds):
        if kind == 'F':
            disk = fresh_disk(disk)
        disk.write((4 + n % 10) * W, sample.content('%s own %d' % (vm, n), W))
        disk.write(512, sample.content('%s shared %d' % (vm, n), 4096))
        when = sample.TIME0 + 3600 * (begin + n)
        archive = sample.make_archive('%s/%d' % (vm, begin + n), codec, when, [disk])
        sample.publish(top, vm, archive, [disk], 'full' if kind == 'F' else 'incremental', listed=str(n) not in pruned)
        folders.append(os.path.join(top, 'repo', sample.escape(vm), sample.stamp(when).replace(':', '')))
    return folders


def restores(folder, top, disk='vda'):
    """What is wrong with a point: it must restore to what was expected when it was made."""
    out = 'restored.img'
    if os.path.exists(out):
        os.unlink(out)
    r = tap.run(ovb.restore_command(folder, out, disk=disk))
    if r.status != 0:
        return '%s: %s' % (folder, r.stderr)
    vm, point = os.path.basename(os.path.dirname(folder)), os.path.basename(folder)
    with open(out, 'rb') as f, open(os.path.join(top, 'expected', '%s@%s' % (vm, point), disk + '.img'), 'rb') as g:
        return '' if f.read() == g.read() else folder + ': other content'
