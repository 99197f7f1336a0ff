"""Real guests under a real libvirtd, after tap.py.  A test begins with

    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
    import guest                                        # before tap: it runs the test again in namespaces of its own
    import tap

    host = guest.Host()                                 # virtlogd and libvirtd
    vm = guest.Guest(host, 'web', [guest.Disk('vda', 'raw', system=True)])
    vm.start()                                          # 2 s: a guest that was booted once is brought back with its memory
    vm.exec('uname -r')                                 # through the guest's agent
    vm.clean()                                          # what is wrong with it now: []

The test and all that it starts live in process, mount and network namespaces of their own.  There, /run, libvirt's folders and 127.0.0.1 are the test's,
so that libvirtd can be killed without harm to anybody's guests; and when the test ends, however it does, nothing that it started survives.
/dev/kvm is out of sight: all guests run on an emulated processor.

The guest itself is made by tests/vm/build-guest in $OVB_BUILD/vm (or $OVB_VM), and so is its memory after the first boot, in the folder "warm" there.
Files that QEMU must reach lie in FILES, sockets in SOCKETS.
"""
import atexit
import base64
import contextlib
import fcntl
import hashlib
import json
import os
import pwd
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid
import xml.etree.ElementTree as ET

NAMESPACE = 'OVB_NAMESPACE'
SOCKETS = '/run/ovb'
GUEST_FILES = SOCKETS + '/guest'        # the build's folder, where QEMU's user can reach it
AGENT = 'org.qemu.guest_agent.0'
MIB, GIB = 1 << 20, 1 << 30


# Namespaces.

def enter_namespaces():
    """Run this test again, in its own world."""
    if 'tap' in sys.modules:
        raise RuntimeError('import guest before tap')
    if os.geteuid() != 0:
        print('1..0 # SKIP guests need root', flush=True)
        sys.exit(0)
    os.environ[NAMESPACE] = '1'
    os.execvp('unshare', ['unshare', '--mount', '--net', '--pid', '--fork', '--kill-child', '--mount-proc', '--propagation', 'private',
                          sys.executable, '-B', os.path.abspath(__file__), os.path.abspath(sys.argv[0]), *sys.argv[1:]])


def first_process(command):
    """What the new world begins with: its mounts, the test, and a parent for orphans."""
    def sh(*words):
        subprocess.run(words, check=True)
    sh('mount', '--make-rshared', '/')      # within this world: what a test mounts, its QEMUs see
    sh('mount', '-t', 'tmpfs', '-o', 'mode=755', 'none', '/run')
    for folder in ('/run/lock', SOCKETS, GUEST_FILES):
        os.makedirs(folder)
    os.chmod(SOCKETS, 0o777)
    if os.path.exists('/dev/kvm'):      # what QEMU's user can open, libvirt would probe for again and again
        os.mknod('/run/kvm', 0o020000, os.makedev(1, 3))
        sh('mount', '--bind', '/run/kvm', '/dev/kvm')
    sh('mount', '-t', 'tmpfs', 'none', '/etc/libvirt/qemu')
    sh('ip', 'link', 'set', 'lo', 'up')
    test = os.fork()
    if test == 0:
        os.execv(sys.executable, [sys.executable, '-B', *command])
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda n, _: os.kill(test, n))
    while True:
        pid, status = os.wait()
        if pid == test:
            sys.exit(os.waitstatus_to_exitcode(status) & 0xff)


if __name__ == '__main__':
    first_process(sys.argv[1:])
if NAMESPACE not in os.environ:
    enter_namespaces()

import tap      # noqa: E402  # pylint: disable=wrong-import-position

VM_BUILD = os.path.realpath(os.environ.get('OVB_VM') or os.path.join(tap.BUILD, 'vm'))
WRITER = os.path.join(GUEST_FILES, 'writer')
FILES = os.path.join(tap.WORK, 'vm')
OWN = os.path.dirname(tap.WORK)         # what the harness keeps, out of the tests' way
STATE = '/var/lib/openvirt-backup'


