#!/usr/bin/python3 -B
"""Running guests that write without pause, by each method: what was synced before the moment is there, the file system is clean, and all disks are of
one moment.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import guest
import capture
import ovb
import images
import tap

MIB = 1 << 20
METHODS = 'backup', 'snapshot'
host = guest.Host()


# One disk, raw or qcow2.

def check_moment(vm, method, kind):
    name = '%s, %s: ' % (kind, method)
    synced = vm.synced()
    run = capture.once(vm.name, capture=method, quiesce='required')
    if not tap.is_(run.status, 0, name + 'exit status 0'):
        tap.diag(run.said)
        return
    m = run.manifest
    tap.is_((m['capture'], m['consistency']), (method, 'quiesced'), name + 'the manifest tells method and consistency')
    tap.ok(0 < m['freeze_ms'] < 10000, name + 'and how long it was frozen')
    tap.diag('frozen for %d ms' % m['freeze_ms'])
    tap.is_(capture.faults(vm), [], name + 'the guest is as before, and nothing is left')
    tap.ok(vm.synced() > synced, name + 'it went on writing')
    tap.is_(ovb.verify(run.point).status, 0, name + 'the point verifies')
    image = capture.restored(run.point, 'vda')
    tap.is_(guest.filesystem_faults(image), [], name + 'the restored file system is clean')
    tap.is_(guest.written_files(image, synced), [], name + 'with all files that were synced before')
    tap.ok(images.allocated(image) <= images.allocated(vm.disks[0].path) + 16 * MIB, name + 'and it is as thin')
    m['synced'] = synced
    os.unlink(image)


for kind in 'raw', 'qcow2':
    vm = guest.Guest(host, kind, [guest.Disk('vda', kind, system=True)]).start()
    vm.writer_start()
    for method in METHODS:
        check_moment(vm, method, kind)
    tap.is_(vm.io_errors(), '', kind + ': no write failed')
    vm.destroy()
    capture.forget()


# Several disks, one of which is left out.

three = guest.Guest(host, 'three', [guest.Disk('vda', 'backed', system=True), guest.Disk('vdb', 'qcow2', size=48 * MIB), guest.Disk('vdc', 'raw', size=80 * MIB),
                                    guest.Disk('vdd', 'raw', size=16 * MIB)]).start()
three.spawn('mark', 'exec writer mark /dev/vdb /dev/vdc')
one = guest.Guest(host, 'one', [guest.Disk('vda', 'raw', size=4 * MIB)]).boot(wait=False)
for method in METHODS:
    name = 'three disks, %s: ' % method
    run = capture.once('*', capture=method, exclude_disks=['three/vdd'], quiesce='try')
    tap.is_(run.status, 0, name + 'exit status 0') or tap.diag(run.said)
    tap.is_(sorted(os.path.basename(os.path.dirname(p)) for p in run.points), ['one', 'three'], name + 'each of two guests has its point')
    point = next((p for p in run.points if '/three/' in p), None)
    if point:
        m = ovb.manifest(point)
        tap.is_([d['target'] for d in m['disks']], ['vda', 'vdb', 'vdc'], name + 'three of four disks')
        tap.like(' '.join(m['notes']), r'vdd \(excluded\)', name + 'a note names the fourth')
        marks = guest.command(guest.WRITER, 'marks', capture.restored(point, 'vdb'), capture.restored(point, 'vdc'))
        a, b = map(int, marks.split())
        tap.ok(a > 10 and 0 <= a - b <= 1, name + 'one moment')
        tap.diag('marks %d %d' % (a, b))
        tap.is_([os.path.getsize('restored-%s.img' % t) for t in ('vdb', 'vdc')], [48 * MIB, 80 * MIB], name + 'of their sizes')
        tap.is_(guest.filesystem_faults(capture.restored(point, 'vda')), [], name + 'and the system disk is clean')
    tap.is_(capture.faults(three), [], name + 'nothing is left')
    one_manifest = next((ovb.manifest(p) for p in run.points if '/one/' in p), {})
    tap.is_(one_manifest.get('consistency'), 'crash-consistent', name + 'the guest that has no system is crash-consistent')
tap.is_(three.io_errors(), '', 'three disks: no write failed')

# Of two guests, one fails.
run = capture.once('*', capture='backup', exclude_disks=['three/*'], quiesce='never')
tap.ok(run.status == 1 and len(run.points) == 1, 'one guest fails, the other one has its point, exit status 1')
tap.like(run.said, r'three: .*no disk to back up', 'the one that failed is named')
r = capture.once('nobody')
tap.ok(r.status == 1 and 'no domain that matches' in r.said, 'a job that matches no domain says so')
tap.unlike(tap.run(['ldd', ovb.RESTORE]).stdout, 'libvirt', 'virt-restore is not linked to libvirt')
tap.done_testing()
