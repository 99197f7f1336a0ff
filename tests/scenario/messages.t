#!/usr/bin/python3 -B
"""Every message says what failed, on what, and what to do.  The list of messages is walked for one that names no object and for faults
of style; then the situations that users meet are made, and their messages looked at as they come out."""
import json
import os
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import images
import messages
import ovb
import tap

CTL = os.path.join(tap.BIN, 'virt-backupctl')
CONFIG = '/etc/openvirt-backup/backupd.conf'

# A message without a value in it and without a quoted name is a mistake, unless its object is said elsewhere.  Who says it:
ELSEWHERE = {
    'its callers put the name of the archive or of the point before it': [
        'its own archive is lost',
        'a file that was saved with it is damaged',
        'there is no index at its end: it is cut off, damaged, or no archive of this program',
        'its index is not the one that its end names: it was put together from two archives',
        'the manifest names an archive that has no UUID',
        "the archive's file name is not disks.tar with a codec's ending",
        'archive: its id, level or sha256 is malformed',
        'it was consolidated already, and is not in its place yet',
        'its manifest and its index name different disks',
        'it belongs to another restore point: files were exchanged',
        'its manifest belongs to another point',
        'its time is still to come: set the clock of the host that made it right, or our own',
        'what it needs leads back to itself',
        'this is not an index: it does not begin with OVBINDEX',
        'a small member is in no frame',
        'a source stands before all disks',
        'the extents of a piece are malformed',
    ],
    'frame_reader.c and disk_reader.c put archive, frame, disk and offset before it': [
        'bzip2: a frame did not fit its buffer',
        'no block of the archive holds this part',
        'the index gives it too many blocks',
        'its blocks do not add up to its length in the index',
        'the index gives the frame other blocks than it has',
        'the block does not have the digest that was taken when it was stored',
    ],
    'conf_text.c puts file and line before it': [
        'a comment begins here that does not end: */ is missing',
        'a string cannot hold \\x00',
        'a string is not closed on its line: " is missing',
        '@include is not allowed here',
        'a NUL byte: this is not a text file',
    ],
    'whoever reads the XML puts the machine, the file or the point before it': [
        'a domain must have a name',
        'a disk has no <target dev=...>',
        'the XML has a document type, which is not accepted',
        'the XML is empty',
        "the domain's <uuid> is no UUID",
        'the domain has no <os>, so it can have no NVRAM',
    ],
    'run_job.c and settle.c put the name of the machine before it': [
        'the guest was started while its disks were read',
        'the guest has a backup job: no checkpoint can be deleted before it ends',
        'the freeze guard is gone',
        'cannot make a socket',
        'cannot start the freeze guard',
        'a freeze guard of an earlier run still tries to thaw the guest',
        'the freeze guard did not start',
        'the freeze guard does not answer',
        'the guest agent found no file system to freeze',
        'another run of virt-backupd works on this guest just now',
        'it is of another guest',
        "somebody else's job (a backup, a migration, a save) runs on the guest: run this job again after it, or end it with virsh domjobabort",
        'cannot start qemu-nbd (package qemu-utils)',
        'the guest was shut off while it was read',
        'the backup job ended while it was read: the guest was restarted, or somebody aborted the job',
        'cannot start a thread',
        'the backup job could not be ended',
        'libvirt is busy with what the run had asked it for',
    ],
    'it is about the request that it answers': [
        'the query is not %%-encoded UTF-8',
        'there is nothing at this path; see API.md',
        'too many clients are reading long answers: try again in a minute',
        "you may not use this daemon: be root, or a member of the socket's group",
        "you may look, but not act: be root, or let the group act in the daemon's configuration",
        "the domain's name is no UTF-8",
        "the job's name is no UTF-8",
        'the daemon did not say which run it is',
        'the daemon did not say which test it is',
        "the test goes on without being waited for: what comes of it is in the daemon's log",
        "the daemon's answer is too long",
        "the daemon's line is too long",
        'a machine without a name',
    ],
    'db.c puts the database before it': ['it could not be read until now'],
    'runs.c puts job and run before it': [
        'cannot wait for a worker', 'cannot watch a worker', 'cannot make a pipe for a worker', 'cannot start a worker',
    ],
    'it is about the program itself, or the machine that it runs on': [
        'cannot allocate memory',
        'cannot get random bytes from the kernel',
        'cannot start a SHA-256 digest (libcrypto)',
        'cannot compute a SHA-256 digest (libcrypto)',
        'cannot use the socket that systemd passed',
        'cannot make a timer for the schedule',
        "cannot set up the daemon's event loop",
        'cannot keep the configuration for workers',
        'cannot hand a list of machines to a worker', 'cannot read the list of machines that are done',
        'the configuration is not changed: the one read before stays in force',
        'stops when its runs have finished', 'ended', 'resumed',
        'paused: nothing of the schedule is started until it is resumed',
        'cannot tell the name of the current folder: change to another, or use --directory',
        'standard output is a terminal: send it to a file or a program',
    ],
    'it is the answer to a signal of the user\'s': [
        'stopped', 'stopped; nothing was kept', 'stopped: no file was kept', 'stopped; the restore point is as it was', 'stopped; the next run goes on',
        'stopped; nothing of this restore point was kept', 'stopped before everything was compared', 'stopped before everything was checked',
        'stopped; the next replication goes on from here', 'broken off', 'stopped while it waited for its turn to write (rate_limit)',
        'virt-backupd: stopped; what was reported done is done',
    ],
    'it names options; the usage follows': [
        'say what to do: one of --once JOB, --check-config and --reconcile, or none to be the daemon',
        '--domain, --full, --reread and --json belong to --once', '--full reads everything anyway: leave out --reread',
        'virt-backupctl: say what to do',
        'virt-backupctl: verify --against-source takes a point, and no --sample',
        'virt-backupctl: verify takes a point or --job, not both',
        'virt-backupctl: replicate takes a job, or --from and --to',
        'virt-restore: say what to do',
        'virt-restore: --archive and --repository exclude each other',
        'virt-restore: --name, --directory, --define, --start, --connect and --dry-run belong to vm',
    ],
    'the line before it names the point': [
        'virt-backupctl: warning: what such a point needs cannot be told, so no data is removed: repair it, or remove its folder',
    ],
}
# Functions that put the object before the text themselves.
OBJECT_BY_FUNCTION = {
    'conf_fail': 'file, line and key', 'err_wrap': 'it is put before an error that has one', 'bad': 'the index, or the archive',
    'hypervisor_failed': 'run_job.c puts the machine before it', 'io_temp_failed': 'the folder',
}
FAULTS = {
    r'(?<!\.\.)[.!]$': 'ends like a sentence',
    r'^[A-Z][a-z]': 'begins in upper case',
    r'(?i)\b(fail(ed)? to|unable to|please|invalid|illegal|bad|oops|sorry|fatal|can\'t|don\'t|doesn\'t|couldn\'t)\b': 'words that say nothing, or are short',
    r'(?i)^error\b|: error:': 'says that it is an error',
    r'\n.': 'has more than one line',
    r'(?<!\.)  +': 'two spaces',
    r' $|^ ': 'a space at an end',
    r' :|:[^\s/\d%\]]| ,|\( | \)': 'spaces and punctuation',
    r"(?<!-R )'%": 'a value in single quotes',
    r'%p\b': 'a pointer',
}
# Codes whose text helps nobody, where the program itself gives them.
MUTE = 'EINTR', 'ESTALE', 'EBADMSG', 'ECANCELED', 'ENOTSUP', 'EBUSY', 'ETIMEDOUT', 'EPIPE', 'EINVAL'
PROPER = re.compile(r'^(QEMU|OVBINDEX)\b')
# Where a colon, a bracket or two words are meant: patterns of what is taken out before the faults are looked for.
MEANT = re.compile(r'sftp://\[user@\]host\[:port\]/path|url = "[^"]*"|bzip2\[:1-9\], xz\[:0-9\], zstd\[:1-19\]|\[:\w+\]|\( \)|":"')


