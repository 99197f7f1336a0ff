#!/usr/bin/python3 -B
"""AppArmor: libvirt's profile keeps a QEMU from the socket and the scratch files of a backup, and what we ship for the administrator lets it at them, and at no
more.  In a guest with Debian's kernel, which has AppArmor; in the place of QEMU there is a small program under the same profile."""
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import guest
import tap

PARSER, EXEC = '/sbin/apparmor_parser', '/usr/bin/aa-exec'
TEMPLATE = '/etc/apparmor.d/libvirt/TEMPLATE.qemu'
for needed in PARSER, EXEC, TEMPLATE:
    if not os.path.exists(needed):
        tap.skip_all(needed + ' is not here')
LOCAL = '/etc/apparmor.d/local/abstractions/libvirt-qemu'
RUN, SCRATCH = '/run/openvirt-backup/web', '/var/lib/openvirt-backup/scratch/web'

host = guest.Host()
for path in PARSER, EXEC, os.path.join(tap.TOP, 'packaging', 'examples', 'apparmor-libvirt-qemu'):
    os.makedirs('tree', exist_ok=True)
    shutil.copy(path, 'tree')
shutil.copytree('/etc/apparmor.d', 'tree/apparmor.d')
# libvirt's profile for a guest, with the right to run what stands for QEMU.
with open(TEMPLATE, encoding='utf-8') as f:
    profile = f.read().replace('LIBVIRT_TEMPLATE', 'a-guest')
end = profile.rindex('}')
with open('tree/a-guest', 'w', encoding='utf-8') as f:
    f.write(profile[:end] + '  /{,usr/}bin/** rmix,\n  /{,usr/}lib/** rm,\n}\n')
files = os.path.join(guest.FILES, 'files.img')
with open(files, 'wb') as f:
    f.truncate(32 * guest.MIB)
guest.command('mkfs.ext4', '-q', '-d', 'tree', files)
os.chmod(files, 0o666)
vm = guest.Guest(host, 'apparmor', [guest.Disk('vda', 'raw', system=True), guest.Disk('vdb', 'raw', path=files)]).start()
vm.exec('mkdir -p /aa && mount /dev/vdb /aa && cp -a /aa/apparmor.d /etc/ && mkdir -p %s %s /run/other && : >%s' % (RUN, SCRATCH, LOCAL))
if vm.exec('cat /sys/module/apparmor/parameters/enabled', check=False)[1].strip() != 'Y':
    tap.skip_all("the guest's kernel has no AppArmor")


def load():
    """The profile, as libvirt loads it for a guest that is started."""
    r = vm.exec('/aa/apparmor_parser --replace --skip-cache --base /etc/apparmor.d /aa/a-guest', check=False, timeout=180)
    tap.is_(r[0], 0, 'the profile is loaded') or tap.diag(r[1])


def confined(*words):
    """The exit status of a program under the profile, and what it says."""
    return vm.exec('/aa/aa-exec -p a-guest -- ' + ' '.join(words), check=False)


def listens(path):
    """Whether it can make a socket, as QEMU does to export disks."""
    said = vm.exec('rm -f %s; timeout 5 /aa/aa-exec -p a-guest -- /usr/bin/systemd-socket-activate -l %s /usr/bin/true & '
                   'for i in $(seq 40); do test -S %s && break; sleep 0.1; done; test -S %s; s=$?; wait; exit $s' % (path, path, path, path), check=False)
    tap.diag(said[1].strip())
    return said[0] == 0


def writes(path):
    status, said = confined('/usr/bin/dd if=/dev/zero of=%s bs=512 count=1 status=none' % path)
    tap.diag(said.strip())
    return status == 0


load()
tap.ok(not listens(RUN + '/nbd'), "libvirt's profile alone: no socket, so no backup of a running guest")
tap.ok(not writes(SCRATCH + '/vda'), 'and no scratch file')
vm.exec('cat /aa/apparmor-libvirt-qemu >>' + LOCAL)
load()
tap.ok(listens(RUN + '/nbd'), 'with what we ship: the socket')
tap.ok(writes(SCRATCH + '/vda'), 'and scratch files')
tap.ok(not listens('/run/other/nbd') and not writes('/var/lib/openvirt-backup/state.db'), 'and nothing else')
tap.done_testing()
