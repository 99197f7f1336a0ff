#!/usr/bin/python3 -B
"""The worst day: a repository on a USB stick, and a rescue system that has tar, bzip2, sha256sum and python3.  The commands are those of
openvirt-backup(7), to the letter.  And what rescue.py does with every kind of repository."""
import glob
import os
import re
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import chains
import images
import ovb
import tap

PAGE = os.path.join(tap.TOP, 'packaging', 'man', 'openvirt-backup.7')
RESCUE = os.path.join(tap.TOP, 'restore', 'rescue.py')
TOOLS = 'sh', 'tar', 'bzip2', 'sha256sum', 'python3'
MIB = 1 << 20


# The page.

def page_blocks():
    """{heading: [commands of a literal block, without the prompt]} of "DISASTER RECOVERY"."""
    with open(PAGE, encoding='utf-8') as f:
        text = re.search(r'^\.Sh DISASTER RECOVERY\n(.*?)^\.Sh ', f.read(), re.M | re.S)[1]
    found = {}
    for heading, body in re.findall(r'^\.Ss ([^\n]*)\n(.*?)(?=^\.Ss |\Z)', text, re.M | re.S):
        blocks = re.findall(r'^\.Bd -literal[^\n]*\n(.*?)^\.Ed', body, re.M | re.S)
        for escape, character in ('\\(aq', "'"), ('\\(dq', '"'), ('\\-', '-'), ('\\&', ''), ('\\e', '\\'):
            blocks = [b.replace(escape, character) for b in blocks]
        found[heading] = [re.sub(r'^# ', '', b, flags=re.M) for b in blocks]
    return found


# The rescue system.

def rescue_system():
    """A PATH with nothing but the tools; what they need is found by itself.  Returns the environment."""
    os.makedirs('rescue/bin')
    for tool in TOOLS:
        os.symlink(os.path.realpath(sys.executable if tool == 'python3' else shutil.which(tool)), 'rescue/bin/' + tool)
    return {'PATH': os.path.abspath('rescue/bin'), 'TAR_OPTIONS': None, 'PYTHONPATH': None, 'LD_LIBRARY_PATH': None, 'HOME': '/'}


def follow(script, env):
    """Run a page's commands where /mnt is the test's own, in a mount namespace; without root, with /mnt in the commands replaced."""
    mnt = os.path.abspath('mnt')
    script = 'set -e\n' + script
    if os.geteuid() == 0 and tap.run(['unshare', '-m', 'true']).status == 0:
        mount = 'mount --make-rprivate / && mount --bind "$0" /mnt && exec env PATH="$1" sh -c "$2"'
        return tap.run(['unshare', '-m', 'sh', '-c', mount, mnt, env['PATH'], script], env={**env, 'PATH': os.environ['PATH']}, cwd='/')
    return tap.run(['sh', '-c', script.replace('/mnt/', mnt + '/')], env=env, cwd='/')


