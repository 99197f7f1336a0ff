#!/usr/bin/python3 -B
"""A full archive is plain tar: with no program of ours, GNU tar, bsdtar and Python's tarfile extract the identical image, as sparse as its source."""
import contextlib
import os
import shutil
import subprocess
import sys
import tarfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
import images
import oracle
import ovb
import tap

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
CODECS = 'bzip2', 'zstd', 'xz', 'none'
SHAPES = {      # file: kind and size
    'holes.img': ('holes', 64 * MIB), 'tail.img': ('trailing-hole', 2 * MIB), 'odd.img': ('odd', MIB + 123),
    'oddhole.img': ('odd-hole', MIB + 123), 'mixed.img': ('mixed', 4 * MIB), 'full.img': ('full', MIB), 'zeroes.img': ('zeroes', MIB),
    'empty.img': ('empty', 0), 'one.img': ('one', 1),
}
NAMES = ['two words.img', 'böses Zeichen 磁碟.img', '-rf.img', '-', 'index.bin', '.hidden', 'no ending', '100%.img', "it's [a] \\ *.img",
         'x' * 196 + '.img', 'ä' * 98 + '.img']


# Tools: each extracts an archive into the folder "out", or writes one member to a stream.

def run_tool(command):
    r = tap.run(command)
    return r.stderr or 'status %s' % r.status if r.status != 0 or r.stderr else ''


def gnu_tar(archive):
    return run_tool(['tar', '-xf', archive, '-C', 'out'])


def bsdtar(archive):
    return run_tool(['bsdtar', '-xf', archive, '-C', 'out'])


@contextlib.contextmanager
def open_tarfile(archive, **options):
    """Python's tarfile has no zstd: it reads what zstd writes, as a stream."""
    if not archive.endswith('.zst'):
        with tarfile.open(archive) as tar:
            yield tar
        return
    with subprocess.Popen(['zstd', '-dcq', archive], stdout=subprocess.PIPE, pipesize=MIB) as zstd:
        with tarfile.open(fileobj=zstd.stdout, mode='r|', **options) as tar:
            yield tar
        zstd.stdout.read()
        if zstd.wait() != 0:
            raise tarfile.ReadError('zstd: status %d' % zstd.returncode)


def python_tarfile(archive):
    try:
        with open_tarfile(archive) as tar:
            tar.extractall('out')
    except (tarfile.TarError, OSError, EOFError, ValueError) as e:
        return repr(e)
    return ''


TOOLS = {'GNU tar': gnu_tar, 'bsdtar': bsdtar, 'tarfile': python_tarfile}


def too_much(image, copy):
    """How the copy takes more than its source, once nothing is still to be written.  The blocks that say where the extents are
    count as the file's; a file system may leave them half empty (ext4: 340 extents fit in one)."""
    for path in image, copy:
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
    extents = images.extents(copy)
    have, most = sum(n for _, n in extents), sum(n for _, n in images.extents(image))
    if have > most:
        return '%d bytes of data, %d in the source' % (have, most)
    have, most = images.allocated(copy), images.allocated(image) + len(extents) // 170 * images.BLOCK
    return '%d bytes are allocated, at most %d were expected' % (have, most) if have > most else ''


def compare(image, copy):
    """What is wrong with a copy; nothing when it is identical and takes no more than its source."""
    if not os.path.isfile(copy):
        return 'there is no file'
    at = images.first_difference(image, copy)
    if at is not None:
        return 'differs at %d' % at
    return too_much(image, copy)


def differs_from(image):
    return lambda copy: compare(image, copy)


def extracted(tool, folder, differs):
    """Extract with a tool and look at all that came out."""
    m = ovb.manifest(folder)
    os.mkdir('out')
    wrong = TOOLS[tool](ovb.archive(folder))
    member = m['disks'][0]['member']
    wrong = wrong or differs(os.path.join('out', member))
    if not wrong and sorted(os.listdir('out')) != sorted([member, 'index.bin']):
        wrong = 'members: %s' % os.listdir('out')
    if not wrong and not images.same_content('out/index.bin', os.path.join(folder, 'index.bin')):
        wrong = 'index.bin is not that of the point'
    shutil.rmtree('out')
    return wrong


