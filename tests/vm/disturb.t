#!/usr/bin/python3 -B
"""What happens to guests and to libvirt while they are backed up: the guest never gets an error, the run ends with a clear message, nothing is left."""
import glob
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import guest
import capture
import images
import ovb
import tap

MIB = 1 << 20
METHODS = 'backup', 'snapshot'
host = guest.Host()
content = os.path.join(guest.FILES, 'content.img')
images.make('full', content, size=32 * MIB)
vm = guest.Guest(host, 'web', [guest.Disk('vda', 'backed', system=True), guest.Disk('vdb', 'raw', size=32 * MIB)], agent='proxy')
guest.copy(content, vm.disks[1].path)
vm.start()
KEYS = {'exclude_disks': ['vda'], 'quiesce': 'try', 'quiesce_timeout': 5}


def disturbed(method, what):
    def meanwhile(run):
        disturbed.run = run
        capture.until_reading(vm, run)
        what()
        if not run.running():
            tap.diag('it ended before')
        time.sleep(1)
    capture.forget()        # all is read
    run = capture.once('web', capture=method, meanwhile=meanwhile, slow=0.03, **KEYS)
    tap.diag('%.1f s, exit status %s: %s' % (run.took, run.status, run.said))
    return run


def check(run, name, state='running', says=None):
    """It ended well, or said why not."""
    tap.ok(run.status in (0, 1) and len(run.points) == 1 - run.status, name + ': a point, or exit status 1')
    if run.status == 0:
        tap.ok(images.same_content(capture.restored(run.point, 'vdb'), content), name + ': its point is the moment')
    elif says:
        tap.like(run.said, 'web: .*(%s)' % says, name + ': it says why')
    tap.ok(run.took < 90, name + ': it ends in time')
    if state == 'running':
        vm.wait_for_agent(120)
    if state != 'rebooting':
        tap.is_(capture.faults(vm, state), [], name + ': nothing is left')


def next_works(name):
    run = capture.once('web', **KEYS)
    tap.is_(run.status, 0, name + ': the next backup works') or tap.diag(run.said)


for method, kill in ('backup', False), ('backup', True), ('snapshot', True):
    name = '%s, libvirtd %s' % (method, 'killed' if kill else 'restarted')
    check(disturbed(method, lambda k=kill: host.restart_libvirtd(k)), name, says='libvirt|job|connection')
    next_works(name)
for method in METHODS:
    name = method + ', guest destroyed'
    check(disturbed(method, vm.kill), name, 'shut off', says='shut off|does not run|not running|ended')
    vm.start()
    next_works(name)
name = 'snapshot, guest reset'
check(disturbed('snapshot', lambda: host.virsh('reset', 'web')), name)
name = 'backup, guest rebooted'
check(disturbed('backup', vm.reboot), name, says='restarted|job', state='rebooting')
vm.wait_for_agent(300)      # an emulated guest goes down and comes up slowly, the more so on a busy machine
tap.is_(capture.faults(vm, 'running'), [], name + ': nothing is left')
name = 'backup, guest shut down'
check(disturbed('backup', vm.shutdown), name, 'shut off', says='shut off|ended')
vm.start()
name = 'backup, its job aborted by somebody'


def abort():
    """A reader that stands still when its job is ended can make QEMU 7.2 stand still too: so this one does not."""
    disturbed.run.fast()
    host.virsh('domjobabort', 'web', check=False)


check(disturbed('backup', abort), name, says='aborted')
name = 'snapshot, paused and resumed by somebody'
check(disturbed('snapshot', lambda: (host.virsh('suspend', 'web'), time.sleep(1), host.virsh('resume', 'web'))), name)

# Somebody else's backup job: it is not ours to end, and no reason to freeze the guest.
with open('theirs.xml', 'w', encoding='utf-8') as f:
    f.write("<domainbackup mode='pull'><server transport='unix' socket='%s/theirs'/><disks><disk name='vda' backup='no'/><disk name='vdb' backup='yes' type='file'>"
            "<scratch file='%s/theirs'/></disk></disks></domainbackup>" % (guest.SOCKETS, guest.FILES))
host.virsh('backup-begin', 'web', 'theirs.xml')
vm.proxy.set()
vm.proxy.frozen_at = None
run = capture.once('web', **dict(KEYS, quiesce='required'))
tap.ok(run.status == 1 and not run.points, "somebody else's backup job: exit status 1")
tap.diag('%.1f s: %s' % (run.took, run.said))
frozen = vm.proxy.thawed_at - vm.proxy.frozen_at if vm.proxy.frozen_at else 0
tap.ok(frozen < 2, "somebody else's backup job: the guest is not frozen while ours waits for it (%.1f s)" % frozen)
tap.ok('None' not in host.virsh('domjobinfo', 'web'), "somebody else's backup job: it goes on")
host.virsh('domjobabort', 'web')
tap.is_(capture.faults(vm), [], "somebody else's backup job: nothing of ours is left")

# A disk that comes and goes between runs.
new = guest.Disk('vdc', 'qcow2', size=8 * MIB)
new.make(vm.folder, None)
vm.files = set(os.listdir(vm.folder))
vm.attach(new.xml())
run = capture.once('web', **KEYS)
tap.is_([d['target'] for d in run.manifest['disks']], ['vdb', 'vdc'], 'a disk was plugged in: it is backed up')
run = capture.once('web', capture='snapshot', **KEYS)
tap.is_([d['target'] for d in run.manifest['disks']], ['vdb', 'vdc'], 'a disk was plugged in, snapshot: it is backed up')
vm.attach(new.xml(), 'detach-device')
guest.wait_until(lambda: 'vdc' not in vm.disk_sources())
run = capture.once('web', **KEYS)
tap.is_([d['target'] for d in run.manifest['disks']], ['vdb'], 'and pulled out: it is not')
tap.is_(vm.clean(checkpoints=None) + capture.left(), [], 'nothing is left')
tap.is_(vm.io_errors(), '', 'the guest never got an error')
vm.destroy()


