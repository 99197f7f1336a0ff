#!/usr/bin/python3
"""Make a sample repository, written from common/FORMAT.md alone and always the same.

  make_sample.py DIR

writes DIR/repo and, for each listed point, DIR/expected/<vm>@<point>/<disk>.img (<vm> as its folder is called).

  codec-none, codec-bzip2, codec-xz, codec-zstd
             a full point, then two increments in the same codec; the last adds a disk and grows another
  odd%20name%2Eold
             names at their limits, a disk of no data, a disk of size 0, no small members
  pruned     an increment whose full point is pruned, but whose archive stays; and what a dead writer left
  members-none, members-bzip2, members-xz, members-zstd
             small members of all lengths, one of which spans frames, at the head of a full point and of an increment
  replaced   the first two points are gone; the third holds their blocks, the fourth refers to them
"""
import bz2
import hashlib
import json
import lzma
import os
import struct
import subprocess
import sys
import time
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
sys.dont_write_bytecode = True
from oracle import digest  # the binding of libxxhash only

W = 65536
NONE32, NONE64 = 2**32 - 1, 2**64 - 1
NAMES = ['none', 'bzip2', 'xz', 'zstd']
FILES = ['disks.tar', 'disks.tar.bz2', 'disks.tar.xz', 'disks.tar.zst']
LEVELS = [0, 1, 1, 3]
HOLE, ZERO = 'hole', 'zero'
TIME0 = 1767225600  # 2026-01-01T00:00:00Z


def noise(label, length):
    return hashlib.shake_256(label.encode()).digest(length)