def restored(command, differs):
    r = tap.run(command)
    wrong = 'status %s: %s' % (r.status, r.stderr) if r.status != 0 else differs('restored')
    if os.path.exists('restored'):
        os.unlink('restored')
    return wrong


def bare_command(folder):
    return [ovb.RESTORE, '--archive', ovb.archive(folder), '--', 'disk', ovb.manifest(folder)['disks'][0]['target'], 'restored']


def sound(folder):
    """The compressor's own test, and the digests."""
    m = ovb.manifest(folder)
    codec = m['archive']['codec']       # its program has the same name
    commands = [[codec, '-t', '-q', m['archive']['file']]] if codec != 'none' else []
    for command in commands + [['sha256sum', '--quiet', '--strict', '-c', 'SHA256SUMS']]:
        r = tap.run(command, cwd=folder)
        if r.status != 0 or r.stdout + r.stderr:
            return '%s: %s' % (command[0], r.stdout + r.stderr)
    return ''


def second_reader(folder):
    try:
        oracle.verify_point(ovb.repository_of(folder), ovb.manifest(folder)['vm'], os.path.basename(folder))
    except (oracle.Bad, OSError, ValueError, LookupError) as e:
        return repr(e)
    return ''


def check(folder, what, differs, reader=True):
    """All that must hold for a point with one image; differs(path) says how a file is not the image."""
    done = {tool: extracted(tool, folder, differs) for tool in TOOLS}
    done['the compressor and sha256sum'] = sound(folder)
    if reader:
        done['the second reader'] = second_reader(folder)
    r = ovb.verify(folder)
    done['virt-restore verify'] = '' if r.status == 0 else r.stderr
    done['virt-restore disk'] = restored(ovb.restore_command(folder, 'restored'), differs)
    done['virt-restore --archive'] = restored(bare_command(folder), differs)
    for who, wrong in done.items():
        if not tap.ok(not wrong, '%s: %s' % (what, who)):
            tap.diag(wrong)


def back_up(paths, compression, repository):
    """Points of several images by their file names, from one run."""
    r = ovb.once(ovb.make_config(ovb.image_job(*paths, compression=compression), repository=repository))
    tap.is_((r.status, r.stderr), (0, ''), '%s: the run' % compression)
    found = {os.path.basename(ovb.manifest(p)['disks'][0]['source']): p for p in ovb.points(repository)}
    tap.is_(sorted(found), sorted(map(os.path.basename, paths)), '%s: a point for each image' % compression)
    return found


def test_shapes():
    os.mkdir('shapes')
    paths = [os.path.join('shapes', name) for name in SHAPES]
    for path, (kind, size) in zip(paths, SHAPES.values()):
        images.make(kind, path, size=size)
    paths.append('shapes/far.img')
    ovb.Extents(1000, 15 * TIB).make(paths[-1])
    for compression in CODECS:
        for name, folder in sorted(back_up(paths, compression, 'repo-' + compression).items()):
            check(folder, '%s, %s' % (compression, name), differs_from(os.path.join('shapes', name)))
        shutil.rmtree('repo-' + compression)


def test_names():
    """Whatever an image is called, it comes back under its name; only index.bin has to make room."""
    os.mkdir('names')
    paths = [os.path.join(tap.WORK, 'names', name) for name in NAMES]
    for n, path in enumerate(paths):
        images.make('odd', path, seed=n, size=32 * KIB + 1)
    points = back_up(paths, 'zstd', 'repo-names')
    for name, path in zip(NAMES, paths):
        shown = name if len(name) < 40 else name[:4] + '... (%d bytes)' % len(name.encode())
        tap.is_(ovb.manifest(points[name])['disks'][0]['member'], {'index.bin': 'index.bin.img'}.get(name, name), '%s: its member' % shown)
        check(points[name], shown, differs_from(path))


