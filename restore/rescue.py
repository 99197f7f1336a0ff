#!/usr/bin/python3
"""Restore disks with nothing but Python 3, for the day on which virt-restore cannot be had.

    python3 rescue.py REPOSITORY                        list machines, restore points and disks
    python3 rescue.py REPOSITORY MACHINE/TIME DISK FILE     write a disk, as sparse as it was, to the new FILE

Every point can be restored, also one that is not full. Archives and indexes are held to their SHA-256 before anything is
written; the digests of the blocks cannot be checked, because Python has no XXH3. What is damaged or missing is listed with its
place, reads as zeroes in FILE, and the exit status is 1. Archives that zstd made need the program zstd.

It is written from common/FORMAT.md, where all that follows is explained. Copy it to where the repository is.
"""
import bz2
import glob
import hashlib
import json
import lzma
import mmap
import os
import struct
import subprocess
import sys
import uuid
from collections import OrderedDict

WINDOW, FRAME_MAX, META, DATA = 65536, 4194304, 2**32 - 1, 1
CODECS = ['none', 'bzip2', 'xz', 'zstd']
HEADER = struct.Struct('<8sII16sQII')
SECTION = struct.Struct('<IIQQQ')
DISK, SOURCE, VIEW = struct.Struct('<256s256sQ120x'), struct.Struct('<16sI4x'), struct.Struct('<QQII')
FRAME, BLOCK, REPLACED = struct.Struct('<QQQIIII'), struct.Struct('<QI20x'), struct.Struct('<16s')
FRAMES_KEPT = 32        # unpacked; a view takes the frames of each source in rising order


class Lost(Exception):
    """What is not there, or not as it was written."""


def need(ok, what):
    if not ok:
        raise Lost(what)


class Rows:
    """A section of an index, read where it lies: an index of a large disk does not fit into memory."""

    def __init__(self, data=b'', at=0, count=0, record=VIEW):
        need(at + count * record.size <= len(data), 'the index is cut off')
        self.data, self.at, self.count, self.record = data, at, count, record

    def __len__(self):
        return self.count

    def __getitem__(self, n):
        if not 0 <= n < self.count:
            raise IndexError(n)
        return self.record.unpack_from(self.data, self.at + n * self.record.size)

    def last(self, field, value):
        """The number of the last record whose field, which rises, is at most this value; -1 if there is none."""
        low, high = 0, self.count
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self[middle][field] <= value else (low, middle)
        return low - 1


def name_of(field):
    return field.split(b'\0')[0].decode('utf-8', 'replace')


class Index:
    def __init__(self, path):
        with open(path, 'rb') as f:
            self.data = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
        need(len(self.data) >= 1024, 'the index is cut off')
        magic, version, count, archive, _, self.codec, _ = HEADER.unpack_from(self.data)
        need(magic == b'OVBINDEX' and version == 1, 'it is no index of version 1')
        need(self.codec < len(CODECS) and count <= 65536, 'the index is damaged')
        self.archive = archive
        self.sections = {}
        for n in range(count):
            kind, number, at, _, records = SECTION.unpack_from(self.data, 512 + 64 * n)
            self.sections[kind, number] = at, records
        self.disks = [(name_of(t), size) for t, _, size in self.rows(1, DISK)]
        self.sources = [tuple(s) for s in self.rows(2, SOURCE)]
        self.replaced = {a for a, in self.rows(7, REPLACED)}
        self.frames = self.rows(4, FRAME)
        self.frames_of = {}

    def rows(self, kind, record, number=0):
        return Rows(self.data, *self.sections.get((kind, number), (0, 0)), record)

    def own_frames(self, source):
        """The frames of one source: first blocks and numbers, both rising."""
        if source not in self.frames_of:
            self.frames_of[source] = [(f[2], n) for n, f in enumerate(self.frames) if f[6] == source]
        return self.frames_of[source]