# Scratch space that fills at full speed.

vm = guest.Guest(host, 'web', [guest.Disk('vda', 'backed', system=True), guest.Disk('vdb', 'raw', size=512 * MIB), guest.Disk('vdc', 'raw', size=32 * MIB)]).start()
guest.copy(content, vm.disks[2].path)
vm.exec('writer fill /dev/vdb %d 0 & sleep 20; kill $!' % (512 * MIB))
vm.spawn('fill', 'exec writer fill /dev/vdb %d' % (512 * MIB))
written = images.allocated(vm.disks[1].path)
tap.diag('%d MiB written' % (written // MIB))
fast = {'quiesce': 'try', 'quiesce_timeout': 30, 'compression': 'xz:9', 'exclude_disks': ['vda']}
run = capture.once('web', scratch_max='64M', **fast)
tap.diag(run.said)
tap.ok(run.status == 1 and not run.points, 'scratch_max is reached: exit status 1')
tap.like(run.said, r'web: .*scratch_max.*the backup was aborted', 'it says why')
tap.is_(capture.faults(vm), [], 'nothing is left')
tap.is_(vm.io_errors(), '', 'the guest got no error')

small = os.path.join(guest.FILES, 'small')
os.mkdir(small)
subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=340m,mode=755', 'none', small], check=True)
run = capture.once('web', scratch=small, **fast)
tap.diag(run.said)
tap.ok(run.status == 1 and not run.points, 'the file system of the scratch files fills: exit status 1')
tap.like(run.said, r'web: .*%s.*free' % small, 'it says why')
tap.is_(capture.faults(vm, scratch=small), [], 'nothing is left')
tap.is_(vm.io_errors(), '', 'the guest got no error')
with open(small + '/other', 'wb') as f:
    f.write(bytes(200 * MIB))
run = capture.once('web', scratch=small, **fast)
tap.ok(run.status == 1 and not run.points, 'no room for scratch files to begin with: exit status 1')
tap.like(run.said, r'web: .*%s.*free' % small, 'it says why')
os.unlink(small + '/other')

# The same while the place of the backups hangs: what is not written there must not be waited for before the backup is aborted.
for folder in 'hung', 'hung.mnt':
    os.mkdir(folder)
fs = tap.mount_imagefs('hung', 'hung.mnt')
run = capture.Run('web', repository='hung.mnt/repo', scratch_max='400M', **dict(fast, compression='zstd:1'))
guest.wait_until(lambda: any(os.path.getsize(f) > 4 * MIB for f in glob.glob('hung/repo/web/*/disks*')) or not run.running(), 60, 0.01)
tap.ok(run.running(), 'the repository hangs: in the middle of a run')
fs.send_signal(signal.SIGSTOP)
began = time.monotonic()
tap.ok(guest.wait_until(lambda: 'None' in host.virsh('domjobinfo', 'web', check=False, timeout=10).stdout, 60, 0.2), 'the repository hangs: the backup is aborted')
tap.diag('after %.1f s' % (time.monotonic() - began))
before = vm.exec('cat /proc/diskstats | grep vdb')
time.sleep(1)
tap.ok(vm.exec('cat /proc/diskstats | grep vdb') != before, 'the repository hangs: the guest goes on writing')
tap.is_(vm.io_errors(), '', 'the repository hangs: the guest got no error')
fs.send_signal(signal.SIGCONT)
run.wait(60)
tap.diag(run.said)
tap.ok(run.status == 1 and not run.points, 'the repository is back: exit status 1')
tap.like(run.said, 'web: .*scratch_max', 'the repository is back: it says why')
tap.is_(capture.faults(vm, repository='hung/repo'), [], 'the repository is back: nothing is left')
tap.stop(fs)
vm.end('fill')


# The place of the backups fails or fills.

def target(option, name, says):
    os.makedirs('store', exist_ok=True)
    os.makedirs('mnt', exist_ok=True)
    fs = tap.mount_imagefs(*option, 'store', 'mnt')
    for method in METHODS:
        run = capture.once('web', repository='mnt/repo', capture=method, **dict(fast, exclude_disks=['vd[ab]'], compression='zstd:1'))
        tap.ok(run.status == 1 and not run.points, '%s, %s: exit status 1' % (name, method))
        tap.like(run.said, 'web: .*' + says, '%s, %s: it says why' % (name, method))
        tap.is_(capture.faults(vm), [], '%s, %s: nothing is left' % (name, method))
    tap.stop(fs)


target(['--enospc-after', '2000000'], 'the repository is full', 'has .* free, and about .* will be needed: make room')
target(['--eio-write', '2000000'], 'the repository fails', 'Input/output error')
os.mkdir('tiny')
subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=8m', 'none', 'tiny'], check=True)
run = capture.once('web', repository='tiny/repo', **dict(fast, exclude_disks=['vd[ab]']))
tap.ok(run.status == 1 and not run.points, 'no room in the repository: exit status 1')
tap.like(run.said, r'web: .*tiny/repo has .* free', 'no room in the repository: it says so')
run = capture.once('web', **dict(fast, exclude_disks=['vd[ab]']))
tap.is_(run.status, 0, 'at the end a backup works') or tap.diag(run.said)
tap.is_(capture.faults(vm), [], 'nothing is left')
tap.is_(vm.io_errors(), '', 'the guest never got an error')
tap.done_testing()
