#!/usr/bin/python3 -B
"""A crash at any durable step leaves a readable repository and no half point; so do failures, full disks and signals."""
import errno
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import images
import ovb
import tap

MIB = 1 << 20
AREA = os.path.join(tap.WORK, 'area')           # holds the repository, which the first run makes
REPO = os.path.join(AREA, 'repo')
LOG = os.path.join(tap.WORK, 'steps')
PARTIAL = re.compile(ovb.POINT.pattern + r'\.[0-9a-f]{16}\.partial')
STAGED = re.compile(r'repository\.json\.[0-9a-f]{8}\.partial')
FILES = {'SHA256SUMS', 'disks.tar.zst', 'index.bin', 'manifest.json'}


# Looking at a repository.

def contents(folder):
    """Every file beneath, and its digest."""
    found = {}
    for where, _, files in os.walk(folder):
        for name in files:
            with open(os.path.join(where, name), 'rb') as f:
                found[os.path.join(where, name)] = hashlib.sha256(f.read()).hexdigest()
    return found


def published(repo=REPO):
    """Every file of every point, and its digest."""
    found = {}
    for point in ovb.points(repo):
        found.update(contents(point))
    return found


def strangers(repo=REPO):
    """Names that the format does not know."""
    found = [n for n in os.listdir(repo) if not os.path.isdir(os.path.join(repo, n)) and n != 'repository.json' and not STAGED.fullmatch(n)]
    return found + [p for p in ovb.leftovers(repo) if not PARTIAL.fullmatch(os.path.basename(p))]


def remains(repo=REPO):
    """What only a run that is under way, or died, has there."""
    return (ovb.leftovers(repo) + [n for n in os.listdir(repo) if STAGED.fullmatch(n)] + os.listdir(os.path.join(repo, '.locks')))


def listed(repo=REPO):
    """The points that virt-restore lists, as the format names them; None when it fails."""
    r = tap.run([ovb.RESTORE, '--repository', repo, 'list', '--json'])
    if r.status != 0:
        tap.diag(r.stderr)
        return None
    return sorted(os.path.join(repo, p['vm'], p['time'].replace(':', '')) for p in json.loads(r.stdout))


def whole(earlier, repo=REPO, oracle=False, files=FILES):
    """What is wrong with a repository, as a list of texts: it must be readable, and hold the earlier points' files as they were."""
    if not os.path.exists(os.path.join(repo, 'repository.json')):
        return ['points without repository.json'] if ovb.points(repo) else []
    wrong = ['strange: %s' % n for n in strangers(repo)]
    there, now = ovb.points(repo), published(repo)
    names = listed(repo)
    if names is None or sorted(p[:p.index('Z') + 1] for p in there) != [n[:n.index('Z') + 1] for n in names]:
        wrong.append('listed: %s, there: %s' % (names, there))
    for path, digest in earlier.items():
        if now.get(path) != digest:
            wrong.append('changed: ' + path)
    for point in there:
        if set(os.listdir(point)) != files:
            wrong.append('%s: %s' % (point, os.listdir(point)))
            continue
        if not any(p.startswith(point + '/') for p in earlier):
            r = ovb.verify(point)
            if r.status != 0:
                wrong.append('%s: %s' % (point, r.stderr))
            if oracle and ovb.oracle('verify', point).status != 0:
                wrong.append('%s: the oracle refuses it' % point)
    return wrong


def next_run(conf, repo=REPO, **kwargs):
    """What is wrong after one more backup."""
    count = len(ovb.points(repo)) if os.path.exists(repo) else 0
    r = ovb.once(conf, env={'STEP_LOG': None})
    if r.status != 0:
        return ['the next run fails: ' + r.stderr]
    wrong = ['it left: %s' % n for n in remains(repo)]
    if len(ovb.points(repo)) <= count:
        wrong.append('the next run made no point')
    return wrong + whole({}, repo, **kwargs)


def report(wrong, name):
    """One test; prints what is wrong, if anything."""
    tap.ok(not wrong, name)
    for text in wrong:
        tap.diag(text)


# Runs that go wrong at a step.

