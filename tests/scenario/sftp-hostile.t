#!/usr/bin/python3 -B
"""An SFTP server that is full, forbids, is slow, lies or sends garbage: each ends in good time, with a clear error or none, and spoils nothing."""
import concurrent.futures
import glob
import json
import os
import queue
import re
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import images
import ovb
import sshd
import tap

IDLE, REQUEST = 3, 4    # deadlines, in seconds, where they are to be missed
AMPLE = 60              # and where they are not, on a busy machine
LONGEST = 90            # what a command with a few connections may take with the short ones
ALL = (1 << 64) - 1
LATE = 'does not answer|did not finish a request within'
LOST = 'the connection to .* was lost'
BEGIN = 'lets us in, but does not begin SFTP .*Subsystem sftp'
ENDED = LOST + '.*SFTP server has ended'

# libssh2 does not free what is open when a connection is given up.
os.environ.update(tap.NO_LEAK_CHECK)
key = sshd.keygen('id')
images.make('mixed', 'vda.img', size=3 << 20)


class Lane:
    """A server with a plan and a repository of its own, and how to use it."""

    def __init__(self, name):
        self.plan, self.far, self.name = os.path.abspath(name + '.plan'), name + '.far', name
        self.server = sshd.Server(name, kinds=('ed25519', 'ecdsa'), sftp='/usr/bin/python3 -B -S -E %s %s' % (os.path.join(tap.LIB, 'sftp_hostile.py'), self.plan))
        self.server.authorize(key)
        self.conf = self.config(name + '.conf', AMPLE, AMPLE)
        self.hasty = self.config(name + '.hasty.conf', IDLE, REQUEST)
        self.pruning = self.config(name + '.prune.conf', AMPLE, AMPLE, keep={'last': 1})

    def config(self, file, idle, request, **job):
        with open(file, 'w', encoding='utf-8') as out:
            out.write('repositories = ( %s );\n' % ovb.value(dict(
                name='far', url=self.server.url(os.path.abspath(self.far)), identity=key, known_hosts=self.server.known_hosts(self.name + '.known'), connect_timeout=10,
                idle_timeout=idle, request_timeout=request)))
            out.write('jobs = ( %s );\n' % ovb.value(ovb.image_job('vda.img', compression='none', incremental=True, **job)))
        return os.path.abspath(file)

    def command(self, what, late):
        conf = self.pruning if what == 'prune' else self.hasty if late else self.conf
        if what in ('backup', 'prune'):
            return ovb.once_command(conf, 'job', '--full')
        return [ovb.RESTORE, '--config', conf, *{'list': ['--json', 'list'], 'disk': ['disk', 'vda@latest', 'vda', self.name + '.img']}[what]]

    def run(self, what, faults, late=False):
        with open(self.plan, 'w', encoding='utf-8') as out:
            json.dump(faults, out)
        for left in glob.glob(self.name + '.img*'):
            os.unlink(left)
        return tap.run(self.command(what, late), timeout=LONGEST if late else None)

    def image(self):
        return os.path.exists(self.name + '.img') and images.same_content('vda.img', self.name + '.img')


LANES = [Lane(name) for name in ('a', 'b', 'c', 'd')]


def fault(on, do, arg=None, **more):
    return dict(more, on=on, do=do, **{'with': arg})


def complaint(lane, what, wanted, faults):
    """The command must fail, in time and with such a message, for people; returns how it did not."""
    r = lane.run(what, faults, LATE in wanted or wanted == BEGIN)
    lines = [x for x in r.stderr.splitlines() if x]
    if r.status == 1 and lines and all(x.isprintable() for x in lines) and any(re.search(wanted, x) for x in lines) and not glob.glob(lane.name + '.img*'):
        return None
    return 'status %s, wanted %s\n%s%s' % (r.status, wanted, r.stdout, r.stderr)


def refused(what, *cases):
    """Each command fails as it is meant to; as many side by side as there are lanes."""
    idle = queue.SimpleQueue()
    for lane in LANES:
        idle.put(lane)

    def one(case):
        lane = idle.get()
        try:
            return complaint(lane, what, case[1], case[2])
        finally:
            idle.put(lane)

    with concurrent.futures.ThreadPoolExecutor(len(LANES)) as pool:
        for case, wrong in zip(cases, pool.map(one, cases)):
            tap.ok(wrong is None, '%s: %s' % (what, case[0])) or tap.diag(wrong)


def done(name, what, *faults):
    r = LANES[0].run(what, faults)
    tap.ok(r.status == 0, name) or tap.diag('status %s\n%s%s' % (r.status, r.stdout, r.stderr))
    return r


done('an honest server', 'backup')
done('... lists', 'list')
done('... and restores', 'disk')
tap.ok(LANES[0].image(), '... what was backed up')
for lane in LANES[1:]:
    tap.run(['cp', '-r', LANES[0].far, lane.far])
