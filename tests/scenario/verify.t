#!/usr/bin/python3 -B
"""virt-backupctl verify: what is damaged is found, and exactly the points that need it are named."""
import json
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import chains
import images
import ovb
import tap

CTL = os.path.join(tap.BIN, 'virt-backupctl')
MIB = 1 << 20
TOP = 'sound'
SOUND = os.path.join(TOP, 'repo')


def verify(repo, *args):
    """Exit status, specs of the broken points, texts of the damages, and the last event."""
    r = tap.run([CTL, '-r', './' + repo, '--json', 'verify', *args])
    events = [json.loads(line) for line in r.stdout.splitlines()]
    return (r.status, [e['point'] for e in events if e['event'] == 'broken'],
            ['%s: %s' % (e['point'], e['error']) for e in events if e['event'] == 'damaged'], events[-1] if events else r.stderr)


def damaged_copy(name):
    shutil.rmtree(name, ignore_errors=True)
    shutil.copytree(SOUND, name)
    return name


def folder(repo, n, vm='a'):
    return os.path.join(repo, vm, '2026-01-01T%02d0000Z' % n)


def spec(n, vm='a'):
    return '%s@2026-01-01T%02d:00:00Z' % (vm, n)


def flip(path, text):
    """One bit of what was stored of this content."""
    with open(path, 'r+b') as f:
        data = f.read()
        at = data.index(text.encode() + b' all work', 0) + 3
        f.seek(at)
        f.write(bytes([data[at] ^ 1]))


def truly_broken(repo):
    """The points that virt-restore cannot restore."""
    found = []
    for f in ovb.points(repo):
        if os.path.exists(os.path.join(f, 'pruned.json')):
            continue
        point = '%s@%s' % (os.path.basename(os.path.dirname(f)), os.path.basename(f))
        r = tap.run([ovb.RESTORE, '-r', './' + repo, '--force', 'disk', point, 'vda', 'try.img'])
        if r.status != 0:
            found.append(spec(int(os.path.basename(f)[11:13]), os.path.basename(os.path.dirname(f))))
    return found


def check(repo, wanted, name, damages=None):
    status, broken, texts, last = verify(repo)
    tap.is_(broken, wanted, name)
    tap.is_(truly_broken(repo), wanted, '... virt-restore agrees')
    tap.ok(status == 1 and last['event'] == 'failed' and last['broken'] == len(wanted) and last['damages'] == len(texts), '... exit 1, and counted')
    if damages is not None:
        tap.ok(len(texts) == len(damages) and all(d in t for d, t in zip(damages, texts)), '... each damage once')
    for text in texts:
        tap.diag(text)


def test_sound():
    status, broken, texts, last = verify(SOUND)
    tap.is_((status, broken, texts), (0, [], []), 'all is as it was stored')
    tap.is_((last['event'], last['points'], last['archives']), ('verified', 7, 8), 'each archive once, also one that was pruned')
    r = tap.run([CTL, '-r', './' + SOUND, 'verify'])
    tap.is_((r.status, r.stdout, r.stderr), (0, '7 points, 8 archives: all is as it was stored\n', ''), 'in words')
    tap.is_(verify(SOUND, 'a@latest')[3], {'event': 'verified', 'points': 1, 'archives': 2, 'sample': 100.0, 'damages': 0, 'broken': 0},
            'one point: its archive, and those that it needs')
    tap.is_(verify(SOUND, '--job', 'sample')[3]['points'], 7, 'the points of a job')
    r = tap.run([CTL, '-r', './' + SOUND, 'verify', '--job', 'nosuch'])
    tap.ok(r.status == 1 and 'no restore points of the job nosuch' in r.stderr, 'a job without points')


