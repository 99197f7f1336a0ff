#!/usr/bin/python3 -B
"""Exit status, as the manual pages have it: 0 done, 1 failed, 2 wrong usage; of every command of every program, with a real daemon."""
import os
import re
import shutil
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import images
import ovb
import tap

CTL = os.path.join(tap.BIN, 'virt-backupctl')
STATE = {'STATE_DIRECTORY': os.path.abspath('state'), 'RUNTIME_DIRECTORY': os.path.abspath('run')}
SOCKET = os.path.abspath('run/api.sock')
POINT = 'disk@latest'


CONF = ovb.make_config(ovb.image_job('disk.img', keep={'last': 100}), ovb.image_job('gone.img', name='broken'))
REPO = ['--repository', './repo']
NO_DAEMON = ['--socket', os.path.abspath('none.sock')]
NO_POINT = 'disk@1999'

# Of each command: arguments with which it is done (None: tried elsewhere), and with which it fails.
CTL_COMMANDS = {
    'status': ([], NO_DAEMON),
    'jobs': ([], NO_DAEMON),
    'run': (['job', '--wait'], ['broken', '--wait']),
    'cancel': (None, ['4711']),
    'history': ([], NO_DAEMON),
    'log': (['1'], ['4711']),
    'pause': ([], NO_DAEMON),
    'resume': ([], NO_DAEMON),
    'schedule': ([], NO_DAEMON),
    'prune': (['job'], ['nosuch']),
    'protect': ([POINT], [NO_POINT]),
    'unprotect': ([POINT], [NO_POINT]),
    'consolidate': ([POINT], [NO_POINT]),
    'replicate': (['--from', './repo', '--to', './copy'], ['nosuch']),
    'verify': ([], [NO_POINT]),
}
RESTORE_COMMANDS = {
    'list': ([], ['nosuch']),
    'show': ([POINT], [NO_POINT]),
    'disk': ([POINT, 'disk', 'restored.img'], [POINT, 'nosuch', 'x.img']),
    'file': (None, [POINT, 'nosuch']),
    'vm': (None, [POINT]),
    'verify': ([POINT], [NO_POINT]),
    'export': ([POINT, 'export.tar'], [POINT, 'x.zip']),
}
# Done, failed, wrong: --once and its kind are what virt-backupd has for commands.
BACKUPD = {
    '--once': (['job'], ['nosuch'], ['job', '--check-config']),
    '--check-config': ([], None, ['stray']),
    '--reconcile': ([], None, ['--once', 'job']),
}


def wait_for(condition, seconds=40):
    deadline = time.monotonic() + seconds * tap.SLOWER
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def commands_of(program):
    """What its help has."""
    return set(re.findall(r'\] ([a-z]\w*)(?: |$)', tap.run([program, '--help']).stdout, re.M))


def ends(command, status, name):
    """The status, and that whoever fails says why and who is done does not."""
    r = tap.run(command, env=STATE)
    said = re.match(r'(\S*/)?%s: |\S+:\d+: ' % os.path.basename(command[0]), r.stderr)
    if not tap.ok(r.status == status and (status == 0 or said), '%s: exit %d' % (name, status)):
        tap.diag('status %s: %s' % (r.status, r.stderr or r.stdout))


def test_commands(program, commands, base):
    name = os.path.basename(program)
    tap.is_(set(commands), commands_of(program), '%s: each of its commands is tried' % name)
    for command, (done, failed) in commands.items():
        if done is not None:
            ends([program, *base, command, *done], 0, '%s %s' % (name, command))
        ends([program, *base, command, *failed], 1, '%s %s, which cannot be done' % (name, command))
        for what, wrong in (('with an argument too many', ['a', 'b', 'c', 'd']), ('with an option that there is not', ['--nosuch'])):
            ends([program, *base, command, *wrong], 2, '%s %s %s' % (name, command, what))
    for what, wrong in (('no command', []), ('a command that there is not', ['nosuch'])):
        ends([program, *base, *wrong], 2, '%s: %s' % (name, what))


def test_every(program):
    for option in '--help', '-h', '--version', '-V':
        ends([program, option], 0, '%s %s' % (os.path.basename(program), option))


def test_backupd():
    base = [ovb.BACKUPD, '--config', CONF]
    for option, (done, failed, wrong) in BACKUPD.items():
        if option == '--check-config':
            ends([ovb.BACKUPD, '--config', 'no.conf', option], 1, 'virt-backupd %s of none' % option)
            ends([*base, option], 1, 'virt-backupd %s of one with a job without images' % option)
            with open('disk.img', 'rb') as f, open('gone.img', 'wb') as g:
                shutil.copyfileobj(f, g)
        ends([*base, option, *done], 0, 'virt-backupd ' + option)
        if failed:
            ends([*base, option, *failed], 1, 'virt-backupd %s %s' % (option, ' '.join(failed)))
        ends([*base, option, *wrong], 2, 'virt-backupd %s %s' % (option, ' '.join(wrong)))
    os.unlink('gone.img')
    ends([*base, '--once', 'broken'], 1, 'virt-backupd --once of a job that fails')
    for wrong in (['stray'], ['--nosuch'], ['--once'], ['--full'], ['--once', 'x', '--full', '--reread'], ['--check-config', '--json']):
        ends([*base, *wrong], 2, 'virt-backupd ' + ' '.join(wrong))
    ends([ovb.BACKUPD, '--config', 'no.conf'], 1, 'the daemon without a configuration')


def test_damage():
    """Of what checks: 1 when it finds something."""
    folder = ovb.points()[0]
    with open(ovb.archive(folder), 'r+b') as f:
        f.seek(os.path.getsize(ovb.archive(folder)) // 2)
        f.write(b'damage')
    spec = ovb.spec(folder)
    ends([ovb.RESTORE, *REPO, 'verify', spec], 1, 'virt-restore verify of a damaged point')
    r = tap.run([CTL, '--config', CONF, 'verify'])
    tap.is_(r.status, 1, 'virt-backupctl verify of a repository with one')
    r = tap.run([ovb.RESTORE, *REPO, '--keep-going', 'disk', spec, 'disk', 'kept.img'])
    tap.ok(r.status == 1 and os.path.exists('kept.img'), 'virt-restore --keep-going, which saved the rest')


images.make('full', 'disk.img', size=1 << 20)
for path in ovb.BACKUPD, CTL, ovb.RESTORE:
    test_every(path)
test_backupd()
os.mkdir('run')
daemon = tap.start([ovb.BACKUPD, '--config', CONF], env=STATE, stderr=open('daemon.log', 'wb'))     # pylint: disable=consider-using-with
tap.ok(wait_for(lambda: os.path.exists(SOCKET)), 'the daemon listens')
test_commands(CTL, CTL_COMMANDS, ['--config', CONF, '--socket', SOCKET])
test_commands(ovb.RESTORE, RESTORE_COMMANDS, REPO)
test_damage()
tap.is_(tap.stop(daemon, 30), 0, 'the daemon, told to end')
tap.done_testing()
