#!/usr/bin/python3 -B
"""A guest with UEFI and a TPM: its variables and its TPM's state come back with it."""
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import guest
import capture
import ovb
import tap

SWTPM = '/var/lib/libvirt/swtpm'
VARIABLE = '/sys/firmware/efi/efivars/Openvirt-12345678-1234-1234-1234-123456789abc'
host = guest.Host()


def tpm_state(uuid):
    """{file: bytes} of a domain's TPM."""
    found = {}
    for at, _, names in os.walk(os.path.join(SWTPM, uuid)):
        for name in names:
            if not name.startswith('.'):
                with open(os.path.join(at, name), 'rb') as f:
                    found[os.path.relpath(os.path.join(at, name), os.path.join(SWTPM, uuid))] = f.read()
    return found


def variable(vm):
    return vm.exec('mountpoint -q /sys/firmware/efi/efivars || mount -t efivarfs none /sys/firmware/efi/efivars; cat %s' % VARIABLE, check=False)[1]


vm = guest.Guest(host, 'uefi', [guest.Disk('vda', 'raw', system=True)], firmware='uefi', tpm=True, memory=512)
vm.boot()
vm.exec(r"mountpoint -q /sys/firmware/efi/efivars || mount -t efivarfs none /sys/firmware/efi/efivars; printf '\7\0\0\0openvirt' >%s" % VARIABLE)
tap.like(variable(vm), 'openvirt', 'a UEFI guest with a variable')
run = capture.once('uefi', quiesce='required')
tap.is_(run.status, 0, 'it is backed up while it runs') or tap.diag(run.said)
tap.is_(capture.faults(vm), [], 'nothing is left')
vm.kill()
run = capture.once('uefi')
tap.is_(run.status, 0, 'and shut off') or tap.diag(run.said)
state = tpm_state(vm.uuid)
tap.ok(state, 'its TPM has state')
nvram = vm.host.virsh('dumpxml', 'uefi').split('<nvram')[1].split('>')[1].split('<')[0]
with open(nvram, 'rb') as f:
    variables = f.read()
point = run.point
vm.destroy()
shutil.rmtree(os.path.join(SWTPM, vm.uuid), ignore_errors=True)
os.path.exists(nvram) and os.unlink(nvram)
os.makedirs(vm.folder)
os.chmod(vm.folder, 0o777)
r = tap.run([ovb.RESTORE, '--repository', ovb.repository_of(point), '--define', 'vm', ovb.spec(point)])
tap.is_(r.status, 0, 'lost, and restored as it was') or tap.diag(r.stderr)
with open(nvram, 'rb') as f:
    tap.ok(f.read() == variables, 'with its variables')
tap.is_(tpm_state(vm.uuid), state, "and its TPM's state")
back = guest.Guest.adopt(host, 'uefi', vm.folder)
back.boot()
tap.passed('it boots')
tap.like(variable(back), 'openvirt', 'and has its variable')
back.destroy()
tap.done_testing()
