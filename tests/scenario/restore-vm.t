#!/usr/bin/python3 -B
"""virt-restore vm: a whole machine, from sample points; libvirt is a small library of our own (tests/tools/preload_libvirt.c)."""
import glob
import json
import os
import re
import signal
import stat
import sys
import time
import xml.etree.ElementTree as ET

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, '..', 'lib'), os.path.join(HERE, '..', 'oracle_selftest')]
import make_sample
import ovb
import tap

UUID = '6e0c4a0e-3a0b-4b7e-9f8f-0d4f2c8d7a11'
OTHER = '0b3cf5c4-1d1c-4d8e-8c8a-2f9b7a6e5d41'
NVRAM, TPM = make_sample.noise('vars', 70000), make_sample.noise('tpm', 6000)
ORIGINAL = os.path.abspath('original')
LIBVIRT = os.path.abspath('libvirt')

DOMAIN = '''<domain type='kvm'>
  <name>%(name)s</name>
  <uuid>%(uuid)s</uuid>
  <genid>43dc0cf8-809b-4adb-9bea-a9abb5f3d90e</genid>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    %(nvram)s
  </os>
  <devices>
    %(disks)s
    <disk type='file' device='cdrom'>
      <source file='/srv/iso/debian.iso'/>
      <target dev='sda' bus='sata'/>
      <readonly/>
    </disk>
    <interface type='network'>
      <mac address='52:54:00:11:22:33'/>
      <source network='default'/>
    </interface>
  </devices>
</domain>
'''
FILE_DISK = "<disk type='file'><driver name='qemu' type='%s'/><source file='%s'/><target dev='%s'/></disk>"
ISCSI = ("<disk type='network'><driver name='qemu' type='raw'/><auth username='u'/><source protocol='iscsi' name='iqn.2013-07.com.example:t/1'>"
         "<host name='san.example' port='3260'/></source><target dev='vda'/></disk>")
VOLUME = "<disk type='volume'><driver name='qemu' type='qcow2'/><source pool='default' volume='b.qcow2'/><target dev='vdb'/></disk>"


# Sample points.

def sample_manifest(*args, plain=make_sample.manifest):
    """vdb was a qcow2 image."""
    m = plain(*args)
    for disk in m['disks']:
        disk['format'] = 'qcow2' if disk['target'] == 'vdb' else 'raw'
    return m