def steps():
    """The step log as (call, path, path it is renamed to)."""
    if not os.path.exists(LOG):
        return []
    with open(LOG) as f:
        found = [line.rstrip('\n').split(' ', 2) for line in f]
    return [(call, *(rest.split(' -> ') + [''])[:2]) for _, call, rest in found]


def reset(template):
    shutil.rmtree(AREA, ignore_errors=True)
    if template is None:
        os.mkdir(AREA)
    else:
        shutil.copytree(template, AREA, symlinks=True)
    if os.path.exists(LOG):
        os.unlink(LOG)


def broken_run(conf, **variables):
    return ovb.once(conf, env=tap.preload_die(DIE_UNDER=AREA, STEP_LOG=LOG, **variables))


def age_locks():
    """As if five minutes had passed."""
    folder, then = os.path.join(REPO, '.locks'), time.time() - 310
    for name in os.listdir(folder) if os.path.exists(folder) else []:
        os.utime(os.path.join(folder, name), (then, then))


STEPS = {}                              # of a run that goes well


def learn_steps(conf, template, **variables):
    reset(template)
    broken_run(conf, **variables)
    STEPS[template, conf, bool(variables)] = steps()


def crash_everywhere(what, conf, template, how, later=False, calls=None, **variables):
    """The run dies at its first, second ... step, until it survives."""
    tried, all_wrong = 0, []
    learn_steps(conf, template, **variables)
    normal = STEPS[template, conf, bool(variables)]
    for n in range(1, len(normal) + 2):
        if calls and n <= len(normal) and normal[n - 1][0] not in calls:
            continue
        reset(template)
        earlier = published() if os.path.exists(REPO) else {}
        r = broken_run(conf, **{how: n}, **variables)
        if r.status != -signal.SIGKILL:
            break
        tried += 1
        where = steps()[n - 1]
        wrong = whole(earlier, oracle=n % 8 == 0) if os.path.exists(REPO) else []
        after = published() if os.path.exists(REPO) else {}
        if later or where[0] == 'open' and '.locks' in where[1]:
            age_locks()                 # an empty one tells nothing about its holder
        wrong += next_run(conf, oracle=n % 8 == 4)
        wrong += ['changed by the next run: ' + path for path, digest in after.items() if published().get(path) != digest]
        all_wrong += ['step %d, %s %s: %s' % (n, where[0], where[1], w) for w in wrong]
    report(all_wrong, '%s: killed %s each of %d steps, whole, and the next run is clean' % (what, 'at' if how == 'DIE_AT' else 'after', tried))
    tap.ok(r.status == 0 and n > 20 and not remains(), '%s: and then it survives' % what)


def cut(conf, at):
    """Kill a run at the step that the test at() recognizes."""
    wanted = next(i for i, s in enumerate(steps(), 1) if at(s))
    if broken_run(conf, DIE_AT=wanted).status != -signal.SIGKILL:
        raise RuntimeError('the run survived step %d' % wanted)
    os.unlink(LOG)


def make_templates(conf):
    """A repository with a point; one with what a killed run left, and a killed one that held it alone."""
    reset(None)
    ovb.once(conf)
    shutil.copytree(AREA, 'one')
    reset('one')
    broken_run(conf)
    cut(conf, lambda s: s[0] == 'rename' and ovb.POINT.fullmatch(os.path.basename(s[2])))
    [run_lock] = os.listdir(os.path.join(REPO, '.locks'))
    shutil.copy(os.path.join(REPO, '.locks', run_lock), os.path.join(REPO, '.locks', 'exclusive-0123456789abcdef.lock'))
    shutil.copytree(AREA, 'remains')


# A test for each promise.

