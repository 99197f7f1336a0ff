#!/usr/bin/python3 -B
"""Pruning: what the policy lets go is gone, what others need stays, whatever dies, however full the disk, whoever reads."""
import errno
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import chains
import images
import ovb
import tap

CTL = os.path.join(tap.BIN, 'virt-backupctl')
LOG = os.path.join(tap.WORK, 'steps')


# What is there.

def config(repository, keep='last = 1', file='prune.conf', job='sample'):
    with open(file, 'w') as f:
        f.write('repositories = ( { name = "local"; url = "%s"; } );\n' % os.path.abspath(repository))
        f.write('jobs = ( { name = "%s"; images = [ "/nowhere/*.img" ]; repository = "local"; %s } );\n' %
                (job, 'keep = { %s; };' % keep if keep else ''))
    return os.path.abspath(file)


def ctl_command(conf, *args):
    return [CTL, '--config', conf, *args]


def ctl(conf, *args, **kwargs):
    return tap.run(ctl_command(conf, *args), **kwargs)


def state(repo):
    """{machine/point: listed, unlisted or broken}, and what is no point."""
    found = {}
    for folder in ovb.points(repo):
        files = set(os.listdir(folder)) - {'protected'}
        name = '/'.join(folder.split(os.sep)[-2:])
        if len(files) == 4 and 'manifest.json' in files:
            found[name] = 'listed'
        elif len(files) == 4 and 'pruned.json' in files:
            found[name] = 'unlisted'
        else:
            found[name] = 'broken: %s' % sorted(files)
    return found


def short(repo, vm):
    """What became of each point of a machine, in order: L, u, or - when it is gone."""
    there = state(repo)
    return ''.join({'listed': 'L', 'unlisted': 'u'}.get(there.get('%s/2026-01-01T%02d0000Z' % (vm, n)), '-') for n in range(10)).rstrip('-')


def all_restore(repo, top):
    """What is wrong with the points that are listed."""
    return list(filter(None, (chains.restores(f, top) for f in ovb.points(repo) if os.path.exists(os.path.join(f, 'manifest.json')))))


def untidy(repo):
    return ovb.leftovers(repo) + os.listdir(os.path.join(repo, '.locks')) + [p for p, s in state(repo).items() if s.startswith('broken')]


def report(wrong, name):
    tap.ok(not wrong, name)
    for text in wrong:
        tap.diag(text)


def copy(source, target):
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target


# What goes.

def test_plain():
    top = 'plain'
    repo = chains.repository(top)
    chains.machine(top, 'a', 'FdFd')
    chains.machine(top, 'b', 'FFF')
    chains.machine(top, 'c', 'FddFd', pruned='013')
    conf = config(repo)
    before = state(repo)
    r = ctl(conf, '--dry-run', 'prune', 'sample')
    tap.ok(r.status == 0 and state(repo) == before and not untidy(repo), '--dry-run changes nothing')
    tap.like(r.stdout, r'a@2026-01-01T00:00:00Z +\d+ d +\S+ kB no +goes\n', 'it says what would go')
    tap.like(r.stdout, r'a@2026-01-01T02:00:00Z .* no +goes; its data stays', 'what would only be unlisted')
    tap.like(r.stdout, r'a@2026-01-01T03:00:00Z .* yes +last 1 of 1\n', 'and why a point is kept')
    tap.like(r.stdout, r'sample: 6 points would go, 3 would stay; .* would be freed; the data of 1 stays', 'and the sum')
    planned = json.loads(ctl(conf, '--dry-run', '--json', 'prune', 'sample').stdout)
    tap.is_({p['point']: p['action'] for p in planned['points'] if p['vm'] == 'a'},
            {'a@2026-01-01T0%d:00:00Z' % n: action for n, action in enumerate(['remove', 'remove', 'unlist', 'keep'])}, 'the same as JSON')
    tap.is_([(p['kept'], p['reasons'], p['protected']) for p in planned['points']][3], (True, 'last 1 of 1', False), 'with its reasons')
    sizes = {f: os.path.getsize(os.path.join(f, 'disks.tar')) for f in ovb.points(repo)}
    r = ctl(conf, 'prune', 'sample', '--json')
    tap.is_((short(repo, 'a'), short(repo, 'b'), short(repo, 'c')), ('--uL', '--L', '---uL'), 'prune does it, for each machine')
    done, left = json.loads(r.stdout), set(ovb.points(repo))
    tap.is_((done['points'], done['freed'], done['dry_run']), (planned['points'], planned['freed'], False), 'as the dry run said')
    tap.is_(done['freed'], sum(n for f, n in sizes.items() if f not in left), 'as many bytes are free')
    tap.is_(done['folders_removed'], len(sizes) - len(left), 'as many folders are gone')
    report(all_restore(repo, top) + untidy(repo), 'what is left restores')
    tap.ok(all(ovb.oracle('verify', f).status == 0 for f in left if os.path.exists(f + '/manifest.json')), 'so says the second reader')
    r = ctl(conf, 'prune', 'sample')
    tap.ok(r.status == 0 and 'sample: 0 points gone, 3 kept; 0 B freed' in r.stdout, 'a second time: nothing to do')
    r = tap.run([ovb.RESTORE, '-r', './' + repo, 'show', 'a@2026-01-01T02'])
    tap.ok(r.status == 1 and 'no restore point' in r.stderr, 'what was pruned is no point')
    unlisted = os.path.join(repo, 'a', '2026-01-01T020000Z')
    sums = tap.run(['sh', '-c', 'sed s/manifest.json/pruned.json/ SHA256SUMS | sha256sum -c'], cwd=unlisted)
    tap.is_(sums.status, 0, 'its files are as they were')
    chains.machine(top, 'a', 'F', begin=4)
    ctl(conf, 'prune', 'sample')
    tap.is_(short(repo, 'a'), '----L', 'when nobody needs it any more, it goes')


