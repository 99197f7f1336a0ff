#!/usr/bin/python3 -B
"""Guests that are shut off: allocated extents only, from raw, qcow2 with a backing file and an iSCSI disk; and guests that are started meanwhile."""
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import guest
import capture
import ovb
import images
import tap

MIB, GIB = 1 << 20, 1 << 30
host = guest.Host()
target = guest.Target('lun', 256 * MIB)


# Off.

def fill(path, fmt, at, size):
    """Random bytes in the middle of nowhere."""
    with open('/dev/urandom', 'rb') as f, open('pattern', 'wb') as out:
        out.write(f.read(size))
    guest.command('qemu-io', '-f', fmt, '-c', 'write -q -s pattern %d %d' % (at, size), path)


cdrom = "<disk type='file' device='cdrom'><source file='%s/empty.iso'/><target dev='sda' bus='sata'/><readonly/></disk>" % guest.FILES
transient = "<disk type='file' device='disk'><source file='%s/scratch.img'/><target dev='vdx' bus='virtio'/><transient/></disk>" % guest.FILES
readonly = "<disk type='file' device='disk'><source file='%s/scratch.img'/><target dev='vdy' bus='virtio'/><readonly/></disk>" % guest.FILES
for name in 'empty.iso', 'scratch.img':
    images.make('holes', os.path.join(guest.FILES, name), size=MIB)
off = guest.Guest(host, 'off', [guest.Disk('vda', 'raw', system=True), guest.Disk('vdb', 'backed', size=1 * GIB), guest.Disk('vdc', 'qcow2', size=3 * GIB),
                                target.disk('vdd')], devices=cdrom + transient + readonly)
fill(off.disks[1].path + '.base', 'raw', 100 * MIB, 2 * MIB)
fill(off.disks[1].path, 'qcow2', 101 * MIB, 2 * MIB)
fill(off.disks[2].path, 'qcow2', 2 * GIB, 3 * MIB)
fill(target.path, 'raw', 200 * MIB, 5 * MIB)
run = capture.once('off')
if tap.is_(run.status, 0, 'a guest that is shut off: exit status 0'):
    m = run.manifest
    tap.is_((m['capture'], m['consistency']), ('offline', 'offline'), 'the manifest tells method and consistency')
    tap.is_([d['target'] for d in m['disks']], ['vda', 'vdb', 'vdc', 'vdd'], 'raw, qcow2 over a backing file, qcow2, iSCSI')
    for skipped in r'sda \(a CD-ROM\)', r'vdx \(transient\)', r'vdy \(read-only\)':
        tap.like(run.notes, skipped, 'not backed up: ' + skipped)
    for disk, source, data in ((off.disks[0], off.disks[0].path, None), (off.disks[1], guest.raw_of(off.disks[1].path, 'qcow2'), 3 * MIB),
                               (off.disks[2], guest.raw_of(off.disks[2].path, 'qcow2'), 3 * MIB), (off.disks[3], target.path, 5 * MIB)):
        image = capture.restored(run.point, disk.target)
        name = '%s, %s: ' % (disk.target, disk.kind)
        tap.ok(images.same_content(source, image), name + 'restores to the same bytes')
        tap.ok(images.allocated(image) <= images.allocated(source) + MIB, name + 'and as thin')
        read = next(d['read'] for d in m['disks'] if d['target'] == disk.target)
        tap.ok(read <= (data or images.allocated(source)) + MIB, name + 'only what is allocated was read') or tap.diag('read %d' % read)
        os.unlink(image)
    r = tap.run([os.path.join(tap.BIN, 'virt-backupctl'), '--repository', os.path.abspath(ovb.REPO), 'verify', '--against-source', 'off@latest'])
    tap.is_([line.split()[2] for line in r.stdout.splitlines() if ' is what /' in line], ['vda', 'vdb', 'vdc'], 'verify --against-source: files, of each format')
    tap.like(r.stderr, r'disk vdd cannot be compared: .*iscsi', 'verify --against-source: no network disks')
else:
    tap.diag(run.said)
tap.is_(capture.faults(off, 'shut off'), [], 'nothing is left')
off.destroy()
capture.forget()


# Started while it is read: the run stands still meanwhile, so that it has not read all.

for kind in 'raw', 'backed':
    name = kind + ', started meanwhile: '
    vm = guest.Guest(host, kind, [guest.Disk('vda', kind, system=True)])
    took = []

    def start(run):
        guest.wait_until(lambda: ovb.leftovers() or not run.running(), 30, 0.01)
        run.child.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        vm.boot(wait=False)
        took.append(time.monotonic() - began)
        run.child.send_signal(signal.SIGCONT)

    run = capture.once(kind, quiesce='try', meanwhile=start)
    tap.is_(run.status, 0, name + 'exit status 0')
    tap.diag(run.said)
    tap.ok(took and took[0] < 5, name + 'the guest started at once')
    tap.like(run.said, 'started while its disks were read', name + 'the run noticed')
    if run.status == 0:
        tap.is_(run.manifest['capture'], 'backup', name + 'and backed up the running guest')
        if kind == 'raw':
            tap.ok(tap.run(['e2fsck', '-fp', capture.restored(run.point, 'vda')]).status in (0, 1), name + 'its file system comes back')
    tap.is_(capture.faults(vm, agent=False), [], name + 'nothing is left')
    vm.destroy()
    capture.forget()

# A job that wants it shut off leaves it alone.
vm = guest.Guest(host, 'pinned', [guest.Disk('vda', 'backed', system=True)]).start()
run = capture.once('pinned', capture='offline')
tap.ok(run.status == 1 and not run.points, 'capture = "offline" and a running guest: exit status 1, no point')
tap.like(run.said, r'pinned: .*offline', 'it says why')
tap.is_(capture.faults(vm), [], 'and does nothing to the guest')
tap.done_testing()
