#!/usr/bin/python3 -B
"""The harness itself: what the other tests here rely on, done by hand with virsh."""
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import guest
import images
import tap

MIB = 1 << 20
host = guest.Host()
target = guest.Target('lun', 64 * MIB)
vm = guest.Guest(host, 'raw', [guest.Disk('vda', 'raw', system=True), guest.Disk('vdb', 'qcow2'), target.disk('vdc')]).start()

tap.is_(vm.state(), 'running', 'a guest runs')
tap.like(vm.exec('uname -s'), 'Linux', 'its agent runs programs')
tap.is_(vm.exec('exit 3', check=False)[0], 3, 'and tells how they end')
tap.is_(host.virsh('dumpxml', 'raw').count("type='kvm'"), 0, 'its processor is emulated')
tap.is_(vm.clean(), [], 'nothing is wrong with it')
vm.exec('writer fill /dev/vdc %d & sleep 1; kill $!' % (8 * MIB))
tap.ok(MIB <= images.allocated(target.path) <= 16 * MIB, 'its iSCSI disk is thin')


# A backup in pull mode, while files are written.

def pull(name, scratch, socket):
    xml = "<domainbackup mode='pull'><server transport='unix' socket='%s'/><disks>%s</disks></domainbackup>" % (
        socket, ''.join("<disk name='%s' backup='yes' type='file'><scratch file='%s.%s'/></disk>" % (d, scratch, d) for d in ('vda', 'vdb')))
    with open('backup.xml', 'w', encoding='utf-8') as f:
        f.write(xml)
    return host.virsh('backup-begin', name, 'backup.xml')


vm.writer_start()
synced = vm.synced()
host.virsh('domfsfreeze', 'raw')
tap.ok(vm.frozen(), 'it can be frozen')
tap.ok('the guest is frozen' in vm.clean(), 'which counts as a fault')
sock, scratch = guest.SOCKETS + '/nbd', os.path.join(guest.FILES, 'scratch')
pull('raw', scratch, sock)
host.virsh('domfsthaw', 'raw')
tap.ok(not vm.frozen(), 'and thawed')
faults = ' '.join(vm.clean())
tap.ok('a job' in faults and 'query-block-exports' in faults, 'a backup job counts as a fault')
for disk in 'vda', 'vdb':
    guest.command('nbdcopy', 'nbd+unix:///%s?socket=%s' % (disk, sock), disk + '.copy')
host.virsh('domjobabort', 'raw')
tap.is_(vm.clean(), [], 'nothing is left of it')
tap.is_(guest.filesystem_faults('vda.copy'), [], 'the copy of a raw disk is a clean file system')
tap.is_(guest.written_files('vda.copy', synced), [], 'with all files that were synced before')
tap.ok(guest.written_files('vda.copy', synced + 1000) != [], 'a file that is not there is missed')
tap.ok(images.same_content('vdb.copy', guest.raw_of(vm.disks[1].path, 'qcow2')), 'the copy of a qcow2 disk is its content')
os.unlink('vda.copy')

# An external snapshot, committed back.
before = vm.disk_sources()
host.virsh('snapshot-create-as', 'raw', 's', '--disk-only', '--no-metadata', '--quiesce', '--diskspec', 'vda,file=%s/overlay' % vm.folder,
           '--diskspec', 'vdb,snapshot=no', '--diskspec', 'vdc,snapshot=no')
faults = ' '.join(vm.clean())
tap.ok('overlay' in faults and 'the disks are' in faults, 'an overlay counts as a fault')
host.virsh('blockcommit', 'raw', 'vda', '--active', '--wait', '--pivot')
os.unlink(vm.folder + '/overlay')
tap.is_(vm.clean(), [], 'a commit with pivot takes it away')

# libvirtd comes and goes, the guest stays.
for kill in False, True:
    host.restart_libvirtd(kill)
    tap.is_(vm.clean(), [], 'libvirtd was %s: the guest is as before' % ('killed' if kill else 'restarted'))
