#!/usr/bin/python3 -B
"""Whole machines come back: they boot, their agent answers, and every file that was synced before the backup is intact."""
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import guest
import capture
import ovb
import tap

MIB = 1 << 20
host = guest.Host()
tap.unlike(tap.run(['ldd', ovb.RESTORE]).stdout, 'libvirt', 'virt-restore is not linked to libvirt')


def restore_vm(point, *options):
    r = tap.run([ovb.RESTORE, '--repository', ovb.repository_of(point), *options, 'vm', ovb.spec(point)])
    return r


def lost(vm, backups=()):
    """A bad day: the domain and its disks are gone."""
    vm.destroy(disks=False)
    for disk in vm.disks:
        os.unlink(disk.path)


# Both are backed up, both are lost, both come back: one as it was, one as another machine.
guests, points, synced = {}, {}, {}
for kind, method in ('raw', 'backup'), ('qcow2', 'snapshot'):
    vm = guests[kind] = guest.Guest(host, kind, [guest.Disk('vda', kind, system=True), guest.Disk('vdb', 'qcow2' if kind == 'raw' else 'raw', size=16 * MIB)]).start()
    vm.exec('echo marker | dd of=/dev/vdb conv=fsync 2>/dev/null')
    vm.writer_start()
    synced[kind] = vm.synced()
    run = capture.once(kind, capture=method, quiesce='required')
    if not tap.is_(run.status, 0, '%s, %s: backed up' % (kind, method)):
        tap.diag(run.said)
    points[kind] = run.point
    lost(vm)
uuids = {kind: vm.uuid for kind, vm in guests.items()}

os.mkdir(guest.FILES + '/copy')
os.chmod(guest.FILES + '/copy', 0o777)
r = restore_vm(points['raw'], '--name', 'copy', '--directory', guest.FILES + '/copy', '--dry-run')
tap.is_((r.status, os.listdir(guest.FILES + '/copy')), (0, []), '--dry-run writes nothing') or tap.diag(r.stderr)
r = restore_vm(points['raw'], '--name', 'copy', '--directory', guest.FILES + '/copy', '--define', '--start')
tap.is_(r.status, 0, 'raw: restored under another name, defined and started') or tap.diag(r.stderr)
r = restore_vm(points['qcow2'], '--define', '--start')
tap.is_(r.status, 0, 'qcow2: restored as it was, defined and started') or tap.diag(r.stderr)
for kind, name in ('raw', 'copy'), ('qcow2', 'qcow2'):
    back = guest.Guest.adopt(host, name, guest.FILES + '/' + name)
    back.wait_for_agent(180)
    tap.passed(kind + ': it boots, and its agent answers')
    tap.like(back.exec('writer check /data %d' % synced[kind], check=False, timeout=120)[1], ' bad 0 missing 0', kind + ': all files are there')
    tap.is_(back.exec('head -c 6 /dev/vdb'), 'marker', kind + ': its second disk too')
    xml = back.live_xml()
    formats = {d.find('target').get('dev'): d.find('driver').get('type') for d in xml.iter('disk')}
    tap.is_(formats, {'vda': kind, 'vdb': 'qcow2' if kind == 'raw' else 'raw'}, kind + ': its disks have the formats that they had')
    tap.is_(xml.findtext('uuid') == uuids[kind], kind == 'qcow2', kind + (': its UUID is its own' if kind == 'qcow2' else ': its UUID is another'))
    tap.is_(back.io_errors(), '', kind + ': no error')
    run = capture.once(name, quiesce='required')
    tap.is_(run.status, 0, kind + ': it can be backed up again') or tap.diag(run.said)
    back.destroy()
tap.done_testing()