def test_objects():
    known = {text: who for who, texts in ELSEWHERE.items() for text in texts}
    nameless, seen = [], set()
    every = list(messages.every())
    for m in every:
        text = m.text.rstrip('\n')
        if m.function in OBJECT_BY_FUNCTION or re.search(r'%[^%]|<[A-Z_]+>|"[^"]+"', text.replace('%%', '')):
            continue
        seen.add(text)
        if text not in known:
            nameless.append('%s: %s' % (m.where, text))
    tap.ok(len(every) > 700, 'the sources have %d messages' % len(every))
    tap.is_(nameless, [], 'each has an object')
    tap.is_(sorted(set(known) - seen), [], 'no exception is left over')


def test_style():
    found = []
    for m in messages.every():
        text = MEANT.sub('X', m.text[:-1] if m.function == 'fprintf' and m.text.endswith('\n') else m.text)
        for pattern, what in FAULTS.items():
            if text == ' %s':       # one of a list of names
                continue
            if re.search(pattern, text) and not (what.startswith('begins') and PROPER.search(text)):
                found.append('%s: %s: %r' % (m.where, what, m.text))
    tap.is_(found, [], 'none has a fault of style')
    plain = [m.where for m in messages.every() if m.function == 'err_set' and m.code in MUTE]
    tap.is_(plain, [], 'none ends with what strerror says of a code that the program chose itself: err_plain()')
    strange = [m.where for m in messages.every() if m.function == 'fprintf' and not re.match(r'virt-(backupd|backupctl|restore): |%s', m.text)
               and m.text not in (' %s', 'warning: %s\n') and m.literals[-1] == '\n']
    tap.is_(strange, [], 'each line says which program it is from')


