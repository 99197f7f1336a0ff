#!/usr/bin/python3 -B
"""Small members, the files that stand at the head of an archive: they are listed, written, checked and exported, stock tar extracts them, damage to
one is told by its name, and an archive that has lost its index still has them.  And a delta without its index gives the blocks it has."""
import json
import os
import random
import shutil
import sys
import tarfile

sys.path[0:0] = [os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', d) for d in ('lib', 'oracle_selftest', '.')]
import make_sample
import oracle
import ovb
import tap

W, MEMBERS = make_sample.W, dict(make_sample.MEMBERS)
SHORT = [n for n in MEMBERS if n != 'nvram.fd']


def read(path):
    with open(path, 'rb') as f:
        return f.read()


def write(path, data):
    with open(path, 'wb') as f:
        f.write(data)


def restore(folder, *args):
    return tap.run([ovb.RESTORE, '--repository', ovb.repository_of(folder), *args])


def bare(path, *args):
    return tap.run([ovb.RESTORE, '--archive', path, *args])


def wrong_files(run, names=MEMBERS):
    """How what a command gives for each file differs from the file."""
    wrong = []
    for name in names:
        r = run('file', name)
        if r.status != 0 or r.stdout_bytes != MEMBERS[name]:
            wrong.append('%s: status %s, %d bytes, %s' % (name[:40], r.status, len(r.stdout_bytes), r.stderr[:300]))
    return wrong


def of_point(folder):
    return lambda command, *args: restore(folder, command, ovb.spec(folder), *args)


def of_archive(path):
    return lambda command, *args: bare(path, command, *args)


def lose_index(folder, archive='alone'):
    """A copy of the archive without its end, where the index is."""
    data = read(ovb.archive(folder))
    ix = oracle.load_index(read(os.path.join(folder, 'index.bin')))
    write(archive, data[:ix.trailer.frame_at + 100])
    return archive, ix


# What there is, and getting it.

def test_show(what, folder):
    rows = [{'name': n, 'size': len(d)} for n, d in MEMBERS.items()]
    r = restore(folder, 'show', ovb.spec(folder))
    tap.is_([line.split()[1] for line in r.stdout.splitlines() if line.startswith('file ')], [n + ':' for n in 'empty one domain.xml nvram.fd'.split()] +
            ['ä' * 110 + '.xml:', 'also', 'even:'], what + ': show lists them')
    tap.like(r.stdout, r'^file +domain\.xml: 600 B$', what + ': with their sizes')
    for who, r in (('show --json', restore(folder, '--json', 'show', ovb.spec(folder))), ('show --json of the archive', bare(ovb.archive(folder), '--json', 'show')),
                   ('list --json of the archive', bare(ovb.archive(folder), '--json', 'list'))):
        tap.is_(json.loads(r.stdout)['members'], rows, '%s: %s' % (what, who))
    tap.like(bare(ovb.archive(folder), 'show').stdout, r'^file +nvram\.fd: 5\.2 MB$', what + ': show of the archive')


def test_file(what, folder):
    tap.is_(wrong_files(of_point(folder)), [], what + ': file gives each on standard output')
    tap.is_(wrong_files(of_archive(ovb.archive(folder))), [], what + ': and from the bare archive')
    r = restore(folder, 'file', ovb.spec(folder), 'domain.xml', 'out')
    tap.is_((r.status, r.stdout, r.stderr), (0, 'out: 600 B\n', ''), what + ': to a file')
    tap.ok(read('out') == MEMBERS['domain.xml'] and os.stat('out').st_mode & 0o777 == 0o600, what + ': which is for its owner')
    r = restore(folder, 'file', ovb.spec(folder), 'one', 'out')
    tap.ok(r.status == 1 and 'out exists: choose another name, or --force' in r.stderr, what + ': a file that exists is refused')
    tap.ok(read('out') == MEMBERS['domain.xml'] and not os.path.exists('out.partial'), what + ': and kept')
    r = bare(ovb.archive(folder), '--force', 'file', 'one', 'out')
    tap.is_((r.status, read('out')), (0, b'1'), what + ': --force replaces it; the archive needs no point')
    tap.is_(bare(ovb.archive(folder), 'file', 'x', 'one', '-').stdout, '1', what + ': an archive and a point; - is standard output')
    os.unlink('out')
    r = restore(folder, 'file', ovb.spec(folder), 'nvram', 'out')
    tap.ok(r.status == 1 and 'has no file "nvram"; it has: empty one domain.xml nvram.fd' in r.stderr, what + ': a name that is not there: says which are')
    tap.ok(not os.path.exists('out'), what + ': and nothing is made')
    r = restore(folder, 'file', ovb.spec(folder))
    tap.ok(r.status == 2 and 'file takes POINT NAME [TARGET]' in r.stderr, what + ': wrong usage')
    for name in 'empty', 'nvram.fd':
        r = ovb.oracle('file', folder, name, 'out')
        tap.ok(r.status == 0 and read('out') == MEMBERS[name], '%s: the second reader has the same %s' % (what, name))
        os.unlink('out')


def test_full_pipe(folder):
    with open('/dev/full', 'wb') as full:
        child = tap.start([ovb.RESTORE, '--repository', ovb.repository_of(folder), 'file', ovb.spec(folder), 'nvram.fd'], stdout=full, stderr=-1)
        err = child.communicate()[1].decode()
    tap.ok(child.returncode == 1 and 'standard output: No space left' in err, 'standard output that is full: an error')


def test_stock(what, folder):
    for tool in 'tar', 'bsdtar':
        os.mkdir('out')
        r = tap.run([tool, '-xf', ovb.archive(folder), '-C', 'out'], env={'LC_ALL': 'C.UTF-8'})
        tap.is_((r.status, r.stderr), (0, ''), '%s: %s extracts it' % (what, tool))
        tap.is_([n[:40] for n in MEMBERS if not os.path.exists('out/' + n) or read('out/' + n) != MEMBERS[n]], [], '%s: %s has each' % (what, tool))
        shutil.rmtree('out')
    if not ovb.archive(folder).endswith('.zst'):
        with tarfile.open(ovb.archive(folder)) as t:
            tap.is_([n[:40] for n in MEMBERS if t.extractfile(n).read() != MEMBERS[n]], [], what + ': tarfile has each')


def test_export(what, folder):
    image = os.path.join('expected', os.path.basename(os.path.dirname(folder)) + '@' + os.path.basename(folder), 'vda.img')
    have = {m['name'] for m in ovb.manifest(folder)['members']}
    for name in 'out.tar', 'out.tar.zst':
        r = restore(folder, 'export', ovb.spec(folder), name)
        tap.is_((r.status, r.stderr), (0, ''), '%s: export to %s' % (what, name))
        tap.is_(wrong_files(of_archive(name), have), [], '%s: %s has them' % (what, name))
        tap.is_([m['name'] for m in json.loads(bare(name, '--json', 'show').stdout)['members']], [m['name'] for m in ovb.manifest(folder)['members']],
                '%s: %s has no others' % (what, name))
        try:
            tap.ok(oracle.verify_archive(name), '%s: the second reader says that %s is right' % (what, name))
        except oracle.Bad as e:
            tap.is_(str(e), '', '%s: the second reader says that %s is right' % (what, name))
        tap.is_(bare(name, 'verify').status, 0, '%s: %s verifies' % (what, name))
        tap.ok(bare(name, 'disk', 'vda', 'out.img').status == 0 and read('out.img') == read(image), '%s: and has the disk' % what)
        for f in name, 'out.img':
            os.unlink(f)


# Damage.

def test_damage(what, folder):
    """A byte changed in each part of each file: it is told by its name, and the others are not touched."""
    rng, data = random.Random(what), read(ovb.archive(folder))
    ix = oracle.load_index(read(os.path.join(folder, 'index.bin')))
    missed, wrong = [], []
    for m in ix.small:
        for at in sorted({0, m.length // 2, max(m.length - 1, 0), rng.randrange(max(m.length, 1))} & set(range(m.length))):
            f = next(n for n, f in enumerate(ix.frames) if f.tar_at <= m.tar_at + at < f.tar_at + f.raw)
            frame = ix.frames[f]
            # Compressed, a byte in the middle of the frame; all that is in the frame is lost with it.
            place = frame.at + (m.tar_at + at - frame.tar_at if ix.codec == 0 else frame.stored // 2)
            hit = [m.name] if ix.codec == 0 else [o.name for o in ix.small if o.length and o.tar_at < frame.tar_at + frame.raw and o.tar_at + o.length > frame.tar_at]
            write('damaged', data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1:])
            r = bare('damaged', 'verify')
            found = [name for name in MEMBERS if 'damaged: file %s: ' % name in r.stderr]
            if r.status != 1 or found != hit:
                missed.append('%s at %d: %s instead of %s: %s' % (m.name[:40], at, found, hit, r.stderr[:500]))
            r = bare('damaged', 'file', m.name, 'out')
            if r.status != 1 or 'file ' + m.name not in r.stderr or os.path.exists('out') or os.path.exists('out.partial'):
                wrong.append('%s at %d: %s' % (m.name[:40], at, r.stderr[:300]))
            wrong += wrong_files(of_archive('damaged'), [n for n in SHORT if n not in hit])
            r = bare('damaged', 'export', 'out.tar')
            if r.status != 1 or 'file ' not in r.stderr or os.path.exists('out.tar'):
                wrong.append('export with %s: %s' % (m.name[:40], r.stderr[:300]))
    tap.is_(missed, [], what + ': verify names what is damaged, and only that')
    tap.is_(wrong, [], what + ': file and export refuse it, and the others are written')
    copy = shutil.copytree('repo', 'copy')
    path = os.path.join(copy, os.path.relpath(ovb.archive(folder), 'repo'))
    write(path, read('damaged'))
    r = tap.run([ovb.RESTORE, '--repository', './' + copy, '--json', 'verify', ovb.spec(folder)])
    events = [json.loads(line) for line in r.stdout.splitlines()]
    tap.ok(r.status == 1 and any(e['event'] == 'damaged' and 'file even' in e['error'] for e in events), what + ': verify --json of the point')
    shutil.rmtree(copy)


# Without the index.

def test_lost(what, folder):
    alone, ix = lose_index(folder)
    tap.is_(wrong_files(of_archive(alone)), [], what + ', without its index: each file is there')
    r = bare(alone, 'file', 'domain.xml')
    tap.like(r.stderr, 'warning: .*without digests', what + ', without its index: with a warning')
    tap.is_([m['name'] for m in json.loads(bare(alone, '--json', 'show').stdout)['members']], list(MEMBERS), what + ', without its index: show')
    image = os.path.join('expected', os.path.basename(os.path.dirname(folder)) + '@' + os.path.basename(folder), 'vda.img')
    tap.ok(bare(alone, 'disk', 'vda', 'out.img').status == 0 and read('out.img') == read(image), what + ', without its index: the disk is there')
    os.unlink('out.img')
    r = bare(alone, 'export', 'out.tar')
    tap.is_(r.status, 0, what + ', without its index: export')
    tap.is_(wrong_files(of_archive('out.tar')), [], what + ', without its index: it has them')
    os.unlink('out.tar')
    # Cut in the middle of the large one: what is before it is there.
    m = next(m for m in ix.small if m.name == 'nvram.fd')
    frame = next(f for f in ix.frames if f.tar_at <= m.tar_at + m.length // 2 < f.tar_at + f.raw)
    write(alone, read(ovb.archive(folder))[:frame.at + frame.stored // 2])
    before = [n.name for n in ix.small if n.tar_at + n.length <= (m.tar_at if ix.codec == 0 else frame.tar_at)]
    tap.is_(wrong_files(of_archive(alone), before), [], '%s, cut in a file: the %d before it are there' % (what, len(before)))
    r = bare(alone, 'file', 'nvram.fd')
    tap.ok(r.status == 1 and r.stdout == '', what + ', cut in a file: that one is not')


def own_image(folder, disk, expected):
    """The disk as far as the delta has it, and zeroes."""
    ix = oracle.load_index(read(os.path.join(folder, 'index.bin')))
    n = ix.disk_number(disk)
    out, end = bytearray(len(expected)), 0
    for b in ix.blocks.get(ix.own_source(n), []):
        end = b.offset + b.length
        out[b.offset:end] = expected[b.offset:end]
    return bytes(out), end


def test_delta(what, folder, disks=('vda', 'vdb')):
    """The index of a delta is lost: what is stored in it can be had, and nothing else is made up."""
    alone, ix = lose_index(folder)
    point = os.path.basename(os.path.dirname(folder)) + '@' + os.path.basename(folder)
    have = [m['name'] for m in ovb.manifest(folder)['members']]
    tap.is_([m['name'] for m in json.loads(bare(alone, '--json', 'show').stdout)['members']], have, what + ': its files are there')
    copy = shutil.copytree('repo', 'copy')
    write(os.path.join(copy, os.path.relpath(ovb.archive(folder), 'repo')), read(alone))
    os.unlink(os.path.join(copy, os.path.relpath(folder, 'repo'), 'index.bin'))
    for disk in disks:
        expected = read(os.path.join('expected', point, disk + '.img'))
        own, end = own_image(folder, disk, expected)
        r = bare(alone, 'disk', disk, 'out.img')
        tap.ok(r.status == 1 and 'no block of the archive holds this part' in r.stderr and not os.path.exists('out.img'),
               '%s: %s alone cannot be restored' % (what, disk))
        tap.like(r.stderr, 'of disk %s only what changed since another archive is here, and its size is not known' % disk, what + ': and it says so')
        r = bare(alone, '--keep-going', 'disk', disk, 'out.img')
        if not tap.ok(r.status == 1 and read('out.img') == own[:end], '%s: %s with --keep-going: what is in it' % (what, disk)):
            tap.diag(r.stderr)
        os.unlink('out.img')
        r = tap.run([ovb.RESTORE, '--repository', './' + copy, '--keep-going', 'disk', ovb.spec(folder), disk, 'out.img'])
        if not tap.ok(r.status == 1 and read('out.img') == own and 'size is not known' not in r.stderr,
                      '%s: %s with its manifest: has its size' % (what, disk)):
            tap.diag(r.stderr)
        os.unlink('out.img')
    shutil.rmtree(copy)


def main():
    for codec, name in enumerate(make_sample.NAMES):
        make_sample.make_repository('.')
        make_sample.members_vm('.', codec)
        full, delta = ovb.points('repo')
        for what, folder in ((name, full), (name + ' delta', delta)):
            r = ovb.verify(folder)
            tap.is_((r.status, r.stderr), (0, ''), what + ': verify')
            r = ovb.oracle('verify', folder)
            tap.is_((r.status, r.stderr), (0, ''), what + ': the second reader')
            test_export(what, folder)
        if name in ('none', 'zstd'):
            test_show(name, full)
            test_file(name, full)
        test_stock(name, full)
        test_damage(name, full)
        test_lost(name, full)
        test_delta(name + ' delta', delta)
        if name == 'zstd':
            test_full_pipe(full)
        shutil.rmtree('repo')
    # Of an archive that replaces others, only its own blocks count.
    make_sample.make_repository('.')
    make_sample.replaced_vm('.')
    for n, folder in enumerate(ovb.points('repo')):
        if n == 0:
            test_delta('replacing', folder, ['vda'])
    tap.done_testing()


main()
