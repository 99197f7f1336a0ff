#!/usr/bin/python3 -B
"""The daemon, with jobs over images: runs start when their schedule says, and whatever is killed, broken or full, nothing is lost and nothing done twice."""
import glob
import os
import re
import shutil
import signal
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import daemon
import images
import ovb
import tap
from own_daemon import Daemon, wait_for

CRAWL_MS, HANG_MS = 70, 6000     # of each read


def test_schedule():
    d = Daemon('plain').start()
    tap.ok(wait_for(lambda: len(d.ended()) >= 2), 'a job that is due every other second runs')
    with open('/proc/%d/status' % d.child.pid, encoding='utf-8') as f:
        kilobytes = int(re.search(r'^VmRSS:\s*(\d+)', f.read(), re.M)[1])
    if tap.SANITIZE:
        tap.skip(1, 'the memory is also that of ' + tap.SANITIZE)
    else:
        tap.ok(kilobytes < 24 * 1024, 'the daemon takes less than 24 MiB') or tap.diag('%d kB' % kilobytes)
    tap.is_(oct(os.stat(d.runtime).st_mode & 0o7777), '0o711', 'the folder of sockets is for passing through, not for listing')
    again = tap.run([ovb.BACKUPD, '--config', d.conf], env={'STATE_DIRECTORY': d.state, 'RUNTIME_DIRECTORY': d.state + '.run'}, timeout=20)
    tap.ok(again.status == 1 and 'another virt-backupd (process ' in again.stderr, 'a second one with the same state is refused')
    tap.is_(d.stop(), 0, 'TERM ends it')
    runs, machines = d.ended(), d.rows('SELECT * FROM machines ORDER BY run')
    tap.ok(all(r['due'] % 2 == 0 and r['started'] >= r['due'] and r['reason'] in ('schedule', 'missed') for r in runs), 'each run was due, and not early')
    tap.is_(len({r['due'] for r in runs}), len(runs), 'each time once')
    tap.is_([(m['vm'], m['state'], bool(m['stored'])) for m in machines], [('small', 'succeeded', True)] * len(runs), 'what was done is recorded')
    tap.is_(sorted(m['point'] for m in machines), sorted(os.path.basename(p) for p in ovb.points(d.repo)), 'the points are those in the repository')
    with open(os.path.join(d.state, 'log', '%d.log' % runs[0]['id']), encoding='utf-8') as f:
        tap.like(f.read(), r'^\S+Z small@%s: full, ' % machines[0]['point'], 'the log of a run')
    d.quiet('stopped')


def test_stalled():
    d = Daemon('stalled', image=os.path.join('crawl', 'slow.img'), stall_timeout=2).start()
    wait_for(lambda: d.worker() and d.partials())
    stopped = d.worker()
    os.kill(stopped, signal.SIGSTOP)
    tap.ok(wait_for(lambda: d.ended('failed')), 'a worker that is stopped is noticed')
    tap.like(d.ended('failed')[0]['message'] or '', r'no sign of life for 2 s', 'and its run says so')
    tap.ok(not os.path.exists('/proc/%d' % stopped), 'it is gone')
    good = len(d.ended())
    tap.ok(wait_for(lambda: len(d.ended()) > good), 'the next run succeeds')
    tap.is_(d.stop(), 0, 'the daemon ends')
    d.quiet('after a stalled run')


def test_reload():
    d = Daemon('reloaded').start()
    wait_for(d.ended)
    with open(d.conf, 'a', encoding='utf-8') as f:
        f.write('nonsense = 1;\n')
    os.kill(d.child.pid, signal.SIGHUP)
    tap.ok(wait_for(lambda: 'stays in force' in d.said()), 'a wrong configuration is not taken')
    tap.like(d.said(), r'reloaded\.conf:\d+: nonsense: unknown key', 'what is wrong is said')
    good = len(d.ended())
    tap.ok(wait_for(lambda: len(d.ended()) > good), 'the old one, of which workers have a copy, goes on')
    d.configure(schedule='*-*-* 00:00:00', image='other.img')
    os.kill(d.child.pid, signal.SIGHUP)
    tap.ok(wait_for(lambda: 'again: 1 job' in d.said()), 'a good one is taken')
    tap.is_(d.rows('SELECT schedule FROM jobs'), [{'schedule': '*-*-* 00:00:00'}], 'and is in force')
    d.stop()


def test_group():
    """What the socket's group may do follows the configuration; which group that is needs a new daemon, and says so."""
    if os.geteuid() != 0:
        tap.skip(4, 'needs root')
        return
    os.chmod(tap.WORK, 0o755)
    os.chmod(os.path.dirname(tap.WORK), 0o755)
    shutil.copy(daemon.CTL, 'ctl')
    group = 'stop_timeout = 10; api_group = "nogroup"; api_group_acts = %s;'
    d = Daemon('grouped')
    d.configure(schedule='*-*-* 00:00:00', daemon=group % 'true')
    d.start()

    def pause():
        return tap.run(['setpriv', '--reuid', '65533', '--regid', '65533', '--groups', 'nogroup', './ctl', '--socket', d.socket, 'pause']).status

    tap.is_(pause(), 0, 'a member of the group acts')
    d.configure(schedule='*-*-* 00:00:00', daemon=group % 'false')
    os.kill(d.child.pid, signal.SIGHUP)
    tap.is_((wait_for(lambda: 'again: 1 job' in d.said()), pause()), (True, 1), 'and not any more, once a configuration was read that says so')
    d.configure(schedule='*-*-* 00:00:00')
    os.kill(d.child.pid, signal.SIGHUP)
    tap.ok(d.says('keeps the group that it was started with, though no api_group is configured any more: restart the daemon'), 'none is for the next start')
    d.configure(schedule='*-*-* 00:00:00', daemon=(group % 'true').replace('nogroup', 'root'))
    os.kill(d.child.pid, signal.SIGHUP)
    tap.ok(d.says('does not get api_group root: restart the daemon'), 'as another one is')
    d.stop()