# Situations.

def live_lock(repo):
    """A lock that counts: somebody on another host, who has just renewed it."""
    os.makedirs(repo + '/.locks', exist_ok=True)
    with open(repo + '/.locks/exclusive-00000000000000aa.lock', 'w', encoding='utf-8') as f:
        json.dump({'token': '00000000000000aa', 'host': 'elsewhere', 'pid': 4711, 'boot_id': 'x', 'pid_namespace': 1, 'start_time': 1, 'program': 'virt-backupctl 0.1.0'}, f)
    return f.name


def says(what, command, *wanted, status=1, **kwargs):
    """The command fails, with one line from its program that has all of the patterns."""
    r = tap.run(command, **kwargs)
    lines = r.stderr.splitlines()
    missing = [w for w in wanted if not re.search(w, r.stderr)]
    good = r.status == status and lines and lines[0].startswith(os.path.basename(command[0] if 'setpriv' not in command[0] else command[-5]) + ': ') and not missing
    if not tap.ok(good, what):
        tap.diag('status %s, misses %s' % (r.status, missing))
        tap.diag(r.stderr)


def test_configuration():
    def daemon(conf, *args):
        return [ovb.BACKUPD, '--config', conf, *(args or ('--check-config',))]
    for program in ([ovb.BACKUPD, '--once', 'j'], [CTL, 'prune', 'j'], [ovb.RESTORE, '--repository', 'local', 'list']):
        says('no configuration: %s' % os.path.basename(program[0]), [program[0], '--config', 'missing.conf', *program[1:]],
             r'there is no configuration missing\.conf: write one, see backupd\.conf\(5\), or name another with --config')
    if not os.path.exists(CONFIG):
        says('nor the usual one, which nobody named', [ovb.RESTORE, 'list'], 'no --repository was given', re.escape(CONFIG))
    os.mkdir('folder')
    says('the configuration is a folder', daemon('folder'), 'cannot read folder: not a regular file')
    with open('image', 'wb') as f:
        f.truncate(4 << 20)
    says('it is an image', daemon('image'), 'image: larger than', 'is it a configuration')
    with open('slip.conf', 'w', encoding='utf-8') as f:
        f.write('repositories = ( { name = "local"; url = "/r"; } );\njobs = ( { name = "j"; imges = [ "/x" ]; } );\n')
    says('a slip', daemon('slip.conf'), r'slip\.conf:2: jobs\[0\]\.imges: unknown key; known here: .*images')
    with open('group.conf', 'w', encoding='utf-8') as f:
        f.write('repositories = ( { name = "local"; url = "/r"; } );\ndaemon = { api_group = "no-such-group"; };\n')
    says('a group that is not there, before the daemon is started', daemon('group.conf'), r'api_group: there is no group "no-such-group"', 'groupadd')
    says('no such job', daemon(good(), '--once', 'nightly'), r'has no job "nightly"; it has: job empty$')
    says('no such machine', daemon(good(), '--once', 'job', '--domain', 'web'), r'job job has no machine "web"; it has: disk')
    says('no such image', daemon(good(), '--once', 'empty'), r'/nothing\*\.img matches no file: make it, or take the pattern out')


def good():
    return ovb.make_config(ovb.image_job('disk.img'), {'name': 'empty', 'images': (os.path.abspath('nothing') + '*.img',)}, repository='repo')


