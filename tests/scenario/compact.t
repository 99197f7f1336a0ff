#!/usr/bin/python3 -B
"""Consolidate and repack: every kept point stays what it was, to any reader, at any moment, whatever dies; and nothing stays that nobody needs."""
import filecmp
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import images
import ovb
import tap

COMPACT = os.path.join(tap.TOOLS, 'compact')
SAMPLE = os.path.join(tap.TOP, 'tests', 'oracle_selftest', 'make_sample.py')
PLACE = re.compile(ovb.POINT.pattern + r'(\.new|\.old)?')


def compact(*args, **kwargs):
    return tap.run([COMPACT, *args], **kwargs)


def spec(vm, name):
    """VM@TIME of a point's folder."""
    return '%s@%s' % (urllib.parse.unquote(vm), re.sub(r'T(\d\d)(\d\d)(\d\d)Z', r'T\1:\2:\3Z', name))


def listed(repo):
    """(vm, name) of the points that are listed, by their folders."""
    return [(os.path.basename(os.path.dirname(p)), os.path.basename(p)) for p in ovb.points(repo) if os.path.exists(p + '/manifest.json')]


def pruned(repo):
    return [p for p in ovb.points(repo) if os.path.exists(p + '/pruned.json')]


def expected(vm, name):
    return sorted(glob.glob(os.path.join('sample', 'expected', '%s@%s' % (vm, name), '*.img')))


def same(repo, vm, name, image, oracle=False):
    """What is wrong with a disk of a point."""
    disk = os.path.basename(image)[:-4]
    out = 'got.img'
    if os.path.exists(out):
        os.unlink(out)
    if oracle:
        r = tap.run([sys.executable, '-B', ovb.ORACLE, 'disk', repo, urllib.parse.unquote(vm), name, disk, out])
    else:
        r = tap.run([ovb.RESTORE, '--repository', os.path.abspath(repo), '--', 'disk', spec(vm, name), disk, out])
    if r.status != 0:
        return ['%s@%s %s: %s' % (vm, name, disk, r.stderr)]
    if not filecmp.cmp(out, image, shallow=False):
        return ['%s@%s %s: other bytes' % (vm, name, disk)]
    if images.allocated(out) > images.allocated(image) + 65536:
        return ['%s@%s %s: thicker than its source' % (vm, name, disk)]
    return []


def wrong_points(repo, vms, oracle=True):
    """What is wrong with the points of these machines."""
    wrong = []
    for vm, name in listed(repo):
        if vm not in vms:
            continue
        for image in expected(vm, name):
            wrong += same(repo, vm, name, image)
            if oracle:
                wrong += same(repo, vm, name, image, oracle=True)
        if oracle:
            r = tap.run([sys.executable, '-B', ovb.ORACLE, 'verify', repo, urllib.parse.unquote(vm), name])
            wrong += ['%s@%s: oracle: %s' % (vm, name, r.stderr)] if r.status else []
            r = tap.run([ovb.RESTORE, '--repository', os.path.abspath(repo), 'verify', spec(vm, name)])
            wrong += ['%s@%s: verify: %s%s' % (vm, name, r.stdout, r.stderr)] if r.status else []
    if oracle:
        for p in pruned(repo):
            r = tap.run([sys.executable, '-B', ovb.ORACLE, 'verify', repo, os.path.basename(os.path.dirname(p)), os.path.basename(p)])
            wrong += ['%s: oracle: %s' % (p, r.stderr)] if r.status and 'replaced' not in r.stderr else []
    return wrong


def report(wrong, name):
    tap.ok(not wrong, name)
    for text in wrong:
        tap.diag(text)


def fresh(name, *vms):
    """A copy of the sample with only these machines; its folder."""
    repo = os.path.abspath(name)
    shutil.rmtree(repo, ignore_errors=True)
    os.makedirs(os.path.join(repo, '.locks'))
    shutil.copy('sample/repo/repository.json', repo)
    for vm in vms:
        shutil.copytree(os.path.join('sample/repo', vm), os.path.join(repo, vm))
    return repo


def strange(repo):
    """What is there and should not be, once all is settled."""
    return ([p for p in ovb.leftovers(repo)] + [os.path.join('.locks', n) for n in os.listdir(os.path.join(repo, '.locks'))])


