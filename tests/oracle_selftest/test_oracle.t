#!/usr/bin/python3
"""Tests of tests/oracle.py with the samples of make_sample.py; prints TAP."""
import glob
import hashlib
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ORACLE = os.path.join(HERE, '..', 'oracle.py')
sys.path[:0] = [os.path.join(HERE, '..'), HERE]
sys.dont_write_bytecode = True
import make_sample
import oracle

count = failed = 0


def ok(passed, what, why=''):
    global count, failed
    count += 1
    failed += not passed
    print(('ok' if passed else 'not ok'), count, '-', what)
    if not passed and why:
        print('# ' + str(why).strip().replace('\n', '\n# '))
    sys.stdout.flush()


def fails(what, call, *args):
    """The call must refuse; anything but Bad or a plain error is a fault of the oracle."""
    try:
        call(*args)
    except (oracle.Bad, OSError, ValueError, KeyError, TypeError) as e:
        return ok(True, f'{what}: ' + re.sub(r'\S*/oracle_selftest\.[^/]*/', '', str(e))[:120])
    ok(False, what + ': accepted')


def refuses(call, *args):
    try:
        call(*args)
    except (oracle.Bad, OSError, ValueError, KeyError, TypeError):
        return True
    return False


def command(*args):
    return subprocess.run([ORACLE, *args], capture_output=True, text=True)


def read(path):
    with open(path, 'rb') as f:
        return f.read()


def write(path, data):
    with open(path, 'wb') as f:
        f.write(data)


def flipped(data, at, bit=1):
    return data[:at] + bytes([data[at] ^ bit]) + data[at + 1:]


def tree(top):
    h = hashlib.sha256()
    for folder, names, files in sorted(os.walk(top)):
        for name in sorted(files):
            h.update(os.path.relpath(os.path.join(folder, name), top).encode() + b'\0')
            h.update(read(os.path.join(folder, name)))
    return h.hexdigest()


def archive_of(point):
    return [p for p in glob.glob(glob.escape(point) + '/disks.tar*')][0]


# ---- what is right ----

def test_digest():
    ok(oracle.digest(b'').hex() == '99aa06d3014798d86001c324468d497f', 'XXH3-128 of nothing')
    ok(oracle.tar_number(b'\x80' + (9 << 30).to_bytes(11, 'big')) == 9 << 30, 'base-256 number')
    ok(oracle.escape('.a/b.old') == '%2Ea%2Fb%2Eold' == make_sample.escape('.a/b.old'), 'escaped name')


def test_points(top, repo, points):
    for point in points:
        vm, name = point.split('/')[-2:]
        r = command('verify', repo, vm, name)
        ok(r.returncode == 0 and json.loads(r.stdout)['point'] == name, f'verify {vm} {name}', r.stderr)
        r = command('verify-archive', archive_of(point))
        ok(r.returncode == 0, f'verify-archive {vm} {name}', r.stderr)
        dumps = [command('index', '--blocks', p).stdout for p in (point, archive_of(point))]
        ok(dumps[0] == dumps[1] and 'digest' in json.loads(dumps[0])['trailer'] or dumps[0] == dumps[1] != '',
           f'index {vm} {name}')


def test_restore(top, repo):
    target = os.path.join(top, 'restored.img')
    for image in sorted(glob.glob(glob.escape(top) + '/expected/*/*.img')):
        vm, name = os.path.basename(os.path.dirname(image)).split('@')
        disk = os.path.basename(image)[:-4]
        r = command('disk', repo, vm, name, disk, target)
        same = r.returncode == 0 and read(target) == read(image)
        ok(same, f'disk {vm} {name} {disk}', r.stderr)
        point = os.path.join(repo, vm, name)
        kind = json.loads(read(point + '/manifest.json'))['kind']
        r = command('disk-archive', archive_of(point), disk, target)
        if kind == 'full':
            ok(r.returncode == 0 and read(target) == read(image), f'disk-archive {vm} {name} {disk}', r.stderr)
    ok(r.returncode == 1, 'disk-archive refuses a disk that is not all there')


def test_files(top, repo):
    target = os.path.join(top, 'file')
    for point in sorted(glob.glob(repo + '/members-*/*')):
        vm, name = point.split('/')[-2:]
        wrong = []
        for member in json.loads(read(point + '/manifest.json'))['members']:
            for args in (('file', repo, vm, name), ('file-archive', archive_of(point))):
                r = command(*args, member['name'], target)
                if r.returncode != 0 or read(target) != dict(make_sample.MEMBERS)[member['name']]:
                    wrong.append(f'{args[0]} {member["name"]}: {r.stderr}')
        ok(not wrong, f'files of {vm} {name}', '\n'.join(wrong))
    ok(command('file-archive', archive_of(point), 'no such file', target).returncode == 1, 'a file that is not there')