def test_order(conf):
    """What is durable, and when."""
    reset(None)
    r = broken_run(conf)
    log = steps()
    tap.is_(r.status, 0, 'a first run under the instrument')
    [publish] = [i for i, s in enumerate(log) if s[0] == 'rename' and ovb.POINT.fullmatch(os.path.basename(s[2]))]
    partial, point = log[publish][1:]
    tap.ok(PARTIAL.fullmatch(os.path.basename(partial)), 'the point is written under a name of its own')

    def first(call, path, start=0):
        return next((i for i, s in enumerate(log) if i >= start and s[0] == call and s[1] == path), len(log))
    for name in sorted(os.listdir(point)):
        path = os.path.join(partial, name)
        tap.ok(first('open', path) < first('fsync', path) < publish, name + ': made, durable, and only then published')
        tap.is_(len([s for s in log if s[0] == 'fsync' and s[1] == path]), 1, name + ': fsync once, as a second one proves nothing')
    last = max(first('open', os.path.join(partial, name)) for name in os.listdir(point))
    tap.ok(last < first('fsync', partial) < publish, 'its folder is durable before it is published')
    tap.ok(publish < first('fsync', os.path.dirname(point), publish) < len(log), "the machine's folder is durable after it")
    run_lock = os.path.join(REPO, '.locks', 'run-%s.lock' % os.path.basename(partial).split('.')[1])
    tap.ok(first('fsync', os.path.dirname(point), publish) < first('unlink', run_lock) < len(log), 'and before the lock is given up')
    made = first('mkdir', os.path.dirname(point))
    tap.ok(made < first('fsync', REPO, made) < publish, "the machine's folder is durable in the repository before a point is in it")
    named = next(i for i, s in enumerate(log) if s[0] == 'rename' and s[2] == os.path.join(REPO, 'repository.json'))
    staged = log[named][1]
    tap.ok(first('open', staged) < first('fsync', staged) < named < first('fsync', REPO, named) < made,
           'repository.json: durable, named, and the folder durable')
    tap.ok(first('mkdir', REPO) < first('fsync', AREA) < publish, 'the new repository is durable in the folder that holds it')
    tap.ok(not [s for s in log if s[0] in ('ftruncate', 'fdatasync', 'link')], 'nothing is cut or half durable')


def test_machine_folder_of_another(conf):
    """Another run made the machine's folder, and its name is perhaps not durable yet."""
    reset('one')
    os.mkdir(os.path.join(REPO, 'new'))
    shutil.copy('small.img', 'new.img')
    with open(os.path.join(REPO, '.locks', 'run-0123456789abcdef.lock'), 'w'):
        pass                                    # fresh: nothing is swept
    broken_run(ovb.make_config(ovb.image_job('new.img'), repository=REPO, file='new.conf'))
    log = steps()
    publish = next(i for i, s in enumerate(log) if s[0] == 'rename' and s[2].startswith(os.path.join(REPO, 'new')))
    tap.ok([s for s in log[:publish] if s[0] == 'fsync' and s[1] == REPO], "a machine's folder that was there already is durable too")


def test_crashes(one, two):
    crash_everywhere('an empty repository', one, None, 'DIE_AT')
    crash_everywhere('an empty repository', one, None, 'DIE_AFTER')
    crash_everywhere('one more point', one, 'one', 'DIE_AT')
    crash_everywhere('two images', two, 'one', 'DIE_AT')
    crash_everywhere('after another crash', one, 'remains', 'DIE_AT')
    crash_everywhere('writes too, 5 minutes ago', one, 'one', 'DIE_AT', later=True, calls=('write',), PRELOAD_WRITES=1)


def test_killed_while_locking(conf):
    """A lock file without content tells nothing about its holder, so there must be none."""
    learn_steps(conf, 'one')
    wrong = []
    for n, step in enumerate(STEPS['one', conf, False], 1):
        if step[0] != 'open' or '.locks' not in step[1]:
            continue
        reset('one')
        broken_run(conf, DIE_AFTER=n)
        r = ovb.once(conf, timeout=10)
        if r.status != 0:
            wrong.append('killed after step %d, %s %s: the next run waits, or fails: %s' % (n, *step[:2], r.stderr))
        else:
            age_locks()                 # what has no holder's name may stay so long
            wrong += ['killed after step %d, %s %s: %s' % (n, *step[:2], w) for w in next_run(conf)]
    report(wrong, 'killed while it makes its lock: the next run need not wait until that is 5 minutes old')


def told(r, step, code):
    """Whether the error names the file and the reason."""
    names = [os.path.basename(p) for p in step[1:] if p]
    return os.strerror(code) in r.stderr and any(n in r.stderr for n in names)