def test_hard_kill():
    """A worker that hangs in a read that takes a minute sees no signal but the last one."""
    d = Daemon('hung', image=os.path.join('hang', 'slow.img'), stall_timeout=1, daemon='stop_timeout = 1;').start()
    tap.ok(wait_for(lambda: d.ended('failed')), 'a run that hangs is ended')
    tap.like(d.said(), 'does not end within stop_timeout: killed', 'by force, which is told')
    tap.like(d.ended('failed')[0]['message'] or '', r'no sign of life for 1 s', 'and is in the history')
    d.configure(schedule='*:*:0/2')
    os.kill(d.child.pid, signal.SIGHUP)
    tap.ok(wait_for(d.ended), 'the job goes on with another image')
    d.stop()
    d.quiet('after a run that hung')


def test_notify():
    """What systemd is told, over its own protocol."""
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.bind('notify.sock')
    s.settimeout(20)
    said = []

    def hear(word):
        while not any(word in text for text in said):
            try:
                said.append(s.recv(65536).decode())
            except socket.timeout:
                return False
        return True
    d = Daemon('notified', schedule='*-*-* 00:00:00').start(notify=os.path.abspath('notify.sock'))
    tap.ok(hear('READY=1') and any(re.search(r'STATUS=0 running; next at \d{4}-\d\d-\d\d 00:00:00', t) for t in said), 'systemd is told that it is ready, and what is next')
    tap.ok(hear('WATCHDOG=1'), 'and that it lives')
    os.kill(d.child.pid, signal.SIGHUP)
    tap.ok(hear('RELOADING=1\nMONOTONIC_USEC='), 'that it reads its configuration')
    del said[:]
    d.child.terminate()
    tap.ok(hear('STOPPING=1') and d.stop() == 0, 'and that it ends')
    s.close()


def test_damaged():
    d = Daemon('damaged').start()
    wait_for(d.ended)
    d.kill()
    with open(os.path.join(d.state, 'state.db'), 'r+b') as f:
        f.write(b'\xff' * 8192)
    for path in glob.glob(os.path.join(d.state, 'state.db-*')):
        os.unlink(path)
    d.start()
    tap.like(d.said(), r'set aside as \S+\.corrupt-\d{8}T\d{6}Z', 'a damaged database is set aside')
    tap.is_(len(glob.glob(os.path.join(d.state, 'state.db.corrupt-*'))), 1, 'and is there')
    tap.ok(wait_for(d.ended), 'the schedule goes on')
    d.stop()


def test_terminate():
    d = Daemon('term', image=os.path.join('crawl', 'slow.img')).start()
    wait_for(lambda: d.worker() and d.partials())
    tap.is_(d.stop(), 0, 'TERM while a run reads')
    [first] = [r for r in d.rows() if r['reason'] == 'schedule' and r['state'] == 'interrupted'][:1] or [None]
    tap.ok(first and 'the daemon was stopped' in first['message'], 'the run is given up')
    tap.is_([(r['state'], r['due']) for r in d.rows() if r['reason'] == 'retry'], [('queued', first['due'])] if first else None, 'and queued again')
    d.quiet('after TERM')
    d.start()
    tap.ok(wait_for(lambda: [r for r in d.ended() if r['reason'] == 'retry']), 'which the next start makes up for')
    d.stop()
    d.configure(image=os.path.join('crawl', 'slow.img'), daemon='on_stop = "finish"; stop_timeout = 60;')
    d.start()
    wait_for(lambda: d.worker() and d.partials())
    good = len(d.ended())
    tap.is_(d.stop(), 0, 'TERM with on_stop = "finish"')
    tap.ok(len(d.ended()) > good and d.rows()[-1]['state'] == 'succeeded', 'the run is finished first')
    tap.ok(wait_for(lambda: not d.worker(), 5), 'no worker is left')


def test_full():
    state = ovb.mount_tmpfs('tiny', 1 << 20)
    if not os.path.ismount(state):
        tap.skip(4, 'nothing can be mounted here')
        return
    d = Daemon('full', state=state).start()
    wait_for(d.ended)
    with open(os.path.join(state, 'ballast'), 'wb', buffering=0) as f:
        try:
            while f.write(b'x' * 512):
                pass
        except OSError:
            pass
    tap.ok(wait_for(lambda: 'go on in memory' in d.said()), 'a full state disk is told')
    good = d.said().count(' succeeded')
    tap.ok(wait_for(lambda: d.said().count(' succeeded') > good + 1), 'the schedule goes on')
    os.unlink(os.path.join(state, 'ballast'))
    tap.ok(wait_for(lambda: 'state.db again' in d.said()), 'the state returns to the disk when there is room')
    d.stop()
    tap.is_(len(d.ended()), d.said().count(' succeeded'), 'and nothing is missing in it')


images.make('mixed', 'small.img', size=1000001)
images.make('mixed', 'other.img', size=1000001)
os.makedirs('slow-source')
os.makedirs('crawl')
os.makedirs('hang')
images.make('full', 'slow-source/slow.img', size=2 << 20)
tap.mount_imagefs('--slow', CRAWL_MS, 'slow-source', 'crawl')
hanging = tap.mount_imagefs('--slow', HANG_MS, 'slow-source', 'hang')
for test in (test_schedule, test_stalled, test_hard_kill, test_notify, test_reload, test_group, test_damaged, test_terminate, test_full):
    test()
tap.done_testing()