def disk(target, label, size=1048576):
    d = make_sample.Disk(target, size)
    d.write(65536, make_sample.content(label + target, 100000 // 512 * 512))
    return d


def point(vm, members, disks=('vda', 'vdb')):
    """A point of a machine; returns its disks' content."""
    made = [disk(t, vm) for t in disks]
    a = make_sample.make_archive(vm, 0, make_sample.TIME0, made, [(n, d.encode() if isinstance(d, str) else d) for n, d in members])
    make_sample.publish('.', vm, a, made, 'full')
    return {d.target: bytes(d.image) for d in made}


def domain(vm, disks, nvram=True, live=False, uuid=UUID):
    path = '<nvram>%s/nvram/%s_VARS.fd</nvram>' % (ORIGINAL, vm) if nvram else ''
    return DOMAIN % {'name': vm, 'uuid': uuid, 'nvram': path, 'disks': '\n'.join(disks)}


def own_disks(vm):
    return [FILE_DISK % ('raw', '%s/%s-a.img' % (ORIGINAL, vm), 'vda'), FILE_DISK % ('qcow2', '%s/%s-b.qcow2' % (ORIGINAL, vm), 'vdb')]


make_sample.manifest = sample_manifest
os.makedirs('repo')
make_sample.put('repo/repository.json', make_sample.json_bytes(
    {'format': 1, 'id': OTHER, 'created': make_sample.stamp(make_sample.TIME0), 'program': 'restore-vm.t'}))
WEB = point('web01', [('domain.xml', domain('web01', own_disks('web01'))), ('domain-live.xml', '<domain/>'), ('nvram', NVRAM),
                      ('tpm.tpm2%2Ftpm2-00.permall', TPM), ('guest-filesystems.json', '[]'), ('checkpoint-x.xml', '<x/>')])
SAN = point('san', [('domain.xml', domain('san', [ISCSI, VOLUME], nvram=False))])
point('image', [], ['vda'])
point('transient', [('domain-live.xml', domain('transient', own_disks('transient')[:1], nvram=False))], ['vda'])
ODD = point('odd', [('domain.xml', domain('odd', own_disks('odd')))], ['vda', 'vdc'])
point('escaping', [('domain.xml', domain('escaping', own_disks('escaping')[:1])), ('tpm...%2F..%2Fetc%2Fx', b'x')], ['vda'])
point('broken', [('domain.xml', '<!DOCTYPE domain [<!ENTITY a "b">]><domain><name>&a;</name></domain>')], ['vda'])
point('device', [('domain.xml', domain('device', ["<disk type='block'><source dev='/dev/ovb-is-not-here'/><target dev='vda'/></disk>"]))], ['vda'])


# Running.

def vm(*args, env=None, **kwargs):
    return tap.run([ovb.RESTORE, '--repository', './repo', 'vm', *args], env=dict({'LD_LIBRARY_PATH': None}, **(env or {})), **kwargs)


def with_libvirt(*args, wrap=(), domains=None, flags=()):
    """With the library; returns the result, and what was called."""
    os.makedirs(LIBVIRT, exist_ok=True)
    for f in glob.glob(LIBVIRT + '/*'):
        os.unlink(f)
    os.symlink(os.path.join(tap.TOOLS, 'preload_libvirt.so'), LIBVIRT + '/libvirt.so.0')
    for name, text in (domains or {}).items():
        make_sample.put('%s/%s.domain' % (LIBVIRT, name), text.encode())
    for flag in flags:
        make_sample.put('%s/%s' % (LIBVIRT, flag), b'')
    r = tap.run([*wrap, ovb.RESTORE, '--repository', './repo', 'vm', *args], env={'LD_LIBRARY_PATH': LIBVIRT, 'FAKE_LIBVIRT': LIBVIRT})
    calls = open(LIBVIRT + '/calls').read().splitlines() if os.path.exists(LIBVIRT + '/calls') else []
    return r, [c for c in calls if not c.startswith('open ')]


def content(path):
    with open(path, 'rb') as f:
        return f.read()


def qcow2(path):
    """The guest's view of a qcow2 image."""
    tap.run(['qemu-img', 'convert', '-f', 'qcow2', '-O', 'raw', path, 'view.img'])
    return content('view.img')


def tree(folder):
    return sorted(os.path.relpath(os.path.join(d, f), folder) for d, _, files in os.walk(folder) for f in files)


def disks_of(path):
    """{target: (type, source, format)} of an XML file."""
    out = {}
    for d in ET.parse(path).getroot().iter('disk'):
        source, driver = d.find('source'), d.find('driver')
        where = None if source is None else source.get('file') or source.get('dev') or source.get('name')
        out[d.find('target').get('dev')] = (d.get('type'), where, None if driver is None else driver.get('type'))
    return out


def text_of(path, what):
    return ET.parse(path).getroot().findtext(what)


# All of it into a folder.

r = vm('web01@latest', '--directory', 'out', '--dry-run')
tap.is_(r.status, 0, 'a dry run')
tap.ok(not os.path.exists('out'), 'writes nothing')
tap.like(r.stdout, r'^disk +vda: %s/out/vda.img, raw, 1\.0 MB$' % tap.WORK, 'says where a disk goes')
tap.like(r.stdout, r'^nvram +%s/out/web01_VARS.fd$' % tap.WORK, 'and the NVRAM')
plan = json.loads(vm('web01@latest', '--directory', 'out', '--dry-run', '--json').stdout)
tap.is_([(d['disk'], os.path.basename(d['target']), d['format'], d['size']) for d in plan['disks']],
        [('vda', 'vda.img', 'raw', 1048576), ('vdb', 'vdb.img', 'qcow2', 1048576)], 'a dry run in JSON: each disk in the format it had')
tap.is_((plan['event'], plan['vm'], plan['uuid'], plan['xml']), ('plan', 'web01', UUID, tap.WORK + '/out/web01.xml'), 'and the machine')

r = vm('web01@latest', '--directory', 'out')
tap.is_((r.status, r.stderr), (0, ''), 'a machine is restored into a new folder')
tap.is_(tree('out'), ['tpm/tpm2/tpm2-00.permall', 'vda.img', 'vdb.img', 'web01.xml', 'web01_VARS.fd'], 'its files, and no others')
tap.is_(content('out/vda.img'), WEB['vda'], 'the raw disk')
tap.is_(qcow2('out/vdb.img'), WEB['vdb'], 'the qcow2 disk')
tap.is_((content('out/web01_VARS.fd'), content('out/tpm/tpm2/tpm2-00.permall')), (NVRAM, TPM), 'NVRAM and TPM state')
tap.is_(disks_of('out/web01.xml'), {'vda': ('file', tap.WORK + '/out/vda.img', 'raw'), 'vdb': ('file', tap.WORK + '/out/vdb.img', 'qcow2'),
                                    'sda': ('file', '/srv/iso/debian.iso', None)}, 'the XML names every new place')
tap.is_((text_of('out/web01.xml', 'uuid'), text_of('out/web01.xml', 'os/nvram')), (UUID, tap.WORK + '/out/web01_VARS.fd'), 'and the NVRAM')
tap.is_({oct(stat.S_IMODE(os.stat('out/' + f).st_mode)) for f in tree('out')}, {'0o600'}, 'only its owner reads the files')
tap.is_(oct(stat.S_IMODE(os.stat('out').st_mode)), '0o711', "QEMU's user can reach them")
tap.like(r.stdout, r'virsh define %s/out/web01\.xml' % tap.WORK, 'how to define it is said')

# What exists.

before = {f: os.stat('out/' + f).st_ino for f in tree('out')}
r = vm('web01@latest', '--directory', 'out')
tap.is_(r.status, 1, 'what exists')
tap.like(r.stderr, r'out/vda\.img exists: choose another name, or --force', 'is refused')
r = vm('web01@latest', '--directory', 'out', '--dry-run')
tap.is_(r.status, 1, 'also in a dry run')
os.unlink('out/vda.img')
os.unlink('out/vdb.img')
r = vm('web01@latest', '--directory', 'out')
tap.like(r.stderr, r'out/web01_VARS\.fd exists: choose another name', 'a small file that exists')
tap.is_({f: os.stat('out/' + f).st_ino for f in tree('out')}, {f: n for f, n in before.items() if 'vd' not in f}, 'and nothing was written')
r = vm('web01@latest', '--directory', 'out', '--force', '--json')
done = json.loads(r.stdout.splitlines()[-1])
tap.is_((r.status, done['event'], done['defined'], len(done['disks']), done['nvram']), (0, 'done', False, 2, tap.WORK + '/out/web01_VARS.fd'),
        '--force overwrites, and JSON tells the result')
tap.ok(os.stat('out/web01.xml').st_ino != before['web01.xml'], 'the files are new')

# Formats, names.

r = vm('web01@latest', '--directory', 'second', '--name', 'web02', '--format', 'raw')
tap.is_((r.status, r.stderr), (0, ''), '--name, and --format for all disks')
tap.is_(content('second/vdb.img'), WEB['vdb'], 'raw now')
tap.is_(disks_of('second/web02.xml')['vdb'], ('file', tap.WORK + '/second/vdb.img', 'raw'), 'in the XML too')
root = ET.parse('second/web02.xml').getroot()
tap.is_((root.findtext('name'), root.find('genid')), ('web02', None), 'a new name, no generation id')
tap.ok(root.findtext('uuid') not in (UUID, None) and root.find('devices/interface/mac').get('address') != '52:54:00:11:22:33', 'a new UUID and MAC')
tap.ok(os.path.exists('second/web02_VARS.fd'), 'NVRAM has the new name')
r = vm('web01@latest', '--name', 'a/b', '--directory', 'third')
tap.like(r.stderr, 'no name of a domain', 'a name that libvirt does not take')
tap.ok(not os.path.exists('third'), 'leaves nothing')

# Where it was.

r = vm('web01@latest')
tap.like(r.stderr, 'there is no folder for %s/web01-a.img' % ORIGINAL, 'a place that is not here')
os.makedirs(ORIGINAL + '/nvram')
r = vm('web01@latest')
tap.is_((r.status, r.stderr), (0, ''), 'without --directory')
tap.is_(tree(ORIGINAL), ['nvram/web01_VARS.fd', 'web01-a.img', 'web01-b.qcow2'], 'all is where it was')
tap.is_(disks_of('web01.xml')['vdb'], ('file', ORIGINAL + '/web01-b.qcow2', 'qcow2'), 'and the XML is in the current folder')
tap.like(r.stdout, "TPM's state is not restored", 'TPM state is not, and that is said')
r = vm('san@latest')
tap.is_(r.status, 1, 'a network disk')
tap.like(r.stderr, r'disk vda was a network disk \(iscsi://san\.example:3260/.*--directory', 'needs a folder')
r = vm('san@latest', '--directory', 'san')
tap.is_(disks_of('san/san.xml')['vda'], ('file', tap.WORK + '/san/vda.img', 'raw'), 'and becomes a file')
tap.is_(disks_of('san/san.xml')['vdb'], ('file', tap.WORK + '/san/vdb.img', 'qcow2'), 'as a volume does')
tap.unlike(content('san/san.xml').decode(), 'auth|iscsi|pool', 'nothing of the old source stays')
tap.is_(content('san/vda.img'), SAN['vda'], 'with its content')
r = vm('device@latest')
tap.like(r.stderr, r'block device /dev/ovb-is-not-here, which is not here', 'a device that is not here is not made a file of')

# Points that are not whole.

r = vm('image@latest', '--directory', 'none')
tap.is_(r.status, 1, 'a point without domain.xml')
tap.like(r.stderr, r'there is no domain\.xml in image@latest.*command disk', 'is refused, and what to do is said')
r = vm('broken@latest', '--directory', 'none')
tap.like(r.stderr, r'domain\.xml of the point: the XML has a document type', 'a hostile XML')
r = vm('escaping@latest', '--directory', 'none')
tap.like(r.stderr, 'has no sound name', 'TPM state that would leave its folder')
tap.ok(not os.path.exists('none'), 'nothing was written for these')
r = vm('transient@latest', '--directory', 'transient')
tap.is_(r.status, 0, 'a point with the running XML only')
tap.like(r.stdout, 'domain-live.xml, of the running machine, is used', 'which is said')
r = vm('odd@latest', '--directory', 'odd')
tap.is_((r.status, content('odd/vdc.img') == ODD['vdc']), (0, True), 'a disk that was attached while it ran is restored')
tap.is_(sorted(disks_of('odd/odd.xml')), ['sda', 'vda', 'vdb'], 'but not attached; one that is not in the point stays as it was')
tap.like(r.stdout, r'note +disk vdb .* not in the point', 'which is said')
tap.like(r.stdout, 'note +the point has no NVRAM', 'so is lost NVRAM')
r = vm('odd@latest', '--directory', 'odd2', '--name', 'odd2')
tap.is_(sorted(disks_of('odd2/odd2.xml')), ['sda', 'vda'], 'another machine does not get that disk')

# Failure, and signals.

make_sample.put('broken-repo/x', b'')
tap.run(['cp', '-r', 'repo', 'bad'])
archive = glob.glob('bad/web01/*/disks.tar')[0]
with open(archive, 'r+b') as f:
    f.seek(content(archive).find(WEB['vdb'][65536:65536 + 512]) + 100)
    f.write(b'damage')
r = tap.run([ovb.RESTORE, '--repository', './bad', 'vm', 'web01@latest', '--directory', 'failed'])
tap.is_(r.status, 1, 'a damaged disk')
tap.like(r.stderr, 'disk vdb cannot be restored', 'ends it')
tap.ok(not os.path.exists('failed'), 'and not even the good disk is left, nor the folder')

big = disk('vda', 'slow', 64 << 20)
big.write(0, make_sample.content('slow', 8 << 20) * 8)
a = make_sample.make_archive('slow', 2, make_sample.TIME0, [big], [('domain.xml', domain('slow', own_disks('slow')[:1], nvram=False).encode())])
make_sample.publish('.', 'slow', a, [big], 'full')
child = tap.start([ovb.RESTORE, '--repository', './repo', 'vm', 'slow@latest', '--directory', 'slow'], stderr=-1)
while child.poll() is None and not os.path.exists('slow/vda.img.partial'):
    time.sleep(0.001)
child.send_signal(signal.SIGINT)
err = child.communicate()[1].decode()
tap.is_(child.returncode, 1, 'SIGINT')
tap.like(err, 'stopped: nothing of the target was kept', 'ends it cleanly')
tap.ok(not os.path.exists('slow'), 'without a trace')

# libvirt.

r = tap.run(['ldd', ovb.RESTORE])
tap.unlike(r.stdout, 'libvirt', 'virt-restore is not linked to libvirt')
make_sample.put('no-libvirt/libvirt.so.0', b'hides one that is installed')
r = vm('web01@latest', '--directory', 'alone', '--define', env={'LD_LIBRARY_PATH': os.path.abspath('no-libvirt')})
tap.is_((r.status, os.path.exists('alone/web01.xml')), (1, True), 'without libvirt, --define restores all but the definition')
tap.like(r.stderr, 'warning: there is no libvirt here', 'and says so')
tap.like(r.stdout, r'virsh define %s/alone/web01\.xml' % tap.WORK, 'and how to go on')
r, calls = with_libvirt('web01@latest', '--directory', 'off', '--define', flags=['no-connection'])
tap.is_((r.status, calls, os.path.exists('off/tpm/tpm2/tpm2-00.permall')), (1, [], True), 'the same without a connection')
tap.like(r.stderr, 'no connection to libvirt at qemu:///system: a made-up error', 'with its reason')
r, calls = with_libvirt('web01@latest', '--directory', 'crashed', '--define', flags=['crash'])
tap.is_((r.status, os.path.exists('crashed/web01.xml')), (1, True), 'a libvirt that crashes takes nothing with it')
tap.like(r.stderr, 'ended with signal 6', 'and is named')

r, calls = with_libvirt('san@latest', '--directory', 'defined', '--define')
tap.is_((r.status, calls), (0, ['define new']), '--define')
tap.is_(content(LIBVIRT + '/defined.xml'), content('defined/san.xml'), 'defines the XML that is written')
r, calls = with_libvirt('san@latest', '--directory', 'started', '--start', '--json', '--name', 'x')
done = json.loads(r.stdout.splitlines()[-1])
tap.is_((r.status, calls, done['defined'], done['started']), (0, ['define new', 'start '], True, True), '--start defines and starts')
r, calls = with_libvirt('san@latest', '--directory', 'defined2', '--start', flags=['start-fails'])
tap.is_((r.status, calls), (1, ['define new', 'start ']), 'a machine that does not start')
tap.like(r.stderr, 'defined, but not started: libvirt cannot start san: a made-up error', 'is defined')
r, calls = with_libvirt('san@latest', '--directory', 'defined3', '--define', flags=['define-fails'])
tap.like(r.stderr, 'all is restored, but the machine is not defined: libvirt cannot define san', 'an XML that libvirt does not want')
tap.is_((r.status, tree('defined3')), (1, ['san.xml', 'vda.img', 'vdb.img']), 'is there to be looked at')

for what, domains, options, why in (
        ('a domain of that name', {'san': OTHER + ' 0 0'}, [], 'there is a domain san: --name restores this one as another'),
        ('one of that UUID', {'other': UUID + ' 0 0'}, [], 'there is a domain other: --name'),
        ('a running one', {'san': UUID + ' 1 0'}, ['--force'], 'the domain san is running'),
        ('one with a saved state', {'san': UUID + ' 0 1'}, ['--force'], 'managedsave-remove san'),
        ('another name with its UUID', {'other': UUID + ' 0 0'}, ['--force'], 'the domain other has its UUID')):
    r, calls = with_libvirt('san@latest', '--directory', 'refused', '--define', *options, domains=domains)
    tap.is_((r.status, calls, os.path.exists('refused')), (1, [], False), what + ' is refused before anything is written')
    tap.like(r.stderr, why, 'and why')
r, calls = with_libvirt('san@latest', '--directory', 'forced', '--define', '--force', domains={'san': UUID + ' 0 0'})
tap.is_((r.status, calls), (0, ['forget-checkpoint 2', 'define new']), '--force: it is redefined, and its checkpoints are forgotten')
r, calls = with_libvirt('san@latest', '--directory', 'forced', '--define', '--force', domains={'san': OTHER + ' 0 0'})
tap.is_((r.status, calls), (0, ['undefine san 90', 'undefine san 26', 'define new']), 'one with another UUID is undefined, its NVRAM kept')
r, calls = with_libvirt('san@latest', '--directory', 'forced', '--define', '--force', domains={'san': OTHER + ' 0 0'}, flags=['define-fails'])
tap.is_((r.status, calls[2:]), (1, ['define new', 'define old']), 'and defined again when the new one cannot be')

# The real library, with its driver for tests: its functions are what libvirt_api.h says.
if any(os.path.exists(f + '/libvirt.so.0') for f in glob.glob('/usr/lib/*-linux-gnu') + ['/usr/lib64']):
    point('fv0', [('domain.xml', domain('fv0', own_disks('fv0'), nvram=False).replace("'kvm'", "'test'").replace(
        '<os>', '<memory>8192</memory><os>').replace(" arch='x86_64' machine='q35'", ''))])
    real = ['fv0@latest', '--directory', 'real', '--connect', 'test:///default']
    r = vm(*real, '--start')
    tap.is_((r.status, r.stderr), (0, ''), 'the real libvirt defines and starts it')
    tap.like(r.stdout, '^defined +fv0, and started$', 'and that is said')
    r = vm(*real, '--define', '--name', 'test', '--force')
    tap.like(r.stderr, 'the domain test is running', 'its own running domain is not replaced')
else:
    tap.skip(3, 'no libvirt is installed')

# TPM state where libvirt looks for it: /var/lib is a folder of ours there.
if os.geteuid() == 0 and tap.run(['unshare', '-m', 'true']).status == 0:
    os.makedirs('lib')
    bind = ['unshare', '-m', 'sh', '-c', 'mount --bind "$0" /var/lib && exec "$@"', os.path.abspath('lib')]
    r, calls = with_libvirt('web01@latest', '--directory', 'tpm', '--define', '--name', 'tpm', wrap=bind)
    made = text_of('tpm/tpm.xml', 'uuid') if r.status == 0 else r.stderr
    tap.is_((r.status, tree('lib')), (0, ['libvirt/swtpm/%s/tpm2/tpm2-00.permall' % made]), "--define: TPM state is below swtpm's folder, by the new UUID")
    tap.is_((tree('tpm'), content('lib/' + tree('lib')[0])), (['tpm.xml', 'tpm_VARS.fd', 'vda.img', 'vdb.img'], TPM), 'and only there')
    tap.is_([oct(stat.S_IMODE(os.stat('lib/libvirt/swtpm/' + made + f).st_mode)) for f in ('', '/tpm2', '/tpm2/tpm2-00.permall')],
            ['0o711', '0o700', '0o600'], 'readable as libvirt makes it')
else:
    tap.skip(3, 'needs root and mount namespaces')

# Usage.

r = tap.run([ovb.RESTORE, '--repository', './repo', '--define', 'verify', 'web01@latest'])
tap.is_(r.status, 2, 'the options of vm belong to vm')
r = tap.run([ovb.RESTORE, '--archive', glob.glob('repo/web01/*/disks.tar')[0], 'vm', '--directory', 'bare'])
tap.is_((r.status, disks_of('bare/web01.xml')['vdb'][2]), (0, 'qcow2'), 'a bare archive, by what its XML says')
tap.done_testing()
