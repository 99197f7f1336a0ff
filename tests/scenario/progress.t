#!/usr/bin/python3 -B
"""How far it has come: a bar on a terminal, one line otherwise, JSON lines for programs.  Exit statuses, and what --json says."""
import fcntl
import json
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import termios
import unicodedata

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import images
import ovb
import tap

SIZE = 24 << 20
NAMES = ['big', 'x' * 196, 'ä' * 60, '磁碟' * 20]
# label [####....]  42%  84 MB of 200 MB  25 MB/s  4.6 s left
BAR = re.compile(r'^\S.* (\[#*\.*\] )?\s*\d+%  [\d.]+ [kMG]?B of [\d.]+ [kMG]?B  [\d.]+ [kMG]?B/s  [\d.:]+ (s|min|h) left$')


def on_terminal(command, columns):
    """What the command's standard error shows on a terminal of that width, and its exit status."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack('HHHH', 24, columns, 0, 0))
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=slave, env=tap.environment())
    os.close(slave)
    shown = b''
    while True:
        ready, _, _ = select.select([master], [], [], 120)
        try:
            piece = os.read(master, 65536) if ready else b''
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(master)
    out = child.stdout.read().decode()
    return child.wait(), out, shown.decode(errors='replace')


def width(text):
    """Columns of a terminal."""
    return sum(2 if unicodedata.east_asian_width(c) in 'WF' else 1 for c in text)


def check_bar(command, columns, name):
    status, out, shown = on_terminal(command, columns)
    lines = [re.sub(r'\x1b\[K', '', line) for line in shown.split('\r') if line.strip('\x1b[K\n')]
    tap.is_(status, 0, name + ': done')
    tap.ok(lines, name + ': a bar is drawn')
    tap.ok(all(width(line) <= columns for line in lines), '%s: it fits %d columns' % (name, columns))
    tap.ok('\ufffd' not in shown, name + ': no character is cut')
    tap.ok(all('%' in line for line in lines), name + ': how far it has come is seen') or tap.diag(repr(lines[:3]))
    if columns >= 80:
        bad = [line for line in lines if not BAR.match(line)]
        tap.ok(not bad, name + ': bytes, rate and time left')
        for line in bad[:3]:
            tap.diag(repr(line))
    tap.ok(shown.endswith('\r\x1b[K'), name + ': it is cleared at the end')
    tap.is_(len(out.strip().split('\n')), 1, name + ': one summary line')


def check_json(command, name, last):
    r = tap.run(command)
    events = []
    for line in r.stdout.splitlines():
        events.append(json.loads(line))
    tap.is_(r.status, 0, name + ' --json: done')
    tap.is_(events[-1]['event'], last, '%s --json: the last line is "%s"' % (name, last))
    tap.ok(all(e['event'] in ('begin', 'progress', last) for e in events), name + ' --json: all lines are events')
    for e in [e for e in events if e['event'] == 'progress']:
        if not (0 <= e['done'] <= e['total'] and e['rate'] >= 0 and e['left'] >= 0):
            tap.failed(name + ' --json: a sensible progress event')
    tap.is_(r.stderr, '', name + ' --json: nothing on standard error')
    return events


def test_bars():
    """Storage that takes its time shows more than one bar, however fast the machine is."""
    os.mkdir('below')
    os.mkdir('slow')
    for name in NAMES:
        images.make('text', 'below/%s.img' % name, size=SIZE)
    mount = tap.mount_imagefs('--slow', '20', 'below', 'slow')
    for name in NAMES:
        shown = name if len(name) < 20 else name[:4] + '...'
        once = ovb.once_command(ovb.make_config(ovb.image_job('slow/%s.img' % name, compression='none')))
        check_bar(once, 80, 'virt-backupd, ' + shown)
        check_bar(once, 40, 'virt-backupd, %s, narrow' % shown)
    conf = ovb.make_config(ovb.image_job('slow/big.img', compression='none'))
    events = check_json(ovb.once_command(conf, 'job', '--json'), 'virt-backupd', 'done')
    tap.ok(any(e['event'] == 'progress' for e in events), 'virt-backupd --json: progress before the end')
    tap.is_(events[0], {'event': 'begin', 'vm': 'big', 'machines': 1}, 'virt-backupd --json: which machine, of how many')

    for name in NAMES:
        shown = name if len(name) < 20 else name[:4] + '...'
        folder = ovb.backup('below/%s.img' % name, 'none', repository='below/repo')
        folder = os.path.join('slow', os.path.relpath(folder, 'below'))
        for columns in 80, 40:
            check_bar(ovb.restore_command(folder, 'out.img'), columns, 'virt-restore disk, %s, %d columns' % (shown, columns))
            os.unlink('out.img')
            check_bar(ovb.verify_command(folder), columns, 'virt-restore verify, %s, %d columns' % (shown, columns))
    folder = os.path.join('slow', os.path.relpath(ovb.points('below/repo')[0], 'below'))
    tap.ok(len(check_json(ovb.restore_command(folder, 'out.img', '--json'), 'virt-restore disk', 'done')) > 1, 'virt-restore disk --json: progress')
    os.unlink('out.img')
    tap.ok(len(check_json(ovb.verify_command(folder, '--json'), 'virt-restore verify', 'verified')) > 1, 'virt-restore verify --json: progress')
    tap.stop(mount)


def main():
    test_bars()
    images.make('text', 'big.img', size=4 << 20)
    conf = ovb.make_config(ovb.image_job('big.img', compression='bzip2:9'), ovb.image_job('nowhere.img', name='bad'))
    once = ovb.once_command(conf)
    shutil.rmtree('repo')
    r = tap.run(once)
    tap.like(r.stdout, r'^big@\d{4}-\d\d-\d\dT\d{6}Z: 4.2 MB disk, 4.2 MB provisioned, \S+ .B stored, ', 'virt-backupd: one line, not on a terminal')
    tap.ok(r.stdout.count('\n') == 1 and r.stderr == '', 'and nothing else')
    done = check_json(once + ['--json'], 'virt-backupd', 'done')[-1]
    tap.is_((done['vm'], done['size'], done['read']), ('big', 4 << 20, 4 << 20), 'its facts')

    folder = ovb.points()[-1]
    r = ovb.restore(folder, 'out.img')
    tap.ok(r.stdout.count('\n') == 1 and r.stderr == '', 'virt-restore disk: one line, not on a terminal')
    os.unlink('out.img')
    done = check_json(ovb.restore_command(folder, 'out.img', '--json'), 'virt-restore disk', 'done')[-1]
    tap.is_((done['disk'], done['size'], done['lost']), ('big', 4 << 20, 0), 'its facts')
    r = ovb.verify(folder)
    tap.ok(r.stdout.count('\n') == 1 and r.stderr == '', 'virt-restore verify: one line, not on a terminal')
    check_json(ovb.verify_command(folder, '--json'), 'virt-restore verify', 'verified')

    # Exit statuses: 0 done, 1 failed, 2 wrong usage.
    for program in ovb.BACKUPD, ovb.RESTORE:
        name = os.path.basename(program)
        for option in '--help', '--version':
            r = tap.run([program, option])
            tap.ok(r.status == 0 and r.stdout and not r.stderr, '%s %s' % (name, option))
        tap.is_(tap.run([program, '--bogus']).status, 2, name + ' with an unknown option')
    tap.is_(ovb.once(conf, 'bad').status, 1, 'a job that fails')
    tap.is_(ovb.once(conf, 'none-such').status, 1, 'a job that is none')
    tap.is_(tap.run([ovb.RESTORE]).status, 2, 'virt-restore with nothing to do')
    tap.is_(tap.run([ovb.BACKUPD, '--domain', 'x']).status, 2, 'virt-backupd --domain without --once')
    tap.is_(tap.run([ovb.BACKUPD, '--once', 'job', '--check-config']).status, 2, 'two things at once')
    tap.is_(tap.run([ovb.RESTORE, 'frobnicate']).status, 2, 'a command that is none')
    tap.is_(tap.run([ovb.RESTORE, 'disk', 'big@latest']).status, 2, 'too few arguments')
    tap.is_(tap.run([ovb.RESTORE, '-r', './repo', 'show', 'big']).status, 1, 'a point without a time')
    tap.is_(tap.run([ovb.RESTORE, '-r', './nowhere', 'list']).status, 1, 'a repository that is none')

    # The contract's keys.
    listed = json.loads(tap.run([ovb.RESTORE, '-r', './repo', '--json', 'list']).stdout)
    tap.ok(isinstance(listed, list) and len(listed) == 2, 'list --json is an array')
    for key in 'vm', 'time', 'kind', 'consistency', 'disks', 'provisioned', 'stored':
        tap.ok(all(key in p for p in listed), 'list --json has ' + key)
    tap.like(listed[0]['time'], r'^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$', 'times are RFC 3339 in UTC')
    shown = json.loads(tap.run([ovb.RESTORE, '-r', './repo', '--json', 'show', 'big@latest']).stdout)
    tap.is_([d['target'] for d in shown['disks']], ['big'], 'show --json has disks with targets')
    tap.is_(shown['disks'][0]['member'], 'big.img', 'and members')
    tap.done_testing()


main()