def test_points():
    def restore(*args):
        return [ovb.RESTORE, '--repository', './repo', *args]
    says('no such repository', [ovb.RESTORE, '--repository', './nowhere', 'list'], r'cannot open the repository \./nowhere \(is it mounted, and written so\?\)')
    says('a name that is a folder', [ovb.RESTORE, '--config', good(), '--repository', 'repo', 'list'], r'has no repository "repo" \(a folder is written with a slash: \./repo\)')
    says('a folder that is none', [ovb.RESTORE, '--repository', './folder', 'list'], r'\./folder is no repository: it has neither')
    says('no such machine', restore('list', 'web'), r'\./repo has no machine "web"$')
    says('no such point', restore('show', 'disk@2001'), r'\./repo has no restore point disk@2001 \(virt-restore list shows what there is\)$')
    says('nor a latest one', [CTL, '--repository', './repo', 'protect', 'web@latest'], r'has no restore point web@latest \(virt-restore list')
    says('not a point', restore('show', 'disk'), r'"disk" is not a restore point: write VM@latest')
    says('several points', restore('show', 'disk@20'), r'2 restore points of disk begin with 20, the last is .*: write more of the time')
    says('no such disk', restore('disk', 'disk@latest', 'vda', 'x.img'), r'disk@latest has no disk "vda"; it has: disk$')
    says('no such file', restore('file', 'disk@latest', 'domain.xml'), r'disk@latest has no file "domain\.xml"; it has: none$')
    says('no machine', restore('vm', 'disk@latest'), r'there is no domain\.xml in disk@latest', 'with the command disk')
    says('standard output', restore('disk', 'disk@latest', 'disk', '-'), r'disk disk is not written from front to back, so not to standard output: name a file .*, or use export$')
    says('a target that exists', restore('disk', 'disk@latest', 'disk', 'disk.img'), r'disk\.img exists: choose another name, or --force to replace it$')
    says('a target in no folder', restore('disk', 'disk@latest', 'disk', 'no/x.img'), r'cannot make no/x\.img\.partial \(the folder that it is in must be there\)')
    says('an export of no kind', restore('export', 'disk@latest', 'x.zip'), r'x\.zip: the name must end in \.tar, ')
    says('no such archive', [ovb.RESTORE, '--archive', 'no.tar', 'show'], r'cannot open no\.tar: No such file')
    says('no archive', [ovb.RESTORE, '--archive', 'disk.img', 'show'], r'disk\.img: there is no index at its end: .*no archive of this program')
    says('no URL', [ovb.RESTORE, '--repository', 'ftp://host/x', 'list'], r'ftp://host/x: a repository is a folder, or sftp://')


def test_trouble():
    lock = live_lock('repo')
    r = tap.start([CTL, '--config', good(), 'prune', 'job'], stderr=-1, stdout=-1)
    time.sleep(1)
    r.terminate()
    err = r.communicate()[1].decode()
    tap.like(err, r'virt-backupctl: stopped while waiting: .*/repo is held by virt-backupctl 0\.1\.0 \(process 4711 on elsewhere\)$', 'a lock that somebody else holds: who, and where')
    os.unlink(lock)
    says('no daemon', [CTL, '--socket', os.path.abspath('none.sock'), 'status'], r'no daemon answers on .*none\.sock: .*: start it \(systemctl start virt-backupd\)')
    if os.geteuid() == 0:
        os.chmod('repo', 0o700)
        nobody = ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups']
        os.chmod(tap.WORK, 0o755)
        r = tap.run([*nobody, ovb.RESTORE, '--repository', os.path.abspath('repo'), 'list'])
        tap.is_(r.status, 1, 'no permission')
        tap.like(r.stderr, r'(cannot open the repository .*/repo|setpriv).*: Permission denied', 'it says to what')
    small = os.geteuid() == 0 and ovb.mount_tmpfs('small', 1 << 20)
    if not small or not os.path.ismount(small):
        tap.skip(1, 'no file system of its own')
        return
    images.make('full', 'large.img', size=8 << 20)
    says('a full disk', [ovb.BACKUPD, '--config', ovb.make_config(ovb.image_job('large.img'), repository=small + '/repo', file='full.conf'), '--once', 'job'],
         r'large: cannot write .*small\.mnt/repo/.* \(make room there\): No space left on device$')


images.make('trailing-hole', 'disk.img', size=1 << 20)
for _ in range(2):
    ovb.backup('disk.img')
test_objects()
test_style()
test_configuration()
test_points()
test_trouble()
tap.done_testing()
