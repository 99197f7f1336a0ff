#!/usr/bin/python3 -B
"""The daemon where things go wrong around it: the clock is set, the disk of its state is full, a worker says nothing, descriptors are closed.  Each time
there is a line that says so, and the schedule goes on."""
import glob
import mmap
import os
import re
import signal
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import images
import ovb
import tap
from own_daemon import Daemon, wait_for

HOUR, DAY = 3600, 86400
CRAWL_MS = 60           # of each read


class Clock:
    """The clock of the programs that have its environment (preload_clock.c)."""

    def __init__(self):
        with open('clock', 'w+b') as f:
            f.write(bytes(8))
            f.flush()
            self.map = mmap.mmap(f.fileno(), 8)
        self.env = {'CLOCK_FILE': os.path.abspath('clock'), 'LD_PRELOAD': os.path.join(tap.TOOLS, 'preload_clock.so'),
                    'ASAN_OPTIONS': 'verify_asan_link_order=0:' + os.environ.get('ASAN_OPTIONS', '')}
        self.offset = 0

    def set(self, by):
        self.offset += by
        self.map[:] = struct.pack('=q', self.offset)

    def now(self):
        return time.time() + self.offset

    def of_day(self, after):
        """The time of the day, as a schedule."""
        return time.strftime('*-*-* %H:%M:%S UTC', time.gmtime(self.now() + after))


def once_each(d, name):
    due = [(r['job'], r['due']) for r in d.rows() if r['reason'] in ('schedule', 'missed')]
    tap.is_(len(set(due)), len(due), name + ': no due time is met twice')


