#!/usr/bin/python3 -B
"""Incremental points: what changed is stored, each point is whole all the same, and what an earlier one has lost is stored again."""
import mmap
import os
import random
import shutil
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import images
import ovb
import tap

GENERATIONS = int(os.environ.get('GENERATIONS') or 20)
MIB = 1 << 20


def write(path, offset, data):
    with open(path, 'r+b') as f:
        f.seek(offset)
        f.write(data)


def change(path, rng):
    """Writes, zeroes, discards, and now and then another size."""
    size = os.path.getsize(path)
    for _ in range(rng.randrange(7)):
        length = rng.choice([512, 4096, 65536, 200000])
        offset = rng.randrange((size - 200000) // 512) * 512
        kind = rng.randrange(5)
        if kind == 0:
            tap.run(['fallocate', '--punch-hole', '--offset', str(offset), '--length', str(length), path])
        else:
            write(path, offset, bytes(length) if kind == 1 else b'same' * (length // 4) if kind == 2 else rng.randbytes(length))
    if rng.random() < 0.2:
        os.truncate(path, size + rng.choice([-70000, -512, -1, 1, 512, 300000]))


def run(conf, *options):
    before = ovb.points()
    r = ovb.once(conf, 'job', *options)
    new = [p for p in ovb.points() if p not in before]
    if r.status != 0 or len(new) != 1:
        tap.diag(r.stderr)
        raise RuntimeError('no new point')
    return new[0]


def disk(folder):
    return ovb.manifest(folder)['disks'][0]


def restores(folder, want, name):
    r = ovb.restore(folder, 'out.img')
    good = tap.is_(r.status, 0, name + ': restored') and tap.ok(images.same_content('out.img', want), name + ': identical')
    if good:
        tap.ok(images.allocated('out.img') <= images.allocated(want) + 65536, name + ': as thin')
    else:
        tap.diag(r.stderr)
    if os.path.exists('out.img'):
        os.unlink('out.img')


def generations(codec, seed, count):
    rng = random.Random(seed)
    shutil.rmtree('repo', ignore_errors=True)
    images.make('mixed', 'vm.img', seed=seed, size=24 * MIB)
    conf = ovb.make_config(ovb.image_job('vm.img', compression=codec, incremental=True))
    history = []
    for n in range(count):
        folder = run(conf, *(['--full'] if n == count // 2 else []))
        copy = 'copy.%d' % n
        tap.run(['cp', '--sparse=always', 'vm.img', copy])
        history.append((folder, copy))
        change('vm.img', rng)
    kinds = [ovb.manifest(f)['kind'] for f, _ in history]
    tap.is_(kinds, ['full'] + ['incremental'] * (count // 2 - 1) + ['full'] + ['incremental'] * (count - count // 2 - 1),
            codec + ': the first is full, and what --full made')
    stored = sum(ovb.manifest(f)['stored'] for f, _ in history if ovb.manifest(f)['kind'] == 'incremental')
    tap.ok(stored < 24 * MIB * (count - 2) / 4, codec + ': the others are small')
    for n, (folder, copy) in enumerate(history):
        name = '%s, generation %d' % (codec, n)
        restores(folder, copy, name)
        if n % 5 == 0 or n == count - 1:
            r = ovb.oracle('verify', folder)
            tap.is_((r.status, r.stdout if r.status else ''), (0, ''), name + ': the second reader agrees')
            tap.is_(ovb.verify(folder).status, 0, name + ': it verifies')
        os.unlink(copy)


def a_mapped_image_is_read():
    """A page that is written by way of mmap(2), and again before it is on the disk: the file's time tells only the first."""
    shutil.rmtree('repo', ignore_errors=True)
    images.make('full', 'vm.img', size=1 * MIB)
    conf = ovb.make_config(ovb.image_job('vm.img', compression='zstd:3', incremental=True))
    with open('vm.img', 'r+b') as f, mmap.mmap(f.fileno(), 0) as m:
        m[100] = 1
        time.sleep(4)       # the program takes a file for settled after 2 s
        run(conf)
        m[100] = 2
        m[101] = 3
        restores(run(conf), 'vm.img', 'mapped, and written again')


def an_unchanged_image_is_not_read():
    shutil.rmtree('repo', ignore_errors=True)
    images.make('mixed', 'vm.img', size=8 * MIB)
    old = time.time() - 100
    os.utime('vm.img', (old, old))
    conf = ovb.make_config(ovb.image_job('vm.img', compression='zstd:3', incremental=True))
    run(conf)
    second = run(conf)
    tap.is_((disk(second)['how'], disk(second)['read']), ('unchanged', 0), 'an image whose times say so is not read')
    restores(second, 'vm.img', 'unchanged')
    third = run(conf, '--reread')
    tap.is_(disk(third)['how'], 'compared', '--reread reads it all the same')
    tap.ok(disk(third)['read'] > 0 and disk(third)['data'] == 0, 'and stores nothing')
    os.utime('vm.img', (old + 1, old + 1))
    tap.is_(disk(run(conf))['how'], 'compared', 'another time of change: it is read')
    write('vm.img', 4096, b'new')
    os.utime('vm.img', (old + 1, old + 1))
    tap.is_(disk(run(conf))['how'], 'compared', 'written, and its time set back: it is read')
    restores(ovb.points()[-1], 'vm.img', 'written, and its time set back')
    # A program that valgrind makes slow comes to look later.
    soon = time.time() + 30 * (tap.SLOWER > 1)
    os.utime('vm.img', (soon, soon))
    run(conf)
    tap.ok('identity' not in disk(run(conf)), 'a time of just now tells nothing')


def what_is_lost_is_stored_again():
    for name, lose in (('removed', os.unlink), ('cut', lambda p: os.truncate(p, os.path.getsize(p) // 2))):
        shutil.rmtree('repo', ignore_errors=True)
        images.make('mixed', 'vm.img', size=8 * MIB)
        conf = ovb.make_config(ovb.image_job('vm.img', compression='zstd:3', incremental=True))
        first = run(conf)
        write('vm.img', 0, b'second')
        second = run(conf)
        lose(ovb.archive(first))
        write('vm.img', 70000, b'third')
        third = run(conf)
        what = 'the first archive %s: ' % name
        restores(third, 'vm.img', what + 'the next point')
        tap.is_(ovb.verify(third).status, 0, what + 'the next point verifies')
        tap.is_(ovb.verify(second).status, 1, what + 'the point that needs it does not')
        write('vm.img', 0, b'fourth')
        restores(run(conf), 'vm.img', what + 'and the one after')


def what_cannot_be_gone_on_from_is_told():
    shutil.rmtree('repo', ignore_errors=True)
    images.make('mixed', 'vm.img', size=8 * MIB)
    conf = ovb.make_config(ovb.image_job('vm.img', compression='zstd:3', incremental=True))
    first = run(conf)
    with open(os.path.join(first, 'index.bin'), 'r+b') as f:
        f.truncate(100)
    d = disk(run(conf))
    tap.is_(d['how'], 'full', 'an index that is damaged is not built upon')
    tap.like(d.get('why', ''), 'index.bin', 'and the manifest says why')
    tap.is_(ovb.manifest(ovb.points()[-1])['references'], [], 'a full point needs no other')
    conf = ovb.make_config(ovb.image_job('vm.img', compression='zstd:3', incremental=False))
    tap.is_(disk(run(conf))['how'], 'full', 'incremental = false: all is stored')


def main():
    generations('zstd:3', 1, GENERATIONS)
    generations('none', 2, GENERATIONS // 2)
    generations('bzip2:1', 3, GENERATIONS // 2)
    an_unchanged_image_is_not_read()
    a_mapped_image_is_read()
    what_is_lost_is_stored_again()
    what_cannot_be_gone_on_from_is_told()
    tap.done_testing()


main()