def test_walk():
    blocks = page_blocks()
    tap.is_([len(b) for b in blocks.values()], [1, 4, 1, 0], 'the page has the commands: %s' % ', '.join(blocks))
    os.makedirs('mnt/usb')
    os.makedirs('mnt/new')
    images.make('mixed', 'debian.img', size=8 * MIB)
    shutil.copyfile('debian.img', 'first.img')
    full = ovb.backup('debian.img', 'bzip2:9', repository='mnt/usb/vm', incremental=True)
    with open('debian.img', 'r+b') as f:
        for at in 0, 3 * MIB + 512, 8 * MIB - 4096:
            f.seek(at)
            f.write(b'later ' * 600)
    later = ovb.backup('debian.img', 'bzip2:9', repository='mnt/usb/vm', incremental=True)
    tap.is_([ovb.manifest(p)['kind'] for p in (full, later)], ['full', 'incremental'], 'a full point, and one that is not')
    times = {'2026-11-22T013000Z': os.path.basename(full), '2026-11-23T013000Z': os.path.basename(later)}
    blocks = {heading: [re.sub('|'.join(times), lambda m: times[m[0]], b) for b in bodies] for heading, bodies in blocks.items()}
    shutil.copyfile(RESCUE, 'mnt/usb/vm/rescue.py')
    tap.like(blocks['Before that day'][0], r'^cp \S+/share/openvirt-backup/rescue\.py /mnt/usb/vm$', 'the script goes to the stick')
    r = tap.run([ovb.RESTORE, '--repository', 'mnt/usb/vm', 'list'])
    tap.is_((r.status, r.stderr, r.stdout.count('debian@')), (0, '', 2), 'where it is in nobody\'s way')
    images.make('holes', 'gone.img', size=MIB)
    before = sorted(glob.glob('mnt/usb/vm/*'))
    tap.is_(tap.run([ovb.BACKUPD, '--config', ovb.make_config(ovb.image_job('gone.img'), repository='mnt/usb/vm'), '--once', 'job']).status, 0, 'nor in that of a run')
    shutil.rmtree('mnt/usb/vm/gone')
    tap.is_(sorted(glob.glob('mnt/usb/vm/*')), before, 'and stays')
    os.rename('debian.img', 'later.img')

    env = rescue_system()
    r = follow(''.join(blocks['A full point']), env)
    tap.is_((r.status, r.stderr), (0, ''), 'a full point: the commands of the page') or tap.diag(r.stdout)
    kinds = re.findall(r'^debian/(\S+)/manifest.json (\w+)$', r.stdout, re.M)
    tap.is_(dict(kinds), {os.path.basename(full): 'full', os.path.basename(later): 'incremental'}, 'they tell full points from others')
    tap.is_([w for w in ('disks.tar.bz2: OK', 'index.bin: OK', '"target": "debian"', '"size": 8388608') if w not in r.stdout], [], 'check it, and show its disks')
    tap.is_(same('first.img', 'mnt/new/debian.img'), '', 'and give the disk, as sparse as it was')
    r = follow(''.join(blocks['A point that is not full']), env)
    tap.is_((r.status, r.stderr), (0, ''), 'a point that is not full: the commands of the page') or tap.diag(r.stdout)
    tap.ok('debian/%s incremental debian\n' % os.path.basename(later) in r.stdout, 'they list points and disks') or tap.diag(r.stdout)
    tap.is_(same('later.img', 'mnt/new/debian-later.img'), '', 'and give the disk')


def same(image, copy):
    if not os.path.isfile(copy):
        return 'there is no file'
    at = images.first_difference(image, copy)
    if at is not None:
        return 'differs at %d' % at
    more = images.allocated(copy) - images.allocated(image)
    return 'takes %d bytes more' % more if more > 0 else ''


# rescue.py

def rescue(repo, *args, env=None):
    return tap.run([sys.executable, '-B', RESCUE, repo, *args], env=env)


def test_samples():
    """Every shape that a repository can have, written from the format alone."""
    repo, wrong = 'top/repo', []
    chains.sample.make('top')
    expected = sorted(glob.glob('top/expected/*/*.img'))
    for image in expected:
        point, disk = os.path.basename(os.path.dirname(image)).replace('@', '/'), os.path.basename(image)[:-len('.img')]
        r = rescue(repo, point, disk, 'out.img')
        if r.status != 0 or r.stderr or images.first_difference(image, 'out.img') is not None:
            wrong.append('%s %s: %s %s' % (point, disk, r.status, r.stderr))
        if os.path.exists('out.img'):
            os.unlink('out.img')
    tap.is_(wrong, [], 'each disk of each point of the samples (%d)' % len(expected))
    tap.ok(len(expected) > 20, 'they are many')
    r = rescue(repo)
    listed = {line.split()[0] for line in r.stdout.splitlines()}
    points = {'/'.join(p.split('/')[-2:]) for p in ovb.points(repo) if os.path.exists(p + '/manifest.json')}
    tap.is_((r.status, r.stderr, listed), (0, '', points), 'its list has each point')