def wait_until(condition, seconds=30, step=0.05):
    """The condition's value as soon as it is true, or its last value when the time is up."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value or time.monotonic() > deadline:
            return value
        time.sleep(step)


def prepare():
    """The folders that all tests need."""
    os.chmod(OWN, 0o711)
    os.chmod(tap.WORK, 0o711)
    os.mkdir(FILES)
    os.chmod(FILES, 0o777)
    def bind(source, target, owner=0, mode=0o755):
        os.makedirs(source, exist_ok=True)
        os.chown(source, owner, owner)
        os.chmod(source, mode)
        os.makedirs(target, exist_ok=True)
        subprocess.run(['mount', '--bind', source, target], check=True)
    bind(os.path.join(OWN, 'libvirt'), '/var/lib/libvirt')
    bind(os.path.join(OWN, 'log'), '/var/log/libvirt')
    bind(os.path.join(OWN, 'swtpm'), '/var/lib/swtpm-localca', mode=0o777)
    bind(os.path.join(OWN, 'state'), STATE, mode=0o711)
    bind(os.path.join(VM_BUILD, 'cache'), '/var/cache/libvirt')
    bind(VM_BUILD, GUEST_FILES)
    for name in ('qemu', 'swtpm', 'images'):
        os.makedirs('/var/lib/libvirt/' + name, exist_ok=True)
        os.chmod('/var/lib/libvirt/' + name, 0o711)
    qemu = pwd.getpwnam('libvirt-qemu')
    os.chown('/var/lib/libvirt/qemu', qemu.pw_uid, qemu.pw_gid)


class Failure(Exception):
    """A command of the harness failed."""


def command(*words, timeout=120, **kwargs):
    """Run a program that must succeed; returns what it prints."""
    r = tap.run(list(words), timeout=timeout, **kwargs)
    if r.status != 0:
        raise Failure('%s: status %s: %s%s' % (' '.join(words), r.status, r.stdout[-2000:], r.stderr[-2000:]))
    return r.stdout


# libvirt.

class Host:
    """virtlogd and libvirtd of this test."""

    uri = 'qemu:///system'

    def __init__(self):
        prepare()
        self.virtlogd = tap.start(['virtlogd'], stderr=self.log('virtlogd'))
        self.libvirtd = None
        self.start_libvirtd()

    @staticmethod
    def log(name):
        return open(os.path.join(OWN, name + '.log'), 'ab')

    def start_libvirtd(self):
        self.libvirtd = tap.start(['libvirtd'], stderr=self.log('libvirtd'))
        if not wait_until(lambda: self.answers() or self.libvirtd.poll() is not None, 60) or self.libvirtd.poll() is not None:
            with open(os.path.join(OWN, 'libvirtd.log'), encoding='utf-8', errors='replace') as f:
                raise Failure('libvirtd does not start: ' + f.read()[-2000:])

    def answers(self):
        return os.path.exists('/run/libvirt/libvirt-sock') and tap.run(['virsh', '-q', '-c', self.uri, 'list'], timeout=30).status == 0

    def stop_libvirtd(self):
        tap.stop(self.libvirtd)

    def kill_libvirtd(self):
        self.libvirtd.kill()
        tap.stop(self.libvirtd)

    def restart_libvirtd(self, kill=False):
        (self.kill_libvirtd if kill else self.stop_libvirtd)()
        self.start_libvirtd()

    def faults(self):
        """That libvirtd has died, which is then started again."""
        if self.libvirtd.poll() is None:
            return []
        status = self.libvirtd.poll()
        self.start_libvirtd()
        return ['libvirtd has died: exit status %s' % status]

    def virsh(self, *words, check=True, timeout=120):
        """What virsh prints; with check=False tap's Result."""
        words = ['virsh', '-q', '-c', self.uri, *map(str, words)]
        return command(*words, timeout=timeout).strip() if check else tap.run(words, timeout=timeout)

    def domains(self, *options):
        return self.virsh('list', '--name', *options).split()