def test_whose():
    """Only the job's points are judged; everybody's are counted as needing."""
    top = 'whose'
    repo = chains.repository(top)
    chains.machine(top, 'a', 'FdFd')
    chains.machine(top, 'other', 'FFF')
    for folder, changes in [('other/2026-01-01T0%d0000Z' % n, {'job': 'another'}) for n in range(3)] + [('a/2026-01-01T010000Z', {'job': 'another'})]:
        change_manifest(os.path.join(repo, folder), **changes)
    conf = config(repo)
    ctl(conf, 'prune', 'sample')
    tap.is_((short(repo, 'a'), short(repo, 'other')), ('uLuL', 'LLL'), "another job's points stay, and what they need")
    r = ctl(config(repo, keep=None), 'prune', 'sample')
    tap.ok(r.status == 0 and 'has no "keep"' in r.stderr and short(repo, 'a') == 'uLuL', 'a job without keep keeps all')
    r = ctl(conf, 'prune', 'nosuch')
    tap.ok(r.status == 1 and 'has no job "nosuch"' in r.stderr, 'a job that is not there')
    # Domains are known by their UUIDs.
    repo = chains.repository('uuids')
    chains.machine('uuids', 'same', 'FFFF')
    chains.machine('uuids', 'old', 'FF')
    for n in range(4):
        change_manifest(os.path.join(repo, 'same/2026-01-01T0%d0000Z' % n), uuid='00000000-0000-0000-0000-00000000000%d' % (n // 2))
    for n in range(2):
        change_manifest(os.path.join(repo, 'old/2026-01-01T0%d0000Z' % n), uuid='00000000-0000-0000-0000-000000000001')
    ctl(config(repo), 'prune', 'sample')
    tap.is_((short(repo, 'same'), short(repo, 'old')), ('-L-L', ''), 'two machines of one name stay apart; one that was renamed stays one')
    tap.ok(not os.path.exists(repo + '/old'), 'a machine without points has no folder')


def change_manifest(folder, **changes):
    path = os.path.join(folder, 'manifest.json')
    with open(path) as f:
        m = json.load(f)
    with open(path, 'w') as f:
        json.dump(dict(m, **changes), f)


def test_protect():
    top = 'protected'
    repo = chains.repository(top)
    chains.machine(top, 'a', 'FdFd')
    conf = config(repo)
    r = ctl(conf, 'protect', 'a@2026-01-01T01')
    tap.is_((r.status, r.stdout), (0, 'a@2026-01-01T01:00:00Z: protected\n'), 'protect')
    tap.is_(ctl(conf, 'protect', 'a@2026-01-01T01').status, 0, 'twice is no failure')
    listed = tap.run([ovb.RESTORE, '-r', './' + repo, 'list'])
    tap.is_(re.findall(r'(\S+) .*  protected$', listed.stdout, re.M), ['a@2026-01-01T01:00:00Z'], 'list says so')
    shown = [tap.run([ovb.RESTORE, '-r', './' + repo, 'show', 'a@2026-01-01T0%d' % n, *j]).stdout for n in (0, 1) for j in ([], ['-j'])]
    tap.is_(['protected    from pruning\n' in t or '"protected": true' in t for t in shown], [False, False, True, True], 'so does show')
    tap.like(ctl(conf, 'prune', 'sample', '--dry-run').stdout, r'a@2026-01-01T01:00:00Z .* yes +protected\n', 'the dry run too')
    ctl(conf, 'prune', 'sample')
    tap.is_(short(repo, 'a'), 'uLuL', 'it is not pruned, nor is what it needs')
    point = os.path.join(repo, 'a', '2026-01-01T010000Z')
    tap.is_(tap.run(['sha256sum', '-c', '--quiet', 'SHA256SUMS'], cwd=point).status, 0, 'its files are as they were')
    tap.ok(ovb.verify(point).status == 0 and ovb.oracle('verify', point).status == 0, 'it verifies, as the second reader finds')
    r = ctl(conf, 'unprotect', 'a@2026-01-01T01', '--json')
    tap.is_(json.loads(r.stdout), {'event': 'unprotected', 'point': 'a@2026-01-01T01:00:00Z'}, 'unprotect')
    tap.is_(ctl(conf, 'unprotect', 'a@2026-01-01T01').status, 0, 'twice is no failure')
    ctl(conf, 'prune', 'sample')
    tap.is_(short(repo, 'a'), '--uL', 'then it goes')
    r = ctl(conf, 'protect', 'a@2026-01-01T02')
    tap.ok(r.status == 1 and 'no restore point' in r.stderr, 'what was pruned cannot be protected')


def test_damaged():
    """A point that cannot be read needs what its index says, or may need all."""
    top = 'damaged'
    repo = chains.repository(top)
    chains.machine(top, 'a', 'FdFd')
    conf = config(repo)
    delta = os.path.join(repo, 'a', '2026-01-01T010000Z')
    os.truncate(os.path.join(delta, 'manifest.json'), 100)
    r = ctl(conf, 'prune', 'sample')
    tap.ok(r.status == 0 and 'warning' in r.stderr and '2026-01-01T010000Z' in r.stderr, 'a damaged manifest: told')
    tap.is_(short(repo, 'a'), 'uLuL', 'what its index names stays')
    chains.machine(top, 'b', 'FF')
    os.truncate(os.path.join(delta, 'index.bin'), 512)
    os.truncate(os.path.join(delta, 'disks.tar'), 1024)
    r = ctl(conf, 'prune', 'sample')
    tap.like(r.stderr, 'no data is removed: repair it, or remove its folder', 'without its index: told what to do')
    tap.is_((short(repo, 'a'), short(repo, 'b')), ('uLuL', 'uL'), 'points go, data stays')
    shutil.rmtree(delta)
    r = ctl(conf, 'prune', 'sample')
    tap.is_((r.stderr, short(repo, 'a'), short(repo, 'b')), ('', '--uL', '-L'), 'with its folder gone, data goes')
    report(all_restore(repo, top) + untidy(repo), 'what is left restores')


def test_replaced():
    """The sample repository's replaced archives: no manifest names them, only an index."""
    sample = chains.sample
    sample.make_repository('replaced')
    sample.replaced_vm('replaced')
    repo = 'replaced/repo'
    r = ctl(config(repo), 'prune', 'sample')
    tap.ok(r.status == 0 and short(repo, 'replaced') == '---uL', 'an archive that stands for others is needed')
    report(list(filter(None, [chains.restores(repo + '/replaced/2026-01-01T040000Z', 'replaced', d) for d in ('vda', 'vdb')])), 'the point restores')


# Runs.

def test_after_a_run():
    for name in 'one', 'two':
        images.make('mixed', name + '.img', size=200000)
    paths = [os.path.abspath(n + '.img') for n in ('one', 'two')]
    conf = ovb.make_config(dict(name='nightly', images=paths, compression='none', keep={'last': 2}),
                           dict(name='other', images=paths, compression='none'), repository='runs')
    def points():
        return [len([p for p in ovb.points('runs') if '/%s/' % n in p]) for n in ('one', 'two')]
    for job in 'other', 'nightly', 'nightly':
        r = ovb.once(conf, job)
        tap.is_((r.status, r.stderr), (0, ''), '%s: no word of "keep"' % job)
    tap.is_(points(), [3, 3], 'nothing to prune yet')
    first = [p for p in ovb.points('runs') if ovb.manifest(p)['job'] == 'nightly'][0]
    ctl(conf, 'protect', ovb.spec(first))
    r = ovb.once(conf, 'nightly')
    tap.ok('pruned 1 point, ' in r.stdout and points() == [4, 3], 'a run applies keep to its points; a protected one stays')
    os.rename('two.img', 'two.away')
    os.mkdir('two.img')
    r = ovb.once(conf, 'nightly', '--json')
    event = [json.loads(line) for line in r.stdout.splitlines()]
    tap.ok(r.status == 1 and points() == [4, 3] and [e['points'] for e in event if e['event'] == 'pruned'] == [1], 'a machine fails: the other is pruned')
    os.rmdir('two.img')
    os.rename('two.away', 'two.img')
    with open('runs/.locks/run-%s.lock' % TOKEN, 'w') as f:
        json.dump(live_lock(), f)
    r = ovb.once(conf, 'nightly')
    tap.ok(r.status == 0 and 'not pruned now; the next run does it' in r.stderr and 'this test' in r.stderr and points() == [5, 4],
           'others are there: left to the next run')
    os.unlink('runs/.locks/run-%s.lock' % TOKEN)
    ovb.once(conf, 'nightly')
    tap.ok(points() == [4, 3], 'which does it')
    report([] if ovb.leftovers('runs') == [] and not os.listdir('runs/.locks') else ['untidy'], 'and nothing is left behind')


# Locks.

TOKEN = '0123456789abcdef'


def first_line(path):
    with open(path) as f:
        return f.readline().rstrip('\n')


def live_lock():
    return dict(token=TOKEN, host=socket.gethostname(), pid=os.getpid(), boot_id=first_line('/proc/sys/kernel/random/boot_id'),
                pid_namespace=os.readlink('/proc/self/ns/pid'), program='this test',
                start_time=int(first_line('/proc/%d/stat' % os.getpid()).rsplit(')', 1)[1].split()[19]))


def hold(repo, kind):
    path = os.path.join(repo, '.locks', '%s-%s.lock' % (kind, TOKEN))
    with open(path, 'w') as f:
        json.dump(live_lock(), f)
    return path


def start_lock_that_stays():
    repo = chains.repository('stays')
    chains.machine('stays', 'a', 'FdFd')
    hold(repo, 'run')
    command = ctl_command(config(repo, file='stays.conf'), 'prune', 'sample')
    return repo, time.monotonic(), tap.start(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish_lock_that_stays(repo, begun, child):
    err = child.communicate(timeout=120)[1].decode()
    took = time.monotonic() - begun
    tap.ok(child.returncode == 1 and took >= 55 and 'this test' in err and short(repo, 'a') == 'LLLL',
           'whoever stays for more than a minute: exit 1, told who it is, nothing done')
    tap.diag(err)


def test_locks():
    repo = chains.repository('locks')
    chains.machine('locks', 'a', 'FdFd')
    conf = config(repo, file='locks.conf')
    for kind in 'run', 'exclusive':
        lock = hold(repo, kind)
        child = tap.start(ctl_command(conf, 'prune', 'sample'), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(2)
        tap.ok(child.poll() is None and short(repo, 'a').startswith('LLLL' if kind == 'run' else '--uL'), 'it waits for a live %s lock' % kind)
        if kind == 'run':
            tap.is_(ctl(conf, 'unprotect', 'a@latest').status, 0, 'protecting a point does not wait for a run')
            tap.is_(ctl(conf, 'prune', 'sample', '--dry-run').status, 0, 'nor does a dry run')
        os.unlink(lock)
        child.communicate(timeout=30)
        tap.ok(child.returncode == 0 and short(repo, 'a') == '--uL', 'and goes on when that is gone')
    hold(repo, 'run')
    child = tap.start(ctl_command(conf, 'prune', 'sample'), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(1)
    child.send_signal(signal.SIGTERM)
    child.communicate(timeout=10)
    tap.is_(child.returncode, 1, 'a signal ends the wait')
    os.unlink(os.path.join(repo, '.locks', 'run-%s.lock' % TOKEN))
    two = [tap.start(ctl_command(conf, 'prune', 'sample'), stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)]
    for child in two:
        child.communicate(timeout=60)
    tap.is_([c.returncode for c in two], [0, 0, 0], 'three at once: one after the other')
    tap.is_(untidy(repo), [], 'nothing is left')


# Crashes.

def steps():
    with open(LOG) as f:
        return [line.rstrip('\n').split(' ', 2) for line in f]


def make_crash_template():
    """Points that go, that are only unlisted, that were pruned and are still needed or not, and what a dead run left."""
    top = 'crash'
    repo = chains.repository(top)
    chains.machine(top, 'a', 'FdFdd')
    chains.machine(top, 'b', 'FFd', pruned='01')
    chains.machine(top, 'gone', 'F', pruned='0')
    left = os.path.join(repo, 'b', '2026-01-01T090000Z.dddddddddddddddd.partial')
    os.mkdir(left)
    with open(os.path.join(left, 'disks.tar'), 'w') as f:
        f.write('half')
    return top, repo


def test_crashes():
    top, template = make_crash_template()
    conf = config('area/repo', file='crash.conf')
    os.makedirs('area')
    repo = copy(template, 'area/repo')
    env = tap.preload_die(DIE_UNDER=os.path.abspath('area'), STEP_LOG=LOG)
    ctl(conf, 'prune', 'sample', env=env)
    wanted, log = state(repo), steps()
    tap.is_((short(repo, 'a'), short(repo, 'b'), os.path.exists(repo + '/gone')), ('--uuL', '-uL', False), 'undisturbed: %d steps' % len(log))
    report(renamed_first(log), 'no folder loses a file before its name, and that is durable; no point before all are unlisted')
    wrong = []
    for n in range(1, len(log) + 1):
        copy(template, repo)
        r = ctl(conf, 'prune', 'sample', env=dict(env, STEP_LOG=None, DIE_AFTER=n))
        where = 'step %d (%s): ' % (n, ' '.join(log[n - 1][1:]).replace(tap.WORK, ''))
        if r.status != -signal.SIGKILL:
            wrong.append(where + 'not killed: %s' % r.status)
        wrong += [where + p for p, s in state(repo).items() if s.startswith('broken')]
        wrong += [where + text for text in all_restore(repo, top)]
        listed = tap.run([ovb.RESTORE, '-r', './' + repo, 'list'])
        if listed.status != 0 or 'a@2026-01-01T04:00:00Z' not in listed.stdout or 'b@2026-01-01T02:00:00Z' not in listed.stdout:
            wrong.append(where + 'list: ' + listed.stderr)
        age_locks(repo, empty=True)
        r = ctl(conf, 'prune', 'sample')
        if r.status != 0 or state(repo) != wanted or untidy(repo) or os.path.exists(repo + '/gone'):
            wrong.append(where + 'the next one leaves %s %s %s' % (state(repo), untidy(repo), r.stderr))
    report(wrong[:20], 'killed at each step: every point that is listed restores, and the next one leaves exactly what it should')
    wrong = []
    for n in range(1, len(log) + 1):
        copy(template, repo)
        r = ctl(conf, 'prune', 'sample', env=dict(env, STEP_LOG=None, FAIL_AT=n, FAIL_ERRNO=errno.EIO))
        where = 'step %d (%s): ' % (n, ' '.join(log[n - 1][1:]).replace(tap.WORK, ''))
        if r.status == 0 and state(repo) != wanted:
            wrong.append(where + 'failed, but exit 0')
        wrong += [where + text for text in all_restore(repo, top)]
        age_locks(repo)
        r = ctl(conf, 'prune', 'sample')
        if r.status != 0 or state(repo) != wanted or untidy(repo):
            wrong.append(where + 'the next one leaves %s %s %s' % (state(repo), untidy(repo), r.stderr))
    report(wrong[:20], 'failing at each step: the same')


def age_locks(repo, empty=False):
    """As if five minutes had passed; or only for locks that do not say whose they are."""
    for name in os.listdir(os.path.join(repo, '.locks')):
        path = os.path.join(repo, '.locks', name)
        if not empty or os.path.getsize(path) == 0:
            os.utime(path, (1, 1))


def renamed_first(log):
    """The order that makes a crash harmless."""
    wrong, durable, removing = [], set(), False
    for n, (_, call, paths) in enumerate(log):
        if '/.locks' in paths:
            continue
        if call == 'rename' and 'pruned.json' in paths and removing:
            wrong.append('a point is unlisted after the first folder went: ' + paths)
        if call == 'rename' and paths.endswith('.partial') and '.partial -> ' not in paths:
            removing = True
            if log[n + 1][1] != 'fsync':
                wrong.append('not made durable: ' + paths)
        if call == 'unlink' and '.partial/' not in paths:
            wrong.append('removed under its name: ' + paths)
        if call == 'rename' and 'pruned.json' in paths and log[n + 1][1] != 'fsync':
            wrong.append('not made durable: ' + paths)
    return wrong + ([] if removing else ['no folder was removed: %s' % durable])


# Readers.

def test_readers():
    """While points go, whoever reads what is kept notices nothing."""
    top = 'readers'
    template = chains.repository(top)
    machines = ['m%02d' % n for n in range(25)]
    for vm in machines:
        chains.machine(top, vm, 'FdFd')
    kept = sorted('%s@2026-01-01T03:00:00Z' % vm for vm in machines)
    os.makedirs('reading')
    repo = copy(template, 'reading/repo')
    conf = config(repo, file='readers.conf')
    wrong, stop, rounds = [], threading.Event(), [0]

    def loop(number):
        command = [[ovb.RESTORE, '-r', './' + repo, '--json', 'list'],
                   [ovb.RESTORE, '-r', './' + repo, 'verify', 'm24@latest'],
                   [ovb.RESTORE, '-r', './' + repo, '--force', 'disk', 'm24@2026-01-01T03', 'vda', 'reader-%d.img' % number]][number]
        while not stop.is_set():
            r = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL)
            rounds[0] += 1
            if r.returncode != 0:
                wrong.append('%s: %s' % (command[-2:], r.stderr.decode()))
            elif number == 0:
                names = [p['point'] for p in json.loads(r.stdout)]
                if not set(kept) <= set(names):
                    wrong.append('list lacks %s' % (set(kept) - set(names)))

    for _ in range(3):
        copy(template, repo)
        stop.clear()
        threads = [threading.Thread(target=loop, args=(n,)) for n in range(3)]
        for t in threads:
            t.start()
        r = ctl(conf, 'prune', 'sample')
        stop.set()
        for t in threads:
            t.join()
        if r.status != 0 or list(state(repo).values()).count('unlisted') != 25:
            wrong.append('prune: %s %s' % (r.status, r.stderr))
    report(wrong[:5], 'list, verify and disk while prune runs: none fails (%d)' % rounds[0])


def test_open_reader():
    """A restore of a point that goes while it runs goes on."""
    images.make('mixed', 'big.img', size=150 * 1000 * 1000)
    conf = ovb.make_config(dict(name='sample', images=[os.path.abspath('big.img')], compression='zstd:1', keep={'last': 1}), repository='open')
    ovb.once(conf, 'sample')
    [point] = ovb.points('open')
    child = tap.start(ovb.restore_command(point, 'open.img'), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while not os.path.exists('open.img.partial') and child.poll() is None:
        time.sleep(0.002)
    child.send_signal(signal.SIGSTOP)
    early = child.poll() is None and os.path.exists('open.img.partial')
    images.make('mixed', 'big.img', size=1000000)
    ovb.once(conf, 'sample', '--full')
    tap.ok(early and not os.path.exists(point), 'a point goes while it is being restored')
    child.send_signal(signal.SIGCONT)
    err = child.communicate(timeout=60)[1]
    tap.ok(child.returncode == 0 and os.path.getsize('open.img') == 150 * 1000 * 1000, 'which goes on')
    tap.diag(err.decode())


# No room.

def fill(path):
    with open(path, 'wb', buffering=0) as f:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    f.write(bytes(size))
            except OSError:
                pass


def test_full():
    for kind in 'tmpfs', 'ext4':
        if kind == 'tmpfs':
            os.mkdir('full')
            folder = os.path.abspath('full')
            mounted = tap.run(['mount', '-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', folder]).status == 0
        else:
            folder = ovb.mount_disk('small', 24 << 20)
            mounted = folder is not None
        if not mounted:
            tap.skip(3, 'cannot mount here')
            continue
        top = os.path.join(folder, 'top')
        repo = chains.repository(top)
        chains.machine(top, 'a', 'FdFd')
        conf = config(repo, file='full.conf')
        ctl(conf, 'protect', 'a@2026-01-01T00')
        fill(os.path.join(folder, 'filler'))
        r = ctl(conf, 'unprotect', 'a@2026-01-01T00')
        tap.ok(r.status == 0, 'full %s: a point can be unprotected' % kind)
        tap.diag(r.stderr)
        r = ctl(conf, 'prune', 'sample')
        tap.ok(r.status == 0 and short(repo, 'a') == '--uL', 'full %s: prune works' % kind)
        tap.diag(r.stderr)
        report(all_restore(repo, top) + untidy(repo), 'full %s: what is left restores' % kind)


def test_full_folder():
    """Where not even a name has room, the data goes first."""
    top, template = 'crash', 'crash/repo'
    conf = config('area/repo', file='crash.conf')
    repo = copy(template, 'area/repo')
    env = tap.preload_die(DIE_UNDER=os.path.abspath('area'), STEP_LOG=LOG)
    os.unlink(LOG)
    ctl(conf, 'prune', 'sample', env=env)
    n = next(i for i, s in enumerate(steps(), 1) if s[1] == 'rename' and s[2].endswith('.partial') and '.partial -> ' not in s[2])
    wanted, wrong = state(repo), []
    for die in [None] + list(range(n + 1, n + 7)):
        copy(template, repo)
        r = ctl(conf, 'prune', 'sample', env=dict(env, STEP_LOG=None, FAIL_AT=n, FAIL_ERRNO=errno.ENOSPC, **({'DIE_AT': die} if die else {})))
        if die is None and r.status != 0:
            wrong.append('no room for a name: ' + r.stderr)
        wrong += all_restore(repo, top)
        r = ctl(conf, 'prune', 'sample')
        if r.status != 0 or state(repo) != wanted or untidy(repo):
            wrong.append('the next one leaves %s %s %s' % (state(repo), untidy(repo), r.stderr))
    report(wrong, 'no room for a longer name: the data goes first, and a crash meanwhile is harmless')


def test_usage():
    conf = config('nowhere', file='usage.conf')
    for args in ((), ('nosuch',), ('prune',), ('prune', 'a', 'b'), ('protect', '--dry-run', 'a@latest'), ('verify', '--sample', '0'), ('verify', '--sample', 'x'),
                 ('prune', 'sample', '--job', 'x'), ('verify', 'a@latest', '--job', 'x')):
        r = ctl(conf, *args)
        tap.ok(r.status == 2 and r.stdout == '' and 'Usage' in r.stderr or r.status == 2 and '--sample' in r.stderr, 'wrong usage: %s' % ' '.join(args))
    r = ctl(conf, '--direct', 'prune', 'sample')
    tap.ok(r.status == 1 and 'nowhere' in r.stderr, 'a repository that is not there')


def test_not_a_repository():
    """A folder that is none, by mistake: nothing of what is in it goes, and nothing comes."""
    os.makedirs('other/empty')
    os.makedirs('other/full/download.partial')
    conf = config('other', file='other.conf')
    before = sorted(os.walk('other'))
    r = ctl(conf, '--direct', 'prune', 'sample')
    tap.ok(r.status == 1 and 'it is no repository' in r.stderr, 'a folder that is no repository') or tap.diag(r.stderr)
    tap.is_(sorted(os.walk('other')), before, '... is left as it is')


def main():
    staying = start_lock_that_stays()
    test_usage()
    test_not_a_repository()
    test_plain()
    test_whose()
    test_protect()
    test_damaged()
    test_replaced()
    test_after_a_run()
    test_locks()
    test_crashes()
    test_full_folder()
    test_readers()
    test_open_reader()
    test_full()
    finish_lock_that_stays(*staying)
    tap.done_testing()


main()