def test_blocks():
    repo = damaged_copy('block')
    flip(os.path.join(folder(repo, 0), 'disks.tar'), 'base')
    check(repo, [spec(0), spec(1), spec(2)], 'a block of the full one: all that need it, but not the next chain', [
        'SHA-256', 'disk vda, 65536 bytes at offset'])
    repo = damaged_copy('own')
    flip(os.path.join(folder(repo, 1), 'disks.tar'), 'a own 1')
    check(repo, [spec(1), spec(2)], 'a block of a delta')
    repo = damaged_copy('shared')
    flip(os.path.join(folder(repo, 1), 'disks.tar'), 'a shared 1')
    check(repo, [spec(1)], 'a block that the next point has anew: no other one')
    r = tap.run([CTL, '-r', './' + repo, 'verify'])
    tap.like(r.stderr, r'damaged: a@2026-01-01T01:00:00Z: disk vda, 4096 bytes at offset 512: ', 'in words: what')
    tap.like(r.stderr, r'broken: a@2026-01-01T01:00:00Z: disk vda: needs damaged bytes of the archive in a/2026-01-01T010000Z, at offset 512\n', 'whom it breaks')
    tap.like(r.stderr, r'2 damages found; 1 of 7 points cannot be restored as a whole\n', 'and how many')
    tap.is_(verify(repo, 'a@2026-01-01T02')[1], [], 'asked for the next point alone: not broken')
    repo = damaged_copy('pruned')
    flip(os.path.join(folder(repo, 0, 'b'), 'disks.tar'), 'base')
    check(repo, [spec(1, 'b'), spec(2, 'b')], 'a block of a pruned archive')


