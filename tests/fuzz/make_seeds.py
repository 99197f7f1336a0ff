#!/usr/bin/python3 -B
"""Make the seeds of the fuzz targets that read the format, written from common/FORMAT.md alone and always the same.

    make_seeds.py CORPUS        writes CORPUS/index, CORPUS/archive, CORPUS/scan, CORPUS/manifest and CORPUS/tarname

Each index whose name begins with bad- breaks one rule of FORMAT.md, is sealed with digests that match (unless they are the point),
and must be refused; each good- one must be accepted.  The corpus has few of the bad ones; tests/scenario/damage.t tries them all.
"""
import json
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'oracle_selftest'))
import make_sample
from make_sample import HOLE, NONE32, NONE64, TIME0, W, ZERO, Disk, content, digest, make_archive, manifest, noise
import seed_files

ARCHIVE, OTHER, SECRET = noise('id index', 16), noise('id other', 16), noise('secret index', 192)


# ---- indexes, each a list of sections with a header, sealed whatever is in them ----

def disk(target=b'vda', member=b'vda.img', size=5 * W, data=1024, entries=2, at=0):
    return struct.pack('<256s256sQQQQ96x', target, member, size, data, entries, at)


def source(archive=ARCHIVE, number=0):
    return struct.pack('<16sI4x', archive, number)


def view(offset, length, src=0, kind=1):
    return struct.pack('<QQII', offset, length, src, kind)


def frame(at, tar_at, first, stored, raw, blocks, src):
    return struct.pack('<QQQIIII', at, tar_at, first, stored, raw, blocks, src)


def block(offset, length, flags=0):
    return struct.pack('<QII16s', offset, length, flags, noise('block %d' % offset, 16))


def usual():
    """Two frames of one disk with a meta frame between them, and an empty second disk."""
    return {
        (1, 0): [disk(), disk(b'vdb', b'vdb.img', 512, NONE64, 0, NONE64)],
        (2, 0): [source(), source(number=1)],
        (3, 0): [view(0, 2 * W), view(2 * W, W, NONE32, 2), view(4 * W + 512, 512)],
        (3, 1): [],
        (4, 0): [frame(0, 0, 0, 100, 1024, 0, NONE32), frame(100, 1024, 0, 70, 2 * W, 2, 0),
                 frame(170, 1024 + 2 * W, 0, 30, 512, 0, NONE32), frame(200, 1536 + 2 * W, 2, 40, 1024, 1, 0)],
        (5, 0): [block(0, W), block(W, W), block(4 * W + 512, 1024)],
    }


def member(name=b'domain.xml', at=512, length=40, frame=0):
    return struct.pack('<256sQQ16sQ24x', name, at, length, OTHER, frame)


def with_members(*members, head=2048, meta=2, at=None):
    """The usual index after so many bytes of small members, which go on in more meta frames of the same length each."""
    s, shift = usual(), head * meta
    late = [(a + 90 * meta, t + shift, *rest) for a, t, *rest in (struct.unpack('<QQQIIII', f) for f in s[4, 0])]
    s[4, 0] = [frame(90 * n, head * n, 0, 90, head, 0, NONE32) for n in range(meta)] + [frame(*f) for f in late]
    s[1, 0][0] = disk(data=1024 + shift, at=shift if at is None else at)
    return seal({**s, (6, 0): list(members)})


