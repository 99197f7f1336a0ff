#!/usr/bin/python3 -B
"""The daemon's worker hangs while it works on a guest: that is noticed and told, the run ends after stall_timeout, and its guest is as it was."""
import os
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import guest
import capture
import images
import ovb
import tap
from own_daemon import Daemon, wait_for

MIB = 1 << 20
STALL_S = 4
host = guest.Host()
vm = guest.Guest(host, 'web', [guest.Disk('vda', 'backed', system=True), guest.Disk('vdb', 'raw', size=32 * MIB)], agent='proxy')
content = os.path.join(guest.FILES, 'content.img')
images.make('full', content, size=32 * MIB)
guest.copy(content, vm.disks[1].path)
vm.start()
KEYS = {'exclude_disks': ['vda'], 'quiesce': 'required', 'quiesce_timeout': 8}


def job(method):
    return dict(name='job', connection=guest.Host.uri, domains=['web'], compression='zstd:1', capture=method, stall_timeout=STALL_S, schedule='2099-01-01', **KEYS)


def stop_at_freeze(pid):
    """As soon as the guest has been asked to freeze; the answer gets lost, so that there is time for it."""
    guest.wait_until(lambda: 'guest-fsfreeze-freeze' in vm.proxy.heard, 60, 0.005)
    os.kill(pid, signal.SIGSTOP)
    vm.proxy.set()


def stop_at_reading(pid):
    guest.wait_until(lambda: capture.reading(vm), 60, 0.005)
    os.kill(pid, signal.SIGSTOP)


def hang_at_reading(pid):
    """It cannot be woken up, only killed."""
    stop_at_reading(pid)

    def hold():
        try:
            while True:
                os.kill(pid, signal.SIGSTOP)
                time.sleep(0.0005)
        except ProcessLookupError:
            pass
    threading.Thread(target=hold, daemon=True).start()


def over(d):
    """No run is active, and nothing is being settled."""
    return not [r for r in d.rows() if r['state'] in ('queued', 'running')] and list(d.processes()) == [d.child.pid]


def test(method, name, hang, mode=None):
    name = '%s, %s' % (method, name)
    vm.proxy.set(on_freeze=mode)
    d = Daemon(name.replace(', ', '-').replace(' ', '-'), state=guest.STATE, runtime=capture.RUNTIME, repository=ovb.REPO, jobs=[job(method)],
               daemon='stop_timeout = 10;').start()
    done = len(d.rows())
    d.ctl('run', 'job')
    wait_for(lambda: d.worker('job'))
    worker = d.worker('job')
    hang(worker)
    tap.ok(wait_for(lambda: 'no sign of life for %d s (stall_timeout): it is ended' % STALL_S in d.said()), name + ': it is noticed')
    tap.ok(wait_for(lambda: over(d), 90), name + ': it is ended')
    [run] = d.rows()[done:]
    tap.is_((run['state'], 'no sign of life' in (run['message'] or '')), ('failed', True), name + ': the history says why')
    tap.like(d.ctl('status').stdout, r'no sign of life for %d s' % STALL_S, name + ': the status says it too')
    tap.is_(d.stop(), 0, name + ': the daemon ends')
    left = [f for f in capture.faults(vm) if '.partial' not in f]   # those are the next run's to remove
    tap.is_(left, [], name + ': the guest is as it was') or tap.diag(d.said())
    r = capture.once('web', capture=method, **KEYS)
    tap.is_(r.status, 0, name + ': the next backup works') or tap.diag(r.said)
    tap.is_(capture.faults(vm), [], name + ': and leaves nothing')


for method in 'backup', 'snapshot':
    test(method, 'stopped while the guest is frozen', stop_at_freeze, 'mute')
    test(method, 'stopped while it reads', stop_at_reading)
    test(method, 'hung while it reads', hang_at_reading)
tap.done_testing()