def test_stock_tools(top, repo, points):
    """A full archive needs no more than tar."""
    for point in points:
        archive, vm = archive_of(point), point.split('/')[-2]
        if not glob.glob(glob.escape(point) + '/manifest.json'):
            continue
        for end, tool in (('.bz2', 'bzip2'), ('.xz', 'xz'), ('.zst', 'zstd')):
            if archive.endswith(end):
                r = subprocess.run([tool, '-tq', archive], capture_output=True, text=True)
                ok(r.returncode == 0, f'{tool} -t {vm}', r.stderr)
        out = os.path.join(top, 'out')
        shutil.rmtree(out, ignore_errors=True)
        os.mkdir(out)
        r = subprocess.run(['tar', '-xf', archive, '-C', out], capture_output=True, text=True)
        manifest = json.loads(read(point + '/manifest.json'))
        # tar warns of OPENVIRT.extents, but has nothing to say of a full archive.
        ok(r.returncode == 0 and (manifest['kind'] != 'full' or not r.stderr), f'tar -x {vm}', r.stderr)
        ok(read(out + '/index.bin') == read(point + '/index.bin'), f'tar: index.bin of {vm}')
        if manifest['kind'] == 'full':
            stock_disks(top, point, vm, archive, out, manifest)


def stock_disks(top, point, vm, archive, out, manifest):
    for d in manifest['disks']:
        want = read(os.path.join(top, 'expected', f'{vm}@{os.path.basename(point)}', d['target'] + '.img'))
        ok(read(os.path.join(out, d['member'])) == want, f'tar: {d["target"]} of {vm}')
        if not archive.endswith('.zst'):
            with tarfile.open(archive) as t:
                ok(t.extractfile(d['member']).read() == want, f'tarfile: {d["target"]} of {vm}')


# ---- what is wrong ----

