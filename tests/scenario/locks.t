#!/usr/bin/python3 -B
"""Locks of a repository: who waits for whom, which are dead, and that a run which lost its own does not publish."""
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import images
import ovb
import tap

TOKEN, DEAD_TOKEN = '0123456789abcdef', 'dddddddddddddddd'
SLOW_MS = 40                                    # of each read, through imagefs


# Locks by hand, from the words of the format alone.

def first_line(path):
    with open(path) as f:
        return f.readline().rstrip('\n')


def start_time(pid):
    return int(first_line('/proc/%d/stat' % pid).rsplit(')', 1)[1].split()[19])


def lock(**changes):
    """A lock of this process."""
    return dict(dict(token=TOKEN, host=socket.gethostname(), pid=os.getpid(), boot_id=first_line('/proc/sys/kernel/random/boot_id'),
                     pid_namespace=os.readlink('/proc/self/ns/pid'), start_time=start_time(os.getpid()), program='this test'), **changes)


def dead_lock(**changes):
    child = subprocess.Popen(['true'])
    child.wait()
    return lock(**dict(dict(pid=child.pid, start_time=1, token=DEAD_TOKEN), **changes))


ELSEWHERE = dict(host='elsewhere', pid=1, boot_id='11111111-2222-3333-4444-555555555555', program='another program')