def seal(sections, version=1, codec=1, window=W, most=13 * W, length=None, fix=lambda rows: None, count=None, spoil=None, gap=0, tail=0):
    """The bytes of an index.  `fix` may change the rows of the section table, `spoil` the bytes once they are sealed.
    `gap` zero bytes stand before the last section, `tail` behind it."""
    start = 512 + 64 * len(sections)
    body, rows = b'', []
    for (kind, number), records in sections.items():
        data = b''.join(records)
        body += bytes(gap if len(rows) == len(sections) - 1 else 0)
        rows.append([kind, number, start + len(body), len(data), len(records), digest(data)])
        body += data + bytes(-len(data) % 8)
    body += bytes(tail)
    fix(rows)
    table = b''.join(struct.pack('<IIQQQ16s16x', *row) for row in rows)
    body += bytes(-(start + len(body)) % 512)
    whole = start + len(body) + 512
    head = struct.pack('<8sII16sQIIIIQ8x192s232x', b'OVBINDEX', version, len(sections) if count is None else count, ARCHIVE, TIME0, codec,
                       9, window, most, whole if length is None else length, SECRET)
    mark = digest(head + table)
    trailer = struct.pack('<8sII16sQQQ16s424x', b'OVBTRAIL', 1, codec, ARCHIVE, whole, 240, 2560 + 2 * W, mark)
    out = bytearray(head + mark + table + body + trailer + digest(trailer))
    if spoil:
        spoil(out)
    return bytes(out)


def changed(key, records):
    """The usual sections with one replaced; None takes it away."""
    s = usual()
    if records is None:
        del s[key]
    else:
        s[key] = records
    return seal(s)


def row(n, column, value):
    def fix(rows):
        rows[n][column] = value(rows[n][column]) if callable(value) else value
    return seal(usual(), fix=fix)


def flip(at):
    def spoil(out):
        out[at] ^= 1
    return spoil


