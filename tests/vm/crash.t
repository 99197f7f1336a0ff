#!/usr/bin/python3 -B
"""Killed at each durable step of each method, alone or with all that it started, and at any time: after reconciliation, or the next run, the guest runs
on its own images, not frozen, without overlay, scratch, job or checkpoint, and backups work.
"""
import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import guest
import capture
import images
import ovb
import tap

MIB = 1 << 20
LOG, COUNTER = (os.path.join(tap.WORK, name) for name in ('steps.log', 'steps.count'))
host = guest.Host()
vm = guest.Guest(host, 'web', [guest.Disk('vda', 'backed', system=True), guest.Disk('vdb', 'raw', size=8 * MIB), guest.Disk('vdc', 'qcow2', size=8 * MIB)]).start()
vm.exec('writer fill /dev/vdb %d & sleep 1; kill $!; writer fill /dev/vdc %d & sleep 1; kill $!; sync' % (8 * MIB, 8 * MIB))
KEYS = {'exclude_disks': ['vda'], 'quiesce': 'required', 'quiesce_timeout': 5}
rng = random.Random(4)


def run(method, **env):
    for path in LOG, COUNTER:
        if os.path.exists(path):
            os.unlink(path)
    return capture.once('web', capture=method, timeout=60, env=tap.preload_die(STEP_LOG=LOG, STEP_COUNTER=COUNTER, **env) if env else None, **KEYS)


def steps():
    with open(LOG, encoding='utf-8') as f:
        return [line.split(' ', 2)[1:] for line in f.read().splitlines()]


def settle(how, method):
    """Returns what is wrong afterwards."""
    if how == 'tree':
        capture.kill_all()
        r = capture.reconcile()
        if r.status != 0:
            return ['--reconcile: exit status %s: %s' % (r.status, r.stderr)]
    elif not guest.wait_until(lambda: not capture.processes(), 40):
        return ['the guard does not end']
    wrong = []
    if how == 'worker':
        again = run(method)
        wrong = [] if again.status == 0 else ['the next run: exit status %s: %s' % (again.status, again.said)]
    if how == 'tree':
        wrong += [f for f in capture.faults(vm) if '.partial' not in f]     # the next run's to remove
    else:
        wrong += capture.faults(vm)
    return wrong


def report(wrong, name):
    tap.ok(not wrong, name)
    for w in wrong[:8]:
        tap.diag(w)


# At each step.

def test_steps(method):
    run(method)             # the repository and all folders are there then, and the numbers stay the same
    tap.is_(run(method, DIE_UNDER='/').status, 0, method + ': a run under the library')
    log = steps()
    # What is done to the guest is written in the journal, and to the places of overlays, scratch files and sockets; the repository has its own test.
    places = guest.STATE, capture.RUNTIME, vm.folder
    chosen = [n for n, line in enumerate(log, 1) if line[1].startswith(places) and (line[0] != 'mkdir' or line not in log[:n - 1])]
    chosen += [n for n, line in enumerate(log, 1) if not line[1].startswith(places) and line[0] != 'mkdir'][::6]
    wrong, died = [], 0
    for i, n in enumerate(sorted(chosen)):
        r = run(method, DIE_UNDER='/', DIE_AT=str(n))
        died += r.status == -9
        for how in ('tree',) if i % 2 else ('worker',):
            wrong += ['step %d, %s, %s: %s' % (n, ' '.join(log[n - 1]), how, f) for f in settle(how, method)]
        if wrong:       # each of the steps that follow would tell the same
            break
    tap.ok(died > len(chosen) // 2, '%s: killed at %d of %d steps' % (method, died, len(log)))
    report(wrong, method + ': all is settled after each')
    for line in log:
        tap.diag(' '.join(line)) if wrong else None
    recover(method)


def recover(method):
    """Whatever the last test left."""
    capture.kill_all()
    capture.reconcile()
    r = run(method)
    tap.is_(r.status, 0, method + ': the next backup works') or tap.diag(r.said)
    for disk in vm.disks[1:]:
        if r.status == 0:
            tap.ok(images.same_content(guest.raw_of(disk.path, disk.format), capture.restored(r.point, disk.target)), method + ': with the content of ' + disk.target)


# At any time.

def test_kills(method):
    took = run(method).took
    wrong = []
    for i in range(12):
        r = capture.Run('web', capture=method, **KEYS)
        time.sleep(rng.uniform(0, took * 1.1))
        r.child.kill()
        how = 'tree' if i % 2 else 'worker'
        if how == 'tree':
            capture.kill_all()
        r.wait()
        wrong += ['kill %d, %s: %s' % (i, how, f) for f in settle(how, method)]
    report(wrong, method + ': killed at any time, all is settled')
    recover(method)


for method in 'backup', 'snapshot':
    test_steps(method)
    test_kills(method)


# Between the crash and the reconciliation, more happens.

def crash_with_overlay():
    """Killed, with its tree, as soon as the guest runs on overlays."""
    r = capture.Run('web', capture='snapshot', **dict(KEYS, quiesce='never'))
    guest.wait_until(lambda: not {d.path for d in vm.disks} & set(list(vm.disk_sources().values())[1:]) or not r.running(), 20, 0)
    capture.kill_all()
    r.wait()
    return set(os.listdir(vm.folder)) - vm.files


def crash_in_job():
    r = capture.Run('web', capture='backup', **KEYS)
    guest.wait_until(lambda: any(os.listdir(d) for d in [capture.SCRATCH] if os.path.isdir(d)) or not r.running(), 20, 0.005)
    capture.kill_all()
    r.wait()


overlays = crash_with_overlay()
tap.ok(overlays, 'killed while the guest runs on overlays')
vm.exec('printf after-the-crash | dd of=/dev/vdb bs=512 seek=8 conv=fsync 2>/dev/null')
vm.kill()
r = capture.reconcile()
tap.is_(r.status, 0, 'then shut off: reconciled') or tap.diag(r.stderr)
tap.is_([f for f in capture.faults(vm, 'shut off') if '.partial' not in f], [], 'then shut off: on its images, no overlay')
with open(vm.disks[1].path, 'rb') as f:
    f.seek(8 * 512)
    tap.is_(f.read(15), b'after-the-crash', 'then shut off: what it wrote to the overlay is in its image')
vm.start()

tap.ok(crash_with_overlay(), 'killed while the guest runs on overlays')
host.restart_libvirtd()
r = capture.reconcile()
tap.is_(r.status, 0, 'then libvirtd restarted: reconciled') or tap.diag(r.stderr)
tap.is_([f for f in capture.faults(vm) if '.partial' not in f], [], 'then libvirtd restarted: nothing is left')

crash_in_job()
host.restart_libvirtd(kill=True)
r = capture.reconcile()
tap.is_(r.status, 0, 'killed in a backup job, then libvirtd: reconciled') or tap.diag(r.stderr)
tap.is_([f for f in capture.faults(vm) if '.partial' not in f], [], 'killed in a backup job, then libvirtd: nothing is left')

crash_in_job()
vm.kill()
r = capture.reconcile()
tap.is_(r.status, 0, 'killed in a backup job, then shut off: reconciled') or tap.diag(r.stderr)
tap.is_([f for f in capture.faults(vm, 'shut off') if '.partial' not in f], [], 'killed in a backup job, then shut off: nothing is left')
tap.done_testing()