def content(label, length):
    """Half noise, half text, so that frames are of many lengths."""
    line = (label + ' all work and no play makes a dull disk\n').encode()
    out = bytearray(line * (length // len(line) + 1))[:length]
    for at in range(0, length, 16384):
        out[at:at + 2048] = noise(f'{label}/{at}', 2048)
    return bytes(out[:length])


def up(n, unit):
    return -(-n // unit) * unit


def windows(extents):
    for offset, length in extents:
        while length:
            n = min(length, W - offset % W)
            yield offset, n
            offset, length = offset + n, length - n


def merge(extents):
    out = []
    for offset, length in sorted(extents):
        if out and sum(out[-1]) >= offset:
            out[-1] = out[-1][0], max(sum(out[-1]), offset + length) - out[-1][0]
        else:
            out.append((offset, length))
    return out


# ---- a disk and where its content comes from ----

class Disk:
    def __init__(self, target, size):
        self.target, self.member, self.size = target, target + '.img', size
        self.image = bytearray(size)
        self.segments = []      # (offset, end, source or ZERO), rising
        self.changed = []       # extents to be stored by the next archive
        self.stored = False     # whether an archive has it already

    def overlay(self, offset, length, what):
        end, out = offset + length, []
        for b, e, w in self.segments:
            if b < min(e, offset):
                out.append((b, min(e, offset), w))
            if max(b, end) < e:
                out.append((max(b, end), e, w))
        if what != HOLE:
            out.append((offset, end, what))
        self.segments = sorted(out, key=lambda s: s[0])

    def write(self, offset, data):
        self.image[offset:offset + len(data)] = data
        self.overlay(offset, len(data), None)
        self.changed.append((offset, len(data)))

    def clear(self, offset, length, what):
        self.image[offset:offset + length] = bytes(length)
        self.overlay(offset, length, what)

    def grow(self, size):
        self.image.extend(bytes(size - self.size))
        self.size = size

    def claim(self, source):
        """The changes now have a source. Returns the extents to store."""
        self.segments = [(b, e, source if w is None else w) for b, e, w in self.segments]
        extents, self.changed, self.stored = merge(self.changed), [], True
        return extents


# ---- tar ----

def header(name, size, kind=b'0', mode=0o600):
    number = b'%011o\0' % size if size < 8 << 30 else b'\x80' + size.to_bytes(11, 'big')
    h = bytearray(struct.pack('100s8s8s8s12s12s8sc100s6s2s247x', name, b'%07o' % mode, b'%07o' % 0, b'%07o' % 0,
                              number, b'%011o' % TIME0, b' ' * 8, kind, b'', b'ustar', b'00'))
    h[148:156] = b'%06o\0 ' % sum(h)
    return bytes(h)


def pax(records):
    text = b''
    for key, value in records.items():
        body = f' {key}={value}\n'.encode()
        n = len(body) + 1
        while len(str(n)) + len(body) != n:
            n += 1
        text += b'%d' % n + body
    return header(b'PaxHeaders/member', len(text), b'x') + text + bytes(-len(text) % 512)


# ---- archive ----

class Archive:
    def __init__(self, label, codec, when):
        self.id, self.secret = noise('id ' + label, 16), noise('secret ' + label, 192)
        self.codec, self.level, self.time = codec, LEVELS[codec], when
        self.most = W * max(1, (self.level * 100000 - 19) // W) if codec == 1 else 4194304
        self.out, self.raw, self.meta = bytearray(), 0, bytearray()
        self.frames, self.disks, self.sources = [], [], []
        self.views, self.blocks, self.small, self.replaced = [], {}, [], []

    def compress(self, raw):
        if self.codec == 0:
            return raw
        if self.codec == 1:
            return bz2.compress(raw, self.level)
        if self.codec == 2:
            return lzma.compress(raw, lzma.FORMAT_XZ, lzma.CHECK_CRC64, preset=self.level)
        cmd = ['zstd', '-qc', '--check', f'-{self.level}', '--single-thread', f'--stream-size={len(raw)}']
        return subprocess.run(cmd, input=raw, capture_output=True, check=True).stdout

    def frame(self, raw, first=0, blocks=0, source=NONE32):
        stored = self.compress(bytes(raw))
        self.frames.append((len(self.out), self.raw, first, len(stored), len(raw), blocks, source))
        self.out += stored
        self.raw += len(raw)

    def flush(self):
        raw, self.meta = self.meta, bytearray()
        for at in range(0, len(raw), self.most):
            self.frame(raw[at:at + self.most])

    def tell(self):
        return self.raw + len(self.meta)

    def add_small(self, name, data):
        short = name.encode()
        if len(short) > 100:
            self.meta += pax({'path': name})
            short = short[:80].decode(errors='ignore').encode()
        self.meta += header(short, len(data)) + data + bytes(-len(data) % 512)
        self.small.append((name.encode(), self.tell() - up(len(data), 512), len(data), digest(data, self.secret)))

    def frame_at(self, at):
        return next(n for n, f in enumerate(self.frames) if f[1] <= at < f[1] + f[4])

    def source(self, key):
        if key not in self.sources:
            self.sources.append(key)
        return self.sources.index(key)

    def add_blocks(self, source, pieces, before=None, after=None):
        """Data frames of blocks, in order: `pieces` is (offset, bytes)."""
        known = self.blocks.setdefault(source, [])
        while pieces:
            n = total = 0
            while n < len(pieces) and total + len(pieces[n][1]) <= self.most:
                total, n = total + len(pieces[n][1]), n + 1
            take, pieces = pieces[:n], pieces[n:]
            if before:
                before([(o, len(d)) for o, d in take], total)
            self.flush()
            self.frame(b''.join(d for _, d in take), len(known), n, source)
            known += [(o, len(d), int(not any(d)), digest(d, self.secret)) for o, d in take]
            if after:
                after(total)

    def add_sparse(self, disk, extents):
        entries = list(extents)
        if not entries or sum(entries[-1]) != disk.size:
            entries.append((disk.size, 0))
        text = b''.join(b'%d\n' % n for n in [len(entries)] + [n for e in entries for n in e])
        text += bytes(-len(text) % 512)
        stored = sum(e[1] for e in extents)
        at = self.tell()
        self.meta += pax({'GNU.sparse.major': 1, 'GNU.sparse.minor': 0, 'GNU.sparse.name': disk.member,
                          'GNU.sparse.realsize': disk.size})
        self.meta += header(b'GNUSparseFile.0/' + disk.member.encode()[:84], len(text) + stored) + text
        row = (disk.target, disk.member, disk.size, self.tell(), len(entries), at)
        self.add_blocks(self.source((self.id, len(self.disks))),
                        [(o, bytes(disk.image[o:o + n])) for o, n in windows(extents)])
        self.meta += bytes(-stored % 512)
        self.disks.append(row)

    def add_pieces(self, disk, lots):
        """`lots` is [(source key, [(offset, bytes)])]: the disk's own changes, or replaced archives' blocks."""
        at = [self.tell(), 0]

        def before(blocks, total):
            at[1] += 1
            name = f'{disk.member}.delta/{at[1]:06}'
            records = {'OPENVIRT.extents': ','.join(f'{o}+{n}' for o, n in merge(blocks))}
            if key[0] != self.id:
                records['OPENVIRT.source'] = f'{uuid.UUID(bytes=key[0])}/{key[1]}'
            if len(name.encode()) > 100:
                records['path'] = name
            self.meta += pax(records) + header(name.encode()[:100], total)

        def after(total):
            self.meta += bytes(-total % 512)

        for key, pieces in lots:
            self.add_blocks(self.source(key), pieces, before, after)
        self.disks.append((disk.target, disk.member, disk.size, NONE64, 0, at[0] if at[1] else NONE64))

    def add_view(self, disk):
        own = (self.id, len(self.views))
        self.source(own)
        view = []
        for b, e, what in disk.segments:
            zero = what == ZERO
            record = (b, e - b, NONE32 if zero else self.source(what), 2 if zero else 1)
            joins = view and sum(view[-1][:2]) == b and view[-1][2:] == record[2:]
            view[-1:] = [(view[-1][0], view[-1][1] + e - b) + record[2:]] if joins else view[-1:] + [record]
        self.views.append(view)

    def sections(self):
        def name(s):
            return (s if isinstance(s, bytes) else s.encode()).ljust(256, b'\0')
        yield 1, 0, [struct.pack('<256s256sQQQQ96x', name(t), name(m), *rest) for t, m, *rest in self.disks]
        yield 2, 0, [struct.pack('<16sI4x', *s) for s in self.sources]
        for n, view in enumerate(self.views):
            yield 3, n, [struct.pack('<QQII', *v) for v in view]
        yield 4, 0, [struct.pack('<QQQIIII', *f) for f in self.frames]
        for n, blocks in sorted(self.blocks.items()):
            yield 5, n, [struct.pack('<QII16s', *b) for b in blocks]
        if self.small:
            yield 6, 0, [struct.pack('<256sQQ16sQ24x', name(s[0]), *s[1:4], self.frame_at(s[1] - (not s[2])))
                         for s in self.small]
        if self.replaced:
            yield 7, 0, self.replaced

    def index(self):
        parts = list(self.sections())
        table, body, start = b'', b'', 512 + 64 * len(parts)
        for kind, number, records in parts:
            body += bytes(-len(body) % 8)
            data = b''.join(records)
            table += struct.pack('<IIQQQ16s16x', kind, number, start + len(body), len(data), len(records), digest(data))
            body += data
        body += bytes(-(start + len(body)) % 512)
        length = start + len(body) + 512
        head = struct.pack('<8sII16sQIIIIQ8x192s232x', b'OVBINDEX', 1, len(parts), self.id, self.time, self.codec,
                           self.level, W, self.most, length, self.secret)
        mark = digest(head + table)
        trailer = struct.pack('<8sII16sQQQ16s424x', b'OVBTRAIL', 1, self.codec, self.id, length, len(self.out),
                              self.raw, mark)
        return head + mark + table + body, trailer + digest(trailer)

    def finish(self):
        """The bytes of index.bin; the archive is complete then."""
        self.flush()
        index, trailer = self.index()
        whole = index + trailer
        start = header(b'index.bin', len(whole)) + index
        total = up(self.raw + len(start) + 512 + 1024, 10240)
        self.out += self.compress(start)
        self.out += self.compress(trailer + bytes(total - self.raw - len(start) - 512))
        self.raw = total
        return whole


# ---- repository ----

def stamp(seconds):
    return time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(seconds))


def escape(name):
    out = ''
    for n, c in enumerate(name):
        ending = name[n:] in ('.partial', '.json', '.old', '.new', '.lock')
        plain = c in '_-+=,@.~' or c.isalnum()
        out += c if plain and not (c == '.' and (n == 0 or ending)) else ''.join('%%%02X' % b for b in c.encode())
    return out


def put(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'wb') as f:
        f.write(data)


def json_bytes(obj):
    return (json.dumps(obj, indent=2, ensure_ascii=False) + '\n').encode()


def put_image(path, data):
    """With holes, so that the samples stay small."""
    put(path, b'')
    with open(path, 'r+b') as f:
        f.truncate(len(data))
        for at in range(0, len(data), 4096):
            if any(data[at:at + 4096]):
                f.seek(at)
                f.write(data[at:at + 4096])


def own_lots(a, n, disk, extents):
    return [((a.id, n), [(o, bytes(disk.image[o:o + k])) for o, k in windows(extents)])]


def make_archive(label, codec, when, disks, small=(), lots=None, replaced=()):
    """An archive of the disks as they are now. `lots`: what to store of replaced archives, by disk number."""
    a = Archive(label, codec, when)
    a.replaced = list(replaced)
    for name, data in small:
        a.add_small(name, data)
    for n, disk in enumerate(disks):
        new = not disk.stored
        extents = disk.claim((a.id, n))
        if new:
            a.add_sparse(disk, extents)
        else:
            a.add_pieces(disk, (lots or {}).get(n, []) + own_lots(a, n, disk, extents))
    for disk in disks:
        a.add_view(disk)
    return a


def manifest(vm, a, disks, index, kind):
    rows = []
    for n, d in enumerate(disks):
        blocks = a.blocks.get(a.sources.index((a.id, n)), [])
        data = sum(b[1] for b in blocks)
        rows.append({'target': d.target, 'member': d.member, 'source': f'/images/{d.member}', 'format': 'raw',
                     'size': d.size, 'provisioned': data, 'read': data, 'data': data,
                     'zero': sum(b[1] for b in blocks if b[2])})
    out = bytes(a.out)
    refs = sorted({s[0] for s in a.sources if s[0] != a.id})
    return {'format': 1, 'vm': vm, 'time': stamp(a.time), 'finished': stamp(a.time + 60), 'kind': kind,
            'consistency': 'offline', 'capture': 'image', 'job': 'sample', 'host': 'host.example',
            'program': 'make_sample.py', 'notes': ['made for tests'], 'disks': rows,
            'members': [{'name': s[0].decode(), 'size': s[2]} for s in a.small],
            'archive': {'id': str(uuid.UUID(bytes=a.id)), 'file': FILES[a.codec], 'codec': NAMES[a.codec],
                        'level': a.level, 'size': len(out), 'sha256': hashlib.sha256(out).hexdigest(), 'raw': a.raw},
            'stored': len(out), 'references': [str(uuid.UUID(bytes=r)) for r in refs]}


def publish(top, vm, a, disks, kind, folder=True, listed=True, suffix=''):
    """Write the point; `folder` false: its folder is gone; `listed` false: it is pruned."""
    index = a.finish()
    point = stamp(a.time).replace(':', '') + suffix
    files = {'manifest.json': json_bytes(manifest(vm, a, disks, index, kind)), FILES[a.codec]: bytes(a.out),
             'index.bin': index}
    sums = ''.join(f'{hashlib.sha256(d).hexdigest()}  {n}\n' for n, d in files.items())
    if not listed:
        files = {('pruned.json' if n == 'manifest.json' else n): d for n, d in files.items()}
    where = os.path.join(top, 'repo', escape(vm), point)
    if folder:
        for name, data in list(files.items()) + [('SHA256SUMS', sums.encode())]:
            put(os.path.join(where, name), data)
    if folder and listed:
        for d in disks:
            put_image(os.path.join(top, 'expected', f'{escape(vm)}@{point}', d.target + '.img'), bytes(d.image))


SMALL = [('domain.xml', b'<domain type="kvm"><name>sample</name></domain>\n'), ('nvram.fd', noise('nvram', 70000))]


def first_disks(label):
    """A disk with an odd end, a zero block in an entry, a zero range beside one; and a disk that is full."""
    vda = Disk('vda', 14 * 1048576 + 1636)
    vda.write(0, content(label + ' a', 5 * 1048576))
    vda.image[3 * W:4 * W] = bytes(W)                       # a zero block: stored, flagged, and still in the view
    vda.image[10 * W:11 * W] = bytes(W)
    vda.overlay(10 * W, W, ZERO)                            # the same, but the view calls it zero
    vda.clear(6 * 1048576, 3 * W, ZERO)                     # allocated, never stored
    vda.write(8 * 1048576 + 512, content(label + ' b', W))  # begins and ends inside windows
    vda.write(8 * 1048576 + 2 * W, content(label + ' c', 4096))
    vda.write(14 * 1048576 - 1024, content(label + ' d', 1024 + 1636))
    vdb = Disk('vdb', 2 * W + 512)
    vdb.write(0, content(label + ' e', 2 * W + 512))
    return [vda, vdb]


def change(vda, label):
    """Changes that cut the older blocks, with holes and zero ranges."""
    vda.write(512, content(label + ' 1', 1024))
    vda.write(2 * W - 1536, content(label + ' 2', 4096))
    vda.write(20 * W, content(label + ' 3', 9 * W + 512))
    vda.clear(5 * W + 4096, 2 * W, ZERO)
    vda.clear(8 * W + 512, 1024, HOLE)
    vda.clear(30 * W, 3 * W, HOLE)
    vda.write(31 * W + 1024, content(label + ' 4', 2048))
    vda.write(vda.size - vda.size % 512, content(label + ' 5', vda.size % 512))


def codec_vm(top, codec):
    vm = 'codec-' + NAMES[codec]
    disks = first_disks(vm)
    publish(top, vm, make_archive(vm + '/1', codec, TIME0, disks, SMALL), disks, 'full')
    change(disks[0], vm + ' second')
    a = make_archive(vm + '/2', codec, TIME0 + 86400, disks, SMALL)
    publish(top, vm, a, disks, 'incremental')
    disks[0].write(20 * W + 512, content(vm + ' third', 3 * W))
    disks[1].grow(5 * W)
    disks[1].write(2 * W + 512, content(vm + ' grown', 512))
    disks.append(Disk('vdc', 1048576))
    disks[2].write(4096, content(vm + ' new', 100 * 512))
    a = make_archive(vm + '/3', codec, TIME0 + 86400, disks, SMALL[:1])
    publish(top, vm, a, disks, 'incremental', suffix='-2')


MEMBERS = [('empty', b''), ('one', b'1'), ('domain.xml', content('domain', 600)), ('nvram.fd', content('nvram', 5 * 1048576)),
           ('ä' * 110 + '.xml', b'<long/>'), ('also empty', b''), ('even', content('even', 1024))]


def members_vm(top, codec):
    """Returns the archives; the images are in expected/."""
    vm = 'members-' + NAMES[codec]
    disks = [Disk('vda', 4 * W + 700), Disk('vdb', 2 * W)]
    disks[0].write(0, content(vm, 2 * W))
    disks[0].write(4 * W, content(vm + ' end', 700))
    disks[1].write(512, content(vm + ' b', W))
    full = make_archive(vm + '/1', codec, TIME0, disks, MEMBERS)
    publish(top, vm, full, disks, 'full')
    disks[0].write(W - 512, content(vm + ' 2', 4096))
    disks[0].write(3 * W, content(vm + ' 3', 512))
    disks[1].write(W, content(vm + ' 4', 2048))
    delta = make_archive(vm + '/2', codec, TIME0 + 3600, disks, MEMBERS[:3])
    publish(top, vm, delta, disks, 'incremental')
    return full, delta


def odd_vm(top):
    vm = 'odd name.old'
    disks = [Disk('empty', 1048576), Disk('nothing', 0), Disk('tiny', 1), Disk('ä disk', 3 * W)]
    disks[2].write(0, b'x')
    disks[3].member = 'ä' * 100 + '.img'
    disks[3].write(W, content('odd', W))
    publish(top, vm, make_archive(vm + '/1', 3, TIME0, disks), disks, 'full')
    disks[3].write(W + 512, content('odd 2', W))
    publish(top, vm, make_archive(vm + '/2', 3, TIME0 + 3600, disks), disks, 'incremental')


def pruned_vm(top):
    vm, disks = 'pruned', first_disks('pruned')
    publish(top, vm, make_archive(vm + '/1', 3, TIME0, disks, SMALL), disks, 'full', listed=False)
    change(disks[0], vm)
    publish(top, vm, make_archive(vm + '/2', 1, TIME0 + 3600, disks, SMALL), disks, 'incremental')
    left = os.path.join(top, 'repo', vm, '2026-01-01T020000Z.0123456789abcdef.partial')
    put(os.path.join(left, 'disks.tar.zst'), noise('left over', 1000))


def lots_of(archives, images):
    """All blocks of some archives, by disk number, as pieces for an archive that replaces them."""
    lots = {}
    for a, disks in zip(archives, images):
        for n, image in enumerate(disks):
            blocks = a.blocks.get(a.sources.index((a.id, n)), [])
            lots.setdefault(n, []).append(((a.id, n), [(o, image[o:o + k]) for o, k, _, _ in blocks]))
    return {n: [x for x in some if x[1]] for n, some in lots.items()}


def replaced_vm(top):
    vm, disks, old, images = 'replaced', first_disks('replaced'), [], []
    # No zero blocks here: whether pieces may hold a replaced archive's zero blocks is another matter.
    disks[0].write(3 * W, content('replaced z', W))
    disks[0].write(10 * W, content('replaced z', W))
    for n in (1, 2):
        if n == 2:
            change(disks[0], vm)
        a = make_archive(f'{vm}/{n}', 3, TIME0 + 3600 * n, disks, SMALL)
        old.append(a)
        images.append([bytes(d.image) for d in disks])
        publish(top, vm, a, disks, 'incremental' if n == 2 else 'full', folder=False)
    disks[0].write(40 * W + 512, content('replaced 3', 2 * W))
    a = make_archive(vm + '/3', 3, TIME0 + 3600 * 3, disks, SMALL, lots_of(old, images), [o.id for o in old])
    publish(top, vm, a, disks, 'incremental')
    disks[0].write(41 * W, content('replaced 4', 512))
    disks[0].clear(20 * W + 512, 512, ZERO)
    publish(top, vm, make_archive(vm + '/4', 1, TIME0 + 3600 * 4, disks, SMALL), disks, 'incremental')


def make_repository(top):
    repo = os.path.join(top, 'repo')
    os.makedirs(os.path.join(repo, '.locks'), exist_ok=True)
    info = {'format': 1, 'id': str(uuid.UUID(bytes=noise('repository', 16))), 'created': stamp(TIME0),
            'program': 'make_sample.py'}
    put(os.path.join(repo, 'repository.json'), json_bytes(info))


def make(top):
    make_repository(top)
    for codec in range(4):
        codec_vm(top, codec)
        members_vm(top, codec)
    odd_vm(top)
    pruned_vm(top)
    replaced_vm(top)


if __name__ == '__main__':
    if len(sys.argv) != 2:
        sys.exit('usage: make_sample.py DIR')
    make(sys.argv[1])
