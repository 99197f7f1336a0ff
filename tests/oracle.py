#!/usr/bin/python3
"""A second reader of the repository format, written from common/FORMAT.md alone.

It is small, slow and plain on purpose: tests hold the real program against it. It reads whole indexes into
memory, spools the tar stream to a temporary file, and checks whatever can be checked.

  oracle.py verify REPO VM POINT
  oracle.py verify-archive FILE
  oracle.py disk REPO VM POINT DISK TARGET
  oracle.py disk-archive FILE DISK TARGET
  oracle.py file REPO VM POINT NAME TARGET
  oracle.py file-archive FILE NAME TARGET
  oracle.py index FILE|REPO/VM/POINT [--blocks]
"""
import argparse
import bisect
import bz2
import calendar
import ctypes
import hashlib
import json
import lzma
import os
import re
import struct
import subprocess
import sys
import tempfile
import time
import uuid
from collections import namedtuple

NONE32 = 2**32 - 1
NONE64 = 2**64 - 1
WINDOW = 65536
FRAME_MAX = 4194304
MEMBERS_MAX, MEMBER_MAX = 1000, 67108864
DISKS_MAX, SOURCES_MAX = 1024, 65536
TAIL_MAX = 512 + 1024 + 10240
TAR_RECORD = 10240
CODECS = ['none', 'bzip2', 'xz', 'zstd']
ENDINGS = ['.tar', '.tar.bz2', '.tar.xz', '.tar.zst']
MAGIC = [b'', b'BZh', b'\xfd7zXZ\0', b'\x28\xb5\x2f\xfd']
DATA, ZERO = 1, 2
POINT_NAME = re.compile(r'(\d{4}-\d\d-\d\dT\d{6}Z)(-([2-9]|[1-9]\d+))?')

HEADER = struct.Struct('<8sII16sQIIIIQQ192s232s16s')
SECTION = struct.Struct('<IIQQQ16s16s')
TRAILER = struct.Struct('<8sII16sQQQ16s424s16s')
RECORDS = {1: struct.Struct('<256s256sQQQQ96s'), 2: struct.Struct('<16sI4s'), 3: struct.Struct('<QQII'),
           4: struct.Struct('<QQQIIII'), 5: struct.Struct('<QII16s'), 6: struct.Struct('<256sQQ16sQ24s'),
           7: struct.Struct('<16s')}

Disk = namedtuple('Disk', 'target member size data_at entries header_at')
Source = namedtuple('Source', 'archive disk')
View = namedtuple('View', 'offset length source kind')
Frame = namedtuple('Frame', 'at tar_at first stored raw blocks source')
Block = namedtuple('Block', 'offset length flags digest')
Small = namedtuple('Small', 'name tar_at length digest frame')
Section = namedtuple('Section', 'type number offset length records digest')
Trailer = namedtuple('Trailer', 'codec archive length frame_at tar_at header_digest')
Member = namedtuple('Member', 'name kind header_at data_at size pax mode end')


class Bad(Exception):
    """The data break the format."""


def need(ok, *what):
    if not ok:
        raise Bad(' '.join(str(w) for w in what))


def round_up(n, unit):
    return (n + unit - 1) // unit * unit


def id_text(raw):
    return str(uuid.UUID(bytes=raw))


# ---- digests ----

class Hash128(ctypes.Structure):
    _fields_ = [('low64', ctypes.c_uint64), ('high64', ctypes.c_uint64)]


_xxh = ctypes.CDLL('libxxhash.so.0')
_xxh.XXH3_128bits.restype = Hash128
_xxh.XXH3_128bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
_xxh.XXH3_128bits_withSecret.restype = Hash128
_xxh.XXH3_128bits_withSecret.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]


def digest(data, secret=None):
    """XXH3-128 in its canonical form."""
    data = bytes(data)
    if secret is None:
        h = _xxh.XXH3_128bits(data, len(data))
    else:
        h = _xxh.XXH3_128bits_withSecret(data, len(data), secret, len(secret))
    return struct.pack('>QQ', h.high64, h.low64)


def sha256_file(path):
    h = hashlib.sha256()
    with open(path, 'rb') as f:
        while piece := f.read(1 << 20):
            h.update(piece)
    return h.hexdigest()


# ---- frames ----