tap.ok(vm.synced() > synced, 'its writer goes on')
tap.is_(vm.io_errors(), '', 'without an error')

# A guest whose agent misbehaves.
proxied = guest.Guest(host, 'proxied', [guest.Disk('vda', 'backed', system=True)], agent='proxy').start()
proxied.proxy.set(after_freeze='silent')
host.virsh('domfsfreeze', 'proxied')
r = proxied.agent_command('guest-fsfreeze-thaw', timeout=1, check=False)
tap.ok(r.status != 0, 'an agent that goes silent after a freeze')
proxied.proxy.set()
tap.ok(proxied.frozen(), 'comes back, and the guest is frozen')
host.virsh('domfsthaw', 'proxied')
proxied.proxy.set(on_freeze='mute')
r = proxied.agent_command('guest-fsfreeze-freeze', timeout=1, check=False)
proxied.proxy.set()
tap.ok(r.status != 0 and proxied.frozen(), 'an agent that freezes and does not say so')
host.virsh('domfsthaw', 'proxied')
for mode in 'refuse', 'garbage', 'silent':
    proxied.proxy.set(mode)
    r = proxied.agent_command('guest-fsfreeze-freeze', timeout=1, check=False)
    proxied.proxy.set()
    if mode == 'garbage':           # libvirt does not talk to such an agent again
        host.restart_libvirtd()
    tap.ok(r.status != 0 and not proxied.frozen(), mode + ': an agent that does not freeze')
proxied.proxy.set(delay=1)
began = time.monotonic()
proxied.agent_command('guest-ping')
tap.ok(time.monotonic() - began > 1, 'an agent that is late')
proxied.proxy.set()
proxied.agent_dies(comes_back=1)
host.virsh('domfsfreeze', 'proxied')
tap.ok(guest.wait_until(lambda: proxied.agent_command('guest-ping', check=False).status != 0), 'an agent that freezes and dies')
proxied.wait_for_agent(30)
tap.ok(proxied.frozen(), 'is back: the guest is still frozen')
host.virsh('domfsthaw', 'proxied')
tap.is_(proxied.clean(), [], 'and thaws')
proxied.destroy()

none = guest.Guest(host, 'none', [guest.Disk('vda', 'qcow2', system=True)], agent='none').start()
tap.ok(none.agent_command('guest-ping', check=False).status != 0, 'a guest without an agent')
tap.is_(none.clean(), [], 'runs')
none.destroy()

# From cold, and what is on the disk after that.
vm.writer_stop()
last = vm.synced()
vm.shutdown()
tap.is_(vm.clean('shut off'), [], 'a guest shuts down')
tap.is_(guest.filesystem_faults(vm.disks[0].path), [], 'and leaves a clean file system')
tap.is_(guest.written_files(vm.disks[0].path, last), [], 'with its files')
began = time.monotonic()
vm.boot()
tap.diag('booted in %.1f s' % (time.monotonic() - began))
tap.like(vm.exec('writer check /data %d' % last), 'bad 0 missing 0', 'it boots, and finds them itself')
vm.destroy()
child = tap.start([guest.WRITER, 'run', 'data'])
guest.wait_until(lambda: os.path.exists('data/00000/00000009'))
tap.stop(child)
with open('data/00000/00000002', 'r+b') as f:
    f.seek(100)
    f.write(b'x')
os.unlink('data/00000/00000003')
tap.like(tap.run([guest.WRITER, 'check', 'data', '8']).stdout, 'bad 1 missing 1', 'one that was changed or lost is found')
tap.is_(host.domains('--all'), [], 'all guests are gone')
tap.is_(subprocess.run(['pgrep', '-c', 'qemu-system'], stdout=subprocess.PIPE, check=False).stdout, b'0\n', 'and their processes')
tap.done_testing()
