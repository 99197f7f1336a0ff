#!/usr/bin/python3 -B
"""The daemon and its workers, killed at random moments while jobs run: no run is lost, none is done twice, nothing is left.  And the power goes.

KILLS (40) moments, SEED; with KILLS=300 it takes minutes.
"""
import calendar
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import images
import ovb
import sshd
import tap
from own_daemon import Daemon, wait_for

KILLS = int(os.environ.get('KILLS') or 40)
SEED = int(os.environ.get('SEED') or time.time())
COPIES = max(3, KILLS // 20)        # of the state, as a power cut would leave it
SLOW_MS = 30                        # of each read
SUPERSEDED = 'the job was due again before it was tried again', 'the job has succeeded before it was tried again'
rng = random.Random(SEED)


def job(name, *names, schedule='*:*:*', **keys):
    return ovb.image_job(*names, name=name, retry_wait=1, **({'schedule': schedule} if schedule else {}), **keys)


def jobs(schedules=True):
    """Slow and fast, of one image and of more, near and far, that prune, that fail, and that nobody but an administrator starts."""
    found = [job('slow', 'slow/slow.img'), job('pair', 'a.img', 'slow/b.img', compression='zstd:1'), job('kept', 'c.img', keep={'last': 3}),
             job('far', 'd.img', repository='far', schedule='*:*:0/2'), job('broken', 'none-*.img', retries=2, schedule='*:*:0/7'),
             job('asked', 'e.img', 'slow/f.img', schedule=None)]
    found[4]['images'] = [os.path.abspath('none-*.img')]
    for j in found:
        j.setdefault('repository', 'local')
        if not schedules and 'schedule' in j:
            j['schedule'] = '2099-01-01'
    return found


class Far(Daemon):
    """With a second repository on an SFTP server."""

    def configure(self, *args, **kwargs):
        super().configure(*args, daemon='stop_timeout = 20; max_parallel = 3; history = 10000;', **kwargs)
        with open(self.conf, encoding='utf-8') as f:
            text = f.read()
        with open(self.conf, 'w', encoding='utf-8') as f:
            f.write(text.replace('; } );', '; }, %s );' % FAR, 1))


# What a test knows to have been asked for: ids of runs that the daemon has taken.
asked = []


def ask(d):
    r = d.ctl('run', 'asked', '--json', timeout=30)
    if r.status == 0:
        asked.append(int(r.stdout.split(':')[1].strip(' }\n')))


def kill_worker(d):
    found = list(d.workers().values())
    if not found:
        return 'nobody'
    try:
        os.kill(rng.choice(found), signal.SIGKILL)
    except ProcessLookupError:
        return 'nobody'
    return 'worker'


def kill_something(d):
    """Returns what it was."""
    what = rng.choices(('daemon', 'worker', 'both', 'all', 'twice'), (35, 30, 15, 10, 10))[0]
    if what in ('worker', 'both'):
        hit = kill_worker(d)
        if what == 'worker':
            return hit
        time.sleep(rng.uniform(0, 0.05))
    if what == 'all':
        # At once, as when the power goes: none sees another one die.
        for sig in signal.SIGSTOP, signal.SIGKILL:
            for pid in d.processes():
                try:
                    os.kill(pid, sig)
                except ProcessLookupError:
                    pass
    d.kill()
    if what == 'twice':
        d.start(wait=False)
        time.sleep(rng.uniform(0, 0.3))
        d.kill()
    d.start()
    return what


def copy_state(d, n):
    """The state as it is at this very moment, and the runs that were asked for by then."""
    folder = os.path.abspath('copy%d.state' % n)
    known = list(asked)
    os.kill(d.child.pid, signal.SIGSTOP)
    try:
        shutil.copytree(d.state, folder, ignore=shutil.ignore_patterns('*-shm', 'daemon.lock'))
    finally:
        os.kill(d.child.pid, signal.SIGCONT)
    return folder, known


# Judging the history.

def follows(runs, r):
    return any(n['job'] == r['job'] and n['due'] == r['due'] and n['domain'] == r['domain'] and n['attempt'] == r['attempt'] + 1 and n['id'] > r['id'] for n in runs)


def faults(runs):
    """What is wrong with a history in which nothing waits any more."""
    wrong = []
    for r in runs:
        good = (r['state'] in ('succeeded', 'interrupted') and r['job'] != 'broken' or r['job'] == 'broken' and r['state'] in ('failed', 'interrupted') or
                r['state'] == 'cancelled' and r['message'] in SUPERSEDED)
        if not good:
            wrong.append('run %d of %s: %s: %s' % (r['id'], r['job'], r['state'], r['message']))
        if r['finished'] is None or (r['started'] or r['queued']) > r['finished']:
            wrong.append('run %d: times' % r['id'])
        if r['state'] == 'interrupted' and r['requeued'] < 10 and not follows(runs, r):
            wrong.append('run %d of %s was interrupted, and not tried again' % (r['id'], r['job']))
        if r['state'] == 'failed' and r['attempt'] - r['requeued'] <= 2 and not follows(runs, r):
            wrong.append('run %d of %s failed, and was not tried again' % (r['id'], r['job']))
    for name, key in (('met twice', lambda r: r['reason'] in ('schedule', 'missed')), ('done twice', lambda r: r['due'] and r['state'] == 'succeeded')):
        wrong += ['%s: %s at %s' % (name, *at) for at, n in Counter((r['job'], r['due']) for r in runs if key(r)).items() if n > 1]
    for name in {r['job'] for r in runs}:
        begun = [r for r in runs if r['job'] == name and r['started']]
        begun.sort(key=lambda r: (r['started'], r['finished'], r['id']))
        wrong += ['runs %d and %d of %s overlap' % (a['id'], b['id'], name) for a, b in zip(begun, begun[1:]) if b['started'] < a['finished']]
    return wrong


def idle(d):
    return wait_for(lambda: d.rows('SELECT * FROM jobs') and not [r for r in d.rows() if r['state'] in ('queued', 'running')], 180)


def unrecorded(d, runs):
    """Points that the history has not, and records whose point is not there."""
    machines = d.rows('SELECT m.*, r.job FROM machines m JOIN runs r ON r.id = m.run')
    recorded = {(m['vm'], m['point']) for m in machines if m['state'] == 'succeeded'}
    found = {tuple(p.split('/')[-2:]) for repo in (d.repo, FAR_FOLDER) for p in ovb.points(repo)}
    lost = [p for p in recorded - found if p[0] != 'c']     # those are pruned
    # A worker that is killed between publishing and saying so is the one that cannot tell.
    known = found - recorded
    killed = [r for r in runs if r['state'] == 'interrupted']
    new = [p for p in known if not any(r['started'] - 1 <= seconds(p[1]) <= r['finished'] + 1 for r in killed)]
    tap.diag('%d points, %d of them by runs that were killed before they could say so' % (len(found), len(known)))
    return lost + new


def seconds(point):
    return calendar.timegm(time.strptime(point[:18], '%Y-%m-%dT%H%M%SZ'))


# The tests.

def test_kills():
    d = Far('killed', jobs=jobs()).start()
    copies, hits = [], Counter()
    for i in range(KILLS):
        time.sleep(rng.uniform(0, 0.7))
        if rng.random() < 0.25:
            ask(d)
        if i * COPIES // KILLS > len(copies) - 1:
            copies.append(copy_state(d, len(copies)))
        hits[kill_something(d)] += 1
    tap.diag('KILLS=%d SEED=%d: %s' % (KILLS, SEED, dict(hits)))
    good = Counter(r['job'] for r in d.ended())
    wanted = ('slow', 'pair', 'kept', 'far')
    tap.ok(wait_for(lambda: all(Counter(r['job'] for r in d.ended())[j] > good[j] for j in wanted), 90), 'after %d kills all jobs go on' % KILLS)
    runs = d.rows()
    last = {r['name']: r['last'] for r in d.rows('SELECT * FROM jobs')}
    due = {name: max(r['due'] for r in runs if r['job'] == name and r['due']) for name in last}
    tap.ok(all(last[name] >= due[name] for name in last), 'schedules are worked off up to their last run')
    tap.is_(d.stop(), 0, 'TERM ends it')
    d.configure(jobs=jobs(schedules=False))
    d.start()
    tap.ok(idle(d), 'what waited is done')
    tap.is_(d.stop(), 0, 'and it ends')
    runs = d.rows()
    tap.diag('%d runs: %s' % (len(runs), dict(Counter(r['state'] for r in runs))))
    tap.is_(faults(runs), [], 'no run is lost, none is done twice, none overlaps another')
    tap.is_([i for i in asked if i not in {r['id'] for r in runs}], [], 'each of the %d runs that were asked for is there' % len(asked))
    tap.is_(unrecorded(d, runs), [], 'history and repositories say the same')
    tap.is_(d.rows("PRAGMA integrity_check")[0]['integrity_check'], 'ok', 'the database is sound')
    logs = sorted(int(f[:-4]) for f in os.listdir(os.path.join(d.state, 'log')) if f.endswith('.log'))
    tap.is_([i for i in logs if i not in {r['id'] for r in runs}], [], 'each log has its run')
    tap.is_([f for f in os.listdir(os.path.join(d.state, 'log')) if not f.endswith('.log')], [], 'and no result waits')
    tap.is_(list(d.processes().values()), [], 'no process is left')
    tap.is_(os.listdir(os.path.join(FAR_FOLDER, '.locks')) + ovb.leftovers(FAR_FOLDER), [], 'no lock, no unfinished point on the server')
    bad = [p for p in ovb.points(FAR_FOLDER) if ovb.verify(p).status != 0]
    tap.is_(bad, [], 'all points on the server are good')
    d.quiet('here')
    return copies


def test_power_cut(copies):
    """Each copy as it was, and with the end of its write-ahead log gone as well."""
    wrong = []
    for i, (folder, known) in enumerate(copies):
        for torn in (False, True):
            state = folder + ('.torn' if torn else '.whole')
            shutil.copytree(folder, state)
            wal = os.path.join(state, 'state.db-wal')
            if torn and os.path.exists(wal):
                os.truncate(wal, max(0, os.path.getsize(wal) - rng.randrange(1, 20000)))
            d = Far('cut%d%s' % (i, 'torn' if torn else ''), state=state, jobs=jobs(schedules=False))
            before = [] if torn else d.rows()
            d.start()
            if not idle(d) or d.stop() != 0:
                wrong.append('copy %d: does not come to rest' % i)
            runs = d.rows()
            wrong += ['copy %d%s: %s' % (i, ' torn' if torn else '', f) for f in faults(runs)]
            if d.rows("PRAGMA integrity_check")[0]['integrity_check'] != 'ok' or 'set aside' in d.said():
                wrong.append('copy %d: damaged: %s' % (i, d.said()))
            missing = {r['id'] for r in before}.union([] if torn else known) - {r['id'] for r in runs}
            wrong += ['copy %d: run %d is lost' % (i, r) for r in missing]
    tap.is_(wrong, [], 'the state of %d moments, as a power cut leaves it: each is reconciled, nothing is lost' % len(copies))


images.make('mixed', 'a.img', size=1000001)
for name in 'cde':
    images.make('mixed', name + '.img', size=500000)
for folder in ('slow-source', 'slow'):
    os.makedirs(folder)
images.make('full', 'slow-source/slow.img', size=1 << 20)
images.make('full', 'slow-source/b.img', size=1 << 19)
images.make('full', 'slow-source/f.img', size=1 << 19)
tap.mount_imagefs('--slow', SLOW_MS, 'slow-source', 'slow')
server = sshd.Server('server')
key = sshd.keygen('id')
server.authorize(key)
FAR_FOLDER = os.path.abspath('far.repo')
FAR = '{ name = "far"; url = "%s"; identity = "%s"; known_hosts = "%s"; }' % (server.url(FAR_FOLDER), key, server.known_hosts('known'))
test_power_cut(test_kills())
tap.done_testing()
