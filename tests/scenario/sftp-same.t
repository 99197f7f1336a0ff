#!/usr/bin/python3 -B
"""A repository on an SFTP server is the one that the same commands make in a folder here, byte for byte, from the first point to packing; and a whole
machine comes back from it."""
import glob
import hashlib
import json
import os
import random
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, '..', 'lib'), os.path.join(HERE, '..', 'oracle_selftest')]
import images
import make_sample
import ovb
import sshd
import tap

CTL = os.path.join(tap.BIN, 'virt-backupctl')
MIB = 1 << 20
START = 1893456000      # 2030

server = sshd.Server('server', kinds=('ed25519', 'ecdsa'))
key = sshd.keygen('id')
server.authorize(key)
AUTH = {'identity': key, 'known_hosts': server.known_hosts('known')}
URLS = {'near': os.path.abspath('near'), 'far': server.url(os.path.abspath('far'))}
clock = 0


def config(place, codec, keep):
    file = os.path.abspath('%s.conf' % place)
    with open(file, 'w', encoding='utf-8') as f:
        f.write('repositories = ( %s );\n' % ovb.value(dict(name='it', url=URLS[place], **(AUTH if place == 'far' else {}))))
        f.write('jobs = ( %s );\n' % ovb.value(ovb.image_job('vda.img', 'vdb.img', compression=codec, incremental=True, keep=keep)))
    return file


def both(what, program, *args, codec='zstd:3', keep=None):
    """Run it on both, at the same time by the clock and with the same random bytes; returns what each printed."""
    global clock
    clock += 1
    fixed = {'FIXED_TIME': START + 90000 * clock, 'FIXED_SEED': clock, 'LD_PRELOAD': os.path.join(tap.TOOLS, 'preload_fixed.so'),
             'ASAN_OPTIONS': 'verify_asan_link_order=0:' + os.environ.get('ASAN_OPTIONS', '')}
    r = [tap.run([program, '--config', config(place, codec, keep or {'last': 10}), *args], env=fixed) for place in URLS]
    tap.is_([x.status for x in r], [0, 0], what) or tap.diag(r[0].stderr + r[1].stderr)
    return r


def tree(folder):
    """{path: digest} of all files."""
    out = {}
    for top, _, files in os.walk(folder):
        for name in files:
            with open(os.path.join(top, name), 'rb') as f:
                out[os.path.relpath(os.path.join(top, name), folder)] = hashlib.sha256(f.read()).hexdigest()
    return out


def same(what):
    near, far = tree('near'), tree('far')
    tap.ok(near == far and len(near) > 5, '... and %s are the same, in %d files' % (what, len(near))) or \
        tap.diag('\n'.join(sorted(p for p in {*near, *far} if near.get(p) != far.get(p))))


def change(seed):
    for name in 'vda.img', 'vdb.img':
        with open(name, 'r+b') as f:
            for i in range(3):
                f.seek(random.Random(seed * 10 + i).randrange(6 * MIB))
                f.write(random.Random(seed).randbytes(200000))


images.make('mixed', 'vda.img', size=8 * MIB)
images.make('text', 'vdb.img', size=7 * MIB, seed=2)
ONCE = [ovb.BACKUPD, '--once', 'job']
for codec in 'zstd:3', 'bzip2:9', 'xz:0', 'none':
    both('a full point, ' + codec, *ONCE, '--full', codec=codec)
    change(clock)
both('an incremental one', *ONCE)
same('both repositories')
change(98)
both('another', *ONCE)
r = both('list', ovb.RESTORE, '--json', 'list')
tap.ok(r[0].stdout == r[1].stdout, '... is the same')
tap.is_(len(json.loads(r[1].stdout)), 12, '... all of it')
both('consolidate', CTL, 'consolidate', 'vda@latest')
same('both repositories')
both('protect', CTL, 'protect', 'vdb@latest')
change(99)
both('a run that prunes, and packs what is left', *ONCE, keep={'last': 1})
same('both repositories')
kept = [p.split(os.sep)[1] for p in sorted(glob.glob('far/*/*/manifest.json'))]
tap.is_(kept, ['vda', 'vdb', 'vdb'], '... with the points that are kept')
both('verify', CTL, 'verify')
for place in URLS:
    r = tap.run([ovb.RESTORE, '--config', config(place, 'none', {'last': 1}), 'disk', 'vda@latest', 'vda', place + '.img'])
    tap.ok(r.status == 0 and images.same_content('vda.img', place + '.img'), 'the image comes back: ' + place) or tap.diag(r.stderr)
tap.is_(images.allocated('far.img'), images.allocated('near.img'), '... as thin')
tap.is_(ovb.leftovers('far') + os.listdir('far/.locks'), [], 'nothing is left there')

# A whole machine: two disks, its XML, NVRAM and TPM state.
XML = '''<domain type='kvm'><name>web01</name><uuid>6e0c4a0e-3a0b-4b7e-9f8f-0d4f2c8d7a11</uuid>
<os><type arch='x86_64' machine='q35'>hvm</type><nvram>/nowhere/web01_VARS.fd</nvram></os><devices>
<disk type='file'><driver name='qemu' type='raw'/><source file='/nowhere/a.img'/><target dev='vda'/></disk>
<disk type='file'><driver name='qemu' type='raw'/><source file='/nowhere/b.img'/><target dev='vdb'/></disk></devices></domain>'''
NVRAM, TPM = make_sample.noise('vars', 70000), make_sample.noise('tpm', 6000)
os.mkdir('machines')
os.chdir('machines')
make_sample.put('repo/repository.json', make_sample.json_bytes(
    {'format': 1, 'id': '0b3cf5c4-1d1c-4d8e-8c8a-2f9b7a6e5d41', 'created': make_sample.stamp(make_sample.TIME0), 'program': 'sftp-same.t'}))
disks = [make_sample.Disk(t, MIB) for t in ('vda', 'vdb')]
for d in disks:
    d.write(65536, make_sample.content(d.target, 99840))
a = make_sample.make_archive('web01', 0, make_sample.TIME0, disks, [('domain.xml', XML.encode()), ('nvram', NVRAM), ('tpm.tpm2%2Ftpm2-00.permall', TPM)])
make_sample.publish('.', 'web01', a, disks, 'full')
os.chdir('..')
with open('vm.conf', 'w', encoding='utf-8') as f:
    f.write('repositories = ( %s );\n' % ovb.value(dict(name='it', url=server.url(os.path.abspath('machines/repo')), **AUTH)))
r = tap.run([ovb.RESTORE, '--config', 'vm.conf', 'vm', 'web01@latest', '--name', 'web02', '--directory', 'vm'])
tap.is_((r.status, r.stderr), (0, ''), 'virt-restore vm from a server')
for d in disks:
    with open('vm/%s.img' % d.target, 'rb') as f:
        tap.ok(f.read() == bytes(d.image), '... its disk ' + d.target)
with open('vm/web02_VARS.fd', 'rb') as f:
    tap.ok(f.read() == NVRAM, '... its NVRAM')
tap.ok(os.path.exists('vm/web02.xml'), '... its XML')
tap.done_testing()