def indexes():
    u = usual
    frames = u()[4, 0]
    yield 'good-usual', seal(u())
    yield 'good-none', seal(u(), codec=0, most=4194304)
    yield 'good-zstd', seal(u(), codec=3, most=4194304)
    yield 'good-empty', seal({(1, 0): [], (2, 0): [], (4, 0): []})
    yield 'good-optional-section', seal({**u(), (0x8000, 7): [b'whatever']})
    yield 'good-replaces', seal({**u(), (7, 0): [OTHER]})
    yield 'good-members', with_members(member(), member(b'nvram', 1536, 1400), member(b'empty', 3584, 0, 1), member(b'also', 4096, 0, 1))
    yield 'good-no-members', with_members()
    yield 'good-most-members', with_members(*[member(b'%d' % n, 512 + 512 * n, 0) for n in range(1000)], head=600000)
    yield 'good-other-archive', seal({**u(), (2, 0): [source(), source(OTHER, 5)], (3, 1): [view(0, 512, 1)]})
    yield 'good-two-sources', seal({**u(), (2, 0): [source(), source(number=1), source(OTHER)], (5, 2): [block(0, 512)], (7, 0): [OTHER],
                                    (4, 0): frames + [frame(240, 2560 + 2 * W, 0, 60, 512, 1, 2)]})
    for name, n in ('good-meta-run', 16), ('bad-meta-run', 17):
        run = [frame(170 + 30 * i, 1024 + 2 * W + 512 * i, 0, 30, 512, 0, NONE32) for i in range(n)]
        yield name, changed((4, 0), frames[:2] + run + [frame(170 + 30 * n, 1024 + 2 * W + 512 * n, 2, 40, 1024, 1, 0)])
    yield 'bad-version', seal(u(), version=2)
    yield 'bad-codec', seal(u(), codec=9)
    yield 'bad-window', seal(u(), window=32768)
    yield 'bad-frame-max-zero', seal(u(), most=0)
    yield 'bad-frame-max', seal(u(), most=4194305)
    yield 'bad-length', seal(u(), length=512)
    yield 'bad-magic', seal(u(), spoil=flip(0))
    yield 'bad-header-digest', seal(u(), spoil=flip(80))
    yield 'bad-section-digest', seal(u(), spoil=flip(512 + 6 * 64))
    yield 'bad-section-count', seal(u(), count=65537)
    yield 'bad-table-cut', seal(u(), count=4000)
    yield 'bad-cut', seal(u())[:1024]
    yield 'bad-odd-length', seal(u()) + b'\0'
    yield 'bad-section-type', seal({**u(), (8, 0): [bytes(8)]})
    yield 'bad-section-type-zero', row(5, 0, 0)
    yield 'bad-section-overlap', row(2, 2, lambda at: at - 24)
    yield 'bad-section-in-table', row(0, 2, 512)
    yield 'bad-section-unaligned', row(5, 2, lambda at: at + 4)
    yield 'bad-section-beyond', row(5, 3, 2 ** 62)
    yield 'bad-section-offset', row(5, 2, 2 ** 64 - 8)
    yield 'bad-section-in-trailer', row(5, 2, lambda at: (at + 1024) // 512 * 512)
    yield 'bad-section-gap', seal(u(), gap=8)
    yield 'bad-section-tail', seal(u(), tail=512)
    yield 'bad-section-length', row(5, 4, 2)
    yield 'bad-section-count-huge', row(5, 4, 2 ** 59)
    yield 'bad-section-twice', row(1, 0, 1)
    yield 'bad-section-no-disk', row(3, 1, 9)
    yield 'bad-section-no-source', row(5, 1, 2)
    yield 'bad-no-disks', changed((1, 0), None)
    yield 'bad-no-sources', changed((2, 0), None)
    yield 'bad-no-view', changed((3, 1), None)
    yield 'bad-no-frames', changed((4, 0), None)
    yield 'bad-no-blocks', changed((5, 0), None)
    for name, d in (('size', disk(size=2 ** 63)), ('name-empty', disk(target=b'')), ('name-slash', disk(target=b'a/b')),
                    ('name-utf8', disk(target=b'\xff')), ('name-control', disk(target=b'a\nb')), ('name-open', disk(target=b'x' * 256)),
                    ('member-open', disk(member=b'x' * 256)), ('member-slash', disk(member=b'../../etc/passwd')),
                    ('member-index', disk(member=b'index.bin')), ('member-dot', disk(member=b'.')), ('member-dotdot', disk(member=b'..')),
                    ('target-twice', disk(target=b'vdb')), ('member-twice', disk(member=b'vdb.img'))):
        yield 'bad-disk-' + name, changed((1, 0), [d, u()[1, 0][1]])
    for name, v in (('order', [view(W, W), view(0, W)]), ('overlap', [view(0, W), view(W - 1, W)]), ('empty', [view(0, 0)]),
                    ('outside', [view(4 * W, W + 1)]), ('far', [view(2 ** 64 - 1, 2)]), ('source', [view(0, W, 2)]),
                    ('kind', [view(0, W, 0, 3)]), ('kind-zero', [view(0, W, 0, 0)])):
        yield 'bad-view-' + name, changed((3, 0), v)
    f = frames
    for name, v in (('gap', [f[0], frame(101, 1024, 0, 70, 2 * W, 2, 0)] + f[2:]), ('tar-gap', [f[0], frame(100, 1025, 0, 70, 2 * W, 2, 0)] + f[2:]),
                    ('first', [frame(1, 0, 0, 99, 1024, 0, NONE32)] + f[1:]), ('order', [f[0], f[3], f[2], f[1]]),
                    ('stored-zero', [f[0], frame(100, 1024, 0, 0, 2 * W, 2, 0)]), ('raw-zero', f + [frame(240, 2560 + 2 * W, 0, 9, 0, 0, NONE32)]),
                    ('raw-long', f + [frame(240, 2560 + 2 * W, 0, 9, 4194305, 0, NONE32)]),
                    ('data-long', f[:3] + [frame(200, 1536 + 2 * W, 2, 40, 14 * W, 1, 0)]),
                    ('stored-long', f + [frame(240, 2560 + 2 * W, 0, 2 ** 32 - 1, 512, 0, NONE32)]),
                    ('meta-blocks', [frame(0, 0, 0, 100, 1024, 1, NONE32)] + f[1:]), ('no-blocks', f[:3] + [frame(200, 1536 + 2 * W, 2, 40, 1024, 0, 0)]),
                    ('source', f[:3] + [frame(200, 1536 + 2 * W, 2, 40, 1024, 1, 2)]),
                    ('first-block', f[:3] + [frame(200, 1536 + 2 * W, 1, 40, 1024, 1, 0)]),
                    ('left-out', f[:3]), ('too-many', f[:3] + [frame(200, 1536 + 2 * W, 2, 40, 1024, 2, 0)]),
                    ('blocks-huge', f[:3] + [frame(200, 1536 + 2 * W, 2, 40, 1024, 2 ** 32 - 1, 0)])):
        yield 'bad-frame-' + name, changed((4, 0), v)
    for name, b in (('order', [block(W, W), block(0, W), block(4 * W, 1024)]), ('overlap', [block(0, W), block(W - 512, 512), block(4 * W, 1024)]),
                    ('empty', [block(0, W), block(W, 0), block(4 * W, 1024)]), ('long', [block(0, W), block(W, W + 1), block(4 * W, 1024)]),
                    ('window', [block(0, W), block(W + 512, W), block(4 * W, 1024)]), ('unaligned', [block(0, W), block(W + 1, 512), block(4 * W, 1024)]),
                    ('flags', [block(0, W), block(W, W, 2), block(4 * W, 1024)]), ('far', [block(0, W), block(W, W), block(2 ** 64 - 512, 512)]),
                    ('outside', [block(0, W), block(W, W), block(5 * W, 1024)]), ('odd', [block(0, W), block(W, 1000), block(4 * W, 1024)])):
        yield 'bad-block-' + name, changed((5, 0), b)
    for name, m in (('name-open', [member(b'x' * 256)]), ('name-empty', [member(b'')]), ('name-slash', [member(b'../x')]), ('name-dot', [member(b'..')]),
                    ('name-utf8', [member(b'\xff')]), ('name-control', [member(b'a\x1b')]), ('name-index', [member(b'index.bin')]),
                    ('name-disk', [member(b'vdb.img')]), ('name-twice', [member(), member(at=1536)]),
                    ('order', [member(b'a', 1536), member(b'b', 512)]), ('overlap', [member(length=513), member(b'b', 1536)]),
                    ('no-header', [member(at=0)]), ('header-overlap', [member(length=512), member(b'b', 1024)]), ('unaligned', [member(at=513)]),
                    ('frame', [member(frame=1)]), ('frame-before', [member(at=2048)]), ('frame-empty', [member(at=2048, length=0, frame=1)]),
                    ('frame-data', [member(frame=3)]), ('frame-none', [member(frame=6)]), ('frame-huge', [member(frame=2 ** 64 - 1)]),
                    ('long', [member(length=3585)]), ('padding', [member(at=4096, length=1, frame=1)]), ('far', [member(at=2 ** 64 - 512, length=512)]),
                    ('length-huge', [member(length=2 ** 64 - 512)]), ('behind', [member(at=4608, frame=2)])):
        yield 'bad-member-' + name, with_members(*m)
    yield 'bad-member-limit', with_members(member(length=67108865), head=4194304, meta=17)
    yield 'bad-member-disk', with_members(member(length=600), at=1024)
    yield 'bad-member-data', with_members(member(at=4608 + 1024, length=1, frame=3), at=NONE64)
    yield 'bad-member-many', with_members(*[member(b'%d' % n, 512 + 512 * n, 0) for n in range(1001)], head=600000)


# ---- archives ----

def small_disks():
    vda = Disk('vda', 3 * W + 100)
    vda.write(0, content('seed', 1536))
    vda.image[512:1024] = bytes(512)
    vda.write(W, bytes(512))
    vda.write(2 * W - 512, content('seed b', 1024))
    vda.write(3 * W, content('seed c', 100))
    vda.clear(1024, 512, ZERO)
    return [vda, Disk('vdb', 0)]


def archives():
    for codec, name in enumerate(make_sample.NAMES):
        disks = small_disks()
        a = make_archive('seed ' + name, codec, TIME0, disks, [('domain.xml', b'<domain/>\n'), ('empty', b'')])
        a.finish()
        yield 'full-' + name, a, disks, 'full'
        disks[0].write(512, content('seed d', 512))
        disks[0].write(2 * W, content('seed e', 1024))
        disks[0].clear(0, 512, HOLE)
        old = a
        a = make_archive('seed delta ' + name, codec, TIME0, disks)
        a.finish()
        yield 'delta-' + name, a, disks, 'incremental'
        if codec == 0:
            # Nothing is elsewhere: the old blocks are here too, so that a bare archive gives the whole disk.
            disks = small_disks()
            old = make_archive('seed old', 0, TIME0, disks)
            lots = make_sample.lots_of([old], [[bytes(d.image) for d in disks]])
            disks[0].write(512, content('seed f', 1024))
            a = make_archive('seed replacing', 0, TIME0, disks, lots=lots, replaced=[old.id])
            a.finish()
            yield 'replacing-none', a, disks, 'incremental'


# ---- manifests ----

def manifests():
    for name, a, disks, kind in archives():
        if name in ('full-none', 'delta-zstd'):
            good = manifest('web01', a, disks, None, kind)
            yield name, good
    for key, value in (('id', '0123'), ('id', '012'), ('id', ''), ('id', '-' * 36), ('id', '+1' * 16), ('sha256', 'x' * 64), ('level', 2 ** 62),
                       ('file', '../disks.tar'), ('size', -1), ('raw', 1.5), ('codec', None)):
        yield 'bad-%s-%s' % (key, str(value)[:4].replace('/', '_').replace('.', '_')), {**good, 'archive': {**good['archive'], key: value}}
    for key, value in (('members', [{'name': 'domain.xml', 'size': 600}, {'name': 'empty', 'size': 0}]), ('members', []), ('members', {}),
                       ('members', [1]), ('members', None), ('format', 2), ('time', '2026-02-31T00:00:00Z'), ('finished', 'now'), ('notes', [1]), ('disks', [[]]), ('disks', {}),
                       ('references', 'x'), ('stored', 2 ** 63 - 1), ('vm', 5), ('vm', '\u202e../../x\x1b[2J')):
        yield 'odd-%s-%s' % (key, type(value).__name__) + ('%d' % len(value) if key == 'members' and value else ''), {**good, key: value}


TARNAMES = [b'web01', b'.hidden', b'..', b'a/b', b'x.partial', b'x.old', b'%41', '\u00e4'.encode() * 120, b'x' * 255, b'a b', b'\xff\xfe', b'web01@latest',
            b'web01@2026-11-22T01:30:00Z', b'2026-11-22T013000Z', b'2026-11-22T013000Z-2', b'2026-11-22T013000Z-01', b'2026-02-31T000000Z',
            b'00112233-4455-6677-8899-aabbccddeeff', b'00112233-4455-6677-8899-aabbccddeef', b'2026-11-22T01:30:00Z', b'bzip2:9', b'zstd:20',
            b'@', b'a@:', b'index.bin', 'Bu\u0308cher.img'.encode()]


KEPT = ['bad-' + name for name in ('section-overlap', 'section-count-huge', 'no-blocks', 'disk-name-open', 'view-far', 'frame-blocks-huge',
                                   'frame-first-block', 'block-window', 'member-overlap', 'member-length-huge', 'member-frame-data')]


def main(corpus):
    seed_files.write(corpus, 'index', ((name, data) for name, data in indexes() if (name.startswith('good-') and len(data) < 65536) or name in KEPT))
    made = [(name, a) for name, a, _, _ in archives()]
    seed_files.write(corpus, 'archive', ((name, bytes(a.out)) for name, a in made))
    # Without its end, the headers are all there is.
    seed_files.write(corpus, 'scan', ((name, bytes(a.out[:sum(f[3] for f in a.frames)])) for name, a in made))
    seed_files.write(corpus, 'manifest', ((name, json.dumps(m).encode()) for name, m in manifests()))
    seed_files.write(corpus, 'tarname', (('%02d' % n, name) for n, name in enumerate(TARNAMES)))


if __name__ == '__main__':
    main(seed_files.corpus())
