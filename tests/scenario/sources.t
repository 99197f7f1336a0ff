#!/usr/bin/python3 -B
"""Images that are not what they should be, or do not stay so, and places that cannot be written: each failure says what, on what and what to do,
publishes nothing, and stops nobody else.
"""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import images
import ovb
import tap

MIB = 1 << 20


def published(repository=ovb.REPO):
    return ovb.points(repository) if os.path.isdir(repository) else []


def nothing_left(repository=ovb.REPO):
    """No half-made point, and no folder of a machine without one."""
    if not os.path.isdir(repository):
        return True
    empty = [d for d in os.listdir(repository) if d[0] != '.' and os.path.isdir(os.path.join(repository, d)) and not os.listdir(os.path.join(repository, d))]
    locks = os.path.join(repository, '.locks')
    return not ovb.leftovers(repository) and not empty and not (os.path.isdir(locks) and os.listdir(locks))


def once(*paths, repository=ovb.REPO, prefix=(), background=None, compression='zstd:1', **keys):
    """Run a job over these images, with something that happens meanwhile."""
    conf = ovb.make_config(ovb.image_job(*paths, compression=compression, **keys), repository=repository)
    threads = [threading.Thread(target=background)] if background else []
    for t in threads:
        t.start()
    r = tap.run([*prefix, *ovb.once_command(conf)], timeout=120)
    for t in threads:
        t.join()
    return r


def refused(name, *paths, says=(), **keys):
    """The job fails, the message has all of these, and nothing is published."""
    before = published(keys.get('repository', ovb.REPO))
    r = once(*paths, **keys)
    tap.is_(r.status, 1, name + ': exit status 1')
    for regex in says:
        tap.like(r.stderr, regex, '%s: the message has %s' % (name, regex))
    tap.unlike(r.stderr, r'\x1b|\(null\)', name + ': nothing odd in it')
    tap.is_(published(keys.get('repository', ovb.REPO)), before, name + ': nothing is published')
    tap.ok(nothing_left(keys.get('repository', ovb.REPO)), name + ': nothing is left behind')
    return r


def accepted(name, path, content=None, **keys):
    """The job succeeds, and says when the point is inconsistent; returns the manifest of the new point, whose disk restores to the same bytes."""
    before = published()
    r = once(path, **keys)
    if not tap.is_(r.status, 0, name + ': exit status 0'):
        tap.diag(r.stderr)
        return {}
    new = [p for p in published() if p not in before]
    tap.is_(len(new), 1, name + ': one point is published')
    out = ovb.restore(new[0], 'out.img', '--force')
    tap.ok(out.status == 0 and images.same_content(content or path, 'out.img'), name + ': its disk restores')
    os.unlink('out.img')
    m = ovb.manifest(new[0])
    tap.is_('inconsistent' in r.stdout, m['consistency'] == 'inconsistent', name + ': what the run prints says how consistent it is') or tap.diag(r.stdout)
    return m


os.mkdir('src')
os.mkdir('mnt')
images.make('mixed', 'src/good.img', seed=1, size=2 * MIB)
images.make('full', 'src/bad.img', seed=2, size=6 * MIB)
images.make('odd', 'src/sparse.img', seed=3, size=6 * MIB + 123)


# An image that fails, shrinks or grows while it is read.