def test_many_extents():
    """100,000 extents in 15 TiB.  What a tool extracts has the same holes to the byte."""
    os.chdir(ovb.mount_tmpfs('many', GIB))
    many = ovb.Extents(100000, 15 * TIB)
    many.make('many.img')
    for compression in 'bzip2', 'zstd':
        folder = ovb.backup('many.img', compression, os.path.join(tap.WORK, 'repo-many'))
        check(folder, '%s, 100,000 extents in 15 TiB' % compression, many.wrong, reader=compression == 'zstd')
        shutil.rmtree(ovb.repository_of(folder))
    os.unlink('many.img')
    os.chdir(tap.WORK)


# More than 8 GiB stored.

BIG, MARK = 8 * GIB + 4 * MIB, 14
MARKS = [0, 4 * GIB - MARK // 2, 8 * GIB - MARK // 2, BIG - MARK]


def big_part(at, n):
    """So much of the image from an offset: zeroes but for a few marks."""
    part = bytearray(n)
    for mark in MARKS:
        text = b'%0*d' % (MARK, mark)
        low, high = max(at, mark), min(at + n, mark + MARK)
        if low < high:
            part[low - at:high - at] = text[low - mark:high - mark]
    return part


def big_differs(read):
    at, zeroes = 0, bytes(MIB)
    while piece := read(MIB):
        n = len(piece)
        marked = any(at < mark + MARK and mark < at + n for mark in MARKS)
        if piece != (big_part(at, n) if marked else zeroes[:n]):
            return 'differs after %d' % at
        at += n
    return '' if at == BIG else 'ends at %d' % at


def big_streamed(command):
    """What is wrong with a tool's standard output."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0, pipesize=MIB) as tool:
        wrong = big_differs(tool.stdout.read)
        tool.stdout.close()
    return wrong or ('status %d' % tool.returncode if tool.returncode else '')


def big_tarfile(archive):
    try:
        with open_tarfile(archive, bufsize=MIB) as tar:
            for m in tar:
                if m.name == 'full.img':
                    return big_differs(tar.extractfile(m).read)
    except (tarfile.TarError, OSError, EOFError, ValueError) as e:
        return repr(e)
    return 'no such member'


def big_restored(path):
    """Of the zeroes, virt-restore makes holes."""
    if os.path.getsize(path) != BIG or images.allocated(path) > MIB:
        return '%d bytes, %d allocated' % (os.path.getsize(path), images.allocated(path))
    parts = images.extents(path)
    with open(path, 'rb') as f:
        for at, n in parts:
            f.seek(at)
            if f.read(n) != big_part(at, n):
                return 'differs after %d' % at
    return next(('the mark at %d is lost' % m for m in MARKS if not any(at <= m and m + MARK <= at + n for at, n in images.union(parts))), '')


def test_over_8_gib():
    """The size no longer fits in the octal digits of a header.  What a tool extracts is compared as it comes, and never stored."""
    image = ovb.mount_full_image('big', BIG)
    if image is None:
        tap.skip(6, 'no loop device to make 8 GiB of written zeroes with')
        return
    with open(image, 'r+b') as f:
        for mark in MARKS:
            f.seek(mark)
            f.write(big_part(mark, MARK))
    folder = ovb.backup(image, 'zstd:1')
    archive = ovb.archive(folder)
    tap.is_(ovb.manifest(folder)['disks'][0]['data'], BIG, 'over 8 GiB: all of it is stored')
    for what, wrong in {'GNU tar': big_streamed(['tar', '-b2048', '-xOf', archive, 'full.img']),
                        'bsdtar': big_streamed(['bsdtar', '-xOf', archive, 'full.img']),
                        'tarfile': big_tarfile(archive),
                        'the compressor and sha256sum': sound(folder),
                        'virt-restore disk': restored(ovb.restore_command(folder, 'restored'), big_restored)}.items():
        if not tap.ok(not wrong, 'over 8 GiB: ' + what):
            tap.diag(wrong)


os.environ['LC_ALL'] = 'C.UTF-8'        # bsdtar converts names
test_shapes()
test_names()
test_many_extents()
test_over_8_gib()
tap.done_testing()