def needed(repo):
    """Pruned folders that no listed point names, by the manifests."""
    ids = set()
    for vm, name in listed(repo):
        ids |= set(ovb.manifest(os.path.join(repo, vm, name))['references'])
    extra = []
    for p in pruned(repo):
        with open(p + '/pruned.json') as f:
            m = json.load(f)
        if not ids & {m['archive']['id'], *m.get('replaces', [])}:
            extra.append('%s is there for nobody' % p)
    return extra


# Tests.

def test_export():
    """Frames are copied into an exported archive of the same codec, and only there."""
    for vm, ending, least in (('codec-bzip2', 'tar.bz2', 80), ('codec-zstd', 'tar.zst', 80), ('codec-xz', 'tar.xz', 80), ('codec-bzip2', 'tar.zst', 0)):
        repo = fresh('export', vm)
        out = 'out.' + ending
        r = tap.run([ovb.RESTORE, '--repository', repo, '--force', 'export', spec(vm, '2026-01-01T000000Z'), out])
        share = int((re.search(r'(\d+) % copied', r.stdout) or [0, -1])[1])
        tap.ok(share >= least if least else share == 0, '%s to %s: %d %% copied' % (vm, ending, share))
        tap.is_(tap.run([sys.executable, '-B', ovb.ORACLE, 'verify-archive', out]).status, 0, 'and sound')
        with open(os.path.join(repo, vm, '2026-01-01T000000Z', 'index.bin'), 'rb') as f:
            secret = f.read(264)[72:]
        tap.is_(tap.run([sys.executable, '-B', ovb.ORACLE, 'disk-archive', out, 'vda', 'x.img']).status, 0, 'and readable')
        tap.ok(filecmp.cmp('x.img', expected(vm, '2026-01-01T000000Z')[0], shallow=False), 'and the same disk')
        with open(out, 'rb') as f:
            tap.ok(secret not in f.read(), 'with digests of its own')


def test_damaged_frame():
    """A frame is checked before it is copied: digests are never taken of what is not what was stored."""
    repo = fresh('damaged', 'codec-none')
    data = os.path.join(repo, 'codec-none', '2026-01-01T000000Z', 'disks.tar')
    with open(data, 'r+b') as f:
        f.seek(2000000)
        f.write(b'damage')
    r = tap.run([ovb.RESTORE, '--repository', repo, 'export', spec('codec-none', '2026-01-01T000000Z'), 'damaged.tar'])
    tap.is_(r.status, 1, 'a damaged block is not exported')
    tap.like(r.stderr, 'offset .*digest', 'says where')
    r = compact('consolidate', repo, spec('codec-none', '2026-01-02T000000Z'))
    tap.is_(r.status, 1, 'and not consolidated')
    tap.like(r.stderr, r'2026-01-02T000000Z cannot be consolidated: .*offset .*digest', 'says what and where')
    tap.is_(strange(repo), [], 'nothing is left of it')


def test_consolidate(vm, *orders):
    """Every point: oldest first (1), newest first (-1)."""
    for order in orders:
        repo = fresh('repo', vm)
        for at, name in listed(repo)[::order]:
            kind = ovb.manifest(os.path.join(repo, at, name))['kind']
            r = compact('consolidate', repo, spec(at, name))
            tap.is_((r.status, r.stderr), (0, ''), '%s: consolidated' % spec(at, name))
            tap.like(r.stdout, 'already full' if kind == 'full' else r'^copied \d+ %$', 'says what it did')
        tap.is_([n for _, n in listed(repo)], [n for v, n in listed('sample/repo') if v == vm], 'the same points are listed')
        kinds = {(ovb.manifest(p)['kind'], len(ovb.manifest(p)['references'])) for p in ovb.points(repo) if os.path.exists(p + '/manifest.json')}
        tap.is_(kinds, {('full', 0)}, 'all are full')
        tap.is_(pruned(repo), [], 'no old archive stays')
        tap.is_(strange(repo), [], 'nothing else stays')
        report(wrong_points(repo, [vm]), '%s: every point is what it was' % vm)
        for at, name in listed(repo):
            folder = os.path.join(repo, at, name)
            tap.is_(tap.run(['sha256sum', '-c', '--quiet', 'SHA256SUMS'], cwd=folder).status, 0, 'sha256sum -c')
            shutil.rmtree('tar', ignore_errors=True)
            os.mkdir('tar')
            r = tap.run(['tar', '-C', 'tar', '-xf', ovb.archive(folder)])
            tap.is_((r.status, r.stderr), (0, ''), 'GNU tar extracts %s' % spec(at, name))
            wrong = []
            for image in expected(at, name):
                target = os.path.basename(image)[:-4]
                got = os.path.join('tar', next(d['member'] for d in ovb.manifest(folder)['disks'] if d['target'] == target))
                if not filecmp.cmp(got, image, shallow=False):
                    wrong.append(got + ' differs')
                elif images.allocated(got) > images.allocated(image) + 3 * 65536 + 262144:
                    wrong.append('%s takes %d, its source %d' % (got, images.allocated(got), images.allocated(image)))
            report(wrong, 'the same images, as sparse')