class Archive:
    """A folder with an archive and its index."""

    def __init__(self, folder, manifest):
        self.folder, self.manifest = folder, manifest
        file = manifest['archive']['file']
        need(file == os.path.basename(file), 'the manifest is damaged')
        self.path, self.kept = os.path.join(folder, file), OrderedDict()
        self.check('index.bin')
        self.index = Index(os.path.join(folder, 'index.bin'))
        need(self.index.archive == uuid.UUID(manifest['archive']['id']).bytes, 'index and manifest are of different archives')
        self.check(file)

    def check(self, name):
        with open(os.path.join(self.folder, 'SHA256SUMS'), encoding='utf-8') as f:
            sums = {line.split('  ', 1)[1].rstrip('\n'): line.split('  ')[0] for line in f if '  ' in line}
        digest = hashlib.sha256()
        with open(os.path.join(self.folder, name), 'rb') as f:
            for piece in iter(lambda: f.read(1 << 20), b''):
                digest.update(piece)
        if sums.get(name) != digest.hexdigest():
            warn('%s does not have the SHA-256 in SHA256SUMS: what is restored from it may be wrong' % os.path.join(self.folder, name))

    def frame(self, n):
        """The unpacked bytes of a frame."""
        if n not in self.kept:
            at, _, _, stored, raw, _, _ = self.index.frames[n]
            need(raw <= FRAME_MAX and stored <= 2 * FRAME_MAX, 'a frame is too long')
            with open(self.path, 'rb') as f:
                f.seek(at)
                data = unpack(CODECS[self.index.codec], f.read(stored), raw)
            need(len(data) == raw, 'the frame at %d of %s is damaged' % (at, self.path))
            self.kept[n] = data
            if len(self.kept) > FRAMES_KEPT:
                self.kept.popitem(last=False)
        self.kept.move_to_end(n)
        return self.kept[n]

    def source(self, archive, disk):
        need((archive, disk) in self.index.sources, '%s has no such disk' % self.path)
        return self.index.sources.index((archive, disk))

    def block(self, source, blocks, n):
        """The bytes of block n: its frame is the last one that begins with it or before."""
        frames = self.index.own_frames(source)
        low, high = 0, len(frames)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if frames[middle][0] <= n else (low, middle)
        need(low > 0, 'a block of %s is in no frame' % self.path)
        first, number = frames[low - 1]
        place = sum(blocks[b][1] for b in range(first, n))
        data = self.frame(number)[place:place + blocks[n][1]]
        need(len(data) == blocks[n][1] <= WINDOW, 'a block of %s is not in its frame' % self.path)
        return data


def unpack(codec, data, length):
    """One frame; of a damaged one whatever comes, which is then found to be too short."""
    try:
        if codec == 'bzip2':
            return bz2.BZ2Decompressor().decompress(data, length + 1)
        if codec == 'xz':
            return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=64 << 20).decompress(data, length + 1)
        if codec == 'zstd':
            return subprocess.run(['zstd', '-dcq'], input=data, stdout=subprocess.PIPE, check=False).stdout
        return data
    except (OSError, lzma.LZMAError, EOFError):
        return b''


def warn(text):
    print('rescue: ' + text, file=sys.stderr, flush=True)