def test_lost():
    """Of what is damaged or gone it tells the place, and saves the rest."""
    repo = chains.repository('lost')
    first, second, third = chains.machine('lost', 'web', 'FdF', codec=1)
    whole = 'lost/expected/web@%s/vda.img' % os.path.basename(second)
    with open(whole, 'rb') as f:
        wanted = f.read()
    archive = ovb.archive(first)
    with open(archive, 'r+b') as f:
        f.seek(os.path.getsize(archive) // 3)
        f.write(b'damage' * 20)
    r = rescue(repo, 'web/' + os.path.basename(second), 'vda', 'damaged.img')
    said = 'SHA-256' in r.stderr and re.search(r'lost: \d+ bytes at offset \d+: ', r.stderr) and 'LOST' in r.stdout
    tap.ok(r.status == 1 and said, 'a damaged archive is said') or tap.diag(r.stdout + r.stderr)
    lost = bytearray(wanted)
    for n, at in re.findall(r'lost: (\d+) bytes at offset (\d+)', r.stderr):
        lost[int(at):int(at) + int(n)] = bytes(int(n))
    with open('damaged.img', 'rb') as f:
        tap.ok(f.read() == bytes(lost) != wanted, 'what is named reads as zeroes, the rest is right')
    shutil.rmtree(first)
    r = rescue(repo, 'web/' + os.path.basename(second), 'vda', 'without.img')
    tap.ok(r.status == 1 and 'is not in the repository' in r.stderr, 'so is one that is gone') or tap.diag(r.stdout + r.stderr)
    tap.is_(rescue(repo, 'web/' + os.path.basename(third), 'vda', 'third.img').status, 0, 'a point that does not need it restores')
    for name, args, text in (('no such point', ('web/2020', 'vda', 'x'), 'there is no restore point'), ('no such disk', ('web/' + os.path.basename(third), 'vdz', 'x'), 'it has: vda'),
                             ('a file that is there', ('web/' + os.path.basename(third), 'vda', 'third.img'), 'File exists')):
        r = rescue(repo, *args)
        tap.ok(r.status == 1 and text in r.stderr and not os.path.exists('x'), name + ' is refused') or tap.diag(r.stderr)
    tap.is_([rescue(repo, 'x').status, rescue('nowhere').status], [2, 1], 'wrong usage, and a folder that is not there')


def test_hostile():
    """An index that lies ends in an error, not in a trace or a file without end."""
    repo = chains.repository('hostile')
    point, = chains.machine('hostile', 'web', 'F')
    with open(point + '/index.bin', 'rb') as f:
        good = f.read()
    traces = []
    for at in range(0, len(good) - 8, 136):
        with open(point + '/index.bin', 'wb') as f:
            f.write(good[:at] + b'\xff' * 8 + good[at + 8:])
        r = rescue(repo, 'web/' + os.path.basename(point), 'vda', 'out.img')
        if r.status not in (0, 1) or 'Traceback' in r.stderr:
            traces.append('%d: %s' % (at, r.stderr[-300:]))
        if os.path.exists('out.img'):
            os.unlink('out.img')
    tap.is_(traces, [], 'a damaged index, wherever')


def test_busybox():
    """The manual page says that busybox's tar is not enough; when that changes, so must the page."""
    if shutil.which('busybox') is None:
        tap.skip(1, 'there is no busybox')
        return
    images.make('mixed', 'box.img', size=4 * MIB)
    folder = ovb.backup('box.img', 'bzip2:1', repository='box')
    os.mkdir('boxed')
    r = tap.run(['busybox', 'tar', '-xjf', ovb.archive(folder), '-C', 'boxed'])
    tap.is_((r.status, os.path.exists('boxed/box.img'), os.path.exists('boxed/GNUSparseFile.0/box.img')), (0, False, True), 'busybox writes something else, and exits 0')


test_walk()
test_samples()
test_lost()
test_hostile()
test_busybox()
tap.done_testing()
