#!/usr/bin/python3 -B
"""make install: everything is there and works from there, the units are sound, and make uninstall leaves nothing."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import tap

ROOT = os.path.abspath('root')
PREFIX = ROOT + '/usr'


def make(goal):
    r = tap.run(['make', '-s', '-C', tap.TOP, goal, 'BUILD=' + tap.BUILD, 'DESTDIR=' + ROOT, 'PREFIX=/usr'])
    tap.is_(r.status, 0, 'make ' + goal) or tap.diag(r.stderr)


def files():
    return sorted(os.path.relpath(os.path.join(at, name), PREFIX) for at, _, names in os.walk(PREFIX) for name in names)


make('install')
there = files()
for wanted in ('sbin/virt-backupd', 'bin/virt-backupctl', 'bin/virt-restore', 'lib/systemd/system/virt-backupd.service', 'lib/systemd/system/virt-backupd.socket',
               'share/man/man8/virt-backupd.8', 'share/man/man7/openvirt-backup.7', 'share/doc/openvirt-backup/backupd.conf.example', 'share/doc/openvirt-backup/minimal.conf',
               'share/doc/openvirt-backup/sshd-offsite.conf', 'share/openvirt-backup/rescue.py', 'share/doc/openvirt-backup/own-user.conf',
               'lib/sysusers.d/openvirt-backup.conf', 'lib/tmpfiles.d/openvirt-backup.conf'):
    tap.ok(wanted in there, 'installed: ' + wanted)
for program in ('sbin/virt-backupd', 'bin/virt-backupctl', 'bin/virt-restore'):
    r = tap.run([os.path.join(PREFIX, program), '--version'])
    tap.is_(r.status, 0, os.path.basename(program) + ' runs from there')

units = [os.path.join(PREFIX, 'lib/systemd/system', name) for name in ('virt-backupd.service', 'virt-backupd.socket')]
for path in units:
    with open(path, encoding='utf-8') as f:
        text = f.read()
    tap.unlike(text, r'@\w+@', os.path.basename(path) + ': each place is filled in')
    with open(path, 'w', encoding='utf-8') as f:
        f.write(text.replace('/usr/sbin/virt-backupd', PREFIX + '/sbin/virt-backupd'))
r = tap.run(['systemd-analyze', 'verify', '--man=no', *units])
tap.is_((r.status, r.stderr), (0, ''), 'systemd-analyze verify finds nothing')
r = tap.run(['systemd-analyze', 'security', '--offline=yes', '--no-pager', units[0]])
exposure = re.search(r'Overall exposure level for \S+: ([\d.]+)', r.stdout)
tap.ok(exposure and float(exposure[1]) < 4, 'the service is hardened: an exposure below 4') or tap.diag(r.stdout[-300:] + r.stderr)

for kind, tool in ('sysusers', ['systemd-sysusers', '--dry-run']), ('tmpfiles', ['systemd-tmpfiles', '--create', '--root=' + os.path.abspath('made')]):
    r = tap.run([*tool, os.path.join(PREFIX, 'lib/%s.d/openvirt-backup.conf' % kind)])
    tap.is_((r.status, [line for line in r.stderr.splitlines() if 'openvirt' in line and 'Would create' not in line and 'Creating' not in line]), (0, []), kind + ' are sound')
for folder in 'var/lib', 'run':
    made = os.path.join('made', folder, 'openvirt-backup')
    tap.is_(os.path.isdir(made) and oct(os.stat(made).st_mode & 0o7777), '0o711', 'the folder in /%s is made, for passing through' % folder)

with open(os.path.join(PREFIX, 'share/doc/openvirt-backup/of-another'), 'w', encoding='utf-8'):
    pass
make('uninstall')
tap.is_(files(), ['share/doc/openvirt-backup/of-another'], 'nothing is left but what is of another')
os.unlink(os.path.join(PREFIX, 'share/doc/openvirt-backup/of-another'))
make('uninstall')
tap.ok(not os.path.exists(os.path.join(PREFIX, 'share/doc/openvirt-backup')), 'nor is an empty folder of ours, and once more does no harm')
tap.done_testing()