for kind in ('bad', 'sparse'):      # one of which all is read to find zeroes, and one whose holes are known
    path = os.path.abspath('mnt/%s.img' % kind)
    fs = tap.mount_imagefs('--eio', '%d:4096' % (5 * MIB), '--match', kind + '.img', 'src', 'mnt')
    r = refused(kind + '.img cannot be read', path, says=[re.escape(path), r'cannot read .* at offset \d+: Input/output error'])
    m = re.search(r'at offset (\d+)', r.stderr)
    tap.ok(m and 4 * MIB <= int(m[1]) <= 5 * MIB, kind + '.img cannot be read: the offset is the place')
    refused(kind + '.img cannot be read, in_use = "allow"', path, in_use='allow', says=['Input/output error'])
    r = once(path, 'mnt/good.img')
    tap.is_(r.status, 1, 'one bad image in a job: exit status 1')
    tap.is_([os.path.dirname(p) for p in published()], ['repo/good'], 'the other one is published')
    tap.is_(ovb.verify(published()[0]).status, 0, 'and verifies')
    tap.like(r.stdout, r'^good@', 'and is reported')
    tap.like(r.stderr, r'virt-backupd: %s: ' % kind, 'and the bad one is named')
    shutil.rmtree('repo')
    fs.send_signal(signal.SIGUSR1)
    accepted(kind + '.img can be read again', path, 'src/%s.img' % kind)
    tap.stop(fs)
    shutil.rmtree('repo')

    size = os.path.getsize('src/%s.img' % kind)
    for after in (MIB, 7 * MIB) if kind == 'bad' else (MIB,):    # while zeroes are looked for, and while it is stored
        shutil.copy('src/%s.img' % kind, 'keep.img')
        fs = tap.mount_imagefs('--shrink-after', '%d:%d' % (after, MIB // 2), '--match', kind + '.img', 'src', 'mnt')
        refused('%s.img shrinks after %d bytes' % (kind, after), path, says=[re.escape(path), r'made shorter while it was read', str(size)])
        tap.stop(fs)
        shutil.copy('keep.img', 'src/%s.img' % kind)
        fs = tap.mount_imagefs('--grow-after', '%d:%d' % (after, size + MIB), '--match', kind + '.img', 'src', 'mnt')
        refused('%s.img grows after %d bytes' % (kind, after), path,
                says=[re.escape(path), r'changed from %d to %d bytes while it was read' % (size, size + MIB), 'run the job again'])
        tap.stop(fs)
        shutil.copy('keep.img', 'src/%s.img' % kind)

# Written while it is read, by anybody.  Each read takes 0.2 s, so that there is time.
images.make('text', 'src/busy.img', seed=4, size=4 * MIB)
busy = os.path.abspath('mnt/busy.img')


def scribble():
    time.sleep(0.6)
    with open('mnt/busy.img', 'r+b') as image:
        image.seek(MIB)
        image.write(b'scribble')


fs = tap.mount_imagefs('--slow', '200', '--match', 'busy.img', 'src', 'mnt')
refused('written while it is read', busy, background=scribble,
        says=[re.escape(busy), 'was written while it was read', 'stop what uses it and run the job again'])
accepted('left alone', busy, 'src/busy.img')


# An image that a QEMU holds.

def qemu_io(path, *options):
    """A QEMU that has the image open when this returns."""
    child = tap.start(['qemu-io', '-f', 'raw', *options, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    child.stdin.write(b'read 0 512\n')
    child.stdin.flush()
    line = child.stdout.readline()
    while line and not re.search(b'512/512', line):
        line = child.stdout.readline()
    if not line:
        raise RuntimeError('qemu-io did not open ' + path)
    return child


def qemu_nbd(path, *options):
    sock = os.path.abspath('nbd.sock')
    child = tap.start(['qemu-nbd', '-f', 'raw', '-t', '-k', sock, *options, path])
    deadline = time.monotonic() + 10
    while not os.path.exists(sock):
        if child.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError('qemu-nbd did not start')
        time.sleep(0.02)
    return child


def qemu_storage_daemon(path, *options):
    # It takes an image for writing when something may write through it: an export.
    writable = 'off' if '-r' in options else 'on'
    child = tap.start(['qemu-storage-daemon', '--blockdev', 'file,node-name=f,filename=%s,read-only=%s' % (path, 'on' if '-r' in options else 'off'),
                       '--nbd-server', 'addr.type=unix,addr.path=nbd.sock', '--export', 'type=nbd,id=e,node-name=f,writable=' + writable,
                       '--chardev', 'stdio,id=c', '--monitor', 'chardev=c'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    if not child.stdout.readline():
        raise RuntimeError('qemu-storage-daemon did not start')
    return child


def end(child):
    tap.stop(child)
    for pipe in (child.stdin, child.stdout):
        if pipe:
            pipe.close()
    if os.path.exists('nbd.sock'):
        os.unlink('nbd.sock')


def taken():
    time.sleep(0.6)
    holders.append(qemu_io(busy))


holders = []
refused('taken by a QEMU while it is read', busy, background=taken, says=[re.escape(busy), 'taken by a QEMU while it was read', 'shut its guest down'])
tap.is_(len(holders), 1, 'the QEMU was not kept from opening the image')
for child in holders:
    end(child)
tap.stop(fs)

held = os.path.abspath('src/good.img')
for program, hold in (('qemu-io', qemu_io), ('qemu-nbd', qemu_nbd), ('qemu-storage-daemon', qemu_storage_daemon)):
    if shutil.which(program) is None:
        tap.skip(1, program + ' is not installed')
        continue
    shutil.rmtree('repo', ignore_errors=True)
    child = hold(held)
    refused('held by ' + program, held, says=[re.escape(held), 'held for writing by a QEMU', 'shut its guest down', r'in_use = "allow"'])
    m = accepted('held by %s, in_use = "allow"' % program, held, in_use='allow')
    tap.is_(m.get('consistency'), 'inconsistent', 'held by %s, in_use = "allow": the point is inconsistent' % program)
    tap.like(' '.join(m.get('notes', [])), 'held for writing by a QEMU', 'held by %s, in_use = "allow": a note says why' % program)
    r = once(held, 'src/sparse.img')
    tap.ok(r.status == 1 and any('/sparse/' in p for p in published()), 'held by %s: the job goes on with the next image' % program)
    tap.ok(child.poll() is None, program + ' goes on')
    end(child)
    m = accepted(program + ' has gone', held, in_use='allow')
    tap.is_(m.get('consistency'), 'offline', program + ' has gone: the point is consistent')
    child = hold(held, '-r')
    m = accepted(program + ' holds it only for reading', held)
    tap.is_(m.get('consistency'), 'offline', program + ' holds it only for reading: the point is consistent')
    end(child)


# What is not there, or is no image.

def config_refuses(name, paths, says, **keys):
    """Both --check-config and --once fail, before anything is made."""
    conf = ovb.make_config(dict({'name': 'job', 'images': paths, 'compression': 'none'}, **keys), repository='never')
    for command in ([ovb.BACKUPD, '--config', conf, '--check-config'], ovb.once_command(conf)):
        r = tap.run(command)
        what = '%s, %s' % (name, command[3])
        tap.is_(r.status, 1, what + ': exit status 1')
        for regex in says:
            tap.like(r.stderr, regex, '%s: the message has %s' % (what, regex))
    tap.ok(not os.path.exists('never'), name + ': no repository is made')


here = os.getcwd()
os.mkdir('other')
for name in ('same.img', 'same.raw', 'other/same.img', 'index.bin', 'plain'):
    images.make('one', name)
config_refuses('an image that is missing', [here + '/nowhere.img'], [re.escape(here) + r'/nowhere\.img matches no file', 'make it, or take the pattern out'])
config_refuses('a pattern without a match', [here + '/same.img', here + '/*.qcow9'], [r'\*\.qcow9 matches no file', 'take the pattern out'])
config_refuses('two endings', [here + '/same.*'], [re.escape(here + '/same.img'), re.escape(here + '/same.raw'), 'machine "same"', 'rename one'])
config_refuses('two folders', [here + '/same.img', here + '/other/same.img'], [re.escape(here + '/same.img'), re.escape(here + '/other/same.img'), 'machine "same"'])
with open(os.fsencode(here) + b'/bad\xff.img', 'wb'):
    pass
config_refuses('a name that is not UTF-8', [here + '/bad*'], ['not UTF-8', 'rename it'])
with open('bad\nname.img', 'wb'):
    pass
os.unlink(os.fsencode(here) + b'/bad\xff.img')
config_refuses('a name with a newline', [here + '/bad*'], ['control characters', 'rename it'])
os.unlink('bad\nname.img')

conf = ovb.make_config({'name': 'job', 'images': [here + '/same.i*', here + '/sam*.img', here + '/same.img'], 'compression': 'none'}, repository='twice')
tap.is_(tap.run(ovb.once_command(conf)).status, 0, 'patterns that meet in one file')
tap.is_(len(published('twice')), 1, 'back it up once')

os.mkdir('odd')
os.mkdir('odd/folder.img')
os.mkfifo('odd/fifo.img')
os.symlink('/dev/null', 'odd/null.img')
os.symlink('missing', 'odd/dangling.img')
listener = socket.socket(socket.AF_UNIX)
listener.bind('odd/socket.img')
shutil.copy('src/good.img', 'odd/good.img')
shutil.copy('src/good.img', 'odd/locked.img')
os.chmod('odd/locked.img', 0)
shutil.rmtree('repo', ignore_errors=True)
# Root reads everything, unless it gives that up.
plain_root = ['setpriv', '--bounding-set', '-dac_override,-dac_read_search'] if os.geteuid() == 0 else []
for name, regex in (('folder', 'neither a regular file nor a block device'), ('fifo', 'neither a regular file nor a block device'),
                    ('null', 'neither a regular file nor a block device'), ('socket', 'neither a regular file nor a block device'),
                    ('locked', 'cannot open the image .*: Permission denied')):
    refused('odd/%s.img' % name, 'odd/%s.img' % name, prefix=plain_root, says=[re.escape(here + '/odd/%s.img' % name), regex])
os.unlink('odd/dangling.img')
r = once('odd/folder.img', 'odd/fifo.img', 'odd/null.img', 'odd/socket.img', 'odd/locked.img', 'odd/good.img', prefix=plain_root)
tap.is_(r.status, 1, 'five of six images are none: exit status 1')
tap.is_([os.path.dirname(p) for p in published()], ['repo/good'], 'the sixth is published')
tap.is_(len(re.findall(r'^virt-backupd: (?:folder|fifo|null|socket|locked): ', r.stderr, re.M)), 5, 'each of the five is named')
conf = ovb.make_config(ovb.image_job('odd/folder.img', 'odd/good.img'))
r = ovb.once(conf, 'job', '--json')
events = [json.loads(line) for line in r.stdout.splitlines()]
tap.ok(any(e['event'] == 'failed' and e['vm'] == 'folder' and 'odd/folder.img' in e['error'] for e in events) and
       any(e['event'] == 'done' and e['vm'] == 'good' for e in events), '--json tells both')
listener.close()
shutil.rmtree('repo')

point = ovb.backup('index.bin', repository='names')
tap.is_(ovb.manifest(point)['disks'][0]['member'], 'index.bin.img', 'an image that is called index.bin does not become the index')
point = ovb.backup('plain', repository='names')
tap.is_(ovb.manifest(point)['vm'], 'plain', 'an image without an ending keeps its name')
os.makedirs(os.fsencode(here) + b'/folders/b\xe4r')
shutil.copyfile('plain', os.fsencode(here) + b'/folders/b\xe4r/latin.img')
r = ovb.once(ovb.make_config({'name': 'job', 'images': [here + '/folders/*/latin.img'], 'compression': 'none'}, repository='names'))
made = [p for p in ovb.points('names') if os.path.basename(os.path.dirname(p)) == 'latin']
tap.is_([r.status] + [[d['source'] for d in ovb.manifest(p)['disks']] for p in made], [0, [here + '/folders/b?r/latin.img']],
        'an image in a folder whose name is not UTF-8 is in the manifest')


# A repository that cannot be written.

good = os.path.abspath('src/good.img')
with open('file', 'wb') as out:
    out.write(b'not a folder')
refused('the repository is a file', good, repository='file', says=[re.escape(here + '/file'), 'Not a directory|not a folder'])
tap.is_(open('file', 'rb').read(), b'not a folder', 'and stays what it was')
refused('the folder of the repository is missing', good, repository='no/such/folder', says=['no/such/folder', 'No such file or directory'])
os.mkdir('closed', 0o555)
refused('the repository is not writable', good, repository='closed', prefix=plain_root, says=[re.escape(here + '/closed'), 'Permission denied'])
refused('the folder of the repository is not writable', good, repository='closed/repo', prefix=plain_root, says=['closed/repo', 'Permission denied'])
os.mkdir('foreign')
with open('foreign/repository.json', 'w', encoding='utf-8') as out:
    out.write('{"format": 7, "id": "b3f2a1de-0c7a-4f0e-9d1c-5a3e0f6c7b21"}')
refused('the repository has a newer format', good, repository='foreign', says=['foreign', 'format 7', 'newer'])

for name, option in (('is full', ['--enospc-after', '300000']), ('fails', ['--eio-write', '300000'])):
    os.mkdir('store')
    os.mkdir('store/repo')
    fs = tap.mount_imagefs(*option, 'store', 'mnt')
    what = 'No space left on device' if 'enospc' in option[0] else 'Input/output error'
    refused('the storage ' + name, good, repository='mnt/repo', compression='none', says=[r'mnt/repo/.*disks\.tar', what])
    fs.send_signal(signal.SIGUSR1)
    r = once(good, repository='mnt/repo', compression='none')
    tap.is_(r.status, 0, 'once it does no longer, the next run succeeds')
    tap.ok(len(published('mnt/repo')) == 1 and ovb.verify(published('mnt/repo')[0]).status == 0, 'and what it published verifies')
    tap.stop(fs)
    shutil.rmtree('store')


# A target that cannot be written, or that holds something.

point = ovb.backup(good)
os.mkdir('out')


def target_refused(name, target, *options, says=(), prefix=()):
    command = ovb.restore_command(point, target, *options)
    r = tap.run([*prefix, *command])
    tap.is_(r.status, 1, name + ': exit status 1')
    for regex in says:
        tap.like(r.stderr, regex, '%s: the message has %s' % (name, regex))
    tap.ok(not os.path.lexists(target + '.partial') or 'partial' in name, name + ': nothing partial is left')


target_refused('the folder is missing', 'nowhere/x.img', says=['nowhere/x.img', 'No such file or directory'])
tap.ok(not os.path.exists('nowhere'), 'and is not made')
target_refused('the folder is not writable', 'closed/x.img', says=['closed/x.img', 'Permission denied'], prefix=plain_root)
with open('out/file', 'wb') as out:
    out.write(b'precious')
target_refused('the target exists', 'out/file', says=['out/file', 'choose another name, or --force'])
tap.is_(open('out/file', 'rb').read(), b'precious', 'and stays what it was')
os.symlink('file', 'out/link')
os.symlink('nowhere', 'out/dangling')
os.mkdir('out/folder')
os.mkfifo('out/fifo')
def unread(path):
    """What no reading changes."""
    s = os.lstat(path)
    return s.st_mode, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns


for name in ('link', 'dangling', 'folder', 'fifo'):
    for options in ([], ['--force']):
        before = unread('out/' + name)
        target_refused(' '.join(['the target is a', name, *options]), 'out/' + name, *options, says=['out/' + name, 'not a regular file', 'choose another name'])
        tap.is_(unread('out/' + name), before, 'and stays what it was')
tap.ok(open('out/file', 'rb').read() == b'precious' and not os.path.exists('out/nowhere'), 'no link was followed')
target_refused('the target is a device', '/dev/null', '--force', says=['/dev/null', 'not a regular file'])
r = ovb.restore(point, 'out/file', '--force')
tap.ok(r.status == 0 and images.same_content('out/file', good), '--force replaces a file')
tap.is_(os.stat('out/file').st_mode & 0o777, 0o600, 'and only its owner may read it')
with open('out/new.partial', 'wb') as out:
    out.write(b'somebody is at it')
target_refused('a partial file is there', 'out/new', says=[r'out/new\.partial', 'remove it, or use --force'])
tap.ok(open('out/new.partial', 'rb').read() == b'somebody is at it' and not os.path.exists('out/new'), 'and stays what it was')
r = ovb.restore(point, 'out/new', '--force')
tap.ok(r.status == 0 and images.same_content('out/new', good) and not os.path.exists('out/new.partial'), '--force takes its place')

for name, option, what in (('is full', ['--enospc-after', '200000'], 'No space left on device'), ('fails', ['--eio-write', '200000'], 'Input/output error')):
    for existing in (False, True):
        os.mkdir('disk')
        if existing:
            shutil.copy('out/link', 'disk/x.img')
        fs = tap.mount_imagefs(*option, 'disk', 'mnt')
        target_refused('the storage of the target %s%s' % (name, ', --force' if existing else ''), 'mnt/x.img', *(['--force'] if existing else []),
                       says=[r'cannot (write|make).*mnt/x\.img', what])
        tap.is_(os.listdir('mnt'), ['x.img'] if existing else [], 'what was there is there, and nothing else')
        if existing:
            tap.ok(images.same_content('mnt/x.img', 'out/link'), 'and is what it was')
        tap.stop(fs)
        shutil.rmtree('disk')

r = tap.run([ovb.RESTORE, '--repository', ovb.repository_of(point), 'disk', ovb.spec(point), 'vdz', 'out/vdz'])
tap.ok(r.status == 1 and re.search(r'no disk "vdz".*good', r.stderr) and not os.path.lexists('out/vdz'), 'a disk that is not there: it says which there are')
r = tap.run([ovb.RESTORE, '--repository', here + '/nowhere', 'list'])
tap.ok(r.status == 1 and 'nowhere' in r.stderr, 'a repository that is not there is named')
r = tap.run([ovb.RESTORE, '--repository', here + '/other', 'list'])
tap.ok(r.status == 1 and re.search('other is no repository', r.stderr), 'a folder that is no repository is named')

tap.done_testing()