# Disks.

class Disk:
    """A disk of a guest.  kind: raw, qcow2, backed (a qcow2 over a raw backing file) or iscsi; system: with the guest's operating system in it,
    else empty and of this size.  A path that exists is used as it is (then kind is only its format)."""

    def __init__(self, target, kind='raw', system=False, size=64 * MIB, path=None, xml='', iqn=None):
        self.target, self.kind, self.system, self.size, self.path, self.extra, self.iqn = target, kind, system, size, path, xml, iqn

    @property
    def format(self):
        return 'raw' if self.kind in ('raw', 'iscsi') else 'qcow2'

    @property
    def source(self):
        return self.iqn + '/1' if self.kind == 'iscsi' else self.path

    def make(self, folder, base):
        if self.kind == 'iscsi' or (self.path and os.path.exists(self.path)):
            return
        self.path = self.path or os.path.join(folder, '%s.%s' % (self.target, 'img' if self.kind == 'raw' else 'qcow2'))
        if self.kind == 'raw' and self.system:
            copy(base, self.path)
        elif self.kind == 'raw':
            with open(self.path, 'wb') as f:
                f.truncate(self.size)
        elif self.kind == 'backed':
            if not self.system:
                base = self.path + '.base'
                with open(base, 'wb') as f:
                    f.truncate(self.size)
            command('qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', base, self.path)
        elif self.system:
            command('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', base, self.path)
        else:
            command('qemu-img', 'create', '-q', '-f', 'qcow2', self.path, str(self.size))
        os.chmod(self.path, 0o666)

    def xml(self):
        if self.kind == 'iscsi':
            kind, source = 'network', "<source protocol='iscsi' name='%s/1'><host name='127.0.0.1' port='3260'/></source>" % self.iqn
        else:
            kind, source = 'file', "<source file='%s'/>" % self.path
        return ("<disk type='%s' device='disk'><driver name='qemu' type='%s' discard='unmap'/>%s<target dev='%s' bus='virtio'/>%s</disk>"
                % (kind, self.format, source, self.target, self.extra))


def copy(source, target):
    """A copy with the same holes."""
    command('cp', '--sparse=always', '--reflink=auto', source, target)


def raw_of(path, fmt='raw'):
    """The path of a raw image with the same content."""
    if fmt == 'raw':
        return path
    out = os.path.join(tap.WORK, os.path.basename(path) + '.raw')
    command('qemu-img', 'convert', '-U', '-f', fmt, '-O', 'raw', path, out)
    return out


def filesystem_faults(path):
    """What is wrong with the file system of a raw image that begins with it; it is not written to."""
    r = tap.run(['e2fsck', '-fn', path])
    faults = [] if r.status == 0 else ['e2fsck: status %s: %s' % (r.status, r.stdout + r.stderr)]
    if 'needs_recovery' in command('dumpe2fs', '-h', path):
        faults.append('needs_recovery is set')
    return faults


def written_files(path, wanted, folder='/data'):
    """Check the writer's files in a raw image: each up to the wanted number must be there.  Returns the faults."""
    out = os.path.join(tap.WORK, 'rdump')
    shutil.rmtree(out, ignore_errors=True)
    os.mkdir(out)
    command('debugfs', '-R', 'rdump %s %s' % (folder, out), path)
    r = tap.run([WRITER, 'check', os.path.join(out, os.path.basename(folder)), str(wanted)])
    shutil.rmtree(out)
    return [] if r.status == 0 else [r.stdout + r.stderr]


# The agent's go-between.