def failure(conf, template, n, code, **variables):
    """What is wrong when one step fails."""
    reset(template)
    earlier = published() if os.path.exists(REPO) else {}
    r = broken_run(conf, FAIL_AT=n, FAIL_ERRNO=code, **variables)
    log = steps()
    step = log[n - 1]
    own = [i for i, s in enumerate(log) if s[0] == 'open' and '/.locks/run-' in s[1]]
    sweeping = not own or n - 1 < own[0] - 1
    wrong = []
    if r.status == 0:
        # What an interrupted run left, and a lock at the end, are not worth the backup.
        if not (sweeping or step[0] == 'unlink' and '/.locks/run-' in step[1]):
            wrong.append('exit status 0')
        # A sweep whose lock finds no room goes on with an empty one.
        wordless = code == errno.ENOSPC and step[0] == 'write' and '.locks' in step[1]
        if sweeping and not wordless and step[0] != 'rmdir' and not (step[0] == 'unlink' and '.locks' in step[1]) and not told(r, step, code):
            wrong.append('not told: ' + r.stderr)
    elif r.status != 1 or not told(r, step, code):
        wrong.append('exit status %s: %s' % (r.status, r.stderr))
    if not os.path.exists(REPO):
        return wrong
    if step[0] == 'fsync' and [s for s in log[n:] if s[0] == 'rename' and (step[1] + '/').startswith(s[1] + '/')]:
        wrong.append('it got its name in spite of the failed fsync')
    wrong += whole(earlier)
    if step[0] != 'unlink' and not sweeping and os.path.exists(os.path.join(REPO, '.locks')):
        wrong += ['it left: %s' % x for x in remains()]
    return wrong + next_run(conf)


def fail_everywhere(what, conf, template, code, source, calls=None, **variables):
    before = contents(os.path.dirname(source)), os.stat(source).st_mtime_ns
    wrong, tried = [], 0
    learn_steps(conf, template, **variables)
    for n, step in enumerate(STEPS[template, conf, bool(variables)], 1):
        # A lock that stays is waited for: that is done beside the other tests.
        if step[0] == 'unlink' and 'exclusive' in step[1] or calls and step[0] not in calls:
            continue
        tried += 1
        wrong += ['step %d, %s %s: %s' % (n, *step[:2], w) for w in failure(conf, template, n, code, **variables)]
    wrong += [] if before == (contents(os.path.dirname(source)), os.stat(source).st_mtime_ns) else ['the source was touched']
    report(wrong, '%s: %s at each of %d steps' % (what, errno.errorcode[code], tried))


def test_failures(one, two):
    source = os.path.join(tap.WORK, 'sources', 'small.img')
    for code in errno.EIO, errno.ENOSPC:
        fail_everywhere('an empty repository', one, None, code, source)
    fail_everywhere('two images', two, 'one', errno.EIO, source)
    fail_everywhere('writing', one, 'one', errno.ENOSPC, source, calls=('write',), PRELOAD_WRITES=1)
    fail_everywhere('after another crash', one, 'remains', errno.EIO, source)


def test_others_go_on(two):
    """Of two images, the first fails."""
    reset(None)
    broken_run(two)
    n = next(i for i, s in enumerate(steps(), 1) if s[0] == 'fsync' and 'disks.tar' in s[1])
    vms = {os.path.basename(os.path.dirname(p)) for p in ovb.points(REPO)}
    reset(None)
    r = broken_run(two, FAIL_AT=n)
    tap.ok(r.status == 1 and len(vms) == 2 and len(ovb.points(REPO)) == 1, 'one image fails, the other has its point, exit 1')
    tap.is_(whole({}) + remains(), [], 'and all is whole')


# A lock that cannot be removed after the sweep is the run's own: it must be told, not waited for as if it were another's.