before = [os.path.basename(p) for p in ovb.points(LANES[0].far)]

# Writing: nothing is published, and nothing is claimed.
refused(
    'backup',
    ('full, and says so', 'cannot write .*No space left on device', [fault('WRITE', 'status', 14, after=5)]),
    ('a quota', 'cannot write .*quota', [fault('WRITE', 'status', 15, after=5)]),
    ('"failure", and no more', r"cannot write .*SFTP's error 4", [fault('WRITE', 'status', 4, after=5)]),
    ('no permission from the start', 'Permission denied', [fault(['MKDIR', 'OPEN', 'WRITE', 'RENAME', 'REMOVE'], 'status', 3)]),
    ('permission lost while writing', 'cannot write .*Permission denied', [fault('WRITE', 'status', 3, after=8)]),
    ('permission lost before publishing', 'Permission denied', [fault(['MKDIR', 'OPEN', 'RENAME', 'REMOVE', 'RMDIR'], 'status', 3, after=9)]),
    ('no renaming', r'cannot rename .*disks\.tar|cannot rename', [fault('RENAME', 'status', 4)]),
    ('a read-only file system', 'Read-only file system', [fault(['MKDIR', 'OPEN'], 'status', 12)]),
    ('an fsync that fails', "cannot make durable .*SFTP's error 4", [fault('EXTENDED', 'status', 4, path='fsync')]),
    ('no types and times', 'does not say what .* is, or how', [fault('LSTAT', 'body', '00000000')]),
    ('one that stops to answer', LATE, [fault('WRITE', 'silent', after=6)]),
    ('one that ends', ENDED, [fault('WRITE', 'eof', after=6)]),
    ('one that ends within an answer', ENDED, [fault('WRITE', 'half', after=6)]),
    ('wrong answers', LATE, [fault('WRITE', 'kind', 105, after=6)]),
    ('answers to other requests', LATE, [fault('WRITE', 'wrong_id', after=6)]),
    ('very slow', LATE, [fault(['OPEN', 'MKDIR'], 'slow', REQUEST + 2)]))
tap.is_([[os.path.basename(p) for p in ovb.points(lane.far)] for lane in LANES], [before] * len(LANES), 'no point came of any')
for lane in LANES:
    r = lane.run('backup', [])
    tap.is_((r.status, ovb.leftovers(lane.far) + os.listdir(lane.far + '/.locks')), (0, []), 'the next run goes on, and clears all away') or tap.diag(r.stderr)
for what, faults in (
        ('slow', [fault('*', 'slow', 0.01)]), ('without statvfs', [fault('EXTENDED', 'status', 8, path='statvfs')]),
        ('without fsync', [fault('EXTENDED', 'status', 8, path='fsync')])):
    done('a backup to a server that is ' + what, 'backup', *faults)
tap.like(' '.join(ovb.manifest(ovb.points(LANES[0].far)[-1])['notes']), 'cannot be told to make files durable', 'the last one is noted')

# Pruning: what cannot be removed is said, and the next run removes it.
r = LANES[0].run('prune', [fault(['REMOVE', 'RMDIR'], 'status', 3, path='disks.tar')])
tap.like(r.stderr + r.stdout, 'cannot remove .*Permission denied', 'pruning without permission says so')
done('the next prune', 'prune')
tap.is_((len(ovb.points(LANES[0].far)), ovb.leftovers(LANES[0].far)), (1, []), '... does it')
listed = LANES[0].run('list', []).stdout
for lane in LANES[1:]:
    shutil.rmtree(lane.far)
    tap.run(['cp', '-r', LANES[0].far, lane.far])