def test_flips(repo, points):
    for point in points:
        vm, name = point.split('/')[-2:]
        for file in sorted(os.listdir(point)):
            path = os.path.join(point, file)
            data = read(path)
            for at in (0, len(data) // 2, len(data) - 1):
                write(path, flipped(data, at))
                fails(f'{vm} {name} {file} byte {at}', oracle.verify_point, repo, vm, name)
            write(path, data)
        ok(oracle.verify_point(repo, vm, name), f'{vm} {name} is sound again')


def test_bare_flips(top, point):
    """Without SHA256SUMS to help. What tells nothing of the disks (owner, time of a header) is under a checksum too."""
    path = os.path.join(top, 'bare')
    data = read(archive_of(point))
    missed = []
    spots = sorted({int.from_bytes(hashlib.sha256(b'%d' % n).digest()[:8], 'big') % len(data) for n in range(20)}
                   | {0, 300, len(data) - 1, len(data) - 5})
    for at in spots:
        # The low bits of a bzip2 stream's last byte mean nothing.
        write(path, flipped(data, at, 128 if at == len(data) - 1 else 4))
        if not refuses(oracle.verify_archive, path):
            missed.append(at)
    ok(not missed, f'{len(spots)} flips in the bare archive of {point.split("/")[-2]}', missed)
    cut = 0
    for length in (0, 1, 511, 512, len(data) // 2, len(data) - 512, len(data) - 1):
        write(path, data[:length])
        cut += refuses(oracle.verify_archive, path)
    write(path, data + b'\0')
    ok(cut == 7 and refuses(oracle.verify_archive, path), f'cut or longer archive of {point.split("/")[-2]}')


def test_references(repo):
    for vm, gone, point in (('pruned', '2026-01-01T000000Z', '2026-01-01T010000Z'),
                            ('replaced', '2026-01-01T030000Z', '2026-01-01T040000Z')):
        away = os.path.join(repo, 'away')
        os.rename(os.path.join(repo, vm, gone), away)
        fails(f'{vm} without {gone}', oracle.verify_point, repo, vm, point)
        os.rename(away, os.path.join(repo, vm, gone))
        path = archive_of(os.path.join(repo, vm, gone))
        data = read(path)
        write(path, flipped(data, len(data) // 3))
        fails(f'{vm} with a flip in {gone}', oracle.verify_point, repo, vm, point)
        write(path, data)


# ---- sealed indexes that break one rule ----

def sections(data):
    count = min(struct.unpack_from('<I', data, 12)[0], (len(data) - 1024) // 64)
    return [list(struct.unpack_from('<IIQQQ', data, 512 + 64 * n)) for n in range(count)]


def seal(data):
    """All digests of an index as they would be had it been written so."""
    b = bytearray(data)
    table = sections(b)
    for n, (_, _, at, length, _) in enumerate(table):
        b[512 + 64 * n + 32:512 + 64 * n + 48] = oracle.digest(b[at:at + length])
    b[496:512] = oracle.digest(bytes(b[:496]) + bytes(b[512:512 + 64 * len(table)]))
    b[-512 + 56:-512 + 72] = b[496:512]
    b[-16:] = oracle.digest(b[-512:-16])
    return bytes(b)


def patched(data, at, form, *values):
    b = bytearray(data)
    struct.pack_into(form, b, at, *values)
    return seal(b)


def in_section(data, kind, number, record, field, form, value):
    """Patch a field of a record; `value` may be a function of the old one."""
    for k, n, at, length, records in sections(data):
        if (k, n) == (kind, number):
            at += length // records * (record % records) + field
            old = struct.unpack_from(form, data, at)
            return patched(data, at, form, *([value(old[0])] if callable(value) else [value]))
    raise KeyError((kind, number))


def in_table(data, kind, number, field, form, value):
    n = [s[:2] for s in sections(data)].index([kind, number])
    at = 512 + 64 * n + field
    old = struct.unpack_from(form, data, at)
    return patched(data, at, form, value(old[0]) if callable(value) else value)


def bad_headers(d):
    yield 'magic', patched(d, 0, '8s', b'OVBINDEY')
    yield 'version', patched(d, 8, '<I', 2)
    yield 'number of sections', patched(d, 12, '<I', 65537)
    yield 'archive id', patched(d, 16, '16s', bytes(16))
    yield 'codec', patched(d, 40, '<I', 4)
    yield 'codec of another frame maximum', patched(d, 40, '<I', 1)
    yield 'window', patched(d, 48, '<I', 4096)
    yield 'frame maximum', patched(d, 52, '<I', 4194305)
    yield 'frame maximum below a frame', patched(d, 52, '<I', 65536)
    yield 'length', patched(d, 56, '<Q', len(d) + 512)
    yield 'secret is under the digest', flipped(d, 100)
    yield 'trailer magic', patched(d, len(d) - 512, '8s', b'OVBTRAIM')
    yield 'trailer version', patched(d, len(d) - 504, '<I', 2)
    yield 'trailer codec', patched(d, len(d) - 500, '<I', 0)
    yield 'trailer id', patched(d, len(d) - 496, '16s', bytes(16))
    yield 'trailer length', patched(d, len(d) - 480, '<Q', len(d) - 512)
    yield 'trailer frame', patched(d, len(d) - 472, '<Q', 1)
    yield 'trailer tar offset', patched(d, len(d) - 464, '<Q', 512)
    yield 'cut', d[:-512]
    yield 'longer', d + bytes(512)
    yield 'no index', b''


def bad_tables(d):
    yield 'unknown type', in_table(d, 6, 0, 0, '<I', 8)
    yield 'twice', in_table(d, 3, 1, 4, '<I', 0)
    yield 'missing', in_table(d, 2, 0, 0, '<I', 0x8000)
    yield 'number of a lone section', in_table(d, 4, 0, 4, '<I', 1)
    yield 'view of no disk', in_table(d, 3, 1, 4, '<I', 7)
    yield 'blocks of no source', in_table(d, 5, 1, 4, '<I', 99)
    yield 'overlap', in_table(d, 4, 0, 8, '<Q', lambda o: o - 8)
    yield 'overlaps the header', in_table(d, 1, 0, 8, '<Q', 8)
    yield 'unaligned', in_table(d, 4, 0, 8, '<Q', lambda o: o + 4)
    yield 'overlaps the trailer', in_table(d, 6, 0, 8, '<Q', len(d) - 512)
    yield 'length is not records times size', in_table(d, 4, 0, 24, '<Q', lambda n: n + 1)
    b = flipped(d, 512 + 64 * sections(d).index(sections(d)[0]) + 32)
    yield 'section digest', b[:496] + oracle.digest(b[:496] + b[512:512 + 64 * len(sections(b))]) + b[512:]


def bad_records(d):
    yield 'name not terminated', in_section(d, 1, 0, 0, 0, '256s', b'a' * 256)
    yield 'name not UTF-8', in_section(d, 1, 0, 0, 0, '2s', b'\xff\0')
    yield 'name empty', in_section(d, 1, 0, 0, 256, 'B', 0)
    yield 'name with /', in_section(d, 1, 0, 0, 256, 'B', 47)
    yield 'name ..', in_section(d, 1, 0, 0, 256, '3s', b'..\0')
    yield 'member index.bin', in_section(d, 1, 0, 0, 256, '10s', b'index.bin\0')
    yield 'disk too small', in_section(d, 1, 0, 0, 512, '<Q', 65536)
    yield 'source of no disk', in_section(d, 2, 0, 0, 16, '<I', 99)
    yield 'own source is missing', in_section(d, 2, 0, 0, 0, '16s', b'x' * 16)
    yield 'view record out of order', in_section(d, 3, 0, 1, 0, '<Q', 0)
    yield 'view record overlaps', in_section(d, 3, 0, 0, 8, '<Q', lambda n: n + 512)
    yield 'view record of no length', in_section(d, 3, 0, 0, 8, '<Q', 0)
    yield 'view record outside', in_section(d, 3, 0, -1, 8, '<Q', lambda n: n + 512)
    yield 'view record that wraps', in_section(d, 3, 0, -1, 8, '<Q', 2**64 - 512)
    yield 'view of no source', in_section(d, 3, 0, 0, 16, '<I', 99)
    yield 'view of no kind', in_section(d, 3, 0, 0, 20, '<I', 3)
    yield 'zero record with a source', in_section(d, 3, 0, 0, 20, '<I', 2)
    yield 'view of bytes that are not stored', in_section(d, 3, 0, 0, 16, '<I', 1)
    yield 'frame offset', in_section(d, 4, 0, 1, 0, '<Q', lambda n: n + 1)
    yield 'frame tar offset', in_section(d, 4, 0, 1, 8, '<Q', lambda n: n + 512)
    yield 'frame first block', in_section(d, 4, 0, 2, 16, '<Q', 1)
    yield 'frame stored length', in_section(d, 4, 0, -1, 24, '<I', lambda n: n + 1)
    yield 'frame raw length', in_section(d, 4, 0, 2, 28, '<I', lambda n: n + 512)
    yield 'frame of too many blocks', in_section(d, 4, 0, 2, 32, '<I', lambda n: n + 1000)
    yield 'frame of no source', in_section(d, 4, 0, 2, 36, '<I', 99)
    yield 'meta frame with blocks', in_section(d, 4, 0, 0, 32, '<I', 1)
    yield 'block out of order', in_section(d, 5, 0, 1, 0, '<Q', 0)
    yield 'block outside', in_section(d, 5, 0, -1, 0, '<Q', 1 << 40)
    yield 'block not aligned', in_section(d, 5, 0, -1, 0, '<Q', lambda n: n - 1)
    yield 'block too long', in_section(d, 5, 0, 0, 8, '<I', 65537)
    yield 'block of no length', in_section(d, 5, 0, 0, 8, '<I', 0)
    yield 'block crosses a window', in_section(d, 5, 0, 0, 0, '<Q', 512)
    yield 'block flags', in_section(d, 5, 0, 0, 12, '<I', 2)
    yield 'small member in no frame', in_section(d, 6, 0, 0, 288, '<Q', 1 << 20)
    yield 'small member outside its frame', in_section(d, 6, 0, 0, 264, '<Q', 1 << 40)
    yield 'small member that overlaps', in_section(d, 6, 0, 1, 256, '<Q', 512)
    yield 'small member that is not aligned', in_section(d, 6, 0, 0, 256, '<Q', lambda n: n + 1)
    yield 'small member of another frame', in_section(d, 6, 0, 0, 288, '<Q', 1)
    yield 'small member that is too long', in_section(d, 6, 0, -1, 264, '<Q', 67108865)
    yield 'small member that goes on in a disk', in_section(d, 6, 0, -1, 264, '<Q', lambda n: n + 512)
    yield 'small member with the name of a disk', in_section(d, 6, 0, 0, 0, '8s', b'vda.img\0')
    yield 'small member with the name of another', in_section(d, 6, 0, 1, 0, '11s', b'domain.xml\0')
    yield 'small member with /', in_section(d, 6, 0, 0, 0, 'B', 47)


def test_sealed(repo):
    data = read(os.path.join(repo, 'codec-zstd/2026-01-01T000000Z/index.bin'))
    ok(seal(data) == data and oracle.load_index(data), 'sealing changes nothing')
    b = in_section(data, 3, 0, 0, 8, '<Q', lambda n: n - 512)
    ok(oracle.load_index(b), 'a sealed index that is right is read')
    for kind in (bad_headers, bad_tables, bad_records):
        for what, bad in kind(data):
            try:
                oracle.load_index(bad)
            except oracle.Bad as e:
                ok(True, f'index: {what}: {str(e)[:90]}')
            except Exception as e:
                ok(False, f'index: {what}', repr(e))
            else:
                ok(False, f'index: {what}: accepted')


# ---- archives by a writer that breaks one rule ----

class WrongLongName(make_sample.Archive):
    def add_small(self, name, data):
        self.meta += make_sample.pax({'path': name})
        super().add_small(name, data)


class WrongMode(make_sample.Archive):
    def add_small(self, name, data):
        super().add_small(name, data)
        at = self.meta.index(b'0000600')
        self.meta[at:at + 7] = b'0000644'
        sum_at = at - 100 + 148
        self.meta[sum_at:sum_at + 6] = b'%06o' % (int(self.meta[sum_at:sum_at + 6], 8) + 8)


class WrongMap(make_sample.Archive):
    def add_sparse(self, disk, extents):
        (o, n), *rest = extents
        super().add_sparse(disk, [(o, n - 512), (o + n - 512, 512)] + rest)


def wrong_archive(top, spoil, early=None, delta=False):
    """An archive whose index is sealed after `spoil` has changed what goes into it."""
    disks = make_sample.first_disks('wrong')[1:]
    disks[0].clear(0, make_sample.W, make_sample.HOLE)
    if delta:
        make_sample.make_archive('wrong/1', 3, 0, disks)
        disks[0].write(0, b'y' * 512)
    kept = make_sample.Archive
    make_sample.Archive = early or kept
    try:
        a = make_sample.make_archive('wrong/2', 3, 0, disks, make_sample.SMALL)
    finally:
        make_sample.Archive = kept
    spoil(a)
    a.finish()
    path = os.path.join(top, 'wrong')
    write(path, bytes(a.out))
    return path


def test_wrong(top):
    def block(n, value):
        def spoil(a):
            b = list(a.blocks[0][0])
            b[n] = value(b[n])
            a.blocks[0][0] = tuple(b)
        return spoil

    def small(a):
        a.small[0] = a.small[0][:3] + (bytes(16),) + a.small[0][4:]

    def entries(a):
        t = list(a.disks[0])
        t[4] += 1
        a.disks[0] = tuple(t)

    def data_at(a):
        t = list(a.disks[0])
        t[3] += 512
        a.disks[0] = tuple(t)

    def view(a):
        o, n, s, k = a.views[0][-1]
        a.views[0][-1] = o, n - 512, s, k

    def pad(a):
        a.meta += bytes(512)

    def nothing(a):
        pass

    ok(oracle.verify_archive(wrong_archive(top, nothing)), 'archive with nothing wrong')
    ok(oracle.verify_archive(wrong_archive(top, nothing, delta=True)), 'delta with nothing wrong')
    for what, spoil in (('digest of a block', block(3, lambda d: bytes(16))), ('zero flag', block(2, lambda f: 1 - f)),
                        ('digest of a small member', small), ('entries of the map', entries),
                        ('offset of the data', data_at), ('view hides a block', view), ('more padding', pad)):
        fails('archive: ' + what, oracle.verify_archive, wrong_archive(top, spoil))
    fails('archive: small member with a pax header that it does not need', oracle.verify_archive, wrong_archive(top, nothing, WrongLongName))
    fails('archive: small member of another mode', oracle.verify_archive, wrong_archive(top, nothing, WrongMode))
    fails('archive: map whose entries touch', oracle.verify_archive, wrong_archive(top, nothing, WrongMap))


def main():
    test_digest()
    with tempfile.TemporaryDirectory(prefix='oracle_selftest.') as top:
        made = subprocess.run([os.path.join(HERE, 'make_sample.py'), top], capture_output=True, text=True)
        ok(made.returncode == 0, 'make_sample.py', made.stderr)
        repo, again = os.path.join(top, 'repo'), os.path.join(top, 'again')
        make_sample.make(again)
        ok(tree(repo) == tree(again + '/repo') and tree(top + '/expected') == tree(again + '/expected'),
           'the sample is always the same')
        shutil.rmtree(again)
        points = sorted(p for p in glob.glob(repo + '/*/*') if oracle.POINT_NAME.fullmatch(os.path.basename(p)))
        test_points(top, repo, points)
        test_restore(top, repo)
        test_files(top, repo)
        test_stock_tools(top, repo, points)
        few = [p for p in points if '/codec-zstd/' in p or '/pruned/' in p or '/odd' in p or '/replaced/' in p]
        test_flips(repo, few)
        for codec in ('none', 'bzip2', 'xz', 'zstd'):
            test_bare_flips(top, f'{repo}/codec-{codec}/2026-01-02T000000Z-2')
        test_references(repo)
        test_sealed(repo)
        test_wrong(top)
    print(f'1..{count}')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
