#!/usr/bin/python3 -B
"""Agents that are not there, do not answer, lie, or die: with quiesce = "try" the backup is made in time and says what it is worth, with "required" it
fails in time, and either way the guest runs on, thawed; or somebody goes on trying.
"""
import contextlib
import os
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import guest
import capture
import tap

TIMEOUT = 2         # quiesce_timeout
IN_TIME = 25        # seconds: two answers that do not come, and a small disk
host = guest.Host()


def back_up(vm, quiesce, method='backup', **keys):
    """Only a small second disk."""
    return capture.once(vm.name, capture=method, quiesce=quiesce, quiesce_timeout=TIMEOUT, exclude_disks=['vda'], **keys)


def check_try(vm, name, why, method='backup', agent=True):
    run = back_up(vm, 'try', method)
    name += ', try: '
    if tap.is_(run.status, 0, name + 'exit status 0'):
        tap.is_(run.manifest['consistency'], 'crash-consistent', name + 'crash-consistent')
        tap.like(run.notes, why, name + 'a note says why')
    else:
        tap.diag(run.said)
    tap.ok(run.took < IN_TIME, name + 'in time (%.1f s)' % run.took)
    return run


def check_required(vm, name, why, method='backup'):
    run = back_up(vm, 'required', method)
    name += ', required: '
    tap.ok(run.status == 1 and not run.points, name + 'exit status 1, no point')
    tap.like(run.said, why, name + 'it says why')
    tap.ok(run.took < IN_TIME, name + 'in time (%.1f s)' % run.took)
    return run


def check_both(vm, name, why, agent=True, before=None):
    for check, method in (check_try, 'backup'), (check_required, 'snapshot'):
        if before:
            before()
        check(vm, '%s, %s' % (name, method), why, method)
        if vm.proxy:
            vm.proxy.set()
        tap.is_(capture.faults(vm, agent=agent), [], '%s, %s: nothing is left' % (name, method))


def disks():
    return [guest.Disk('vda', 'backed', system=True), guest.Disk('vdb', 'raw', size=8 << 20)]


# None, and one that is stopped.

none = guest.Guest(host, 'none', disks(), agent='none').start()
check_both(none, 'no agent', 'no channel for a guest agent', agent=False)
none.destroy()

vm = guest.Guest(host, 'proxied', disks(), agent='proxy').start()
vm.spawn('stop', 'sleep 1; exec systemctl stop qemu-guest-agent')
guest.wait_until(lambda: vm.agent_command('guest-ping', timeout=1, check=False).status != 0)
check_both(vm, 'agent stopped', 'no guest agent is connected', agent=False)
vm.kill()
vm.start()

# One that is well, for comparison.
run = back_up(vm, 'required')
tap.ok(run.status == 0 and run.manifest['consistency'] == 'quiesced', 'an agent that is well: quiesced') or tap.diag(run.said)
tap.ok('guest-fsfreeze-freeze' in vm.proxy.heard and 'guest-fsfreeze-thaw' in vm.proxy.heard, 'it was frozen and thawed')
vm.proxy.set()
run = back_up(vm, 'never')
tap.ok(run.status == 0 and run.manifest['consistency'] == 'crash-consistent', 'quiesce = "never": crash-consistent') or tap.diag(run.said)
tap.ok(not [c for c in vm.proxy.heard if 'freeze' in c], 'its agent was not asked to freeze')
run = back_up(vm, 'required', no_quiesce=['prox*'])
tap.ok(run.status == 0 and not [c for c in vm.proxy.heard if 'freeze-freeze' in c], 'no_quiesce: not frozen')

# One that does not answer at all; one that refuses; one that is slow, within its time and beyond.
check_both(vm, 'agent silent', r'does not answer|not responding', before=lambda: vm.proxy.set('silent'))
check_both(vm, 'agent refuses', 'the test refuses', before=lambda: vm.proxy.set('refuse'))
vm.proxy.set(delay=0.5)
run = back_up(vm, 'required')
vm.proxy.set()
tap.ok(run.status == 0 and run.manifest['consistency'] == 'quiesced' and run.manifest['freeze_ms'] >= 500, 'an agent that is late: quiesced') or tap.diag(run.said)
tap.is_(capture.faults(vm), [], 'an agent that is late: nothing is left')