# Reading.
refused(
    'disk',
    ('no permission', 'Permission denied', [fault('READ', 'status', 3, path='disks.tar')]),
    ('errors', r"cannot read .*", [fault('READ', 'status', 4, path='disks.tar', after=2)]),
    ('an end before the end', 'ends at|before', [fault('READ', 'status', 1, path='disks.tar', after=2)]),
    ('more than was asked for', 'cannot read .*|' + LOST, [fault('READ', 'longer', 10, path='disks.tar')]),
    ('another bit', 'vda.* (at|offset)', [fault('READ', 'flip', path='disks.tar', after=4)]),
    ('no answer', LATE, [fault('READ', 'silent', path='disks.tar', after=2)]),
    ('half an answer and the end', ENDED, [fault('READ', 'half', path='disks.tar', after=2)]),
    ('half an answer and silence', LATE, [fault('READ', 'stall', path='disks.tar', after=2)]),
    ('the end', ENDED, [fault('READ', 'eof', path='disks.tar', after=2)]),
    ('another id', LATE, [fault('READ', 'wrong_id', path='disks.tar')]),
    ('answers without end', 'more than it was asked for|' + LATE, [fault('READ', 'flood', path='disks.tar')]),
    ('a packet of 4 GiB', LOST, [fault('READ', 'length', (1 << 32) - 1, path='disks.tar')]),
    ('a packet of 200 MB', LOST, [fault('READ', 'length', 200000000, path='disks.tar')]),
    ('an empty packet', LOST, [fault('READ', 'length', 0, path='disks.tar')]),
    ('a packet of one byte', LOST, [fault('READ', 'length', 1, path='disks.tar')]),
    ('an unknown type', LOST, [fault('READ', 'kind', 250, path='disks.tar')]),
    ('names for data', LOST + '|' + LATE, [fault('READ', 'kind', 104, path='disks.tar')]),
    ('a body that is cut', LOST, [fault('READ', 'cut', 2, path='disks.tar')]),
    ('data that claim more than there are', LOST + '|cannot read', [fault('READ', 'body', 'fffffff0' + '00' * 20, path='disks.tar')]),
    ('files that are larger than they are', 'ends at|before|more than|bytes', [fault(['LSTAT', 'STAT'], 'size', 1 << 40)]),
    ('files of 2^64 bytes', '.', [fault('LSTAT', 'size', ALL // 2)]),
    ('files that are none', 'is not a regular file', [fault('LSTAT', 'mode', 0o120777, path='.bin'), fault('LSTAT', 'mode', 0o010600, path='.tar')]),
    ('handles of 300 bytes', LOST + '|cannot read', [fault('OPEN', 'body', '0000012c' + '41' * 300)]),
    ('handles that claim 4 GiB', LOST + '|cannot read', [fault('OPEN', 'body', 'ffffffff41')]),
    ('statuses for handles', 'cannot open|' + LOST, [fault('OPEN', 'kind', 101)]))
for what, faults in (
        ('a slow server', [fault('*', 'slow', 0.02)]),
        ('files that are smaller than they are', [fault('LSTAT', 'size', ALL - 100, path='disks.tar'), fault('LSTAT', 'size', ALL - 7, path='index.bin')]),
        ('buffers of 20,000 bytes', [fault('READ', 'short', 20000)]), ('buffers of 1,000 bytes', [fault('READ', 'short', 1000)])):
    r = done('reading: ' + what, 'disk', *faults)
    tap.ok(r.status == 0 and LANES[0].image(), '... gives the image')

# Listing.
HOSTILE = ['.', '..', '../..', 'a/b', '/etc', 'x\0y', 'vda\0', '%2e%2e', 'n' * 300, 'new\nline', '\x1b[2J', '\xff\xfe', '~', '-rf', '*']
r = done('a listing with hostile names', 'list', fault('READDIR', 'names', HOSTILE, times=1))
tap.is_(r.stdout, listed, '... shows none of them')
r = done('... in a folder of a machine', 'list', fault('READDIR', 'names', HOSTILE, path='vda', times=1))
tap.is_(r.stdout, listed, '... neither')
r = done('a folder of 100,000 names', 'list', fault('READDIR', 'names', 100000, path='vda', times=1))
tap.is_(r.stdout, listed, '... holds one point')
refused(
    'list',
    ('without end', 'more than it was asked for|more names|' + LATE, [fault('READDIR', 'endless', path='.far')]),
    ('names of 5,000 bytes', LOST, [fault('READDIR', 'names', ['n' * 5000], times=1)]),
    ('more names counted than there are', LOST + '|' + LATE, [fault('READDIR', 'body', 'ffffffff' + '00000001' + '61')]),
    ('a name that claims 4 GiB', LOST, [fault('READDIR', 'body', '00000001' + 'ffffffff' + '61')]),
    ('attributes that claim more', LOST, [fault('READDIR', 'body', '00000001' + '0000000161' * 2 + '8000000f')]),
    ('no permission', 'cannot list .*Permission denied', [fault('OPENDIR', 'status', 3)]),
    ('the end', LOST, [fault('READDIR', 'eof')]),
    ('silence', LATE, [fault('READDIR', 'silent')]))

# The beginning.
refused(
    'list',
    ('a greeting of its shell', BEGIN, [fault('INIT', 'raw', 'Welcome to the jungle!\r\n')]),
    ('nothing', BEGIN, [fault('INIT', 'silent')]),
    ('the end', BEGIN, [fault('INIT', 'eof')]),
    ('another packet', BEGIN, [fault('INIT', 'kind', 101)]),
    ('extensions that claim more', BEGIN, [fault('INIT', 'body', '7fffffff41')]))

r = [tap.run([ovb.RESTORE, '--repository', './' + lane.far, 'verify', 'vda@latest']).status for lane in LANES]
tap.is_(r, [0] * len(LANES), 'after all that, all is whole')
tap.done_testing()