def test_old_stays():
    """An archive that others use outlives its point's consolidation, as a pruned one, and is repacked to what they use."""
    vm = 'codec-bzip2'
    repo = fresh('repo', vm)
    r = compact('consolidate', repo, spec(vm, '2026-01-02T000000Z'))
    tap.is_(r.status, 0, 'consolidated')
    [old] = pruned(repo)
    before = ovb.manifest(os.path.join('sample/repo', vm, '2026-01-02T000000Z'))
    with open(old + '/pruned.json') as f:
        now = json.load(f)
    tap.ok(now['archive']['id'] == before['archive']['id'] or before['archive']['id'] in now['replaces'], 'the old archive is a pruned one now')
    new = ovb.manifest(os.path.join(repo, vm, '2026-01-02T000000Z'))
    tap.ok(new['archive']['id'] != before['archive']['id'], 'the new one has an id of its own')
    changed = {'archive', 'kind', 'finished', 'stored', 'references', 'notes', 'disks'}
    tap.is_({k: v for k, v in new.items() if k not in changed}, {k: v for k, v in before.items() if k not in changed}, 'all else of its manifest stays')
    report(wrong_points(repo, [vm]), 'every point is what it was')
    r = compact('consolidate', repo, spec(vm, '2026-01-02T000000Z-2'), 'zstd:3')
    tap.is_(r.status, 0, 'the point that used it is consolidated, to another codec')
    tap.ok(os.path.exists(os.path.join(repo, vm, '2026-01-02T000000Z-2', 'disks.tar.zst')), 'in that codec')
    tap.is_(pruned(repo), [], 'and the old archive is gone')
    report(wrong_points(repo, [vm]), 'every point is what it was')


def test_protected():
    vm = 'codec-zstd'
    repo = fresh('repo', vm)
    mark = os.path.join(repo, vm, '2026-01-02T000000Z', 'protected')
    compact('write', repo, spec(vm, '2026-01-02T000000Z'))
    open(mark, 'w').close()
    compact('sweep', repo)
    tap.ok(os.path.exists(mark) and ovb.manifest(os.path.dirname(mark))['kind'] == 'full', 'a protected point stays so')
    tap.is_(ovb.leftovers(repo), [], 'and the sweep has put it in its place')


def test_repack(vm):
    """The full point goes, and most of its archive with it."""
    repo = fresh('repo', vm)
    names = [n for _, n in listed(repo)]
    tap.is_(compact('retire', repo, spec(vm, names[0])).status, 0, '%s: the full point is pruned' % vm)
    share = float(compact('dead', repo, vm + '/' + names[0]).stdout)
    tap.ok(0 < share < 0.2, 'a little of it is dead (%s)' % share)
    r = compact('after-prune', repo)
    tap.like(r.stdout, '^removed 0, repacked 0', 'it stays as it is')
    tap.is_(compact('consolidate', repo, spec(vm, names[2])).status, 0, 'the third point is consolidated')
    tap.is_(compact('retire', repo, spec(vm, names[2])).status, 0, 'and pruned')
    tap.is_(compact('after-prune', repo).status, 0, 'and gone')
    report(wrong_points(repo, [vm]), 'the second is what it was')
    report(needed(repo) + strange(repo), 'nothing stays that nobody needs')
    tap.is_(compact('retire', repo, spec(vm, names[1])).status, 0, 'the last point is pruned')
    r = compact('after-prune', repo)
    tap.is_(ovb.points(repo), [], 'nothing stays at all: ' + r.stdout)


