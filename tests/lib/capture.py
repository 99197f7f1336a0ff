"""Backups of guests, after guest.py:

    run = capture.once('web', capture='snapshot')       one run over these domains, with any keys of a job
    run.status, run.said, run.points, run.manifest      how it ended, what it said, the new points, the (only) new point's manifest
    capture.restored(run.point, 'vda')                  the path of a raw image
    capture.faults(vm)                                  what it has left behind: []
"""
import glob
import os
import shutil
import signal
import subprocess
import threading
import time

import guest
import ovb
import tap

SCRATCH = os.path.join(guest.STATE, 'scratch')
JOURNAL = os.path.join(guest.STATE, 'journal')
RUNTIME = '/run/openvirt-backup'


def config(*names, repository=ovb.REPO, file='backupd.conf', **keys):
    job = {'name': 'job', 'connection': guest.Host.uri, 'domains': list(names), 'compression': 'zstd:1'}
    job.update(keys)
    return ovb.make_config(job, repository=repository, file=file)


class Run:
    """A run that is going on or has ended."""

    def __init__(self, *names, repository=ovb.REPO, env=None, **keys):
        self.repository = repository
        self.before = self._points()
        self.began = time.monotonic()
        self.status = self.said = self.took = None
        self.child = tap.start(ovb.once_command(config(*names, repository=repository, **keys), keys.get('name', 'job')), env=env, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def _points(self):
        return ovb.points(self.repository) if os.path.isdir(self.repository) else []

    def wait(self, timeout=300):
        try:
            out, _ = self.child.communicate(timeout=timeout)
            self.status = self.child.returncode
        except subprocess.TimeoutExpired:
            kill_all()
            out, _ = self.child.communicate()
        self.took = time.monotonic() - self.began
        self.said = out.decode(errors='replace')
        return self

    def slow(self, share=0.03):
        """Let it have only this share of the time, so that there is time for what a test does meanwhile."""
        def pace():
            while not self.paced.wait(0.1 * share):
                self._signal(signal.SIGSTOP)
                self.paced.wait(0.1 * (1 - share))
                self._signal(signal.SIGCONT)
        self.paced = threading.Event()
        self.pacer = threading.Thread(target=pace, daemon=True)
        self.pacer.start()
        return self

    def fast(self):
        self.paced.set()

    def hold(self):
        """Let one that is slow stand still; not for longer than half of what it waits for an answer (60 s)."""
        self.fast()
        self.pacer.join()
        self._signal(signal.SIGSTOP)

    def go_on(self):
        self._signal(signal.SIGCONT)

    def _signal(self, number):
        if self.running():
            self.child.send_signal(number)
        else:
            self.paced.set()

    def running(self):
        return self.child.poll() is None

    @property
    def points(self):
        return [p for p in self._points() if p not in self.before]

    @property
    def point(self):
        if len(self.points) != 1:
            raise guest.Failure('the run has made %d points, status %s: %s' % (len(self.points), self.status, self.said))
        return self.points[0]

    @property
    def manifest(self):
        return ovb.manifest(self.point)

    @property
    def notes(self):
        return ' '.join(self.manifest.get('notes', []))


def once(*names, meanwhile=None, slow=None, timeout=300, **keys):
    """A run, with something that happens while it goes on: meanwhile(run), in this thread; slow is the share of time that it gets."""
    run = Run(*names, **keys)
    if slow:
        run.slow(slow)
    if meanwhile is None:
        return run.wait(timeout)
    waiter = threading.Thread(target=run.wait, args=(timeout,))
    waiter.start()
    try:
        meanwhile(run)
    finally:
        if slow:
            run.fast()
        waiter.join()
    return run


def reconcile(env=None):
    return tap.run([ovb.BACKUPD, '--config', config('*', file='reconcile.conf'), '--reconcile'], env=env, timeout=120)


# What a run does to the guest, for tests that want to be there at that time.

def reading(vm):
    """A backup job, or an overlay, is there."""
    return 'None' not in vm.host.virsh('domjobinfo', vm.name, check=False).stdout or set(os.listdir(vm.folder)) != vm.files


def until_reading(vm, run, more=0.3):
    if not guest.wait_until(lambda: reading(vm) or not run.running(), 60, 0.02) or not run.running():
        raise guest.Failure('the run has ended, or does not begin to read')
    time.sleep(more)


# The programs, and what is left of them.

def processes():
    """The ids of our programs, the freeze guard and qemu-nbd among them: nobody else's are to be seen here."""
    found = []
    for link in glob.glob('/proc/[0-9]*/exe'):
        try:
            if os.path.basename(os.readlink(link)).split(' ')[0] in ('virt-backupd', 'qemu-nbd'):
                found.append(int(link.split('/')[2]))
        except OSError:     # it has just ended, or is a zombie
            pass
    return found


def kill_all():
    """As systemd does when the unit fails: the worker, its guard and its servers."""
    for pid in processes():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def guard_log():
    try:
        with open(os.path.join(guest.STATE, 'guard.log'), encoding='utf-8') as f:
            return f.read()
    except FileNotFoundError:
        return ''


def left(scratch=SCRATCH, repository=ovb.REPO):
    """Journals, scratch files, sockets, processes and half-made points."""
    found = ['left: ' + p for p in glob.glob(JOURNAL + '/*.json') + glob.glob(scratch + '/*') + glob.glob(RUNTIME + '/*')]
    found += ['left: ' + p for p in ovb.leftovers(repository)]
    found += ['still runs: %d' % pid for pid in processes()]
    return found


def stray_checkpoints(vm):
    """Those that no point of the guest names: a published point's checkpoint is kept for the next run, and of a guest that is off none can be deleted."""
    if vm.state() == 'shut off':
        return []
    named = {m.get('checkpoint') for m in map(ovb.manifest, ovb.points()) if m['vm'] == vm.name}
    stray = sorted(set(vm.checkpoints()) - named)
    return ['checkpoints: %s' % stray] if stray else []


def faults(vm, state='running', agent=True, **keys):
    return vm.clean(state=state, agent=agent, checkpoints=None) + stray_checkpoints(vm) + left(**keys)


def restored(point, target):
    out = os.path.abspath('restored-%s.img' % target)
    if os.path.exists(out):
        os.unlink(out)
    r = tap.run(ovb.restore_command(point, out, disk=target))
    if r.status != 0:
        raise guest.Failure('restoring %s of %s: %s' % (target, point, r.stderr))
    return out


def forget(repository=ovb.REPO):
    shutil.rmtree(repository, ignore_errors=True)