class Repository:
    """A repository with a point, and its locks."""

    def __init__(self, name, image='small.img'):
        self.path, self.locks = os.path.abspath(name), os.path.join(os.path.abspath(name), '.locks')
        self.conf = ovb.make_config(ovb.image_job(image, compression='zstd:1'), repository=name, file=name + '.conf')
        ovb.backup('small.img', 'zstd:1', name)

    def put(self, kind, content, age=0):
        """Make a lock file; returns its path."""
        path = os.path.join(self.locks, kind + '.lock')
        with open(path, 'w') as f:
            f.write(content if isinstance(content, str) else json.dumps(content))
        self.age(path, age)
        return path

    @staticmethod
    def age(path, seconds):
        then = time.time() - seconds
        if os.path.exists(path):
            os.utime(path, (then, then))

    def put_partial(self, token):
        path = os.path.join(self.path, 'small', '2026-11-22T013000Z.%s.partial' % token)
        os.makedirs(path)
        with open(os.path.join(path, 'disks.tar.zst'), 'w') as f:
            f.write('half')
        return path

    def points(self):
        return ovb.points(self.path)

    def run(self, **kwargs):
        """Seconds, and the result."""
        begun = time.monotonic()
        r = ovb.once(self.conf, **kwargs)
        return time.monotonic() - begun, r

    def start(self):
        return tap.start(ovb.once_command(self.conf), stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def clean(self):
        """No lock, no unfinished point, and all points verify."""
        return not os.listdir(self.locks) and not ovb.leftovers(self.path) and all(ovb.verify(p).status == 0 for p in self.points())


def finish(child, timeout=90):
    out, err = child.communicate(timeout=timeout * tap.SLOWER)
    return tap.Result(child.returncode, out, err)


def wait_for(condition, seconds=20):
    deadline = time.monotonic() + seconds * tap.SLOWER
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_what_a_run_writes():
    """The content of a lock, and that it is held as long as the run lasts."""
    repo = slow_repository('written')
    child = repo.start()
    wait_for(lambda: ovb.leftovers(repo.path))
    [name] = os.listdir(repo.locks)
    with open(os.path.join(repo.locks, name)) as f:
        held = json.load(f)
    token = re.fullmatch(r'run-([0-9a-f]{16})\.lock', name)[1]
    tap.is_({k: held[k] for k in ('token', 'pid', 'host', 'boot_id', 'pid_namespace', 'start_time')},
            {k: v for k, v in lock(token=token, pid=child.pid, start_time=start_time(child.pid)).items() if k != 'program'}, 'who holds it')
    tap.like(held['program'], r'virt-backupd \d', 'and which program')
    tap.ok(ovb.leftovers(repo.path)[0].endswith('Z.%s.partial' % token), 'the unfinished point carries the token')
    tap.ok(finish(child).status == 0 and repo.clean(), 'both are gone at the end')


# Live locks.

def test_a_live_run():
    """Another run, which writes something else, is no obstacle; but nothing is swept."""
    repo = Repository('live')
    other = repo.put('run-' + TOKEN, lock())
    theirs, dead = repo.put_partial(TOKEN), repo.put_partial(DEAD_TOKEN)
    took, r = repo.run()
    tap.ok(r.status == 0 and took < 10 and len(repo.points()) == 2, 'a run does not wait for another one')
    tap.ok(os.path.exists(other) and os.path.exists(os.path.join(theirs, 'disks.tar.zst')), "the other's lock and unfinished point stay")
    tap.is_(os.listdir(repo.locks), [os.path.basename(other)], 'and no other lock')
    tap.unlike(r.stderr, 'warning', 'no warning')
    os.unlink(other)
    r = repo.run()[1]
    tap.ok(r.status == 0 and not os.path.exists(theirs) and not os.path.exists(dead), 'once it is gone, what it left is swept')
    tap.like(r.stderr, 'removed 2 unfinished restore points', 'and that is told')
    tap.ok(repo.clean(), 'nothing is left')


def test_dead_partial_beside_live():
    """Of two runs one is dead: only that one's lock goes, and the other's folder stays."""
    repo = Repository('beside')
    live, dead = repo.put('run-' + TOKEN, lock()), repo.put('run-' + DEAD_TOKEN, dead_lock())
    theirs = repo.put_partial(TOKEN)
    repo.put_partial(DEAD_TOKEN)
    tap.is_(repo.run()[1].status, 0, 'a run beside a live and a dead one')
    tap.ok(os.path.exists(live) and os.path.exists(theirs), 'the live one keeps what it has')
    os.unlink(live)
    tap.ok(repo.run()[1].status == 0 and not os.path.exists(dead) and repo.clean(), 'afterwards all is swept')


def test_a_holder_that_goes():
    """A run waits for who holds the repository alone."""
    repo = Repository('goes')
    path = repo.put('exclusive-0123456789abcdef', lock())
    child = repo.start()
    time.sleep(3)
    tap.ok(child.poll() is None and len(repo.points()) == 1, 'a run waits while another holds the repository alone')
    os.unlink(path)
    r = finish(child)
    tap.ok(r.status == 0 and len(repo.points()) == 2 and repo.clean(), 'and goes on when that is done')


def start_a_holder_that_stays():
    repo = Repository('stays')
    repo.partial = repo.put_partial(DEAD_TOKEN)
    repo.held = repo.put('exclusive-0123456789abcdef', lock())
    repo.begun = time.monotonic()
    return repo, repo.start()


def finish_a_holder_that_stays(repo, child):
    r = finish(child)
    took = time.monotonic() - repo.begun
    tap.ok(r.status == 1 and len(repo.points()) == 1, 'a run gives up when the holder stays')
    tap.diag('after %.0f s: %s' % (took, r.stderr))
    tap.ok('%s is held by this test (process %d on %s)' % (repo.path, os.getpid(), socket.gethostname()) in r.stderr, 'and says who it is')
    tap.ok(os.path.exists(repo.partial), 'nothing was swept meanwhile')
    tap.is_(os.listdir(repo.locks), ['exclusive-0123456789abcdef.lock'], "the holder's lock stays, and no other")


def test_interrupted_while_waiting():
    repo = Repository('interrupted')
    path = repo.put('exclusive-0123456789abcdef', lock())
    child = repo.start()
    time.sleep(1.5)
    begun = time.monotonic()
    child.terminate()
    r = None
    try:
        r = finish(child, 5)
    except subprocess.TimeoutExpired:
        os.unlink(path)
    tap.ok(r is not None and r.status == 1 and r.stderr, 'TERM ends a run that waits for a lock, and it says so')
    tap.diag('after %.1f s: %s' % (time.monotonic() - begun, r.stderr if r else 'still waiting'))
    r = r or finish(child)
    tap.ok(r.status == 1 and len(repo.points()) == 1, 'nothing is backed up after TERM')
    tap.is_([n for n in os.listdir(repo.locks) if n != 'exclusive-0123456789abcdef.lock'], [], 'and no lock is left')


# Dead locks.

DEAD = (
    ('a process that is gone', dead_lock, 0),
    ("another process with its number", lambda: lock(start_time=start_time(os.getpid()) + 1), 0),
    ("another host's, not renewed for 5 minutes", lambda: lock(**ELSEWHERE), 305),
    ('of a run before the last boot, not renewed for 5 minutes', lambda: lock(boot_id=ELSEWHERE['boot_id']), 305),
    ('a live process that did not renew it for 5 minutes', lock, 305),
    ('empty, for 5 minutes', lambda: '', 305),
    ('garbage, for 5 minutes', lambda: '\xff{]' * 100, 305),
    ('larger than any lock, for 5 minutes', lambda: ' ' * 1000000, 305),
)


def test_dead():
    for i, (what, make, age) in enumerate(DEAD):
        repo = Repository('dead%d' % i)
        repo.put('exclusive-0123456789abcdef', make(), age)
        repo.put('run-' + DEAD_TOKEN, make(), age)
        repo.put_partial(DEAD_TOKEN)
        took, r = repo.run()
        if not tap.ok(r.status == 0 and took < 10 and len(repo.points()) == 2 and repo.clean(), 'broken at once: ' + what):
            tap.diag('%.1f s, exit status %s: %s%s' % (took, r.status, r.stderr, os.listdir(repo.locks)))


LIVE = (
    ("another host's", lambda: lock(**ELSEWHERE), 280),
    ("another container's", lambda: lock(pid_namespace='pid:[1]', pid=4000000), 0),
    ("of another boot", lambda: lock(boot_id=ELSEWHERE['boot_id'], pid=4000000), 0),
    ('empty', lambda: '', 0),
    ('garbage', lambda: '\xff{]' * 100, 0),
    ('no object', lambda: '[1, "2"]', 0),
    ('wrong types', lambda: '{ "token": [], "pid": "x", "boot_id": {}, "start_time": -1.5 }', 0),
    ('by a clock ahead of ours', lambda: lock(**ELSEWHERE), -100),
)


def test_live_until_old():
    """They are waited for side by side: until they are old, and then no longer."""
    repos = []
    for i, (what, make, age) in enumerate(LIVE):
        repo = Repository('old%d' % i)
        repo.held = repo.put('exclusive-0123456789abcdef', make(), age)
        repo.other = repo.put('run-' + DEAD_TOKEN, make(), age)
        repo.put_partial(DEAD_TOKEN)
        repos.append((what, repo))
    children = [repo.start() for _, repo in repos]
    time.sleep(2)
    waiting = [child.poll() is None for child in children]
    for _, repo in repos:
        repo.age(repo.held, 301)
    for (what, repo), child, waited in zip(repos, children, waiting):
        r = finish(child)
        fine = waited and r.status == 0 and len(repo.points()) == 2 and not os.path.exists(repo.held)
        if not tap.ok(fine, 'honoured until it is 5 minutes old: ' + what):
            tap.diag('waited: %s, exit status %s: %s' % (waited, r.status, r.stderr))
    fine = all(os.path.exists(repo.other) and ovb.leftovers(repo.path) for _, repo in repos)
    tap.ok(fine, 'run locks of the same kinds stop the sweep')
    for _, repo in repos:
        repo.age(repo.other, 301)
    tap.ok(all(repo.run()[1].status == 0 and repo.clean() for _, repo in repos), 'until they are old')


# A lock that is lost.

def slow_repository(name):
    """Of which a run takes some seconds."""
    return Repository(name, os.path.join('slow', 'slow.img'))


def stopped(repo):
    """A run that was stopped while it writes, and its lock."""
    child = repo.start()
    if not wait_for(lambda: ovb.leftovers(repo.path)):
        raise RuntimeError('the run did not begin: %s' % child.poll())
    os.kill(child.pid, signal.SIGSTOP)
    [name] = os.listdir(repo.locks)
    return child, os.path.join(repo.locks, name)


def go_on(child):
    os.kill(child.pid, signal.SIGCONT)
    return finish(child)


def refused(repo, child, path, what):
    before = repo.points()
    r = go_on(child)
    tap.ok(r.status == 1 and repo.points() == before, what + ': does not publish')
    tap.like(r.stderr, r'%s.*taken away' % re.escape(os.path.basename(path)), what + ': says so')
    tap.is_(ovb.leftovers(repo.path), [], what + ': leaves nothing')


def test_removed():
    repo = slow_repository('removed')
    child, path = stopped(repo)
    os.unlink(path)
    refused(repo, child, path, 'a run whose lock was removed')
    tap.is_(os.listdir(repo.locks), [], 'and no lock')


def test_replaced():
    for i, content in enumerate((lock(), '', 'garbage')):
        repo = slow_repository('replaced%d' % i)
        child, path = stopped(repo)
        os.unlink(path)
        repo.put(os.path.basename(path)[:-len('.lock')], content)
        refused(repo, child, path, 'a run whose lock was replaced by %s' % ('another' if i == 0 else repr(content)))
        tap.is_(os.listdir(repo.locks), [os.path.basename(path)], "what is not its own it leaves alone")


def test_all_taken_away():
    repo = slow_repository('all')
    child, path = stopped(repo)
    os.unlink(path)
    os.rmdir(repo.locks)
    refused(repo, child, path, 'a run without the folder of locks')


def test_overtaken():
    """A run that slept for more than 5 minutes finds that another has swept it away."""
    repo = slow_repository('overtaken')
    child, path = stopped(repo)
    repo.age(path, 301)
    other = ovb.make_config(ovb.image_job('small.img'), repository=repo.path, file='other.conf')
    r = ovb.once(other)
    tap.ok(r.status == 0 and len(repo.points()) == 2 and not os.path.exists(path), 'a run that sleeps for 5 minutes is no obstacle')
    tap.is_(ovb.leftovers(repo.path), [], 'its unfinished point is swept')
    tap.like(r.stderr, 'removed 1 unfinished restore point ', 'which is told')
    r = go_on(child)
    tap.ok(r.status == 1 and len(repo.points()) == 2, 'when it wakes up, it fails')
    tap.ok(repo.clean(), 'and nothing of it is left')
    tap.like(r.stderr, 'taken away', 'and says why')
    tap.ok(repo.run()[1].status == 0 and repo.clean(), 'its next run is fine')


def test_asleep_but_alone():
    """It slept, but nobody came: its lock is still its own."""
    repo = slow_repository('alone')
    child, path = stopped(repo)
    repo.age(path, 1000)
    r = go_on(child)
    tap.ok(r.status == 0 and len(repo.points()) == 2 and repo.clean(), 'a run that slept while nobody came goes on')


def test_side_by_side():
    """Six runs at once into a new repository, three of them of the same machine."""
    confs = []
    for i in range(6):
        os.makedirs('many/%d' % i)
        image = 'many/%d/%s.img' % (i, 'same' if i < 3 else 'vm%d' % i)
        images.make('mixed', image, seed=i, size=1 << 20)
        confs.append(ovb.make_config(ovb.image_job(image, compression='zstd:1'), repository='together', file='many/%d.conf' % i))
    wrong = []
    for _ in range(3):
        children = [tap.start(ovb.once_command(c), stdout=subprocess.PIPE, stderr=subprocess.PIPE) for c in confs]
        wrong += [r.stderr for r in map(finish, children) if r.status != 0]
    tap.is_(wrong, [], 'six runs at once, three times')
    points = ovb.points('together')
    tap.is_(len(points), 18, 'each has its point')
    tap.ok(all(ovb.verify(p).status == 0 for p in points), 'all verify')
    sources = sorted({ovb.manifest(p)['disks'][0]['source'] for p in points if '/same/' in p})
    tap.is_(len(sources), 3, "one machine's points, in one second or not, are those of each of its runs")
    tap.is_(ovb.leftovers('together') + os.listdir('together/.locks'), [], 'nothing is left')


def main():
    images.make('mixed', 'small.img', size=1000001)
    os.makedirs('slow-source')
    os.makedirs('slow')
    images.make('full', 'slow-source/slow.img', size=8 << 20)
    tap.mount_imagefs('--slow', SLOW_MS, 'slow-source', 'slow')
    staying = start_a_holder_that_stays()
    for test in (test_what_a_run_writes, test_a_live_run, test_dead_partial_beside_live, test_a_holder_that_goes, test_interrupted_while_waiting,
                 test_dead, test_live_until_old, test_removed, test_replaced, test_all_taken_away, test_overtaken, test_asleep_but_alone,
                 test_side_by_side):
        test()
    finish_a_holder_that_stays(*staying)
    tap.done_testing()


main()
