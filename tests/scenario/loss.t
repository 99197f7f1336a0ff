#!/usr/bin/python3 -B
"""What can be lost, in turn and in pairs: index.bin, the manifest, repository.json, SHA256SUMS, the archive's end, its middle.  And targets
that fill up, vanish or fail, and a user who presses Ctrl-C twice."""
import itertools
import os
import shutil
import signal
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import images
import ovb
import tap

CODECS = ['zstd:1', 'bzip2:1', 'xz:0', 'none']


def path(folder, name):
    return os.path.join(folder, name)


def lose(name):
    return lambda folder: os.unlink(path(folder, name))


def damage(name, at):
    def do(folder):
        with open(path(folder, name), 'r+b') as f:
            f.seek(at)
            byte = f.read(1)
            f.seek(at)
            f.write(bytes([byte[0] ^ 0x55]))
    return do


def cut(bytes_):
    def do(folder):
        archive = next(path(folder, n) for n in os.listdir(folder) if n.startswith('disks.tar'))
        os.truncate(archive, max(os.path.getsize(archive) - bytes_, 0))
    return do


def repository(text):
    def do(folder):
        with open(path(ovb.repository_of(folder), 'repository.json'), 'w', encoding='utf-8') as f:
            f.write(text)
    return do


# What is lost, and whether all of the disk can still be had.
LOSSES = {
    'index.bin lost': (lose('index.bin'), True), 'index.bin damaged': (damage('index.bin', 600), True),
    'manifest lost': (lose('manifest.json'), True), 'manifest damaged': (damage('manifest.json', 3), True),
    'repository.json damaged': (repository('{ "format": '), True), 'SHA256SUMS lost': (lose('SHA256SUMS'), True),
    'the tail of the archive lost': (cut(100), True), 'a third of the archive lost': (cut(700000), False),
}


def restore(folder, *options):
    if os.path.exists('out.img'):
        os.unlink('out.img')
    return tap.run([ovb.RESTORE, '--repository', ovb.repository_of(folder), *options, 'disk', 'disk@latest', 'disk', 'out.img'])


def holds_what_is_left(image):
    """Whether out.img is the image where it is not zero, and how much of the image it has."""
    same = total = 0
    with open(image, 'rb') as a, open('out.img', 'rb') as b:
        while block := a.read(4096):
            other = b.read(4096)
            if any(block):
                total += 1
                same += block == other
            if other != block and any(other):
                return None
    return same / total


def check(folder, image, names, name):
    r = restore(folder)
    if all(LOSSES[n][1] for n in names):
        tap.ok(r.status == 0 and images.same_content(image, 'out.img'), name + ': all of the disk is restored')
        if r.status != 0:
            tap.diag(r.stderr)
    else:
        tap.ok(r.status == 1 and 'disk disk' in r.stderr and 'offset' in r.stderr, name + ': what is lost is named by disk and offset')
        tap.ok(not os.path.exists('out.img') and not os.path.exists('out.img.partial'), name + ': and nothing is left')
        r = restore(folder, '--keep-going')
        tap.ok(r.status == 1 and 'lost (' in r.stderr, name + ': --keep-going says so')
        part = holds_what_is_left(image) if os.path.exists('out.img') else None
        tap.ok(part is not None and part > 0.2, name + ': and saves the rest, and nothing wrong')
        if part is None:
            tap.diag(r.stderr)
    r = tap.run([ovb.RESTORE, '--repository', ovb.repository_of(folder), 'verify', 'disk@latest'])
    if names != ['repository.json damaged']:
        tap.is_(r.status, 1, name + ': verify notices')


def losses(codec, pairs):
    image = 'disk.img'
    good = 'good-' + codec.replace(':', '-')
    folder = ovb.backup(image, codec, repository=good)
    cases = [[n] for n in LOSSES] + ([list(p) for p in itertools.combinations(LOSSES, 2)] if pairs else [])
    for names in cases:
        if len({n.split()[0] for n in names if n.split()[0] in ('index.bin', 'manifest')}) < len([n for n in names if n.split()[0] in
                                                                                          ('index.bin', 'manifest')]):
            continue        # one file cannot be both lost and damaged
        if names[-1:] == ['a third of the archive lost'] and len(names) == 2 and names[0].startswith('the tail'):
            continue
        bad = shutil.copytree(good, 'bad')
        for n in names:
            LOSSES[n][0](path(bad, os.path.relpath(folder, good)))
        check(path(bad, os.path.relpath(folder, good)), image, names, '%s, %s' % (codec, ' and '.join(names)))
        shutil.rmtree(bad)


def bare(codec):
    """One archive and nothing else, with its end cut off."""
    folder = ovb.backup('disk.img', codec, repository='bare')
    shutil.copy(ovb.archive(folder), 'alone')
    # Without compression, the last 10 KiB may be nothing but padding.
    os.truncate('alone', os.path.getsize('alone') - (12000 if codec == 'none' else 600))
    r = tap.run([ovb.RESTORE, '--archive', 'alone', '--force', 'disk', 'disk', 'out.img'])
    tap.ok(r.status == 0 and images.same_content('disk.img', 'out.img'), codec + ', bare, without its index: restored')
    tap.like(r.stderr, 'without digests', codec + ', bare: says that nothing but the codec vouches for it')
    os.truncate('alone', 50)
    r = tap.run([ovb.RESTORE, '--archive', 'alone', '--force', 'disk', 'disk', 'out.img'])
    tap.ok(r.status == 1 and 'alone' in r.stderr, codec + ', bare, next to nothing left: an error')