def check_guard(vm, name, run, comes_back):
    """The guest is frozen and its agent away; the run has ended, the guard has not."""
    name += ': '
    tap.ok(run.took < IN_TIME, name + 'the run ends in time (%.1f s)' % run.took)
    tap.like(run.said, r'may be frozen.*guard', name + 'it says that the guest may be frozen')
    tap.ok(capture.processes(), name + 'the guard goes on')
    tap.ok(guest.wait_until(lambda: re.search('ALERT|could not be thawed', capture.guard_log()), 40), name + 'it alarms')
    tap.is_(vm.state(), 'running', name + 'the guest is not paused')
    comes_back()
    tap.ok(guest.wait_until(lambda: vm.agent_command('guest-ping', timeout=2, check=False).status == 0, 80), name + 'the agent is back')
    tap.ok(guest.wait_until(lambda: not vm.frozen(), 20), name + 'and the guest is thawed')
    tap.ok(guest.wait_until(lambda: not capture.processes(), 20), name + 'the guard ends')
    tap.like(capture.guard_log(), 'is thawed', name + 'and says so')
    r = capture.reconcile()
    tap.is_(r.status, 0, name + '--reconcile has nothing to say against it') or tap.diag(r.stderr)
    tap.is_(capture.faults(vm), [], name + 'nothing is left')
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(guest.STATE, 'guard.log'))


# One that freezes and does not say so; one that freezes, says so, and is not heard of again; with each method.
for name, quiesce, method, rule in (
        ('freezes and does not say so, try, backup', 'try', 'backup', dict(on_freeze='mute')),
        ('freezes and is silent, required, snapshot', 'required', 'snapshot', dict(after_freeze='silent'))):
    vm.proxy.set(**rule)
    run = back_up(vm, quiesce, method)
    if quiesce == 'try':
        tap.ok(run.status in (0, 1) and (run.status == 1 or run.manifest['consistency'] == 'crash-consistent'), name + ': its point claims no more than it is')
    else:
        tap.ok(run.status == 1 and not run.points, name + ': exit status 1, no point')
    tap.diag(run.said)
    check_guard(vm, name, run, vm.proxy.set)

# One that freezes and really dies, and comes back.
# Its time limits hold on an idle machine only, which an emulated guest's agent needs to come back in time: why, is not found out yet.  The same is
# seen with an agent that the test speaks for, above, and in tests/fake.
if os.environ.get('OVB_AGENT_DIES'):
    vm.agent_dies(comes_back=40)
    vm.proxy.set(delay=0.5)
    run = back_up(vm, 'try')
    vm.proxy.set()
    tap.diag(run.said)
    if run.status == 0:
        tap.ok(run.manifest['consistency'] in ('crash-consistent', 'quiesced'), 'freezes and dies: the point has a grade')
    check_guard(vm, 'freezes and dies', run, lambda: None)
else:
    tap.skip(1, 'the real agent freezes and dies: OVB_AGENT_DIES=1 on an idle machine')

# libvirtd goes away while the guest is frozen, and comes back.
vm.proxy.set(delay=1.5)
run = capture.Run(vm.name, quiesce='try', quiesce_timeout=5, exclude_disks=['vda'])
guest.wait_until(lambda: 'guest-fsfreeze-freeze' in vm.proxy.heard, 20, 0.01)
time.sleep(1)
host.kill_libvirtd()
vm.proxy.set()
time.sleep(10)
tap.ok(capture.processes(), 'libvirtd is away: somebody waits')
host.start_libvirtd()
run.wait(120)
tap.diag(run.said)
tap.ok(guest.wait_until(lambda: not vm.frozen(), 30), 'libvirtd is back: the guest is thawed')
tap.ok(guest.wait_until(lambda: not capture.processes(), 30), 'libvirtd is back: all end')
capture.reconcile()
tap.is_(capture.faults(vm), [], 'libvirtd is back: nothing is left')

# One that answers with nonsense: libvirt does not talk to it again.
vm.proxy.set('garbage')
run = back_up(vm, 'try')
vm.proxy.set()
tap.ok(run.status == 0 or 'may be frozen' in run.said, 'agent answers with nonsense: exit status 0, or it says that the guest may be frozen')
tap.is_(run.manifest['consistency'], 'crash-consistent', 'agent answers with nonsense: crash-consistent')
tap.ok(run.took < IN_TIME, 'agent answers with nonsense: in time')
tap.unlike(run.said, r'[^\n -~]', 'agent answers with nonsense: which does not reach the terminal')
host.restart_libvirtd()
tap.ok(guest.wait_until(lambda: not capture.processes(), 30), 'agent answers with nonsense: no guard is left')
capture.reconcile()
tap.is_(capture.faults(vm), [], 'agent answers with nonsense: nothing is left')
run = back_up(vm, 'required')
tap.ok(run.status == 0 and run.manifest['consistency'] == 'quiesced', 'and the next backup is quiesced') or tap.diag(run.said)
tap.done_testing()
