#!/usr/bin/python3 -B
"""Incremental for ever: an image through many generations, and in between points are pruned, consolidated, repacked, verified, the upkeep is killed,
and the repository is copied.  Every kept point stays what it was, as thin as it was, and the repository no larger than it must be.

GENERATIONS and SEED may be set.
"""
import filecmp
import glob
import json
import os
import random
import re
import shutil
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
import images
import oracle
import ovb
import tap

GENERATIONS = int(os.environ.get('GENERATIONS') or 200)
KEPT = 10                               # points, about
KIB, W = 1 << 10, 65536
COMPACT = os.path.join(tap.TOOLS, 'compact')
CODECS = ['zstd:1', 'zstd:1', 'zstd:3', 'bzip2:1', 'none']


def data_bytes(path):
    """What of a file is no hole; st_blocks counts the file system's own notes too."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
        return sum(n for _, n in images.extents_of(fd))
    finally:
        os.close(fd)


class Generations:
    def __init__(self, seed):
        self.rng, self.repo, self.kept = random.Random(seed), os.path.abspath('repo'), {}   # folder's name: copy of the image
        self.wrong, self.counts = [], {}
        with open('vm.img', 'wb') as f:
            f.truncate(6 << 20)
        self.write(0, 2 << 20)

    # The image.

    def write(self, offset, length):
        with open('vm.img', 'r+b') as f:
            f.seek(offset)
            f.write(self.rng.randbytes(length) if self.rng.random() < 0.7 else b'text %d ' % self.rng.randrange(1000) * (length // 8 + 1))

    def change(self):
        rng, size = self.rng, os.path.getsize('vm.img')
        for _ in range(rng.randrange(1, 5)):
            what, at = rng.random(), rng.randrange(0, max(size // 4096 - 1, 1)) * 4096
            if what < 0.6:
                self.write(at, min(rng.choice([512, 4096, W, 3 * W]), size - at))
            elif what < 0.75:
                with open('vm.img', 'r+b') as f:
                    f.seek(at)
                    f.write(bytes(min(rng.choice([4096, 2 * W]), size - at)))
            elif what < 0.9:
                tap.run(['fallocate', '--punch-hole', '--offset', str(at), '--length', str(rng.choice([4096, W, 4 * W])), 'vm.img'])
            elif what < 0.95:
                os.truncate('vm.img', size + rng.choice([512, W, W + 700]))
            else:
                os.truncate('vm.img', max(size - rng.choice([512, W, 3 * W]), 1 << 20))

    # What is done with the repository.

    def points(self):
        return [os.path.basename(p) for p in ovb.points(self.repo) if os.path.exists(p + '/manifest.json')]

    def spec(self, name):
        return 'vm@' + re.sub(r'T(\d\d)(\d\d)(\d\d)Z', r'T\1:\2:\3Z', name)

    def expect(self, r, what):
        self.counts[what] = self.counts.get(what, 0) + 1
        if r.status != 0:
            self.wrong.append('%s: status %s: %s%s' % (what, r.status, r.stdout, r.stderr))

    def back_up(self, generation):
        conf = ovb.make_config(ovb.image_job('vm.img', compression=self.rng.choice(CODECS) if self.rng.random() < 0.1 else 'zstd:1', incremental=True),
                               repository=self.repo)
        self.expect(ovb.once(conf), 'run')
        for name in set(self.points()) - set(self.kept):       # a killed consolidate may have had one of ours under another name
            copy = 'copy-%d.img' % generation
            tap.run(['cp', '--sparse=auto', 'vm.img', copy])
            self.kept[name] = copy

    def let_go(self, name):
        self.expect(tap.run([COMPACT, 'retire', self.repo, self.spec(name)]), 'prune')
        os.unlink(self.kept.pop(name))

    def prune(self):
        names = self.points()
        while len(names) > KEPT:
            self.let_go(names.pop(self.rng.randrange(0, len(names) - 1)))
        self.expect(tap.run([COMPACT, 'after-prune', self.repo]), 'repack')

    def consolidate(self):
        self.expect(tap.run([COMPACT, 'consolidate', self.repo, self.spec(self.rng.choice(self.points()))]), 'consolidate')

    def crash(self):
        """Killed somewhere in the upkeep; the next run, or the next upkeep, settles it."""
        command = ['consolidate', self.repo, self.spec(self.rng.choice(self.points()))] if self.rng.random() < 0.6 else ['after-prune', self.repo]
        if command[0] == 'after-prune' and len(self.points()) > 4:
            self.let_go(self.rng.choice(self.points()[:-1]))
        r = tap.run([COMPACT, *command], env=tap.preload_die(DIE_UNDER=self.repo, DIE_AT=self.rng.randrange(3, 60)))
        if r.status not in (0, -signal.SIGKILL):
            self.expect(r, 'crash')
        self.counts['crash'] = self.counts.get('crash', 0) + 1
        if sorted(self.listed()) != sorted(self.kept):
            self.wrong.append('after a crash %s are listed, not %s' % (self.listed(), sorted(self.kept)))
        if self.rng.random() < 0.5:
            self.expect(tap.run([COMPACT, 'after-prune', self.repo]), 'repack')

    def listed(self):
        r = tap.run([ovb.RESTORE, '--repository', self.repo, 'list', '--json'])
        return [p['point'].split('@')[1].replace(':', '') if 'point' in p else p['time'].replace(':', '') for p in json.loads(r.stdout)]

    def move(self):
        self.repo, old = os.path.abspath('repo' if self.repo.endswith('-copy') else 'repo-copy'), self.repo
        shutil.copytree(old, self.repo, symlinks=True)
        shutil.rmtree(old)
        self.counts['copy'] = self.counts.get('copy', 0) + 1

    def verify(self):
        self.expect(tap.run([ovb.RESTORE, '--repository', self.repo, 'verify', self.spec(self.rng.choice(self.points()))]), 'verify')

    # Whether all is well.

    def check(self, names, generation):
        for name in names:
            if os.path.exists('out.img'):
                os.unlink('out.img')
            r = tap.run([ovb.RESTORE, '--repository', self.repo, 'disk', self.spec(name), 'vm', 'out.img'])
            copy = self.kept[name]
            if r.status != 0:
                self.wrong.append('%d: %s: %s' % (generation, name, r.stderr))
            elif not filecmp.cmp('out.img', copy, shallow=False):
                self.wrong.append('%d: %s differs' % (generation, name))
            elif data_bytes('out.img') > data_bytes(copy):
                self.wrong.append('%d: %s has %d bytes of data, its source %d' % (generation, name, data_bytes('out.img'), data_bytes(copy)))

    def by_oracle(self, names):
        for name in names:
            r = tap.run([sys.executable, '-B', ovb.ORACLE, 'verify', self.repo, 'vm', name])
            if r.status != 0:
                self.wrong.append('oracle: %s' % r.stderr)

    def bytes_live(self):
        """(stored bytes of all archives, of blocks that kept points use)."""
        repo, live = oracle.Repository(self.repo), {}
        archives = [oracle.Point(p).archive() for p in ovb.points(self.repo)]
        for name in self.points():
            a = repo.point('vm', name).archive()
            for v in a.ix.views[0]:
                if v.kind != oracle.DATA:
                    continue
                b, n = (a, v.source) if v.source in a.ix.blocks else repo.holder(a.ix.sources[v.source], v.offset, v.length)
                live.setdefault((b.path, n), set()).update(k for k, _, _ in oracle.cover(b.ix, n, v.offset, v.length))
        total = used = 0
        for a in archives:
            total += os.path.getsize(a.path)
            for f in a.ix.frames:
                blocks = a.ix.blocks.get(f.source, [])[f.first:f.first + f.blocks]
                wanted = live.get((a.path, f.source), ())
                used += sum(b.length for k, b in enumerate(blocks, f.first) if k in wanted) / f.raw * f.stored
        return total, used

    def run(self):
        for g in range(GENERATIONS):
            if g:
                self.change()
            self.back_up(g)
            if sorted(self.points()) != sorted(self.kept):
                self.wrong.append('%d: there are %s, not %s' % (g, self.points(), sorted(self.kept)))
            for action, chance in ((self.prune, 0.35), (self.consolidate, 0.15), (self.crash, 0.2), (self.move, 0.04), (self.verify, 0.1)):
                if self.rng.random() < chance:
                    action()
            names = self.points()
            self.check(self.rng.sample(names, min(2, len(names))) if g % 40 else names, g)
            if len(self.wrong) > 5:
                tap.diag('stopped at generation %d' % g)
                break


def report(wrong, name):
    tap.ok(not wrong, name)
    for text in wrong[:10]:
        tap.diag(text)


def main():
    seed = int(os.environ.get('SEED') or random.randrange(1 << 30))
    tap.diag('SEED=%d' % seed)
    g = Generations(seed)
    g.run()
    report(g.wrong, '%d generations: %s' % (GENERATIONS, ', '.join('%d %s' % (n, what) for what, n in sorted(g.counts.items()))))
    g.wrong = []
    # What the last killed one left is swept by the next run.
    g.expect(tap.run([COMPACT, 'sweep', g.repo]), 'sweep')
    g.prune()
    names = g.points()
    g.check(names, GENERATIONS)
    g.by_oracle(names)
    report(g.wrong, 'at the end every kept point is what it was, to both readers')
    left = ovb.leftovers(g.repo) + os.listdir(os.path.join(g.repo, '.locks'))
    tap.is_(left, [], 'nothing else is there')
    total, used = g.bytes_live()
    tap.ok(total <= 1.3 * used, 'the archives have %d bytes, what is used of them %d (%.2f)' % (total, used, total / used))
    tap.done_testing()


main()