def once_is_enough():
    """verify names what is lost once, and says what is used instead."""
    folder = ovb.backup('disk.img', 'none', repository='once')
    os.unlink(path(folder, 'index.bin'))
    r = tap.run([ovb.RESTORE, '--repository', './once', 'verify', ovb.spec(folder)])
    tap.is_((r.status, r.stderr.count('index.bin'), r.stderr.count('damaged: ')), (1, 1, 1), 'verify names a lost index.bin once')
    tap.like(r.stderr, 'index.bin: No such file.*: the index inside the archive is used', 'and says what is used instead')
    os.truncate(ovb.archive(folder), 100)
    r = tap.run([ovb.RESTORE, '--repository', './once', 'verify', ovb.spec(folder)])
    tap.is_((r.status, r.stderr.count('index.bin: No such file')), (1, 1), 'and once when the archive is lost, too')


def bad_targets():
    folder = ovb.backup('disk.img', 'zstd:1', repository='targets')
    os.mkdir('under')
    for fault, word in ((['--eio-write', '1000000'], 'Input/output error'), (['--enospc-after', '1000000'], 'No space left')):
        os.mkdir('mnt')
        server = tap.mount_imagefs(*fault, 'under', 'mnt')
        r = ovb.restore(folder, 'mnt/out.img')
        tap.ok(r.status == 1 and word in r.stderr and 'out.img' in r.stderr, 'a target that gives "%s": a clear error' % word)
        tap.is_(os.listdir('under'), [], 'and nothing of it is left')
        tap.stop(server)
        os.rmdir('mnt')
    uri = 'nbd+unix:///?socket=' + os.path.abspath('sock')
    with open('nbd.img', 'wb') as f:
        f.truncate(os.path.getsize('disk.img') + 511)
    server = tap.start(['nbdkit', '--foreground', '--unix', os.path.abspath('sock'), '--filter=delay', 'file', 'nbd.img', 'wdelay=300ms'])
    wait_for('sock')
    child = tap.start(ovb.restore_command(folder, uri, '--force'), stdout=-1, stderr=-1)
    time.sleep(1)
    server.kill()
    _, err = child.communicate(timeout=90)
    os.unlink('sock')
    tap.ok(child.returncode == 1 and b'sock' in err and b'part of the disk' in err, 'an NBD server that vanishes: says what is left where')
    tap.diag(err.decode().strip())
    clock_is_set(folder, uri)


def clock_is_set(folder, uri):
    """A rescue system's clock is set while it restores: no server is late for that."""
    server = tap.start(['nbdkit', '--foreground', '--unix', os.path.abspath('sock'), '--filter=delay', 'file', 'nbd.img', 'wdelay=300ms'])
    wait_for('sock')
    with open('clock', 'w+b') as f:
        f.write(bytes(8))
        f.flush()
        child = tap.start(ovb.restore_command(folder, uri, '--force'), stdout=-1, stderr=-1, env={
            'CLOCK_FILE': os.path.abspath('clock'), 'LD_PRELOAD': os.path.join(tap.TOOLS, 'preload_clock.so'),
            'ASAN_OPTIONS': 'verify_asan_link_order=0:' + os.environ.get('ASAN_OPTIONS', '')})
        time.sleep(0.5)
        running = child.poll() is None
        os.pwrite(f.fileno(), struct.pack('=q', 30 * 365 * 86400), 0)
        _, err = child.communicate(timeout=90 * tap.SLOWER)
    server.kill()
    tap.ok(running and child.returncode == 0, 'the clock is set while an NBD server is slow: the restore goes on') or tap.diag(err.decode())


def wait_for(file):
    for _ in range(200):
        if os.path.exists(file):
            return
        time.sleep(0.05)


def ctrl_c(times, folder):
    """Press Ctrl-C while the target is slow; returns status and standard error."""
    os.mkdir('mnt')
    server = tap.mount_imagefs('--slow', '0', '--eio-write', str(1 << 50), 'under', 'mnt')
    child = tap.start(['strace', '-f', '-qq', '-o', '/dev/null', '-e', 'inject=pwrite64:delay_enter=400000'] +
                      ovb.restore_command(folder, 'mnt/out.img'), env=tap.NO_LEAK_CHECK, stdout=-1, stderr=-1)
    wait_for('under/out.img.partial')
    time.sleep(0.5)
    for _ in range(times):
        tap.run(['pkill', '-INT', '-P', str(child.pid), 'virt-restore'])
        time.sleep(0.05)
    _, err = child.communicate(timeout=120)
    left = sorted(os.listdir('under'))
    tap.stop(server)
    os.rmdir('mnt')
    return child.returncode, err.decode(), left


def interrupts():
    folder = ovb.backup('disk.img', 'zstd:1', repository='interrupts')
    status, err, left = ctrl_c(1, folder)
    tap.ok(status == 1 and 'stopped' in err and 'nothing of the target was kept' in err, 'Ctrl-C: a clean end, and says so')
    tap.is_(left, [], 'nothing is left')
    status, err, left = ctrl_c(2, folder)
    tap.like(err, r'stopped at once: .*out\.img\.partial is left unfinished', 'a second Ctrl-C: at once, and says what is left where')
    tap.is_(left, ['out.img.partial'], 'which is true')
    r = ovb.restore(folder, 'under/out.img')
    tap.like(r.stderr, r'out\.img\.partial.*remove it, or use --force', 'the next restore says what to do about it')
    tap.is_(ovb.restore(folder, 'under/out.img', '--force').status, 0, 'and --force does it')


def main():
    if os.geteuid() != 0:
        tap.skip_all('a file system of our own needs root')
    images.make('mixed', 'disk.img', size=12 << 20)
    for codec in CODECS:
        losses(codec, codec == 'zstd:1')
        bare(codec)
    once_is_enough()
    bad_targets()
    interrupts()
    tap.done_testing()


main()
