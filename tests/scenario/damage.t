#!/usr/bin/python3 -B
"""Bad input gets a clear error and loses nothing: flipped, cut, longer, swapped and missing bytes in every kind of repository file.

Whatever is damaged: no command dies of a signal or hangs, verify says 1 and what is wrong, disk gives the right image or none at all, and what
is not damaged still restores.  FLIPS is how many single bits are flipped in each kind of file; the same ones each time.
"""
import atexit
import contextlib
import json
import os
import random
import re
import shutil
import sys
import tempfile

sys.path[0:0] = [os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', d) for d in ('lib', 'oracle_selftest', 'fuzz')]
import images
import make_sample
import make_seeds
import ovb
import tap

FLIPS = int(os.environ.get('FLIPS') or 120)
W = make_sample.W
# Thousands of images are restored, each with its fsync: into memory, where that is possible.
TARGET = os.path.join(tempfile.mkdtemp(prefix='ovb-test.', dir='/dev/shm') if os.access('/dev/shm', os.W_OK) else tap.WORK, 'target.img')
if not TARGET.startswith(tap.WORK):
    atexit.register(shutil.rmtree, os.path.dirname(TARGET), ignore_errors=True)
LOST = r'disk %s cannot be restored: \d+ bytes at offset \d+ are lost: .'
LOST_OR_TOLD = LOST + r'|warning: .*disks\.tar'      # what is damaged is the data, or something that has a second copy


# What to run, and what may come of it.

def restore(*args, archive=None, repo='repo'):
    return tap.run([ovb.RESTORE, *(['--archive', archive] if archive else ['--repository', './' + repo]), *args], timeout=20)


def read(path):
    with open(path, 'rb') as f:
        return f.read()


def write(path, data):
    with open(path, 'wb') as f:
        f.write(data)


class Findings:
    """Many small checks that make one test; the first few that fail are shown."""

    def __init__(self):
        self.bad, self.checks, self.refused, self.warned = [], 0, 0, 0

    def need(self, ok, what, result=None):
        self.checks += 1
        if not ok:
            self.bad.append(what + (': status %s: %s %s' % (result.status, result.stdout[:300], result.stderr[:600]) if result else ''))
        return ok

    def ran(self, r, what):
        """It ended by itself, as documented, and says why when it failed."""
        self.need(r.status in (0, 1), what + ' ends with 0 or 1', r)
        self.need(r.status != 1 or r.stderr.strip(), what + ' says why', r)
        self.need('\x1b' not in r.stdout + r.stderr, what + ' prints no control character', r)

    def disk(self, where, spec, disk, expected, archive=None, message=None, repo='repo'):
        """The right image, perhaps with a warning, or an error and nothing; either has the message.  Returns whether it restored."""
        r = restore('disk', *([] if archive else [spec]), disk, TARGET, archive=archive, repo=repo)
        self.ran(r, where + ': disk')
        if r.status == 0:
            self.need(os.path.exists(TARGET) and read(TARGET) == expected, where + ': the image is right', r)
            self.warned += 'warning: ' in r.stderr
            self.need(not r.stderr.strip() or re.search(message or '.', r.stderr), where + ': disk warns of ' + str(message), r)
        else:
            self.refused += 1
            self.need(not os.path.lexists(TARGET), where + ': a failed disk leaves no target')
            self.need(re.search(message or '.', r.stderr), where + ': disk says ' + str(message), r)
        self.need(not os.path.lexists(TARGET + '.partial'), where + ': nothing partial is left')
        for name in (TARGET, TARGET + '.partial'):
            if os.path.lexists(name):
                os.unlink(name)
        return r.status == 0

    def verify(self, where, spec, names, repo='repo'):
        """Verify notices it, and names it."""
        r = restore('verify', spec, repo=repo)
        self.ran(r, where + ': verify')
        self.need(r.status == 1, where + ': verify notices it', r)
        self.need(re.search(names, r.stderr), where + ': verify names ' + names, r)

    def look(self, where, vm, spec):
        self.ran(restore('list', vm), where + ': list')
        self.ran(restore('show', spec), where + ': show')
        self.ran(restore('--json', 'list'), where + ': list --json')

    def done(self, name):
        if not tap.ok(not self.bad and self.checks > 0, name):
            for text in self.bad[:5]:
                tap.diag(text)
            tap.diag('%d of %d checks failed' % (len(self.bad), self.checks))


@contextlib.contextmanager
def changed(path, data):
    """The file has these bytes for a while."""
    before = read(path)
    write(path, data)
    try:
        yield
    finally:
        write(path, before)


def flips(path, count, start=0):
    """So many copies of a file with one bit flipped, with the place."""
    rng = random.Random('flip ' + os.path.basename(path))
    data = bytearray(read(path))
    for _ in range(count):
        at, bit = rng.randrange(start, len(data)), 1 << rng.randrange(8)
        data[at] ^= bit
        yield at, bytes(data)
        data[at] ^= bit


# The points that are damaged: for each codec a full one and a delta of it, with two disks.

class Point:
    def __init__(self, vm, a, disks, kind):
        self.vm, self.disk = vm, 'vda'
        name = make_sample.stamp(a.time).replace(':', '')
        self.spec = '%s@%s' % (vm, name)
        self.folder = os.path.join('repo', vm, name)
        self.expected = bytes(disks[0].image)
        make_sample.publish('.', vm, a, disks, kind)
        self.archive = os.path.join(self.folder, make_sample.FILES[a.codec])
        self.index, self.manifest, self.sums = (os.path.join(self.folder, f) for f in ('index.bin', 'manifest.json', 'SHA256SUMS'))


def codec_points(codec):
    vm, disks = make_sample.NAMES[codec], make_seeds.small_disks()
    full = Point(vm, make_sample.make_archive(vm, codec, make_sample.TIME0, disks), disks, 'full')
    disks[0].write(512, make_sample.content(vm, 3072))
    disks[0].clear(2 * W, 512, make_sample.HOLE)
    delta = Point(vm, make_sample.make_archive(vm + ' 2', codec, make_sample.TIME0 + 3600, disks), disks, 'incremental')
    return full, delta


os.mkdir('repo')
repository = json.dumps({'format': 1, 'id': 'b3f2a1de-0c7a-4f0e-9d1c-5a3e0f6c7b21', 'created': '2026-01-01T00:00:00Z', 'program': 'test'}).encode()
write('repo/repository.json', repository)
points = {make_sample.NAMES[codec]: codec_points(codec) for codec in range(4)}
everything = [p for pair in points.values() for p in pair]
full, delta = points['zstd']
other = points['none'][0]

f = Findings()
for p in everything:
    f.need(restore('verify', p.spec).status == 0, p.spec + ' verifies')
    f.need(f.disk(p.spec, p.spec, 'vda', p.expected), p.spec + ' restores')
f.done('undamaged: every point verifies and restores')


# One flipped bit.

for name, pair in points.items():
    for p in pair:
        f = Findings()
        for n, (at, data) in enumerate(flips(p.archive, FLIPS // 2)):
            where = '%s, bit flipped at %d' % (p.archive, at)
            with changed(p.archive, data):
                f.verify(where, p.spec, r'disks\.tar')
                f.disk(where, p.spec, 'vda', p.expected, message=LOST_OR_TOLD % 'vda')
                if p is pair[0]:
                    f.disk(where + ', which a delta needs', pair[1].spec, 'vda', pair[1].expected, message=LOST_OR_TOLD % 'vda')
                if n == 0:
                    f.look(where, p.vm, p.spec)
                    f.need(f.disk(where + ': another machine', other.spec if p is not other else full.spec, 'vda',
                                  other.expected if p is not other else full.expected), where + ': another machine restores')
                    if p is pair[1]:
                        f.need(f.disk(where + ': the point before', pair[0].spec, 'vda', pair[0].expected), where + ': the point before restores')
        f.need(f.refused > 0, 'some of the flips are in data that the disk needs')
        f.done('%s: %d flipped bits in the archive' % (p.spec, FLIPS // 2))

for name, path, names in (('index.bin', full.index, r'index\.bin'), ('manifest.json', full.manifest, r'manifest'),
                          ('SHA256SUMS', full.sums, r'SHA256SUMS|manifest\.json|index\.bin|disks\.tar'), ("a delta's index.bin", delta.index, r'index\.bin'),
                          ("a delta's manifest.json", delta.manifest, 'manifest')):
    f, p = Findings(), delta if 'delta' in name else full
    for n, (at, data) in enumerate(flips(path, FLIPS)):
        where = '%s, bit flipped at %d' % (path, at)
        with changed(path, data):
            f.verify(where, p.spec, names)
            f.disk(where, p.spec, 'vda', p.expected)
            if n % 4 == 0:
                f.look(where, p.vm, p.spec)
            if n == 0:
                f.need(f.disk(where + ': another machine', other.spec, 'vda', other.expected), where + ': another machine restores')
    # The archive has its own index, and says of itself what the manifest says; SHA256SUMS is for verify.
    f.need(f.warned > 0 if path is not full.sums else f.warned == 0, 'disk warns of what it needs, and only of that')
    f.need(f.refused == 0 or 'manifest' in name, 'the disk can be had without it')
    f.done('%d flipped bits in %s' % (FLIPS, name))

f = Findings()
for at, data in flips('repo/repository.json', FLIPS):
    where = 'repository.json, bit flipped at %d' % at
    with changed('repo/repository.json', data):
        f.disk(where, full.spec, 'vda', full.expected, message=r'repository\.json')
        f.ran(restore('list'), where + ': list')
f.need(f.refused < FLIPS // 4, 'hardly any stops a restore')
os.unlink('repo/repository.json')
f.need(f.disk('without repository.json', full.spec, 'vda', full.expected), 'the points are enough')
write('repo/repository.json', repository)
f.done('%d flipped bits in repository.json, and without it' % FLIPS)

# A bare archive has no checksum over all of it: the image is right or there is none.
for name, pair in points.items():
    f = Findings()
    for at, data in flips(pair[0].archive, FLIPS // 2):
        write('bare.tar', data)
        f.disk('bare %s, bit flipped at %d' % (name, at), None, 'vda', pair[0].expected, archive='bare.tar')
        f.ran(restore('verify', archive='bare.tar'), 'bare %s, bit flipped at %d: verify' % (name, at))
    f.need(f.refused > 0, 'some of the flips are noticed')
    f.done('%d flipped bits in a bare archive, %s' % (FLIPS // 2, name))


# Cut, longer, empty, missing, or something else in its place.

def lengths(data):
    for n in sorted({0, 1, 100, 511, 512, len(data) // 2, len(data) // 2 // 512 * 512, len(data) - 512, len(data) - 1} & set(range(len(data)))):
        yield 'cut to %d bytes' % n, data[:n]
    for more in (b'\0', bytes(512), bytes(10240), data, b'\n'):
        yield '%d bytes longer' % len(more), data + more


for name, path, names, p in (('archive', points['none'][0].archive, r'disks\.tar', points['none'][0]), ('archive', points['bzip2'][0].archive, r'disks\.tar', points['bzip2'][0]),
                             ('archive', points['xz'][0].archive, r'disks\.tar', points['xz'][0]), ('archive', full.archive, r'disks\.tar', full),
                             ('index', full.index, r'index\.bin', full), ('manifest', full.manifest, 'manifest', full)):
    f = Findings()
    for what, data in lengths(read(path)):
        with changed(path, data):
            f.verify(path + ' ' + what, p.spec, names)
            f.disk(path + ' ' + what, p.spec, 'vda', p.expected)
            f.look(path + ' ' + what, p.vm, p.spec)
    f.need(f.refused + f.warned > 0, 'some are noticed')
    f.need(f.disk(path + ': another machine', points['none'][1].spec if p is not points['none'][0] else full.spec, 'vda',
                  points['none'][1].expected if p is not points['none'][0] else full.expected), 'another restores')
    f.done('%s, cut and longer' % path)

f, whole = Findings(), read(full.sums)
for what, data in lengths(whole):
    with changed(full.sums, data):
        r = restore('verify', full.spec)
        f.ran(r, 'SHA256SUMS %s: verify' % what)
        if what.startswith('cut') and data != whole[:-1]:    # without the last newline it says the same
            f.need(r.status == 1 and 'SHA256SUMS' in r.stderr, 'SHA256SUMS %s: verify names it' % what, r)
        f.need(f.disk('SHA256SUMS ' + what, full.spec, 'vda', full.expected), 'the disk restores all the same')
f.done('SHA256SUMS, cut and longer')

for codec, pair in points.items():
    f = Findings()
    for what, data in lengths(read(pair[0].archive)):
        write('bare.tar', data)
        f.disk('bare %s archive %s' % (codec, what), None, 'vda', pair[0].expected, archive='bare.tar')
    f.need(f.refused + f.warned > 5, 'a cut archive has no index at its end')
    f.done('bare archive, %s, cut and longer' % codec)

f = Findings()
for path, names in ((full.archive, r'disks\.tar\.zst'), (full.index, r'index\.bin'), (full.manifest, r'manifest\.json'), (full.sums, 'SHA256SUMS')):
    os.rename(path, 'aside')
    for what, make in (('missing', lambda path: None), ('a folder', os.mkdir), ('a fifo', os.mkfifo), ('a link', lambda path: os.symlink('/dev/zero', path)),
                       ('a link to itself', lambda path: os.symlink(os.path.basename(path), path))):
        make(path)
        where = '%s is %s' % (path, what)
        f.verify(where, full.spec, names)
        f.need(f.disk(where, full.spec, 'vda', full.expected, message=names) == (path != full.archive), where + ': all but the archive can be done without')
        f.look(where, full.vm, full.spec)
        f.need(f.disk(where + ': another machine', other.spec, 'vda', other.expected), where + ': another machine restores')
        if os.path.isdir(path) and not os.path.islink(path):
            os.rmdir(path)
        elif os.path.lexists(path):
            os.unlink(path)
    os.rename('aside', path)
f.done('a file that is missing, a folder, a fifo or a link')

f = Findings()
shutil.move(full.folder, 'aside')
f.disk('the full point is gone', delta.spec, 'vda', delta.expected, message=(LOST % 'vda') + r'*archive [0-9a-f-]{36}.*is not in the repository')
f.verify('the full point is gone', delta.spec, r'disk vda.* at offset \d+: .*is not in the repository')
f.need(f.disk('the full point is gone: another machine', other.spec, 'vda', other.expected), 'another machine restores')
shutil.move('aside', full.folder)
os.rename(full.manifest, full.folder + '/pruned.json')
f.need(f.disk('the full point is pruned', delta.spec, 'vda', delta.expected), 'its archive is still found')
with changed(full.folder + '/pruned.json', b'{'):
    f.disk('pruned.json is damaged', delta.spec, 'vda', delta.expected)
f.need(f.refused > 0, 'what is not there is not restored')
os.rename(full.folder + '/pruned.json', full.manifest)
f.done("a delta without its full point's archive, and with it pruned")


# Swapped.

def swap(a, b):
    os.rename(a, 'aside')
    os.rename(b, a)
    os.rename('aside', b)


a, b = points['bzip2']
c = points['zstd'][0]
f = Findings()
for names in (['manifest.json'], ['index.bin'], ['disks.tar.bz2'], ['SHA256SUMS'], ['manifest.json', 'index.bin'], ['manifest.json', 'disks.tar.bz2'],
              ['index.bin', 'disks.tar.bz2'], ['manifest.json', 'index.bin', 'disks.tar.bz2']):
    for name in names:
        swap(os.path.join(a.folder, name), os.path.join(b.folder, name))
    for p in (a, b):
        where = '%s of two points exchanged, %s' % (' and '.join(names), p.spec)
        f.verify(where, p.spec, '|'.join(re.escape(n) for n in names) + '|SHA256SUMS')
        # With all three, it is the other point under this name; SHA256SUMS is what tells, and only verify reads it.
        if len(names) < 3:
            f.disk(where, p.spec, 'vda', p.expected)
        f.look(where, p.vm, p.spec)
    f.need(f.disk('%s exchanged: another machine' % names, other.spec, 'vda', other.expected), 'another machine restores')
    for name in names:
        swap(os.path.join(a.folder, name), os.path.join(b.folder, name))
f.need(f.refused > 0, 'some are noticed by disk')
f.done('files of two points of one machine exchanged')

f = Findings()
swap(a.folder, b.folder)
for p in (a, b):
    f.verify('the folders of two points exchanged', p.spec, 'time|manifest')
swap(a.folder, b.folder)
f.done('the folders of two points exchanged: the time in the manifest is not that of the name')

f = Findings()
for name, names in (('index.bin', r'index\.bin'), ('manifest.json', 'manifest')):
    swap(os.path.join(a.folder, name), os.path.join(c.folder, name))
    for p in (a, c):
        f.verify('%s of another machine, %s' % (name, p.spec), p.spec, names)
        f.disk('%s of another machine, %s' % (name, p.spec), p.spec, 'vda', p.expected, message='index|manifest|disks')
    swap(os.path.join(a.folder, name), os.path.join(c.folder, name))
f.need(f.refused + f.warned == 4, 'each is noticed')
f.done('index and manifest of another machine')

# Real archives, large enough for several frames, written by the program itself.
images.make('full', 'one.img', seed=1, size=400000)
images.make('full', 'two.img', seed=2, size=400000)
real = {}
for codec in ('none', 'bzip2:1', 'zstd:1'):
    size = 400000 if codec != 'zstd:1' else 9 << 20
    images.make('full', 'frames.img', seed=3, size=size)
    folder = ovb.backup('frames.img', codec, repository='real')
    archive, image = ovb.archive(folder), read('frames.img')
    index = tap.run([sys.executable, '-B', ovb.ORACLE, 'index', folder + '/index.bin']).stdout
    data = read(archive)
    f = Findings()
    spec = ovb.spec(folder)
    message = LOST % 'frames'
    if codec == 'none':
        # A flipped byte is told with the block that it is in.
        for offset in (0, 65535, 65536, 200000, 399999):
            at = data.index(image[max(0, offset - 40):offset + 40]) + min(offset, 40)
            with changed(archive, data[:at] + bytes([data[at] ^ 4]) + data[at + 1:]):
                start = offset // W * W
                length = min(W, size - start)
                f.disk('byte %d' % offset, spec, 'frames', image, repo='real', message='%d bytes at offset %d are lost' % (length, start))
                r = restore('--json', 'verify', spec, repo='real')
                events = [json.loads(line) for line in r.stdout.splitlines()]
                f.need(any(e.get('event') == 'damaged' and e.get('disk') == 'frames' and e.get('offset') == start and e.get('length') == length
                           for e in events), 'byte %d: verify --json gives the place' % offset, r)
        one = data.index(image[0:64])
        swapped = data[:one] + image[W:2 * W] + image[:W] + data[one + 2 * W:]
    else:
        magic = b'BZh' if codec != 'zstd:1' else b'\x28\xb5\x2f\xfd'
        starts = [m.start() for m in re.finditer(re.escape(magic), data)]
        x, y, z = starts[1], starts[2], starts[3]        # the first frame holds headers
        swapped = data[:x] + data[y:z] + data[x:y] + data[z:]
    f.need(len(swapped) == len(data) and swapped != data, 'something was swapped')
    with changed(archive, swapped):
        f.verify(codec + ': two frames exchanged', spec, r'disk frames, \d+ bytes at offset \d+', repo='real')
        f.disk(codec + ': two frames exchanged', spec, 'frames', image, repo='real', message=message)
    f.need(f.refused == (6 if codec == 'none' else 1), 'all are noticed')
    f.need(f.disk('healed', spec, 'frames', image, repo='real'), 'with its own bytes it restores')
    f.done('%s: two %s of an archive exchanged' % (codec, 'blocks' if codec == 'none' else 'frames'))

f = Findings()
one, two = ovb.backup('one.img', 'none', repository='real'), ovb.backup('two.img', 'none', repository='real')
f.need(os.path.getsize(ovb.archive(one)) == os.path.getsize(ovb.archive(two)), 'both archives have one length')
swap(ovb.archive(one), ovb.archive(two))
for folder, target in ((one, 'one'), (two, 'two')):
    f.disk('the archive of another machine', ovb.spec(folder), target, read(target + '.img'), repo='real', message=LOST % target)
    f.verify('the archive of another machine', ovb.spec(folder), r'disks\.tar', repo='real')
swap(ovb.archive(one), ovb.archive(two))
swap(one + '/index.bin', two + '/index.bin')
for folder, target in ((one, 'one'), (two, 'two')):
    f.disk('the index of another archive', ovb.spec(folder), target, read(target + '.img'), repo='real', message='index')
    f.verify('the index of another archive', ovb.spec(folder), r'index\.bin', repo='real')
swap(one + '/index.bin', two + '/index.bin')
f.need(f.refused + f.warned == 4, 'each is noticed')
for folder, target in ((one, 'one'), (two, 'two')):
    f.need(f.disk('back in place', ovb.spec(folder), target, read(target + '.img'), repo='real'), 'back in place it restores')
f.done('archive and index of an image of the same size exchanged')


# An index whose digests are right and whose content is not.

disks = make_seeds.small_disks()
hostile = Point('hostile', make_sample.make_archive('hostile', 1, make_sample.TIME0, disks), disks, 'full')
m = json.loads(read(hostile.manifest))
m['archive']['id'] = str(make_sample.uuid.UUID(bytes=make_seeds.ARCHIVE))
write(hostile.manifest, json.dumps(m).encode())
for name, data in make_seeds.indexes():
    f = Findings()
    write(hostile.index, data)
    if name.startswith('bad-'):
        f.disk('it', hostile.spec, 'vda', hostile.expected, message=r'hostile/2026-01-01T000000Z/index\.bin: .*index')
        f.need(f.refused + f.warned == 1, 'the index is refused')
    else:
        # It is taken, and is not that of the archive.
        f.disk('it', hostile.spec, 'vda', hostile.expected)
        r = restore('disk', hostile.spec, 'no such disk', TARGET)
        f.need('index.bin: ' not in r.stderr, 'the index is taken', r)
    f.verify('it', hostile.spec, '.')
    f.ran(restore('show', hostile.spec), 'show')
    f.done('sealed index ' + name)


# JSON from somebody who means harm.

f = Findings()
good = json.loads(read(full.manifest))
for name, text in (('empty object', b'{}'), ('array', b'[]'), ('number', b'1'), ('nothing', b''), ('NUL bytes', bytes(1000)), ('not UTF-8', b'{"format": "\xff"}'),
                   ('deep', b'[' * 200000), ('17 MiB', b'{"a": "' + b'x' * (17 << 20) + b'"}'), ('format 2', json.dumps({**good, 'format': 2}).encode()),
                   ('format 1.0', json.dumps({**good, 'format': 1.0}).encode()), ('two formats', b'{"format": 1, "format": 1}'),
                   ('a path as archive', json.dumps({**good, 'archive': {**good['archive'], 'file': 'disks.tar/../../../../../etc/passwd'}}).encode()),
                   ('a short id', json.dumps({**good, 'archive': {**good['archive'], 'id': '0123456'}}).encode()),
                   ('a size out of range', json.dumps(good).replace('"size": %d' % good['archive']['size'], '"size": 1' + '0' * 40).encode())):
    with changed(full.manifest, text):
        where = 'manifest.json: ' + name
        f.verify(where, full.spec, 'manifest')
        f.disk(where, full.spec, 'vda', full.expected, message='manifest')
        f.need(f.refused + f.warned > 0, where + ' is noticed')
        r = restore('list')
        f.need(r.status == 1 and 'manifest.json' in r.stderr and other.vm in r.stdout, where + ': list names it and shows the others', r)
f.done('manifests that are none')

f = Findings()
evil = '\x1b[2J\x07\r\n\x9b31m'
with changed(full.manifest, json.dumps({**good, 'vm': evil, 'job': evil, 'host': evil, 'program': evil, 'notes': [evil], 'kind': evil, 'consistency': evil,
                                        'disks': [{**d, 'target': evil, 'source': evil, 'format': evil} for d in good['disks']]}).encode()):
    for args in (['list'], ['show', full.spec], ['--json', 'list'], ['--json', 'show', full.spec], ['verify', full.spec]):
        r = restore(*args)
        f.ran(r, ' '.join(args))
        f.need(not re.search('[\x00-\x09\x0b-\x1f\x7f-\x9f]', r.stdout + r.stderr), ' '.join(args) + ' prints no control character', r)
        f.need(args[0] != '--json' or r.stdout.isascii(), ' '.join(args) + ' prints ASCII', r)
f.done('control characters in a manifest never reach the terminal')

# And at the end all is as it was.
f = Findings()
for p in everything:
    f.need(restore('verify', p.spec).status == 0, p.spec + ' verifies')
    f.need(f.disk(p.spec, p.spec, 'vda', p.expected), p.spec + ' restores')
f.done('healed: every point verifies and restores again')

tap.done_testing()