class Repository:
    def __init__(self, path):
        """Points and archives by what their manifests say; a folder that is being made or removed is left alone."""
        self.points, self.folders, self.opened, self.found = {}, {}, {}, {}
        for name in ('manifest.json', 'pruned.json'):
            for file in sorted(glob.glob(os.path.join(glob.escape(path), '*', '*', name))):
                folder = os.path.dirname(file)
                if not folder.endswith('.partial'):
                    self.add(folder, file, name == 'manifest.json')

    def add(self, folder, file, listed):
        try:
            with open(file, encoding='utf-8') as f:
                manifest = json.load(f)
            ids = [manifest['archive']['id'], *manifest.get('replaces', [])]
            for n, text in enumerate(ids):
                self.folders.setdefault((n > 0, uuid.UUID(text).bytes), []).append((folder, manifest))
            if listed:
                self.points['/'.join(folder.split('/')[-2:])] = folder, manifest
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as e:
            warn('%s cannot be read: %s' % (file, e))

    def archives(self, wanted):
        """The archive of this id, and then those that stand for it, each of which may have another part of it."""
        if wanted not in self.found:
            self.found[wanted] = [*self.folders.get((False, wanted), []), *self.folders.get((True, wanted), [])] or [
                f for f in set_of_folders(self.folders) if self.stands_for(*f, wanted)]
        return self.found[wanted]

    def stands_for(self, folder, manifest, wanted):
        try:
            return wanted in self.open(folder, manifest).index.replaced
        except Lost:
            return False

    def open(self, folder, manifest):
        if folder not in self.opened:
            try:
                self.opened[folder] = Archive(folder, manifest)
            except (OSError, ValueError, Lost) as e:
                self.opened[folder] = Lost('%s: %s' % (folder, e))
                warn(str(self.opened[folder]))
        if isinstance(self.opened[folder], Lost):
            raise self.opened[folder]
        return self.opened[folder]


def set_of_folders(folders):
    return list({folder: (folder, manifest) for them in folders.values() for folder, manifest in them}.values())


def read(repository, source, begin, end):
    """What the first archive that can has from begin to the end of a block: that end, the bytes or None, and why not."""
    upto, why = min(end, (begin // WINDOW + 1) * WINDOW), 'the archive %s is not in the repository' % uuid.UUID(bytes=source[0])
    for folder, manifest in repository.archives(source[0]):
        try:
            archive = repository.open(folder, manifest)
            number = archive.source(*source)
            blocks = archive.index.rows(5, BLOCK, number)
            n = blocks.last(0, begin)
            need(n >= 0 and blocks[n][0] <= begin < sum(blocks[n]), 'no block of %s holds it' % archive.path)
            upto = min(end, sum(blocks[n]))
            return upto, archive.block(number, blocks, n)[begin - blocks[n][0]:upto - blocks[n][0]], None
        except Lost as e:
            why = e
    return upto, None, why


def copy(repository, source, begin, end, out):
    """Write what a data record of a view names, block by block; returns how many bytes are lost."""
    lost = 0
    while begin < end:
        upto, data, why = read(repository, source, begin, end)
        if data is None:
            warn('lost: %d bytes at offset %d: %s' % (upto - begin, begin, why))
            lost += upto - begin
        elif any(data):
            os.pwrite(out, data, begin)
        begin = upto
    return lost


def restore(repository, point, disk, target):
    need(point in repository.points, 'there is no restore point %s' % point)
    index = repository.open(*repository.points[point]).index
    names = [name for name, _ in index.disks]
    need(disk in names, '%s has no disk %s; it has: %s' % (point, disk, ', '.join(names)))
    number, lost = names.index(disk), 0
    size = index.disks[number][1]
    out = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.ftruncate(out, size)
        for offset, length, source, kind in index.rows(3, VIEW, number):
            if kind == DATA:
                need(source < len(index.sources) and offset + length <= size, 'the index is damaged')
                lost += copy(repository, index.sources[source], offset, offset + length, out)
        os.fsync(out)
    finally:
        os.close(out)
    print('%s: disk %s of %s, %d bytes' % (target, disk, point, size) + (', %d of them LOST' % lost if lost else ''))
    return 1 if lost else 0


def main(args):
    if len(args) not in (1, 4) or args[0] in ('-h', '--help'):
        print(__doc__, file=sys.stderr)
        return 2
    if not os.path.isdir(args[0]):
        warn('%s is no folder' % args[0])
        return 1
    repository = Repository(os.path.abspath(args[0]))
    if len(args) == 4:
        return restore(repository, *args[1:])
    for point, (_, manifest) in sorted(repository.points.items()):
        print(point, manifest.get('kind'), *(d['target'] for d in manifest['disks']))
    return 0


if __name__ == '__main__':
    try:
        sys.exit(main(sys.argv[1:]))
    except (OSError, Lost) as error:
        warn(str(error))
        sys.exit(1)