def test_whole():
    repo = damaged_copy('missing')
    os.unlink(os.path.join(folder(repo, 3), 'disks.tar'))
    check(repo, [spec(3), spec(4)], 'an archive is missing')
    repo = damaged_copy('folder')
    shutil.rmtree(folder(repo, 0, 'b'))
    check(repo, [spec(1, 'b'), spec(2, 'b')], 'so is a folder', [])
    repo = damaged_copy('cut')
    path = os.path.join(folder(repo, 3), 'disks.tar')
    os.truncate(path, os.path.getsize(path) // 3)
    check(repo, [spec(3), spec(4)], 'an archive is cut off')
    for file in 'index.bin', 'manifest.json':
        repo = damaged_copy('small')
        os.truncate(os.path.join(folder(repo, 1), file), 100)
        check(repo, [], '%s is damaged: told, but no point is broken' % file)
        repo = damaged_copy('small')
        os.unlink(os.path.join(folder(repo, 0), 'index.bin'))
        check(repo, [], '%s is lost: the same' % 'index.bin')
    repo = damaged_copy('small')
    os.unlink(os.path.join(folder(repo, 0), 'manifest.json'))
    check(repo, [], 'manifest.json is lost: it is named, not the pruned.json that a listed point never has', ['/manifest.json: No such file'])
    repo = damaged_copy('sums')
    os.unlink(os.path.join(folder(repo, 0, 'b'), 'SHA256SUMS'))
    check(repo, [], 'SHA256SUMS is lost: the same', ['SHA256SUMS'])


def test_named_twice():
    """An archive that SHA256SUMS names often is read once all the same."""
    repo = damaged_copy('twice')
    file = os.path.join(folder(repo, 3), 'SHA256SUMS')
    with open(file, encoding='utf-8') as f:
        lines = f.readlines()
    often = next(line for line in lines if 'disks.tar' in line) * 500
    with open(file, 'a', encoding='utf-8') as f:
        f.write(often)
    for command in ([CTL, '-r', './' + repo, 'verify'], [ovb.RESTORE, '-r', './' + repo, 'verify', 'a@2026-01-01T03']):
        r = tap.run(['strace', '-f', '-o', 'reads', '-e', 'trace=pread64,openat', '-y', *command], env=tap.NO_LEAK_CHECK)
        with open('reads', encoding='utf-8', errors='replace') as f:
            opened = sum('openat' in line and 'T030000Z/disks.tar"' in line for line in f)
        tap.ok(r.status == 1 and 'SHA256SUMS names a file twice' in r.stderr, '%s: a file that is named twice is told' % os.path.basename(command[0]))
        tap.ok(0 < opened < 10, '... and not read for each of its lines') or tap.diag('opened %d times' % opened)
    check(repo, [], '... no point is broken')


def test_members():
    chains.sample.make_repository('members')
    chains.sample.members_vm('members', 0)
    flip('members/repo/members-none/2026-01-01T000000Z/disks.tar', 'nvram')
    status, broken, texts, _ = verify('members/repo')
    tap.is_((status, broken), (1, ['members-none@2026-01-01T00:00:00Z']), 'a small member: its own point only')
    tap.ok(any('nvram.fd' in t for t in texts), 'which is told')


def test_replaced():
    chains.sample.make_repository('replaced')
    chains.sample.replaced_vm('replaced')
    tap.is_(verify('replaced/repo')[:3], (0, [], []), 'replaced archives')
    path = 'replaced/repo/replaced/2026-01-01T030000Z/disks.tar.zst'
    os.truncate(path, 100)
    tap.is_(verify('replaced/repo')[:2], (1, ['replaced@2026-01-01T03:00:00Z', 'replaced@2026-01-01T04:00:00Z']), 'the one that stands for them is lost')


def test_packed():
    """An archive that stands for others may have too little of them for a point that was put back."""
    image = 'packed.img'
    images.make('full', image, size=8 * MIB)
    for n in range(5):
        with open(image, 'r+b') as f:
            f.seek(n * MIB)
            f.write(os.urandom(MIB + MIB // 2))
        ovb.backup(image, 'zstd:1', repository='packed', incremental=True)
    for keep in 3, 1:
        r = tap.run([CTL, '-c', ovb.make_config(ovb.image_job(image, keep={'last': keep}), repository='packed'), 'prune', 'job'])
        tap.is_(r.status, 0, 'points are pruned until %d stay' % keep) or tap.diag(r.stderr)
        if keep == 3:
            first = [p for p in ovb.points('packed') if os.path.exists(p + '/manifest.json')][0]
            shutil.copytree(first, 'kept')
    tap.ok(not os.path.exists(first + '/manifest.json'), 'a point has gone')
    tap.is_(verify('packed')[:3], (0, [], []), 'what is left is sound')
    shutil.rmtree(first, ignore_errors=True)
    shutil.move('kept', first)
    r = tap.run([ovb.RESTORE, '-r', './packed', 'disk', ovb.spec(first), 'packed', 'packed.out'])
    tap.is_(r.status, 1, 'put back, it cannot be restored: what it needed was let go of')
    r = tap.run([CTL, '-r', './packed', 'verify'])
    tap.is_((r.status, len([line for line in r.stderr.splitlines() if 'broken: ' in line])), (1, 1), 'verify says so, of it alone') or tap.diag(r.stderr)
    tap.like(r.stderr, r'disk packed, from offset \d+: what it needs of the archive [0-9a-f-]{36} is in none of those that stand for it', '... and where')


def test_sample():
    repo = damaged_copy('sampled')
    tap.is_(verify(repo, '--sample', '5')[0], 0, 'a sample of sound archives')
    r = tap.run([CTL, '-r', './' + repo, 'verify', '--sample', '5%'])
    tap.like(r.stdout, 'a sample of 5 % is as it was stored', 'it does not say more than it knows')
    flip(os.path.join(folder(repo, 0), 'disks.tar'), 'base')
    tap.is_(verify(repo, '--sample', '0.001')[:2], (1, [spec(0), spec(1), spec(2)]), 'of each archive at least one frame is checked')
    # Many frames: what is not looked at is not found, but in the end it is.
    chains.sample.make_repository('frames')
    disk = chains.sample.Disk('vda', 40 * chains.W)
    for n in range(40):
        disk.write(n * chains.W, chains.sample.content('frame %d' % n, chains.W))
    a = chains.sample.make_archive('frames/0', 1, chains.sample.TIME0, [disk])
    chains.sample.publish('frames', 'frames', a, [disk], 'full')
    at = a.frames[20]
    path = 'frames/repo/frames/2026-01-01T000000Z/disks.tar.bz2'
    with open(path, 'r+b') as f:
        f.seek(at[0] + at[3] // 2)
        byte = f.read(1)
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([byte[0] ^ 0x55]))
    found = [verify('frames/repo', '--sample', '30')[0] for _ in range(40)]
    tap.ok({0, 1} == set(found), 'a damaged frame is found by some samples (%d of 40)' % sum(found))


def test_readers():
    """No lock: what is pruned meanwhile is no damage."""
    template, repo, wrong, runs = chains.repository('pruning'), 'going/repo', [], 0
    os.mkdir('going')
    for n in range(10):
        chains.machine('pruning', 'm%d' % n, 'FdFd')
    with open('prune.conf', 'w') as f:
        f.write('repositories = ( { name = "local"; url = "%s"; } );\n' % os.path.abspath(repo))
        f.write('jobs = ( { name = "sample"; images = [ "/x" ]; repository = "local"; keep = { last = 1; }; } );\n')
    for _ in range(4):
        shutil.rmtree(repo, ignore_errors=True)
        shutil.copytree(template, repo)
        prune = tap.start([CTL, '-c', 'prune.conf', 'prune', 'sample'], stdout=tap.subprocess.DEVNULL, stderr=tap.subprocess.DEVNULL)
        while prune.poll() is None or runs == 0:
            r = tap.run([CTL, '-r', './' + repo, 'verify'])
            runs += 1
            if r.status != 0:
                wrong.append(r.stderr)
    tap.ok(not wrong, 'verify while prune runs finds no damage (%d)' % runs)
    for text in wrong[:3]:
        tap.diag(text)


def test_against_source():
    """What differs from the image is told; a hole on one side only and another length too."""
    size = images.make('mixed', 'live.img')
    conf = ovb.make_config(ovb.image_job('live.img', compression='zstd:1'))
    tap.is_(ovb.once(conf, 'job').status, 0, 'against the source: backed up')

    def compare(*options):
        return tap.run([CTL, '-r', os.path.abspath(ovb.REPO), *options, 'verify', '--against-source', 'live@latest'])
    r = compare()
    tap.is_(r.status, 0, 'the image as it was: 0') or tap.diag(r.stderr)
    tap.like(r.stdout, r'^live@\S+: disk live is what /.*/live.img holds$', 'it says so')
    fd = os.open('live.img', os.O_RDWR)
    hole = os.lseek(fd, 0, os.SEEK_HOLE)
    data = os.lseek(fd, hole + 65536, os.SEEK_DATA)
    os.pwrite(fd, b'x', hole + 100)
    r = compare()
    tap.is_(r.status, 1, 'a byte in what was a hole: 1')
    tap.like(r.stdout, r'differs from /.*/live.img in 1 blocks of 64 KiB, the first at offset %d$' % (hole // 65536 * 65536), 'it says where')
    subprocess.run(['fallocate', '--punch-hole', '--offset', str(data), '--length', '4096', 'live.img'], check=True)
    r = compare('--json')
    got = json.loads(r.stdout.splitlines()[-1])     # a slow machine shows progress before
    tap.is_([r.status, got['event'], got['disk'], got['same'], got['blocks_differ']], [1, 'compared', 'live', False, 2], 'JSON') or tap.diag(r.stdout)
    os.ftruncate(fd, size + 512)
    os.close(fd)
    r = compare()
    tap.is_(r.status, 1, 'a longer image: 1')
    tap.like(r.stdout, r'disk live is %d bytes, /.*/live.img has %d$' % (size, size + 512), 'it says so')
    os.unlink('live.img')
    r = compare()
    tap.is_(r.status, 1, 'no image: 1')
    tap.like(r.stderr, r'disk live cannot be compared: cannot look at its image /.*/live.img: No such file', 'it says so')
    tap.is_(tap.run([CTL, '-r', os.path.abspath(ovb.REPO), 'verify', '--against-source']).status, 2, 'without a point: 2')


def main():
    chains.repository(TOP)
    chains.machine(TOP, 'a', 'FddFd')
    chains.machine(TOP, 'b', 'Fdd', pruned='0')
    test_sound()
    test_blocks()
    test_whole()
    test_named_twice()
    test_members()
    test_replaced()
    test_packed()
    test_sample()
    test_readers()
    test_against_source()
    tap.done_testing()


main()