def start_lock_that_stays(image):
    os.makedirs('stays')
    conf = ovb.make_config(ovb.image_job(image), repository='stays/repo', file='stays.conf')
    ovb.once(conf)
    env = dict(DIE_UNDER=os.path.join(tap.WORK, 'stays'), STEP_LOG=os.path.join(tap.WORK, 'stays.log'))
    ovb.once(conf, env=tap.preload_die(**env))
    with open('stays.log') as f:
        n = next(i for i, line in enumerate(f, 1) if ' unlink ' in line and 'exclusive' in line)
    return tap.start(ovb.once_command(conf), env=tap.preload_die(FAIL_AT=n, **env), stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish_lock_that_stays(child):
    err = child.communicate(timeout=tap.RUN_TIMEOUT)[1].decode()
    tap.ok(child.returncode == 0 or 'exclusive' in err and os.strerror(errno.EIO) in err, 'a lock that cannot be removed is told')
    tap.diag('exit status %s: %s' % (child.returncode, err))


# Killed at any time.

def remove(*paths):
    for path in paths:
        if os.path.exists(path):
            os.unlink(path)


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds * tap.SLOWER
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def test_kills(conf, big):
    repo = os.path.join(tap.WORK, 'kills')
    start = time.monotonic()
    first = ovb.once(conf)
    took = time.monotonic() - start
    files = set(os.listdir(ovb.points(repo)[0]))
    rng, wrong, left = random.Random(25), [], 0
    earlier = {}
    for i in range(25):
        wrong += ['kill %d: %s' % (i, w) for w in whole(earlier, repo, files=files)]
        earlier = published(repo)
        child = tap.start(ovb.once_command(conf), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0, took * 1.1))
        child.kill()
        child.wait()
        left += bool(ovb.leftovers(repo))
    wrong += ['at the end: %s' % w for w in whole(earlier, repo, files=files)]
    report(wrong, '25 kills at random times')
    tap.ok(first.status == 0 and left > 5, 'of which %d left something unfinished' % left)
    report(next_run(conf, repo, files=files), 'and one more run cleans up')
    newest = ovb.points(repo)[-1]
    tap.is_(ovb.oracle('verify', newest).status, 0, 'the oracle accepts the last point')
    tap.ok(ovb.restore(newest, 'killed.img').status == 0 and images.same_content(big, 'killed.img'), 'and it restores')
    remove('killed.img')