def test_clock():
    clock = Clock()
    d = Daemon('clock', jobs=[ovb.image_job('small.img', name='often', schedule='*:*:0/2'),
                              ovb.image_job('other.img', name='nightly', schedule=clock.of_day(HOUR // 2), catch_up=True)])
    d.env = clock.env
    d.start()

    def ended(job, after=0):
        return [r for r in d.ended() if r['job'] == job and r['id'] > after]

    def newest():
        return max(r['id'] for r in d.rows())
    tap.ok(wait_for(lambda: len(ended('often')) >= 2), 'a daemon with a clock of its own')
    tap.unlike(d.said(), 'the clock', 'as long as nobody sets it, there is nothing to say')

    clock.set(-HOUR)
    tap.ok(wait_for(lambda: 'the clock was set back by 1:00:00 h' in d.said()), 'set back by an hour: it is told')
    r = d.ctl('run', 'often', '--wait')
    tap.is_(r.status, 0, 'a run on request is done at once') or tap.diag(r.stderr)
    last = d.rows()[-1]
    tap.ok(abs(last['started'] - clock.now()) < 600, 'it is on record with the time that it is now')
    status = d.ctl('status', '--json').stdout
    tap.like(status, r'"id": %d,\s+"state": "succeeded"' % last['id'], 'and it is the last one of its job')
    tap.like(status, r'"next": "%s' % time.strftime('%Y-%m-%dT%H', time.gmtime(clock.now() + HOUR)), 'the next one of the schedule comes when it has not been yet')
    tap.ok(not re.search(r'up for -', d.ctl('status').stdout), 'it has not been up for less than no time')
    clock.set(HOUR)
    tap.ok(wait_for(lambda: 'the clock was set forward by 1:00:00 h' in d.said()), 'set right again: it is told')
    tap.ok(wait_for(lambda: [r for r in ended('often', last['id']) if r['reason'] == 'schedule']), 'the schedule goes on')
    once_each(d, 'back and forth')

    before = newest()
    clock.set(DAY)
    tap.ok(wait_for(lambda: 'the clock was set forward by 24:00:00 h' in d.said()), 'set forward by a day: it is told')
    tap.ok(wait_for(lambda: ended('nightly', before)), 'what was leapt over is made up for')
    tap.like(d.said(), 'job nightly: missed a run, which is made up for now', 'which is told')
    tap.ok(wait_for(lambda: len(ended('often', before)) >= 2), 'the schedule goes on')
    tap.is_(len(ended('nightly', before)), 1, 'once')
    once_each(d, 'a day ahead')

    before = newest()
    clock.set(-30 * DAY)
    tap.ok(wait_for(lambda: 'the clock was set back by 720:00:00 h' in d.said()), 'set back by a month: it is told')
    tap.ok(wait_for(lambda: len(ended('often', before)) >= 2), 'the schedule begins anew')
    tap.like(d.said(), 'job often: the clock was set back by more than a day: its schedule begins anew', 'which is told')
    tap.is_(d.stop(), 0, 'TERM ends it')
    once_each(d, 'at last')
    d.quiet('after all that')


def fill(state):
    with open(os.path.join(state, 'ballast'), 'wb', buffering=0) as f:
        try:
            while f.write(b'x' * 512):
                pass
        except OSError:
            pass


def test_start_on_full():
    """As after a power cut, when a log has filled the disk: what waits is done, and the history is there."""
    state = ovb.mount_disk('full', 8 << 20) or ovb.mount_tmpfs('full', 1 << 20)
    if not os.path.ismount(state):
        tap.skip(7, 'nothing can be mounted here')
        return
    d = Daemon('full', state=state, schedule='*:*:0/2').start()
    wait_for(lambda: len(d.ended()) >= 2)
    d.ctl('pause')
    tap.is_(d.ctl('run', 'full', '--wait').status, 0, 'runs, and a pause')
    d.stop()
    before = d.rows()
    fill(state)
    d.start()
    tap.like(d.said(), r'No space left on device\); queue and history go on in memory: make room', 'a start on a full disk: it is told')
    tap.like(d.ctl('status').stdout, 'queue and history are in memory only', 'and in the status')
    tap.like(d.ctl('status').stdout, 'paused', 'what was set before still is')
    tap.is_(len(d.ctl('history').stdout.splitlines()), len(before) + 1, 'the history is there')
    d.ctl('resume')
    tap.ok(wait_for(lambda: d.said().count(' succeeded') > len(before) + 1), 'the schedule goes on')
    os.unlink(os.path.join(state, 'ballast'))
    os.kill(d.child.pid, signal.SIGHUP)
    tap.ok(wait_for(lambda: 'state.db again' in d.said()), 'the state returns to the disk when there is room')
    d.stop()
    runs = d.rows()
    tap.is_(runs[:len(before)], before, 'nothing is missing in it')
    tap.is_(len(d.ended()), d.said().count(' succeeded'), 'nor of what was done meanwhile')
    tap.ok(not [f for f in os.listdir(state) if 'corrupt' in f], 'and nothing was set aside')


def test_stopped_daemon():
    """It is the daemon that stands still for longer than stall_timeout: its worker, which goes on, is not to blame."""
    d = Daemon('asleep', image=os.path.join('crawl', 'slow.img'), schedule='*-*-* 00:00:00', stall_timeout=2).start()
    d.ctl('run', 'asleep')
    wait_for(lambda: d.worker() and d.partials())
    os.kill(d.child.pid, signal.SIGSTOP)
    time.sleep(3)
    tap.ok(d.worker(), 'the daemon is stopped, its worker reads on')
    os.kill(d.child.pid, signal.SIGCONT)
    wait_for(lambda: not [r for r in d.rows() if r['state'] in ('queued', 'running')])
    tap.is_([(r['state'], r['message']) for r in d.rows()], [('succeeded', None)], 'and is not taken for dead')
    d.stop()


def noted(d, machine):
    """Whether its worker has noted that it is done."""
    for path in glob.glob(os.path.join(d.state, 'log', '*.result')):
        with open(path, encoding='utf-8') as f:
            if re.search(r'"done".*"%s"' % machine, f.read()):
                return True
    return False


def test_unheard():
    """Killed before it heard what its worker has done: that is in the history all the same."""
    d = Daemon('unheard', jobs=[ovb.image_job(os.path.join('crawl', 'first.img'), 'small.img', os.path.join('crawl', 'third.img'), name='unheard')])
    d.start()
    d.ctl('run', 'unheard')
    wait_for(d.worker)
    os.kill(d.child.pid, signal.SIGSTOP)
    tap.ok(wait_for(lambda: noted(d, 'small')), 'two machines are done while the daemon is stopped')
    d.kill()
    d.start()
    tap.ok(wait_for(lambda: [r for r in d.rows() if r['reason'] == 'retry' and r['state'] == 'succeeded']), 'then it is killed: the run is tried again')
    tap.is_([m['vm'] for m in d.rows("SELECT vm FROM machines WHERE run = 1 AND state = 'succeeded' ORDER BY vm")], ['first', 'small'],
            'the machines that were done are in the history')
    with open(os.path.join(d.state, 'log', '1.log'), encoding='utf-8') as f:
        tap.is_(len(re.findall(r'small@\S+: full, ', f.read())), 1, 'and in the log of the run, once')
    d.stop()
    tap.is_({m['point'] for m in d.rows("SELECT * FROM machines WHERE state = 'succeeded'")}, {os.path.basename(p) for p in ovb.points(d.repo)}, 'history and repository say the same')
    d.quiet('after that')


def test_closed():
    """Started with its standard descriptors closed, as some do: none of its files becomes one of them."""
    d = Daemon('closed', schedule='*:*:0/2')
    env = {'STATE_DIRECTORY': d.state, 'RUNTIME_DIRECTORY': d.state + '.run'}
    d.child = tap.start(['sh', '-c', 'exec "$0" --config "$1" <&- >&- 2>&-', ovb.BACKUPD, d.conf], env=env)
    tap.ok(wait_for(lambda: len(d.ended()) >= 2), 'the daemon runs without standard descriptors')
    std = [os.readlink('/proc/%d/fd/%d' % (d.child.pid, n)) for n in range(3)]
    tap.is_(std, ['/dev/null'] * 3, 'which are nothing else')
    tap.is_(d.stop(), 0, 'and ends')
    tap.is_(d.rows('PRAGMA integrity_check')[0]['integrity_check'], 'ok', 'the database is sound')
    d.quiet('after that')
    point = ovb.points(d.repo)[0]
    r = tap.run(['sh', '-c', 'exec "$@" >&- 2>&-', 'sh', *ovb.restore_command(point, 'out.img')])
    tap.ok(r.status == 0 and images.same_content('small.img', 'out.img'), 'virt-restore without them restores what it has to')
    r = tap.run(['sh', '-c', 'exec "$@" >&-', 'sh', ovb.RESTORE, '--repository', d.repo, 'export', ovb.spec(point), '-'])
    tap.ok(r.status == 1 and r.stderr, 'and fails when what it writes goes nowhere')


images.make('mixed', 'small.img', size=1000001)
images.make('mixed', 'other.img', size=1000001)
os.makedirs('slow-source')
os.makedirs('crawl')
for name, mib in ('first', 16), ('slow', 40), ('third', 16):       # slow.img: 3 s must not be enough for it, wherever the test began to count
    images.make('full', 'slow-source/%s.img' % name, size=mib << 20)
tap.mount_imagefs('--slow', CRAWL_MS, 'slow-source', 'crawl')
for test in (test_clock, test_start_on_full, test_stopped_daemon, test_unheard, test_closed):
    test()
tap.done_testing()