def make_mostly_dead(repo):
    """A chain whose pruned archives are of little use any more: an image, rewritten bit by bit."""
    subprocess.run([sys.executable, '-B', '-c', '''
import sys
sys.path[:0] = [%r, %r]
import make_sample as m
m.make_repository(sys.argv[1])
vm, disk = 'chain', m.Disk('vda', 8 * 1048576 + 1636)
disk.write(0, m.content('a', 4 * 1048576))
disk.write(disk.size - 1000 // 512 * 512 - 612, m.content('end', 512 + 612))
for n in range(6):
    codec = 1 if n != 3 else 3
    if n:
        disk.write(n * 9 * m.W, m.content('w%%d' %% n, 9 * m.W))
        disk.write(n * 9 * m.W + 512 * n, m.content('v%%d' %% n, 512))
        disk.clear((n + 50) * m.W, m.W, m.HOLE)
    a = m.make_archive('chain/%%d' %% n, codec, m.TIME0 + 3600 * n, [disk], m.SMALL)
    m.publish(sys.argv[1], vm, a, [disk], 'incremental' if n else 'full')
''' % (os.path.dirname(SAMPLE), os.path.dirname(ovb.ORACLE)), repo], check=True)


def test_repack_chain():
    """Several pruned archives become one, in which whole frames are copied."""
    make_mostly_dead('chain')
    shutil.move('chain/repo/chain', 'sample/repo/chain')
    for folder in glob.glob('chain/expected/*'):
        shutil.move(folder, 'sample/expected/')
    repo = fresh('repo', 'chain')
    names = [n for _, n in listed(repo)]
    for name in names[:4]:
        compact('retire', repo, spec('chain', name))
    stored = sum(os.path.getsize(f) for f in glob.glob(repo + '/chain/*/disks*'))
    r = compact('after-prune', repo)
    tap.is_((r.status, r.stderr), (0, ''), 'repacked')
    tap.like(r.stdout, r'repacked [1-9]', 'says so: ' + r.stdout)
    tap.ok(int(re.search(r'copied (\d+), freed', r.stdout)[1]) > 0, 'frames were copied')
    tap.ok(sum(os.path.getsize(f) for f in glob.glob(repo + '/chain/*/disks*')) < stored, 'less is stored')
    report(wrong_points(repo, ['chain']), 'every point is what it was')
    report(needed(repo) + strange(repo), 'nothing stays that nobody needs')
    again = compact('after-prune', repo)
    tap.like(again.stdout, r'removed 0, repacked 0', 'a second time finds nothing to do')
    # A repacked archive is repacked.
    compact('retire', repo, spec('chain', names[4]))
    r = compact('after-prune', repo)
    tap.is_((r.status, r.stderr), (0, ''), 'once more: ' + r.stdout)
    report(wrong_points(repo, ['chain']), 'the last point is what it was')
    report(needed(repo) + strange(repo), 'nothing stays that nobody needs')


def test_unreadable():
    """A kept point that cannot be read may need anything."""
    repo = fresh('repo', 'codec-zstd', 'codec-bzip2')
    compact('retire', repo, spec('codec-zstd', '2026-01-02T000000Z-2'))
    for name in 'manifest.json', 'index.bin':
        os.unlink(os.path.join(repo, 'codec-bzip2', '2026-01-01T000000Z', name))
    r = compact('after-prune', repo)
    tap.is_(r.status, 1, 'nothing is removed while a kept point cannot be read')
    tap.like(r.stderr, 'codec-bzip2@2026-01-01T000000Z cannot be read', 'says which')
    tap.is_(len(pruned(repo)), 1, 'all is there')


# Crashes.

LOG = os.path.join(tap.WORK, 'steps')


def state(repo):
    return sorted(os.path.relpath(p, repo) for p in ovb.points(repo))


def crash_everywhere(what, template, vms, command, settle, calls=None, every=1):
    """Killed at each step; at once all readers find all points, and when the repository was swept it is as before or as after."""
    area = os.path.abspath('area')

    def reset():
        shutil.rmtree(area, ignore_errors=True)
        shutil.copytree(template, area, symlinks=True)
        if os.path.exists(LOG):
            os.unlink(LOG)
    reset()
    before = listed(area)
    compact(command[0], area, *command[1:], env=tap.preload_die(DIE_UNDER=area, STEP_LOG=LOG))
    after = state(area)
    with open(LOG) as f:
        steps = [line.split(' ')[1:] for line in f.read().splitlines()]
    wrong, tried = [], 0
    for n in range(1, len(steps) + 1):
        if calls and steps[n - 1][0] not in calls or n % every:
            continue
        reset()
        r = compact(command[0], area, *command[1:], env=tap.preload_die(DIE_UNDER=area, DIE_AT=n))
        if r.status != -signal.SIGKILL:
            wrong.append('step %d: status %s' % (n, r.status))
            continue
        tried += 1
        where = 'step %d, %s: ' % (n, ' '.join(steps[n - 1]).replace(area, ''))
        r = tap.run([ovb.RESTORE, '--repository', area, 'list', '--json'])
        names = sorted((p['vm'], p['time']) for p in json.loads(r.stdout)) if r.status == 0 else r.stderr
        if names != sorted((vm, re.sub(r'.*@', '', spec(vm, name))[:20]) for vm, name in before):
            wrong.append(where + 'listed: %s' % names)
        # As they are, whatever the names.
        for vm, name in before:
            for image in expected(vm, name)[:1]:
                wrong += [where + w for w in same(area, vm, name, image)]
        for how in settle:
            r = compact(how, area)
            wrong += [where + r.stderr] if r.status else []
        if state(area) != after and [p for p in ovb.leftovers(area)]:
            wrong.append(where + 'left: %s' % ovb.leftovers(area))
        if [p for p in listed(area)] != before:
            wrong.append(where + 'points: %s' % listed(area))
        wrong += [where + w for w in wrong_points(area, vms, oracle=n % 6 == 0) + needed(area) + strange(area)]
    report(wrong, '%s: killed at each of %d steps: read at once, and settled by the next one' % (what, tried))
    tap.ok(tried > 10, 'there were steps')