def frame_max_of(codec, level):
    """The most raw bytes that a data frame of this codec may hold."""
    if codec == 1:
        return WINDOW * max(1, (level * 100000 - 19) // WINDOW)
    return FRAME_MAX


def zstd_extent(data, at=0):
    """(end, content size) of the zstd frame at `at`, found by walking its headers; so two frames are never one."""
    need(data[at:at + 4] == MAGIC[3] and len(data) - at >= 13, 'zstd: no frame')
    flags = data[at + 4]
    single = flags & 0x20
    need(flags & 0x04, 'zstd: frame without a checksum')
    need(not flags & 0x0b, 'zstd: reserved bit or dictionary')
    need(flags & 0xc0 or single, 'zstd: frame without its content size')
    pos = at + (5 if single else 6)
    width = [1, 2, 4, 8][flags >> 6]
    size = int.from_bytes(data[pos:pos + width], 'little') + (256 if width == 2 else 0)
    pos += width
    last = 0
    while not last:
        need(pos + 3 <= len(data), 'zstd: frame is cut')
        head = int.from_bytes(data[pos:pos + 3], 'little')
        last, kind, length = head & 1, head >> 1 & 3, head >> 3
        need(kind != 3, 'zstd: reserved block type')
        pos += 3 + (1 if kind == 1 else length)
    need(pos + 4 <= len(data), 'zstd: frame is cut')
    return pos + 4, size


def unzstd(data, limit):
    end, size = zstd_extent(data)
    need(size <= limit, 'zstd: frame holds', size, 'bytes, more than', limit)
    run = subprocess.run(['zstd', '-dcq'], input=data[:end], capture_output=True)
    need(run.returncode == 0, 'zstd:', run.stderr.decode(errors='replace').strip())
    need(len(run.stdout) == size, 'zstd: content size is wrong')
    return run.stdout, end


def first_frame(codec, data, limit):
    """(raw bytes, stored length) of the frame that `data` begins with."""
    if codec == 0:
        need(len(data) <= limit, 'frame holds more than', limit)
        return data, len(data)
    if codec == 3:
        return unzstd(data, limit)
    try:
        d = bz2.BZ2Decompressor() if codec == 1 else lzma.LZMADecompressor(lzma.FORMAT_XZ)
        raw = d.decompress(data, limit + 1)
        while not d.eof and len(raw) <= limit and not d.needs_input:
            raw += d.decompress(b'', limit + 1 - len(raw))
    except (OSError, lzma.LZMAError, ValueError, EOFError) as e:
        raise Bad(f'{CODECS[codec]}: {e}') from None
    need(len(raw) <= limit, CODECS[codec] + ': frame holds more than', limit, 'bytes')
    need(d.eof, CODECS[codec] + ': frame is cut')
    return raw, len(data) - len(d.unused_data)


def decode_frame(codec, data, raw_length):
    """The frame that is exactly `data`, and must have exactly `raw_length` bytes."""
    raw, used = first_frame(codec, data, raw_length)
    need(used == len(data), 'bytes after the end of the frame')
    need(len(raw) == raw_length, 'frame has', len(raw), 'raw bytes, not', raw_length)
    return raw


# ---- index ----

class Index:
    """The parsed and checked index; views by disk number, blocks by source number."""

    def disk_number(self, name):
        for key in ('target', 'member'):
            for n, d in enumerate(self.disks):
                if getattr(d, key) == name:
                    return n
        raise Bad(f'no disk {name}')

    def own_source(self, disk):
        return self.sources.index(Source(self.archive, disk))

    def frames_of(self, source):
        return [f for f in self.frames if f.source == source]


def load_trailer(data):
    magic, version, codec, archive, length, frame_at, tar_at, head, _, own = TRAILER.unpack(data[:512])
    need(magic == b'OVBTRAIL', 'trailer: magic')
    need(digest(data[:496]) == own, 'trailer: digest')
    need(version == 1, 'trailer: version', version)
    need(codec < len(CODECS), 'trailer: codec', codec)
    need(length >= 1024 and length % 512 == 0, 'trailer: length of the index', length)
    need(tar_at % 512 == 0, 'trailer: tar offset', tar_at)
    return Trailer(codec, archive, length, frame_at, tar_at, head)


def load_index(data):
    """Parse index.bin; raises Bad for anything that the format forbids."""
    need(len(data) >= 1024 and len(data) % 512 == 0, 'index: length', len(data))
    ix = Index()
    ix.length = len(data)
    load_header(ix, data)
    load_table(ix, data)
    ix.trailer = t = load_trailer(data[-512:])
    need(t.codec == ix.codec and t.archive == ix.archive, 'trailer: not of this archive')
    need(t.length == len(data), 'trailer: length of the index', t.length)
    need(t.header_digest == ix.digest, 'trailer: not of this header')
    load_disks(ix, data)
    load_sources(ix, data)
    load_blocks(ix, data)
    load_frames(ix, data)
    load_views(ix, data)
    load_small(ix, data)
    return ix


def load_header(ix, data):
    (magic, version, count, ix.archive, ix.time, ix.codec, ix.level, window, ix.frame_max, length, _, ix.secret, _,
     ix.digest) = HEADER.unpack(data[:512])
    need(magic == b'OVBINDEX', 'index: magic')
    need(version == 1, 'index: version', version)
    need(count <= 65536 and 512 + 64 * count + 512 <= len(data), 'index: number of sections', count)
    need(digest(data[:496] + data[512:512 + 64 * count]) == ix.digest, 'index: digest of header and section table')
    need(length == len(data), 'index: length', length, 'of', len(data))
    need(ix.codec < len(CODECS), 'index: codec', ix.codec)
    need(ix.codec != 1 or 1 <= ix.level <= 9, 'index: bzip2 level', ix.level)
    need(window == WINDOW, 'index: window size', window)
    need(0 < ix.frame_max <= frame_max_of(ix.codec, ix.level), 'index: raw bytes of a frame', ix.frame_max)
    ix.sections = []
    for n in range(count):
        *fields, _ = SECTION.unpack_from(data, 512 + 64 * n)
        ix.sections.append(Section(*fields))


def load_table(ix, data):
    """Sections: known, once each, in bounds, apart, sound; only zeroes between them."""
    seen = set()
    for s in ix.sections:
        what = f'section type {s.type} number {s.number}:'
        need(s.type in RECORDS or s.type >= 0x8000, what, 'unknown type')
        if s.type in RECORDS:
            need((s.type, s.number) not in seen, what, 'twice')
            seen.add((s.type, s.number))
            need(s.type in (3, 5) or s.number == 0, what, 'number')
            need(s.length == s.records * RECORDS[s.type].size, what, 'length', s.length)
        need(s.offset % 8 == 0, what, 'offset', s.offset)
    end = 512 + 64 * len(ix.sections)
    for s in sorted(ix.sections, key=lambda s: (s.offset, s.length)):
        what = f'section type {s.type} number {s.number}:'
        need(s.offset >= end, what, 'overlaps what is before it')
        need(s.offset < end + 8, what, 'a gap before it')
        need(s.offset + s.length <= len(data) - 512, what, 'reaches beyond the index')
        need(not any(data[end:s.offset]), what, 'bytes before it that are not zero')
        end = s.offset + s.length
        need(digest(data[s.offset:end]) == s.digest, what, 'digest')
    need(not any(data[end:-512]), 'index: bytes before the trailer that are not zero')
    need(round_up(end, 512) + 512 == len(data), 'index: sections end at', end, 'of', len(data))
    for t in (1, 2, 4):
        need((t, 0) in seen, 'section type', t, 'is missing')


def rows(ix, data, kind, number=0):
    """The records of a section, as tuples; None when it is not there."""
    for s in ix.sections:
        if (s.type, s.number) == (kind, number):
            return list(RECORDS[kind].iter_unpack(data[s.offset:s.offset + s.length]))
    return None


def load_name(field, what):
    need(b'\0' in field, what, 'name is not terminated')
    raw = field[:field.index(b'\0')]
    try:
        name = raw.decode('utf-8')
    except UnicodeDecodeError:
        raise Bad(f'{what} name is not UTF-8') from None
    need(name not in ('', '.', '..') and '/' not in name, what, 'name', repr(name))
    return name


def load_disks(ix, data):
    ix.disks = []
    for n, (target, member, size, data_at, entries, header_at, _) in enumerate(rows(ix, data, 1)):
        what = f'disk {n}:'
        d = Disk(load_name(target, what), load_name(member, what), size, data_at, entries, header_at)
        need(d.member != 'index.bin', what, 'member is called index.bin')
        need(size < 2**63, what, 'size', size)
        need(all(d.target != o.target and d.member != o.member for o in ix.disks), what, 'name of another disk')
        need((data_at == NONE64) == (entries == 0), what, 'map entries', entries)
        need(data_at == NONE64 or header_at < data_at, what, 'offset of its data')
        need(header_at == NONE64 or header_at < ix.trailer.tar_at, what, 'offset of its header', header_at)
        need(data_at == NONE64 or data_at <= ix.trailer.tar_at, what, 'offset of its data', data_at)
        ix.disks.append(d)


def load_sources(ix, data):
    need(len(ix.disks) <= DISKS_MAX, 'disks:', len(ix.disks))
    ix.sources = [Source(a, d) for a, d, _ in rows(ix, data, 2)]
    need(len(ix.sources) <= SOURCES_MAX, 'sources:', len(ix.sources))
    need(len(set(ix.sources)) == len(ix.sources), 'sources: one is there twice')
    own = sorted(s.disk for s in ix.sources if s.archive == ix.archive)
    need(own == list(range(len(ix.disks))), 'sources: the own disks are', own)
    ix.replaced = [a for a, in rows(ix, data, 7) or []]
    need(len(set(ix.replaced)) == len(ix.replaced), 'replaced archives: one is there twice')
    need(ix.archive not in ix.replaced, 'replaced archives: the archive itself')


def load_blocks(ix, data):
    ix.blocks, ix.starts = {}, {}
    for s in ix.sections:
        if s.type == 5:
            need(s.number < len(ix.sources), 'blocks: source', s.number)
            blocks = [Block(*r) for r in rows(ix, data, 5, s.number)]
            check_blocks(ix, s.number, blocks)
            ix.blocks[s.number] = blocks
            ix.starts[s.number] = [b.offset for b in blocks]


def check_blocks(ix, number, blocks):
    source = ix.sources[number]
    own = source.archive == ix.archive
    need(own or source.archive in ix.replaced, 'source', number, 'is of an archive that is not replaced')
    # The size of another archive's disk is not known here: only its last block can have an odd length.
    size = ix.disks[source.disk].size if own else (blocks[-1].offset + blocks[-1].length if blocks else 0)
    end = 0
    for b in blocks:
        what = f'source {number} offset {b.offset}:'
        need(b.offset >= end, what, 'block out of order or overlapping')
        need(1 <= b.length <= WINDOW, what, 'block of length', b.length)
        end = b.offset + b.length
        need(b.offset // WINDOW == (end - 1) // WINDOW, what, 'block crosses a window')
        need(b.offset % 512 == 0, what, 'block is not aligned')
        need(end <= size and end < 2**63, what, 'block ends outside the disk')
        need(b.length % 512 == 0 or end == size, what, 'block of length', b.length)
        need(b.flags in (0, 1), what, 'flags', b.flags)


def load_frames(ix, data):
    ix.frames = [Frame(*r) for r in rows(ix, data, 4)]
    at = tar_at = 0
    done = dict.fromkeys(ix.blocks, 0)
    last, metas = None, 0
    for n, f in enumerate(ix.frames):
        what = f'frame {n} at {f.at}:'
        need(f.at == at and f.tar_at == tar_at, what, 'does not begin where the one before ends')
        need(f.stored > 0 and f.raw > 0, what, 'is empty')
        need(f.stored <= f.raw + f.raw // 8 + 65536 and f.at < 2**63 and f.tar_at < 2**63, what, 'stored length', f.stored)
        need(ix.codec != 0 or f.stored == f.raw, what, 'lengths differ')
        at, tar_at = at + f.stored, tar_at + f.raw
        if f.source == NONE32:
            need(f.blocks == 0, what, 'meta frame with blocks')
            need(f.raw <= 4194304, what, 'raw length', f.raw)
            metas += 1
            continue
        need(f.source in ix.blocks, what, 'source', f.source)
        blocks = ix.blocks[f.source]
        need(f.blocks > 0 and f.first + f.blocks <= len(blocks), what, 'blocks out of range')
        need(f.source == last or not done[f.source], what, 'source', f.source, 'came before another')
        need(f.source != last or metas <= 16, what, metas, 'meta frames before it')
        last, metas = f.source, 0
        need(f.first == done[f.source], what, 'first block', f.first, 'not', done[f.source])
        done[f.source] += f.blocks
        need(f.raw == sum(b.length for b in blocks[f.first:f.first + f.blocks]), what, 'raw length', f.raw)
        need(f.raw <= ix.frame_max, what, 'raw length', f.raw)
    for s, count in done.items():
        need(count == len(ix.blocks[s]), 'source', s, 'has blocks that are in no frame')
    need((at, tar_at) == (ix.trailer.frame_at, ix.trailer.tar_at), 'frames end at', at, 'not at the index')


def load_views(ix, data):
    ix.views = {}
    for n, d in enumerate(ix.disks):
        records = rows(ix, data, 3, n)
        need(records is not None, 'disk', n, 'has no view')
        ix.views[n] = [View(*r) for r in records]
        end = 0
        for v in ix.views[n]:
            what = f'disk {d.target} offset {v.offset}:'
            need(v.offset >= end, what, 'view record out of order or overlapping')
            need(v.length > 0, what, 'view record of no length')
            end = v.offset + v.length
            need(end <= d.size, what, 'view record ends outside the disk')
            need(v.kind in (DATA, ZERO), what, 'kind', v.kind)
            if v.kind == ZERO:
                need(v.source == NONE32, what, 'zero record with a source')
                continue
            need(v.source < len(ix.sources), what, 'source', v.source)
            if v.source in ix.blocks:
                list(cover(ix, v.source, v.offset, v.length))
            else:
                need(ix.sources[v.source].archive != ix.archive, what, 'nothing of its source is stored')
    for s in ix.sections:
        need(s.type != 3 or s.number in ix.views, 'view of disk', s.number)


def load_small(ix, data):
    ix.small = []
    records, end = rows(ix, data, 6) or [], 0
    need(len(records) <= MEMBERS_MAX, 'small members:', len(records))
    limit = min([f.tar_at for f in ix.frames if f.source != NONE32] + [d.header_at for d in ix.disks] + [ix.trailer.tar_at])
    for n, (name, tar_at, length, dig, frame, _) in enumerate(records):
        m = Small(load_name(name, f'small member {n}:'), tar_at, length, dig, frame)
        what = f'small member {m.name}:'
        need(m.name != 'index.bin' and all(m.name != o.name for o in ix.small), what, 'name of another member')
        need(all(m.name != d.member for d in ix.disks), what, 'name of a disk')
        need(length <= MEMBER_MAX, what, 'length', length)
        need(tar_at % 512 == 0 and tar_at >= end + 512, what, 'overlaps the one before')
        end = round_up(tar_at + length, 512)
        need(end <= limit, what, 'is not before the disks')
        need(frame < len(ix.frames) and ix.frames[frame].source == NONE32, what, 'frame', frame)
        f, first = ix.frames[frame], tar_at - (length == 0)
        need(f.tar_at <= first < f.tar_at + f.raw, what, 'does not begin in its frame')
        ix.small.append(m)


def cover(ix, source, offset, length):
    """(block number, begin, end) for the blocks of a source that hold this range; Bad when they do not hold it all."""
    blocks, end = ix.blocks[source], offset + length
    n = max(0, bisect.bisect_right(ix.starts[source], offset) - 1)
    while offset < end:
        need(n < len(blocks) and blocks[n].offset <= offset < blocks[n].offset + blocks[n].length,
             'source', source, 'has no block at offset', offset)
        upto = min(end, blocks[n].offset + blocks[n].length)
        yield n, offset, upto
        offset, n = upto, n + 1


# ---- archive ----

class Archive:
    """An archive file with its index."""

    def __init__(self, path, ix):
        self.path, self.ix, self.last = path, ix, (None, None)
        self.places = {}
        for n, f in enumerate(ix.frames):
            place = 0
            for b in range(f.first, f.first + f.blocks):
                self.places[f.source, b] = n, place
                place += ix.blocks[f.source][b].length

    def frame(self, number):
        f = self.ix.frames[number]
        if self.last[0] != number:
            with open(self.path, 'rb') as file:
                file.seek(f.at)
                stored = file.read(f.stored)
            need(len(stored) == f.stored, self.path, 'is cut at offset', f.at)
            try:
                self.last = number, decode_frame(self.ix.codec, stored, f.raw)
            except Bad as e:
                raise Bad(f'{self.path}: frame {number} at {f.at}: {e}') from None
        return self.last[1]

    def block(self, source, number):
        """The bytes of a block, with its digest checked."""
        frame, place = self.places[source, number]
        b = self.ix.blocks[source][number]
        raw = self.frame(frame)[place:place + b.length]
        what = f'{self.path}: source {source} disk offset {b.offset}:'
        need(digest(raw, self.ix.secret) == b.digest, what, 'digest of the block')
        need((b.flags & 1) == (not any(raw)), what, 'zero flag')
        return raw

    def small(self, name):
        """The bytes of a small member, with its digest checked."""
        found = [m for m in self.ix.small if m.name == name]
        need(found, f'{self.path}: no small member {name}')
        m, data, number = found[0], b'', found[0].frame
        while len(data) < m.length:
            skip = m.tar_at + len(data) - self.ix.frames[number].tar_at
            data += self.frame(number)[skip:skip + m.length - len(data)]
            number += 1
        need(digest(data, self.ix.secret) == m.digest, f'{self.path}: {name}: digest of a small member')
        return data

    def read(self, source, offset, length):
        for n, begin, end in cover(self.ix, source, offset, length):
            at = self.ix.blocks[source][n].offset
            yield begin, self.block(source, n)[begin - at:end - at]


def guess_codec(path):
    with open(path, 'rb') as f:
        head = f.read(6)
    for n in (1, 2, 3):
        if head.startswith(MAGIC[n]):
            return n
    return 0


def tail_places(codec, data, base):
    """Where a tail frame may begin in the end of a file, last first."""
    magic = MAGIC[codec] or b'OVBTRAIL'
    at = data.rfind(magic)
    while at >= 0:
        if codec or (base + at) % 512 == 0:
            yield at
        at = data.rfind(magic, 0, at + len(magic) - 1)


def find_tail(path):
    """(trailer, offset of the tail frame, its raw bytes), from the last 64 KiB of an archive."""
    codec, size = guess_codec(path), os.path.getsize(path)
    base = max(0, size - 65536)
    with open(path, 'rb') as f:
        f.seek(base)
        data = f.read()
    for at in tail_places(codec, data, base):
        try:
            raw, used = first_frame(codec, data[at:], TAIL_MAX)
            need(at + used == len(data) and len(raw) >= 512, 'not the last frame')
            t = load_trailer(raw)
            need(t.codec == codec, 'trailer: codec', t.codec)
            return t, base + at, raw
        except Bad:
            continue
    raise Bad(f'{path}: no tail frame in the last 64 KiB')


def read_index_member(path):
    """(index bytes, length of the tar stream), by way of the tail frame."""
    t, tail_at, tail = find_tail(path)
    need(t.frame_at < tail_at, path + ': offset of the index', t.frame_at)
    with open(path, 'rb') as f:
        f.seek(t.frame_at)
        stored = f.read(tail_at - t.frame_at)
    raw = b''
    while stored:
        piece, used = first_frame(t.codec, stored, t.length + 512 - len(raw))
        raw, stored = raw + piece, stored[used:]
    raw += tail
    m = tar_member(ByteSpool(raw), 0, t.tar_at)
    need((m.name, m.kind, m.size) == ('index.bin', 'file', t.length), path + ': header of index.bin')
    need(m.data_at == 512 and len(raw) - len(tail) == t.length, path + ': tail frame does not begin with the trailer')
    end = 512 + t.length
    need(not any(raw[end:]), path + ': bytes after the end of the tar stream')
    total = t.tar_at + len(raw)
    need(total == round_up(t.tar_at + end + 1024, TAR_RECORD), path + ': the tar stream ends at', total)
    return raw[512:end], total


def open_archive(path):
    """A bare archive: everything from its own end. Returns (archive, index bytes, length of the tar stream)."""
    data, total = read_index_member(path)
    return Archive(path, load_index(data)), data, total


# ---- tar stream ----

class ByteSpool:
    def __init__(self, data):
        self.data = data

    def read(self, at, length):
        return self.data[at:at + length]


class FileSpool:
    """The raw tar stream in a temporary file."""

    def __init__(self):
        self.file = tempfile.TemporaryFile(dir=os.environ.get('TMPDIR'))
        self.size = 0

    def add(self, raw):
        self.file.seek(self.size)
        self.file.write(raw)
        self.size += len(raw)

    def read(self, at, length):
        self.file.seek(at)
        return self.file.read(length)


def tar_number(field):
    """Octal, or GNU's base-256."""
    if field[0] & 0x80:
        need(field[0] == 0x80, 'tar: negative number')
        return int.from_bytes(field[1:], 'big')
    text = field.rstrip(b' \0')
    need(re.fullmatch(b'[0-7]+', text), 'tar: number', field)
    return int(text, 8)


def tar_header(spool, at):
    """(name, type, size, mode) of one header block."""
    h = spool.read(at, 512)
    need(len(h) == 512, 'tar: header is cut')
    need(h[257:262] == b'ustar', 'tar: no ustar header')
    need(tar_number(h[148:156]) == sum(h[:148]) + 8 * 32 + sum(h[156:]), 'tar: header checksum')
    name, prefix = h[:100].split(b'\0')[0], h[345:500].split(b'\0')[0]
    return (prefix + b'/' + name if prefix else name), h[156:157], tar_number(h[124:136]), tar_number(h[100:108])


def pax_records(text):
    found = {}
    while text:
        m = re.match(rb'([1-9]\d*) ', text)
        need(m and int(m[1]) > len(m[0]), 'tar: pax record')
        record, text = text[len(m[0]):int(m[1])], text[int(m[1]):]
        need(len(record) == int(m[1]) - len(m[0]) and record.endswith(b'\n') and b'=' in record, 'tar: pax record')
        key, value = record[:-1].decode().split('=', 1)
        need(key not in found, 'tar: pax record', key, 'twice')
        found[key] = value
    return found


def check_zeroes(spool, begin, end):
    got = spool.read(begin, end - begin)
    need(len(got) == end - begin and not any(got), 'tar offset', begin, 'padding')


def tar_member(spool, at, shift=0):
    """The member whose first header is at `at`; `shift` only for messages."""
    start, pax = at, {}
    try:
        name, kind, size, mode = tar_header(spool, at)
        at += 512
        if kind == b'x':
            pax = pax_records(spool.read(at, size))
            check_zeroes(spool, at + size, round_up(at + size, 512))
            at = round_up(at + size, 512)
            name, kind, size, mode = tar_header(spool, at)
            at += 512
        need(kind == b'0', 'tar: type', kind)
        need('size' not in pax, 'tar: pax record size')
        name = pax.get('path', name.decode())
        check_zeroes(spool, at + size, round_up(at + size, 512))
    except (Bad, UnicodeDecodeError) as e:
        raise Bad(f'tar offset {start + shift}: {e}') from None
    what = 'sparse' if 'GNU.sparse.major' in pax else 'piece' if '/' in name else 'file'
    return Member(name, what, start, at, size, pax, mode, round_up(at + size, 512))


def tar_members(spool, end):
    at = 0
    while at < end:
        m = tar_member(spool, at)
        yield m
        at = m.end
    need(at == end, 'tar: last member ends at', at, 'not at', end)


def sparse_map(spool, m):
    """([(offset, length)], tar offset of the data) of a sparse member."""
    at, limit, text, count, lines = m.data_at, m.data_at + m.size, b'', None, 0
    while count is None or lines < 1 + 2 * count:
        piece = spool.read(at, 512)
        at += 512
        need(len(piece) == 512 and at <= limit, m.name, 'map is cut')
        text, lines = text + piece, lines + piece.count(b'\n')
        if count is None and lines:
            count = int(text.split(b'\n', 1)[0])
    *numbers, rest = text.split(b'\n', 1 + 2 * count)
    need(not any(rest), m.name, 'bytes after the map')
    need(all(re.fullmatch(rb'0|[1-9]\d{0,18}', n) for n in numbers), m.name, 'number in the map')
    numbers = [int(n) for n in numbers[1:]]
    return list(zip(numbers[::2], numbers[1::2])), at


def merged(extents):
    out = []
    for offset, length in extents:
        if out and out[-1][0] + out[-1][1] == offset:
            out[-1] = out[-1][0], out[-1][1] + length
        else:
            out.append((offset, length))
    return out


def cut_blocks(extents):
    """The writer's rule: extents cut at the windows."""
    for offset, length in extents:
        end = offset + length
        while offset < end:
            upto = min(end, (offset // WINDOW + 1) * WINDOW)
            yield offset, upto - offset
            offset = upto


def cut_frames(lengths, most):
    """The writer's rule: (first block, number of blocks) for each data frame."""
    first = total = 0
    for n, length in enumerate(lengths):
        if total + length > most:
            yield first, n - first
            first, total = n, 0
        total += length
    if total:
        yield first, len(lengths) - first


# ---- verification of an archive ----

class Verifier:
    def __init__(self, archive):
        self.a, self.ix, self.spool = archive, archive.ix, FileSpool()
        self.pieces, self.frames = {}, []
        self.blocks = self.zeroes = 0
        self.short = 0                  # sparse members with frames that have room for more blocks

    def run(self):
        for n, f in enumerate(self.ix.frames):
            self.spool.add(self.a.frame(n))
            for b in range(f.first, f.first + f.blocks):
                self.a.block(f.source, b)
                self.blocks += 1
                self.zeroes += self.ix.blocks[f.source][b].flags & 1
        self.members()

    def members(self):
        """Members in their order, and each data frame exactly where a member wants one."""
        order, small, seen = -1, 0, set()
        for m in tar_members(self.spool, self.ix.trailer.tar_at):
            if m.kind == 'file':
                need(order == -1, m.name, 'small member after a disk')
                need(small < len(self.ix.small), m.name, 'is not in the index')
                self.small(m, self.ix.small[small])
                small += 1
                continue
            disk = self.sparse(m) if m.kind == 'sparse' else self.piece(m)
            need(disk > order or (disk == order and m.kind == 'piece'), m.name, 'member out of order')
            if disk not in seen:
                need(self.ix.disks[disk].header_at == m.header_at, m.name, 'offset of its header in the index')
            order, seen = disk, seen | {disk}
        need(small == len(self.ix.small), 'small member', small, 'is not in the tar stream')
        data = [(f.tar_at, f.source, f.first, f.blocks) for f in self.ix.frames if f.source != NONE32]
        need(data == self.frames, 'data frames of the index are not those of the members')
        for n, d in enumerate(self.ix.disks):
            need(n in seen or d.header_at == NONE64, d.member, 'is not in the tar stream')
            need(n not in self.pieces or d.data_at == NONE64, d.member, 'is in pieces')

    def small(self, m, want):
        need(set(m.pax) <= {'path'} and ('path' in m.pax) == (len(m.name.encode()) > 100), m.name, 'pax records', m.pax)
        need(m.mode == 0o600, m.name, 'mode', oct(m.mode))
        need((m.name, m.data_at, m.size) == (want.name, want.tar_at, want.length), m.name, 'differs from the index')
        data = self.spool.read(m.data_at, m.size)
        need(digest(data, self.ix.secret) == want.digest, m.name, 'digest of a small member')

    def sparse(self, m):
        name = m.pax.get('GNU.sparse.name')
        names = [d.member for d in self.ix.disks]
        need(name in names, name, 'is no disk of the index')
        disk = names.index(name)
        d, source = self.ix.disks[disk], self.ix.own_source(disk)
        want = {'GNU.sparse.major': '1', 'GNU.sparse.minor': '0', 'GNU.sparse.realsize': str(d.size)}
        need(all(m.pax.get(k) == v for k, v in want.items()), name, 'pax records', m.pax)
        raw = tar_header(self.spool, m.data_at - 512)[0]
        need(raw.startswith(b'GNUSparseFile.0/') and len(raw) > 16 and name.encode().startswith(raw[16:]),
             name, 'name in its header', raw)
        need(m.mode == 0o600, name, 'mode', oct(m.mode))
        entries, data_at = sparse_map(self.spool, m)
        need((d.entries, d.data_at) == (len(entries), data_at), name, 'map in the index')
        extents = self.extents(d, entries)
        need(m.data_at + m.size == data_at + sum(e[1] for e in extents), name, 'stored size', m.size)
        self.sparse_frames(d, source, extents, data_at)
        self.sparse_view(disk, source)
        return disk

    def extents(self, d, entries):
        """The map without its last, empty entry."""
        extents = [e for e in entries if e[1]]
        ends = extents[-1][0] + extents[-1][1] if extents else 0
        whole = bool(extents) and ends == d.size
        need(entries == extents + ([] if whole else [(d.size, 0)]), d.member, 'end of the map')
        end = -1
        for offset, length in extents:
            need(offset > end, d.member, 'map entry', offset, 'overlaps or touches the one before')
            end = offset + length
            need(end <= d.size and offset % 512 == 0 and (length % 512 == 0 or end == d.size),
                 d.member, 'map entry', offset, length)
        return extents

    def sparse_frames(self, d, source, extents, at):
        blocks = self.ix.blocks.get(source, [])
        got = [(b.offset, b.length) for b in blocks]
        need(merged(got) == extents, d.member, 'map is not the extents of the blocks')
        need(got == list(cut_blocks(extents)), d.member, 'blocks are not the extents cut at the windows')
        frames = [(f.first, f.blocks) for f in self.ix.frames_of(source)]
        # As many blocks as fit, but before and after frames that were copied from other archives.
        self.short += frames != list(cut_frames([b.length for b in blocks], self.ix.frame_max))
        for first, count in frames:
            self.frames.append((at, source, first, count))
            at += sum(b.length for b in blocks[first:first + count])

    def sparse_view(self, disk, source):
        """What tar extracts and what the view says must be the same disk."""
        d, shown = self.ix.disks[disk], []
        for v in self.ix.views[disk]:
            if v.kind == DATA:
                need(v.source == source, d.target, 'offset', v.offset, 'view is of another source')
                shown.append((v.offset, v.length))
        shown = merged(shown)
        starts = [s[0] for s in shown]
        for b in self.ix.blocks.get(source, []):
            n = bisect.bisect_right(starts, b.offset) - 1
            inside = n >= 0 and b.offset + b.length <= shown[n][0] + shown[n][1]
            need(inside or b.flags & 1, d.target, 'offset', b.offset, 'block is not in the view')

    def piece(self, m):
        found = re.fullmatch(r'([^/]+)\.delta/(\d{6,})', m.name)
        names = [d.member for d in self.ix.disks]
        need(found and found[1] in names, m.name, 'is no piece of a disk of the index')
        disk = names.index(found[1])
        self.pieces[disk] = self.pieces.get(disk, 0) + 1
        need(found[2] == f'{self.pieces[disk]:06}', m.name, 'number of the piece')
        numbers = [n for n, f in enumerate(self.ix.frames) if f.tar_at == m.data_at and f.source != NONE32]
        need(numbers, m.name, 'does not begin with a data frame')
        n, f = numbers[0], self.ix.frames[numbers[0]]
        need(f.raw == m.size, m.name, 'is not one data frame')
        before = self.ix.frames[n - 1] if n else None
        need(before and before.source == NONE32 and before.tar_at <= m.header_at, m.name, 'headers are not in one frame')
        blocks = self.ix.blocks[f.source][f.first:f.first + f.blocks]
        text = m.pax.get('OPENVIRT.extents', '')
        need(re.fullmatch(r'\d+\+\d+(,\d+\+\d+)*', text), m.name, 'OPENVIRT.extents', text)
        extents = [tuple(map(int, pair.split('+'))) for pair in text.split(',')]
        need(merged(extents) == merged([(b.offset, b.length) for b in blocks]), m.name, 'OPENVIRT.extents', text)
        source = self.ix.sources[f.source]
        foreign = None if source.archive == self.ix.archive else f'{id_text(source.archive)}/{source.disk}'
        need(m.pax.get('OPENVIRT.source') == foreign, m.name, 'OPENVIRT.source', m.pax.get('OPENVIRT.source'))
        if source.archive == self.ix.archive:
            need(source.disk == disk, m.name, 'holds another disk')
            need(not any(b.flags & 1 for b in blocks), m.name, 'zero block in a delta')
        self.frames.append((m.data_at, f.source, f.first, f.blocks))
        return disk


def verify_archive(path):
    """Check a bare archive; returns (summary, archive, index bytes)."""
    try:
        archive, data, total = open_archive(path)
        v = Verifier(archive)
        v.run()
    except Bad as e:
        raise Bad(str(e) if str(e).startswith(path) else f'{path}: {e}') from None
    except (ValueError, LookupError, struct.error) as e:
        raise Bad(f'{path}: {e!r}') from None
    ix = archive.ix
    return {'archive': id_text(ix.archive), 'codec': CODECS[ix.codec], 'disks': len(ix.disks), 'frames': len(ix.frames),
            'blocks': v.blocks, 'zero_blocks': v.zeroes, 'short': v.short, 'raw': total, 'size': os.path.getsize(path)}, archive, data


# ---- repository ----

def escape(name):
    """The folder of a machine."""
    raw, out = name.encode('utf-8', 'surrogateescape'), b''
    for n, c in enumerate(raw):
        plain = chr(c).isalnum() and c < 128 or c in b'_-+=,@.~' or c >= 128
        ending = raw[n:] in (b'.partial', b'.json', b'.old', b'.new', b'.lock')
        out += bytes([c]) if plain and not (c == 46 and (n == 0 or ending)) else b'%%%02X' % c
    need(0 < len(out) <= 255, 'name of the machine', name)
    return out.decode('utf-8', 'surrogateescape')


def load_json(path):
    with open(path, 'rb') as f:
        try:
            obj = json.loads(f.read().decode('utf-8'))
        except ValueError as e:
            raise Bad(f'{path}: {e}') from None
    need(isinstance(obj, dict), path + ': no object')
    need(obj.get('format') == 1, path + ': format', obj.get('format'))
    return obj


class Point:
    """A point's folder: manifest.json, or pruned.json in its place."""

    def __init__(self, folder):
        self.folder = folder
        self.pruned = not os.path.exists(os.path.join(folder, 'manifest.json'))
        self.manifest_path = os.path.join(folder, 'pruned.json' if self.pruned else 'manifest.json')
        self.manifest = load_json(self.manifest_path)
        a = self.manifest.get('archive')
        need(isinstance(a, dict) and a.get('file') in ['disks' + e for e in ENDINGS], self.manifest_path + ': archive')
        self.id = uuid.UUID(a['id']).bytes
        self.archive_path = os.path.join(folder, a['file'])
        self.index_path = os.path.join(folder, 'index.bin')

    def index_bytes(self):
        with open(self.index_path, 'rb') as f:
            return f.read()

    def archive(self):
        try:
            ix = load_index(self.index_bytes())
        except Bad as e:
            raise Bad(f'{self.index_path}: {e}') from None
        need(ix.archive == self.id, self.index_path + ': not of the archive of the manifest')
        return Archive(self.archive_path, ix)


class Repository:
    def __init__(self, root):
        self.root = root
        info = load_json(os.path.join(root, 'repository.json'))
        uuid.UUID(info['id'])
        self.found = {}

    def point(self, vm, point):
        need(POINT_NAME.fullmatch(point), 'name of the point', point)
        for name in (escape(vm), vm):
            for ending in ('', '.new', '.old'):
                if os.path.isdir(os.path.join(self.root, name, point + ending)):
                    return Point(os.path.join(self.root, name, point + ending))
        raise Bad(f'{self.root}: no point {point} of {vm}')

    def points(self):
        for vm in sorted(os.listdir(self.root)):
            folder = os.path.join(self.root, vm)
            if vm.startswith('.') or not os.path.isdir(folder):
                continue
            for name in sorted(os.listdir(folder)):
                if POINT_NAME.fullmatch(re.sub(r'\.(new|old)$', '', name)):
                    try:
                        yield Point(os.path.join(folder, name))
                    except (Bad, OSError, ValueError, KeyError):
                        continue

    def archives(self, archive_id):
        """The archive with this id, else those that replaced it."""
        if archive_id not in self.found:
            named = [p.archive() for p in self.points() if p.id == archive_id]
            self.found[archive_id] = named or self.replacing(archive_id)
        return self.found[archive_id]

    def replacing(self, archive_id):
        out = []
        for p in self.points():
            try:
                archive = p.archive()
            except (Bad, OSError):
                continue
            if archive_id in archive.ix.replaced:
                out.append(archive)
        return out

    def holder(self, source, offset, length):
        """(archive, number of the source there) that holds this range."""
        why = 'no archive with this id'
        for archive in self.archives(source.archive):
            try:
                number = archive.ix.sources.index(source)
                list(cover(archive.ix, number, offset, length))
                return archive, number
            except (Bad, ValueError, KeyError) as e:
                why = f'{archive.path}: {e}'
        raise Bad(f'source {id_text(source.archive)} disk {source.disk} offset {offset}: {why}')


def read_disk(archive, disk, repo=None):
    """(offset, bytes) for each stored stretch of a disk, rising; everything else reads as zeroes."""
    ix = archive.ix
    for v in ix.views[disk]:
        if v.kind == ZERO:
            continue
        source = ix.sources[v.source]
        try:
            if v.source in ix.blocks:
                yield from archive.read(v.source, v.offset, v.length)
                continue
            need(repo, 'is in another archive,', id_text(source.archive))
            other, number = repo.holder(source, v.offset, v.length)
            yield from other.read(number, v.offset, v.length)
        except Bad as e:
            raise Bad(f'disk {ix.disks[disk].target} offset {v.offset}: {e}') from None


def read_repo_disk(root, vm, point, name):
    """(size, iterator of (offset, bytes)) of a disk of a point."""
    repo = Repository(root)
    archive = repo.point(vm, point).archive()
    n = archive.ix.disk_number(name)
    return archive.ix.disks[n].size, read_disk(archive, n, repo)


def read_archive_disk(path, name):
    archive, _, _ = open_archive(path)
    n = archive.ix.disk_number(name)
    return archive.ix.disks[n].size, read_disk(archive, n)


def write_image(target, size, stretches):
    """A sparse raw image: nothing is written where the disk reads as zeroes."""
    with open(target, 'wb') as f:
        f.truncate(size)
        for offset, data in stretches:
            if any(data):
                f.seek(offset)
                f.write(data)


def write_file(target, data):
    with open(target, 'wb') as f:
        f.write(data)


# ---- verification of a point ----

def parse_time(text):
    need(re.fullmatch(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ', str(text)), 'time', text)
    return calendar.timegm(time.strptime(text, '%Y-%m-%dT%H:%M:%SZ'))


def check_sums(point):
    path = os.path.join(point.folder, 'SHA256SUMS')
    with open(path, encoding='utf-8') as f:
        text = f.read()
    found = {}
    need(text.endswith('\n'), path + ': last line is cut')
    for line in text[:-1].split('\n'):
        m = re.fullmatch(r'([0-9a-f]{64}) [ *]([^/]+)', line)
        need(m and m[2] not in found, path + ':', repr(line))
        found[m[2]] = m[1]
    # A pruned point's manifest only has another name.
    files = {'manifest.json': point.manifest_path, 'index.bin': point.index_path,
             os.path.basename(point.archive_path): point.archive_path}
    need(set(found) == set(files), path + ': lines for', ', '.join(sorted(found)))
    for name, file in files.items():
        need(sha256_file(file) == found[name], path + ':', file, 'has another digest')


def check_manifest(point, ix, total):
    m, a, ix_codec = point.manifest, point.manifest['archive'], CODECS[ix.codec]
    what = point.manifest_path + ':'
    texts = 'vm time finished kind consistency capture job host program'.split()
    need(all(isinstance(m.get(k), str) for k in texts), what, 'a text is missing')
    need(all(isinstance(m.get(k), list) for k in ('notes', 'disks', 'references')), what, 'an array is missing')
    folder, name = os.path.split(point.folder)
    need(escape(m['vm']) == os.path.basename(folder), what, 'vm', m['vm'])
    need(name[:18] == m['time'].replace(':', ''), what, 'time', m['time'])
    need(parse_time(m['time']) == ix.time <= parse_time(m['finished']), what, 'time', m['time'])
    need(m['kind'] in ('full', 'incremental'), what, 'kind', m['kind'])
    need(m['consistency'] in ('quiesced', 'crash-consistent', 'offline', 'inconsistent'), what, 'consistency')
    need(m['capture'] in ('backup', 'snapshot', 'offline', 'image'), what, 'capture', m['capture'])
    size = os.path.getsize(point.archive_path)
    want = {'id': id_text(ix.archive), 'file': 'disks' + ENDINGS[ix.codec], 'codec': ix_codec, 'level': ix.level,
            'size': size, 'sha256': sha256_file(point.archive_path), 'raw': total}
    for key, value in want.items():
        need(a.get(key) == value, what, 'archive:', key, a.get(key), 'not', value)
    need(m.get('stored') == size, what, 'stored', m.get('stored'))
    need(m.get('members', []) == [{'name': s.name, 'size': s.length} for s in ix.small], what, 'members')
    need(len(m['disks']) == len(ix.disks), what, 'number of disks')
    for n, d in enumerate(m['disks']):
        check_manifest_disk(what, d, ix, n)
    check_references(what, m, ix)


def check_manifest_disk(what, d, ix, n):
    blocks = ix.blocks.get(ix.own_source(n), [])
    want = {'target': ix.disks[n].target, 'member': ix.disks[n].member, 'size': ix.disks[n].size}
    if not ix.replaced:
        want['data'] = sum(b.length for b in blocks)
        want['zero'] = sum(b.length for b in blocks if b.flags & 1)
    for key, value in want.items():
        need(d.get(key) == value, what, f'disk {n}:', key, d.get(key), 'not', value)
    need(all(isinstance(d.get(k), int) for k in ('provisioned', 'read', 'data', 'zero')), what, f'disk {n}: a number')
    need(all(isinstance(d.get(k), str) for k in ('source', 'format')), what, f'disk {n}: a text')


def check_references(what, m, ix):
    """At least what the views need from elsewhere, at most what the index names."""
    got = {uuid.UUID(r).bytes for r in m['references']}
    views = [v for records in ix.views.values() for v in records if v.kind == DATA]
    needed = {ix.sources[v.source].archive for v in views if v.source not in ix.blocks}
    named = {s.archive for s in ix.sources if s.archive != ix.archive} | set(ix.replaced)
    need(needed <= got <= named, what, 'references', m['references'])
    need(m['kind'] != 'full' or not got, what, 'full, but with references')


def verify_point(root, vm, name):
    repo = Repository(root)
    point = repo.point(vm, name)
    check_sums(point)
    summary, archive, data = verify_archive(point.archive_path)
    need(data == point.index_bytes(), point.index_path + ': not the same as the member of the archive')
    check_manifest(point, archive.ix, summary['raw'])
    # Of a pruned point only the archive is needed: what its disks were made of may be gone.
    for n, d in enumerate([] if point.pruned else archive.ix.disks):
        end = 0
        for offset, piece in read_disk(archive, n, repo):
            need(offset >= end, 'disk', d.target, 'offset', offset, 'out of order')
            end = offset + len(piece)
    return {'vm': point.manifest['vm'], 'point': name, 'kind': point.manifest['kind'], 'pruned': point.pruned,
            'references': point.manifest['references'], **summary}


# ---- command line ----

def plain(value):
    """Bytes as text, for JSON."""
    if hasattr(value, '_asdict'):
        return {k: plain(v) for k, v in value._asdict().items()}
    if isinstance(value, bytes):
        return id_text(value) if len(value) == 16 else value.hex()
    return value


def dump_index(path, with_blocks):
    if os.path.isdir(path):
        path = os.path.join(path, 'index.bin')
    with open(path, 'rb') as f:
        data = f.read() if f.read(8) == b'OVBINDEX' else None
    ix = load_index(b'OVBINDEX' + data) if data is not None else open_archive(path)[0].ix
    header = {k: plain(getattr(ix, k)) for k in 'archive time codec level frame_max length secret'.split()}
    out = {'header': header, 'header_digest': ix.digest.hex(), 'trailer': plain(ix.trailer),
           'views': {ix.disks[n].target: [plain(v) for v in records] for n, records in ix.views.items()},
           'replaced': [id_text(r) for r in ix.replaced]}
    for key in ('sections', 'disks', 'sources', 'frames', 'small'):
        out[key] = [plain(r) for r in getattr(ix, key)]
    if with_blocks:
        out['blocks'] = {n: [plain(b) | {'digest': b.digest.hex()} for b in bs] for n, bs in ix.blocks.items()}
    return out


def arguments(argv):
    p = argparse.ArgumentParser(description='An independent reader of Openvirt Backup repositories.')
    sub = p.add_subparsers(dest='command', required=True)
    for command, names in {'verify': 'repo vm point', 'verify-archive': 'file', 'index': 'file',
                           'disk': 'repo vm point disk target', 'disk-archive': 'file disk target',
                           'file': 'repo vm point name target', 'file-archive': 'file name target'}.items():
        s = sub.add_parser(command)
        for n in names.split():
            s.add_argument(n)
        if command == 'index':
            s.add_argument('--blocks', action='store_true')
    return p.parse_args(argv)


def run(a):
    if a.command == 'verify':
        print(json.dumps(verify_point(a.repo, a.vm, a.point)))
    elif a.command == 'verify-archive':
        print(json.dumps(verify_archive(a.file)[0]))
    elif a.command == 'index':
        print(json.dumps(dump_index(a.file, a.blocks), indent=1))
    elif a.command == 'disk':
        write_image(a.target, *read_repo_disk(a.repo, a.vm, a.point, a.disk))
    elif a.command in ('file', 'file-archive'):
        archive = Repository(a.repo).point(a.vm, a.point).archive() if a.command == 'file' else open_archive(a.file)[0]
        write_file(a.target, archive.small(a.name))
    else:
        write_image(a.target, *read_archive_disk(a.file, a.disk))


def main(argv):
    try:
        run(arguments(argv))
    except (Bad, OSError, ValueError, LookupError, TypeError, struct.error) as e:
        print(f'oracle: {e}' if isinstance(e, (Bad, OSError)) else f'oracle: {e!r}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