class AgentProxy:
    """Stands between libvirt and the agent: both QEMU and libvirt connect to its socket.  It hands on what they say, unless its mode is another:

    pass        hand on
    silent      libvirt's words are lost
    mute        the guest hears libvirt, but its answers are lost
    refuse      each freeze is answered with an error
    garbage     each freeze is answered with what is no JSON
    Or rules: after_freeze='silent' changes to that mode as soon as a freeze was answered, on_freeze=... as soon as one was asked for (which still reaches
    the guest, its answer does not in mode mute).  delay: seconds before each word of the guest is handed on.
    """

    def __init__(self, path):
        self.path, self.mode, self.delay, self.on_freeze, self.after_freeze = path, 'pass', 0, None, None
        self.heard = []                 # the names of libvirt's commands
        self.frozen_at = self.thawed_at = None      # when it was last asked to freeze, and first to thaw after that
        self.ends = {}
        self.answers_to_freeze = 0
        self.lock = threading.Lock()
        self.listener = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self.listener.bind(path)
        os.chmod(path, 0o666)
        self.listener.listen(8)
        threading.Thread(target=self._accept, daemon=True).start()

    def set(self, mode='pass', delay=0, on_freeze=None, after_freeze=None):
        with self.lock:
            self.mode, self.delay, self.on_freeze, self.after_freeze = mode, delay, on_freeze, after_freeze
            self.heard = []

    def drop_libvirt(self):
        """The agent is gone, as libvirt sees it."""
        self._close('libvirt')

    def _close(self, side):
        end = self.ends.pop(side, None)
        if end:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self):
        while True:
            end, _ = self.listener.accept()
            pid = struct.unpack('3i', end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
            with open('/proc/%d/comm' % pid, encoding='utf-8') as f:
                side = 'guest' if f.read().startswith('qemu') else 'libvirt'
            self._close(side)
            self.ends[side] = end
            threading.Thread(target=self._carry, args=(side, end), daemon=True).start()

    def _carry(self, side, end):
        pending = b''
        while True:
            try:
                data = end.recv(65536)
            except OSError:
                data = b''
            if not data:
                if self.ends.get(side) is end:
                    self._close(side)
                return
            pending += data
            while b'\n' in pending:
                line, pending = pending.split(b'\n', 1)
                (self._from_libvirt if side == 'libvirt' else self._from_guest)(line + b'\n')

    def _send(self, side, data):
        end = self.ends.get(side)
        if end:
            with contextlib.suppress(OSError):
                end.sendall(data)

    def _from_libvirt(self, line):
        m = re.search(rb'"execute"\s*:\s*"([^"]+)"', line)
        name = m[1].decode() if m else '?'
        freeze = name.startswith('guest-fsfreeze-freeze')
        with self.lock:
            self.heard.append(name)
            if freeze:
                self.frozen_at, self.thawed_at = time.monotonic(), None
            elif name == 'guest-fsfreeze-thaw' and self.thawed_at is None:
                self.thawed_at = time.monotonic()
            mode = self.mode
            if freeze and self.on_freeze:
                self.mode = self.on_freeze
                mode = self.mode if self.mode not in ('mute',) else mode
        if mode == 'silent':
            return
        if freeze and mode in ('refuse', 'garbage'):
            self._send('libvirt', b'{"error": {"class": "GenericError", "desc": "the test refuses"}}\n' if mode == 'refuse' else
                       b'{"return": [[[[ \xff\xfe nonsense\n')
            return
        self.freezing = freeze
        self._send('guest', line)

    freezing = False

    def _from_guest(self, line):
        with self.lock:
            mode, delay = self.mode, self.delay
            answered = self.freezing and b'"return"' in line
            if answered:
                self.freezing = False
                self.answers_to_freeze += 1
        if delay:
            time.sleep(delay)
        if mode in ('silent', 'mute'):
            return
        self._send('libvirt', line)
        if answered and self.after_freeze:
            with self.lock:
                self.mode = self.after_freeze


# iSCSI.

class Target:
    """An iSCSI target with one thin LUN over a sparse file; disk() is the guest's disk on it."""

    def __init__(self, name, size):
        self.iqn = 'iqn.2026-01.test.openvirt:' + name
        self.path = os.path.join(FILES, name + '.lun')
        with open(self.path, 'wb') as f:
            f.truncate(size)
        self.daemon = tap.start(['tgtd', '-f', '--iscsi', 'portal=127.0.0.1:3260'], stdout=subprocess.DEVNULL, stderr=Host.log('tgtd'))
        atexit.register(self.daemon.kill)       # it does not end at SIGTERM while it has a target
        if not wait_until(lambda: tap.run(['tgtadm', '--lld', 'iscsi', '--op', 'show', '--mode', 'target']).status == 0, 20):
            raise Failure('tgtd does not answer')
        def admin(*words):
            command('tgtadm', '--lld', 'iscsi', *words)
        admin('--op', 'new', '--mode', 'target', '--tid', '1', '-T', self.iqn)
        admin('--op', 'new', '--mode', 'logicalunit', '--tid', '1', '--lun', '1', '-b', self.path)
        admin('--op', 'update', '--mode', 'logicalunit', '--tid', '1', '--lun', '1', '--params', 'thin_provisioning=1')
        admin('--op', 'bind', '--mode', 'target', '--tid', '1', '-I', 'ALL')

    @property
    def url(self):
        return 'iscsi://127.0.0.1:3260/%s/1' % self.iqn

    def disk(self, target):
        return Disk(target, 'iscsi', iqn=self.iqn)


# Guests.

class Guest:
    """A domain.  agent: real, proxy (real, behind AgentProxy; self.proxy) or none.  firmware: bios or uefi.  The folder holds its disks and nothing else."""

    used = False        # its system disk has been written to

    def __init__(self, host, name, disks, agent='real', firmware='bios', memory=384, tpm=False, define=True, folder=None, devices=''):
        self.host, self.name, self.disks, self.agent, self.firmware, self.memory, self.tpm = host, name, disks, agent, firmware, memory, tpm
        self.devices = devices
        self.uuid = str(uuid.UUID(hashlib.sha256(name.encode()).hexdigest()[:32]))
        self.folder = folder or os.path.join(FILES, name)
        os.makedirs(self.folder, exist_ok=True)
        os.chmod(self.folder, 0o777)
        self.proxy = AgentProxy(os.path.join(SOCKETS, name + '.agent')) if agent == 'proxy' else None
        base = os.path.join(GUEST_FILES, 'base.img') if not define else os.path.join(warm(host), 'base.img')
        for disk in disks:
            disk.make(self.folder, base)
        self.files = set(os.listdir(self.folder))
        if define:
            self.define()

    @classmethod
    def adopt(cls, host, name, folder):
        """A domain that another program has defined."""
        self = cls.__new__(cls)
        self.host, self.name, self.folder, self.proxy, self.agent, self.disks = host, name, folder, None, 'real', []
        self.files = set(os.listdir(folder))
        return self

    # Its definition.

    def xml(self, disks=None, filler=''):
        channel = ''
        if self.agent == 'proxy':
            channel = "<channel type='unix'><source mode='connect' path='%s'/><target type='virtio' name='%s'/></channel>" % (self.proxy.path, AGENT)
        elif self.agent != 'none':
            channel = "<channel type='unix'><target type='virtio' name='%s'/></channel>" % AGENT
        loader = ''
        if self.firmware == 'uefi':
            loader = "<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader><nvram template='/usr/share/OVMF/OVMF_VARS_4M.fd'/>"
        return '''<domain type='qemu'><name>%s</name><uuid>%s</uuid><description>%s</description><memory unit='MiB'>%d</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='%s'>hvm</type>%s<kernel>%s/vmlinuz</kernel><initrd>%s/initrd</initrd>
<cmdline>root=/dev/vda rw quiet console=ttyS0 mitigations=off audit=0 nokaslr random.trust_cpu=on</cmdline></os>
<features><acpi/></features><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<controller type='pci' model='%s'/><controller type='virtio-serial' index='0'/><controller type='usb' model='none'/>
%s%s<serial type='file'><source path='%s'/></serial>%s%s
<memballoon model='none'/></devices></domain>''' % (
            self.name, self.uuid, filler, self.memory, 'pc-q35-7.2' if self.firmware == 'uefi' else 'pc-i440fx-7.2', loader, GUEST_FILES, GUEST_FILES,
            'pcie-root' if self.firmware == 'uefi' else 'pci-root', ''.join(d.xml() for d in (self.disks if disks is None else disks)), channel,
            os.path.join(SOCKETS, self.name + '.console'), "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>" if self.tpm else '',
            self.devices)

    def define(self):
        path = os.path.join(OWN, self.name + '.xml')
        with open(path, 'w', encoding='utf-8') as f:
            f.write(self.xml())
        self.host.virsh('define', path)

    # Starting and stopping.

    def start(self):
        """With the memory of a guest that was booted before, and so with its system disk as it was then; the agent answers when this returns."""
        if self.firmware != 'bios' or self.memory != 384 or not self.disks or not self.disks[0].system:
            return self.boot()
        if self.used:       # what the guest remembers of its disk must be what is there
            os.unlink(self.disks[0].path)
            self.disks[0].make(self.folder, os.path.join(warm(self.host), 'base.img'))
        self.used = True
        ram = os.path.join(OWN, self.name + '.ram')
        real, self.agent = self.agent, 'real' if self.agent == 'none' else self.agent
        write_saved(os.path.join(warm(self.host), 'ram'), ram, self.xml(self.disks[:1]))
        self.agent = real
        self.host.virsh('restore', ram, '--running')
        os.unlink(ram)
        if real == 'none':
            self.wait_for_agent(20)
            self.attach(ET.tostring(self.live_xml().find('.//channel'), encoding='unicode'), 'detach-device')
            if not wait_until(lambda: self.live_xml().find('.//channel') is None):
                raise Failure('the channel of %s does not go' % self.name)
        for disk in self.disks[1:]:
            self.attach(disk.xml())
        if real != 'none':
            self.wait_for_agent(20)
            # A guest whose time stood still would see files from the future.
            self.exec('date -s @%d; for d in %s; do until test -b /dev/$d; do sleep 0.1; done; done' %
                      (time.time(), ' '.join(d.target for d in self.disks)))
        return self

    def boot(self, wait=True):
        """From cold, with its system disk as it is."""
        self.used = True
        self.host.virsh('start', self.name)
        if wait and self.agent != 'none':
            self.wait_for_agent(120)
        return self

    def attach(self, xml, action='attach-device'):
        path = os.path.join(OWN, self.name + '.device')
        with open(path, 'w', encoding='utf-8') as f:
            f.write(xml)
        self.host.virsh(action, self.name, path, '--live')

    def wait_for_agent(self, seconds=120):
        def answers():
            r = self.agent_command('guest-ping', timeout=2, check=False)
            return r.status == 0
        if not wait_until(answers, seconds, 0.2):
            raise Failure('the agent of %s does not answer; the console: %s' % (self.name, self.console()[-1500:]))

    def console(self):
        try:
            with open(os.path.join(SOCKETS, self.name + '.console'), encoding='utf-8', errors='replace') as f:
                return f.read()
        except OSError:
            return ''

    def kill(self):
        """As a power cut."""
        self.host.virsh('destroy', self.name, check=False)

    def reboot(self):
        """By itself; it is on its way when this returns."""
        self.spawn('reboot', 'exec systemctl --force reboot')
        wait_until(lambda: self.agent_command('guest-ping', timeout=1, check=False).status != 0)

    def shutdown(self, seconds=60):
        self.spawn('poweroff', 'exec systemctl --force poweroff')
        if not wait_until(lambda: self.state() == 'shut off', seconds, 0.2):
            raise Failure(self.name + ' does not shut down')

    def destroy(self, disks=True):
        """Stop and forget it."""
        self.kill()
        self.host.virsh('undefine', self.name, '--nvram', '--checkpoints-metadata', '--snapshots-metadata', '--managed-save', check=False)
        if disks:
            shutil.rmtree(self.folder, ignore_errors=True)

    # The agent.

    def agent_command(self, name, timeout=10, check=True, **arguments):
        words = {'execute': name}
        if arguments:
            words['arguments'] = arguments
        r = self.host.virsh('qemu-agent-command', self.name, json.dumps(words), '--timeout', timeout, check=False, timeout=timeout + 20)
        if not check:
            return r
        if r.status != 0:
            raise Failure('%s: %s: %s' % (self.name, name, r.stderr))
        return json.loads(r.stdout)['return']

    def exec(self, script, timeout=60, check=True):
        """Run a shell script in the guest; returns what it prints, or with check=False (status, output)."""
        pid = self.agent_command('guest-exec', timeout=max(10, timeout), path='/bin/sh', arg=['-c', script], **{'capture-output': True})['pid']
        done = wait_until(lambda: (lambda s: s if s['exited'] else None)(self.agent_command('guest-exec-status', timeout=max(10, timeout), pid=pid)), timeout)
        if not done:
            raise Failure('%s: does not end: %s' % (self.name, script))
        out = ''.join(base64.b64decode(done.get(key, '')).decode(errors='replace') for key in ('out-data', 'err-data'))
        status = done.get('exitcode', -1)
        if check and status != 0:
            raise Failure('%s: %s: status %s: %s' % (self.name, script, status, out))
        return out if check else (status, out)

    def spawn(self, name, script):
        """Start something in the guest that goes on; what it says is in /run/NAME.log."""
        self.exec("echo 'echo $$ >/run/%s.pid; %s' >/run/%s.sh; setsid sh /run/%s.sh </dev/null >/run/%s.log 2>&1 &" % (name, script, name, name, name))

    def end(self, name):
        self.exec('kill $(cat /run/%s.pid)' % name)

    def frozen(self):
        return self.agent_command('guest-fsfreeze-status') == 'frozen'

    def agent_dies(self, comes_back=None):
        """As soon as it has frozen the guest; and comes back so many seconds later."""
        self.spawn('agent-dies', 'exec agent-dies %s' % (comes_back or ''))
        self.exec('until test -e /run/agent-dies.ready; do sleep 0.1; done; rm /run/agent-dies.ready')

    # What it writes.

    def writer_start(self):
        self.spawn('writer', 'exec writer run /data')
        if not wait_until(lambda: self.synced() > 5, 30, 0.2):
            raise Failure('the writer does not write: ' + self.exec('cat /run/writer.log'))

    def synced(self):
        """The number of the last file that was made durable."""
        return int(self.exec('writer synced /data'))

    def writer_stop(self):
        self.end('writer')

    def io_errors(self):
        """What the guest's kernel and its writer say of errors, and QEMU."""
        told = self.exec('dmesg | grep -iE "I/O error|Buffer I/O|EXT4-fs error|remount.*read-only" ; cat /run/writer.log /run/fill.log /run/mark.log 2>/dev/null; true').strip()
        errors = self.host.virsh('domblkerror', self.name)
        return told + (errors if 'No errors' not in errors else '')

    # How it is.

    def state(self):
        return self.host.virsh('domstate', self.name)

    def live_xml(self):
        return ET.fromstring(self.host.virsh('dumpxml', self.name))

    def disk_sources(self):
        """{target: file, or name of a network disk} of the live definition."""
        found = {}
        for disk in self.live_xml().iter('disk'):
            source = disk.find('source')
            if source is not None:
                found[disk.find('target').get('dev')] = source.get('file') or source.get('dev') or source.get('name')
        return found

    def qmp(self, name, **arguments):
        words = {'execute': name}
        if arguments:
            words['arguments'] = arguments
        return json.loads(self.host.virsh('qemu-monitor-command', self.name, json.dumps(words)))['return']

    def checkpoints(self):
        return self.host.virsh('checkpoint-list', self.name, '--name').split()

    def clean(self, state='running', checkpoints=(), folders=(), agent=True):
        """What a backup has left behind: a list, empty when the guest is as it was."""
        faults = self.host.faults()
        got = self.state()
        if got != state:
            faults.append('the guest is %s, not %s' % (got, state))
        if got != 'shut off':
            faults += self._left_in_qemu()
            if agent and self.agent != 'none' and got == 'running':
                try:
                    faults += ['the guest is frozen'] if self.frozen() else []
                    self.exec('echo alive >/alive && sync -f /alive', timeout=60)
                except Failure as e:
                    faults.append(str(e))
        wanted = {d.target: d.source for d in self.disks}
        sources = self.disk_sources()
        if {t: sources.get(t) for t in wanted} != wanted:
            faults.append('the disks are %s, not %s' % (sources, wanted))
        if checkpoints is not None and set(self.checkpoints()) != set(checkpoints):
            faults.append('checkpoints: %s' % self.checkpoints())
        if set(os.listdir(self.folder)) != self.files:
            faults.append('files: %s' % sorted(set(os.listdir(self.folder)) ^ self.files))
        for folder in folders:
            faults += ['left: ' + os.path.join(at, name) for at, _, names in os.walk(folder) for name in names]
        return faults

    def _left_in_qemu(self):
        faults = []
        info = self.host.virsh('domjobinfo', self.name)
        if not re.search(r'None', info):
            faults.append('a job: ' + info)
        for name in ('query-block-jobs', 'query-block-exports', 'query-jobs'):
            left = self.qmp(name)
            faults += ['%s: %s' % (name, json.dumps(left))] if left else []
        return faults


# A guest that was booted before.

SAVED_HEADER = struct.Struct('<16s5I14I')       # magic, version, data_len, was_running, compressed, cookieOffset, unused


def write_saved(source, target, xml):
    """A copy of a saved guest with another definition: `virsh restore --xml` would not allow another name."""
    copy(source, target)
    with open(target, 'r+b') as f:
        header = list(SAVED_HEADER.unpack(f.read(SAVED_HEADER.size)))
        data = xml.encode()
        if len(data) >= header[2]:
            raise Failure('the definition is %d bytes too long' % (len(data) - header[2] + 1))
        header[5] = 0
        f.seek(0)
        f.write(SAVED_HEADER.pack(*header) + data.ljust(header[2], b'\0'))


def warm(host):
    """The folder with the guest's disk and memory after its first boot; made at the first call, and kept."""
    folder = os.path.join(GUEST_FILES, 'warm')
    with open(os.path.join(GUEST_FILES, 'lock'), 'w', encoding='utf-8') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(os.path.join(folder, 'done')):
            make_warm(host, folder)
    return folder


def make_warm(host, folder):
    shutil.rmtree(folder, ignore_errors=True)
    os.mkdir(folder)
    os.chmod(folder, 0o777)
    began = time.monotonic()
    guest = Guest(host, 'warm', [Disk('vda', 'raw', system=True, path=os.path.join(folder, 'base.img'))], define=False, folder=folder)
    copy(os.path.join(GUEST_FILES, 'base.img'), os.path.join(folder, 'base.img'))
    path = os.path.join(OWN, 'warm.xml')
    with open(path, 'w', encoding='utf-8') as f:
        f.write(guest.xml(filler='x' * 8000))
    host.virsh('create', path)
    guest.wait_for_agent(180)
    # Programs that tests use are in memory then, and the boot is over.
    guest.exec('systemctl is-system-running --wait; writer synced /data; sync; cat /usr/local/sbin/* >/dev/null; sleep 3', timeout=120)
    host.virsh('save', 'warm', os.path.join(folder, 'ram'))
    os.chmod(os.path.join(folder, 'ram'), 0o644)
    os.chown(os.path.join(folder, 'base.img'), 0, 0)
    os.chmod(os.path.join(folder, 'base.img'), 0o444)
    tap.diag('booted the guest and saved its memory: %.0f s' % (time.monotonic() - began))
    with open(os.path.join(folder, 'done'), 'w', encoding='utf-8') as f:
        f.write('\n')