def test_crashes():
    vm = 'codec-zstd'
    template = fresh('template', vm)
    crash_everywhere('consolidate', template, [vm], ['consolidate', spec(vm, '2026-01-02T000000Z')], ['sweep', 'after-prune'])
    crash_everywhere('consolidate the last', template, [vm], ['consolidate', spec(vm, '2026-01-02T000000Z-2')], ['sweep', 'after-prune'],
                     calls=('rename', 'unlink', 'rmdir'))
    template = fresh('template', 'chain')
    for name in [n for _, n in listed(template)][:4]:
        compact('retire', template, spec('chain', name))
    crash_everywhere('repack', template, ['chain'], ['after-prune'], ['sweep', 'after-prune'])


# Readers.

def test_readers():
    """While points are consolidated, pruned and repacked over and over, no reader ever fails."""
    vm = 'chain'
    repo = fresh('repo', vm)
    names = [n for _, n in listed(repo)]
    stop, wrong, reads = threading.Event(), [], [0, 0]

    def read(number):
        image = expected(vm, names[-1])[0]
        out = 'reader%d.img' % number
        while not stop.is_set():
            for command in (['--force', 'disk', spec(vm, names[-1]), 'vda', out], ['list', vm], ['verify', spec(vm, names[-1])]):
                r = tap.run([ovb.RESTORE, '--repository', repo, *command])
                if r.status != 0 or r.stderr:
                    wrong.append('%s: %s%s' % (command, r.stdout, r.stderr))
                elif command[0] == 'list' and names[-1].replace('T', ' ')[:10] not in r.stdout:
                    wrong.append('not listed: ' + r.stdout)
            if not filecmp.cmp(out, image, shallow=False):
                wrong.append('other bytes')
            reads[number] += 1
    threads = [threading.Thread(target=read, args=(n,)) for n in range(2)]
    for t in threads:
        t.start()
    deadline = time.monotonic() + 12
    rounds = 0
    while time.monotonic() < deadline and not wrong:
        # The files of the points are always new ones, under the names that are read.
        for name in names[:-1]:
            compact('retire', repo, spec(vm, name))
            compact('after-prune', repo)
        r = compact('consolidate', repo, spec(vm, names[-1]))
        if r.status:
            wrong.append(r.stderr)
        rounds += 1
        if time.monotonic() < deadline:
            # Back to the incremental point, as if by another consolidation: what is read must be the same.
            stop.set()
            for t in threads:
                t.join()
            stop.clear()
            repo = fresh('repo', vm)
            threads = [threading.Thread(target=read, args=(n,)) for n in range(2)]
            for t in threads:
                t.start()
    stop.set()
    for t in threads:
        t.join()
    report(wrong[:5], '%d reads during %d rounds of prune, repack and consolidate' % (sum(reads), rounds))


def main():
    subprocess.run([sys.executable, '-B', SAMPLE, 'sample'], check=True)
    test_export()
    test_damaged_frame()
    test_consolidate('codec-zstd', 1, -1)
    for vm in 'codec-none', 'codec-bzip2', 'codec-xz', 'members-zstd', 'odd%20name%2Eold':
        test_consolidate(vm, 1)
    test_old_stays()
    test_protected()
    for vm in 'codec-bzip2', 'codec-zstd':
        test_repack(vm)
    test_repack_chain()
    test_unreadable()
    test_crashes()
    test_readers()
    tap.done_testing()


main()