def test_signals(conf):
    repo = os.path.join(tap.WORK, 'kills')
    before, wrong = published(repo), []
    for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
        child = tap.start(ovb.once_command(conf), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        begun = wait_for(lambda: [f for p in ovb.leftovers(repo) for f in os.listdir(p) if os.stat(os.path.join(p, f)).st_size > 0])
        child.send_signal(number)
        start = time.monotonic()
        out, err = child.communicate(timeout=60)
        took = time.monotonic() - start
        told_so = re.search(r'^virt-backupd: big: .*stopped; nothing .* was kept', err.decode(), re.M)
        if not begun or child.returncode != 1 or not told_so or took > 5:
            wrong.append('%s: exit status %s after %.1f s: %s%s' % (number.name, child.returncode, took, out.decode(), err.decode()))
        wrong += ['left: %s' % x for x in remains(repo)]
        wrong += [] if published(repo) == before else ['points changed']
    report(wrong, 'INT, TERM and HUP: exit 1, told, nothing left')
    # Two signals, both waiting when it wakes up.
    child = tap.start(ovb.once_command(conf), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_for(lambda: ovb.leftovers(repo))
    for number in signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGCONT:
        os.kill(child.pid, number)
    err = child.communicate(timeout=60)[1].decode()
    tap.ok(child.returncode in (-signal.SIGTERM, -signal.SIGINT) and published(repo) == before, 'a second signal ends it at once')
    tap.like(err, r'\.partial.*is left, and removed by the next run', 'and it says what is left')
    report(next_run(conf, repo, files=set(os.listdir(ovb.points(repo)[0]))), 'the next run is clean')


# A full disk.

def mounted(where, options):
    os.makedirs(where)
    return subprocess.run(['mount', '-t', 'tmpfs', '-o', options, 'none', where], stderr=subprocess.DEVNULL, check=False).returncode == 0


def fill(path):
    """Take all room."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for size in MIB, 4096, 1:
            try:
                while True:
                    os.write(fd, b'x' * size)
            except OSError as e:
                if e.errno != errno.ENOSPC:
                    raise
    finally:
        os.close(fd)


def test_full_disk(small, big):
    full = os.path.join(tap.WORK, 'full')
    if not mounted(full, 'size=4m'):
        tap.skip(8, 'cannot mount here')
        return
    repo = os.path.join(full, 'repo')
    little = ovb.make_config(ovb.image_job(small, compression='zstd:1'), repository=repo, file='little.conf')
    much = ovb.make_config(ovb.image_job(big, compression='none'), repository=repo, file='much.conf')
    tap.is_(ovb.once(little).status, 0, 'a small image fits')
    earlier = published(repo)
    r = ovb.once(much)
    tap.ok(r.status == 1 and re.search(r'%s/big/.*disks\.tar.*: No space left on device' % repo, r.stderr),
           'a big one does not: exit 1, with path and reason')
    tap.diag(r.stderr)
    report(whole(earlier, repo) + remains(repo), 'the old point is whole, nothing of the new one is left')
    subprocess.run(['mount', '-o', 'remount,size=128m', full], check=True)
    tap.is_(ovb.once(much).status, 0, 'with room it fits')
    shutil.rmtree(os.path.join(repo, 'big'))
    subprocess.run(['mount', '-o', 'remount,size=5m', full], check=True)
    # Killed, and then the disk is full: the room that the next run needs is what this one left.
    env = tap.preload_die(DIE_UNDER=full, STEP_LOG=LOG)
    os.unlink(LOG)
    ovb.once(little, env=env)
    n = next(i for i, s in enumerate(steps(), 1) if s[0] == 'open' and 'manifest.json' in s[1])
    ovb.once(little, env=dict(env, DIE_AT=n))
    fill(os.path.join(full, 'filler'))
    earlier = published(repo)
    r = ovb.once(little)
    tap.ok(not ovb.leftovers(repo), 'on a full disk, the next run makes room by removing what a killed one left')
    tap.diag('exit status %s: %s' % (r.status, r.stderr))
    report(whole(earlier, repo), 'and the old points are whole')
    os.unlink(os.path.join(full, 'filler'))
    report(next_run(little, repo), 'with room, a run is clean')


# Restoring.

def test_restore_full_disk(point):
    full = os.path.join(tap.WORK, 'full-target')
    if not mounted(full, 'size=256k'):
        tap.skip(2, 'cannot mount here')
        return
    target = os.path.join(full, 'out.img')
    r = ovb.restore(point, target)
    tap.ok(r.status == 1 and 'No space left on device' in r.stderr and target in r.stderr,
           'no room for a restored disk: exit 1, with path and reason')
    tap.is_(os.listdir(full), [], 'and nothing of it is left')


def restored(target, source):
    return os.path.exists(target) and images.same_content(target, source)


def restore_steps(point):
    env = tap.preload_die(DIE_UNDER=os.path.join(tap.WORK, 'restored'), STEP_LOG=LOG)
    if os.path.exists(LOG):
        os.unlink(LOG)
    os.makedirs('restored')
    r = ovb.restore(point, 'restored/out.img', env=env)
    log = steps()
    tap.ok(r.status == 0 and [s[0] for s in log] == ['open', 'ftruncate', 'fsync', 'fsync', 'rename', 'fsync'] and
           [os.path.basename(s[1]) for s in log] == ['out.img.partial'] * 5 + ['restored'], 'a restore: made, durable, named, folder durable')
    return env, log


def test_restore_crashes(point, source):
    env, log = restore_steps(point)
    target, partial, wrong = 'restored/out.img', 'restored/out.img.partial', []
    for how in 'DIE_AT', 'DIE_AFTER':
        for n in range(1, len(log) + 1):
            for old in None, b'old':
                shutil.rmtree('restored')
                os.mkdir('restored')
                if old:
                    with open(target, 'wb') as f:
                        f.write(old)
                where = '%s=%d%s: ' % (how, n, ', --force' if old else '')
                options = ['--force'] if old else []
                if ovb.restore(point, target, *options, env=dict(env, **{how: str(n)})).status != -signal.SIGKILL:
                    wrong.append(where + 'not killed')
                is_new = restored(target, source)
                if not is_new and (os.path.exists(target) != bool(old) or old and open(target, 'rb').read() != old):
                    wrong.append(where + 'a half target')
                if set(os.listdir('restored')) - {'out.img', 'out.img.partial'}:
                    wrong.append(where + 'left: %s' % os.listdir('restored'))
                r = ovb.restore(point, target)
                if os.path.exists(partial) and (r.status != 1 or '--force' not in r.stderr or (partial if not old else target) not in r.stderr):
                    wrong.append(where + 'the next one does not say what to do: %s' % r.stderr)
                if ovb.restore(point, target, '--force').status != 0 or not restored(target, source) or os.path.exists(partial):
                    wrong.append(where + '--force does not help')
    report(wrong, 'a restore killed at each step: no half target, and --force goes over it')


def test_restore_failures(point, source):
    log, wrong = steps()[:6], []
    env = tap.preload_die(DIE_UNDER=os.path.join(tap.WORK, 'restored'))
    for code in errno.EIO, errno.ENOSPC:
        for n, step in enumerate(log, 1):
            shutil.rmtree('restored')
            os.mkdir('restored')
            r = ovb.restore(point, 'restored/out.img', env=dict(env, FAIL_AT=str(n), FAIL_ERRNO=str(code)))
            if r.status != 1 or not told(r, step, code):
                wrong.append('step %d: exit status %s: %s' % (n, r.status, r.stderr))
            if os.listdir('restored') != ([] if n < len(log) else ['out.img']):
                wrong.append('step %d: left %s' % (n, os.listdir('restored')))
    report(wrong, 'a restore that fails at each step: told, and nothing left')


def test_restore_kills(point, source):
    start = time.monotonic()
    ovb.restore(point, 'whole.img')
    took = time.monotonic() - start
    rng, wrong, left = random.Random(7), [], 0
    for i in range(6):
        child = tap.start(ovb.restore_command(point, 'killed.img'), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0, took))
        child.kill()
        child.wait()
        left += os.path.exists('killed.img.partial')
        if os.path.exists('killed.img') and not restored('killed.img', source):
            wrong.append('kill %d: a half target' % i)
        remove('killed.img', 'killed.img.partial')
    report(wrong, 'a restore killed at random times: no half target')
    tap.ok(left > 0, 'some left their partial file')
    child = tap.start(ovb.restore_command(point, 'killed.img'), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for(lambda: os.path.exists('killed.img.partial') and os.stat('killed.img.partial').st_blocks > 0)
    child.terminate()
    err = child.communicate(timeout=60)[1].decode()
    tap.ok(child.returncode == 1 and 'stopped' in err and not os.path.exists('killed.img') and not os.path.exists('killed.img.partial'),
           'TERM: exit 1, told, nothing left')
    remove('whole.img')


def main():
    os.mkdir('sources')
    small, second, big = (os.path.join(tap.WORK, 'sources', n) for n in ('small.img', 'second.img', 'big.img'))
    images.make('mixed', small, size=2000001)
    images.make('mixed', second, seed=2, size=1000000)
    shutil.copy(small, 'small.img')
    one = ovb.make_config(ovb.image_job(small, compression='zstd:1'), repository=REPO, file='one.conf')
    two = ovb.make_config(ovb.image_job(small, second, compression='zstd:1'), repository=REPO, file='two.conf')
    staying = start_lock_that_stays(small)
    make_templates(one)
    test_order(one)
    test_machine_folder_of_another(one)
    test_crashes(one, two)
    test_killed_while_locking(one)
    test_failures(one, two)
    test_others_go_on(two)
    images.make('mixed', big, size=40 * 1000 * 1000)
    kills = ovb.make_config(ovb.image_job(big, compression='bzip2:1'), repository='kills', file='kills.conf')
    test_kills(kills, big)
    test_signals(kills)
    test_full_disk(small, big)
    point = ovb.backup(small, 'zstd:1', 'restores')
    test_restore_full_disk(point)
    test_restore_crashes(point, small)
    test_restore_failures(point, small)
    test_restore_kills(ovb.points('kills')[0], big)
    finish_lock_that_stays(staying)
    tap.done_testing()


main()
