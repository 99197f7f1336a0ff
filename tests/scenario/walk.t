#!/usr/bin/python3 -B
"""The README's walk, as a new user would take it: its commands, in a root of their own, say what the README says, but for times and sizes.

With README_WALK=FILE what they say is written there."""
import os
import re
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import images
import tap

with open(os.path.join(tap.TOP, 'README.md'), encoding='utf-8') as f:
    SECTION = re.search(r'^## The daemon\n(.*?)^##', f.read(), re.M | re.S)[1]
BLOCKS = [b for b in re.findall(r'^```\n(.*?)^```', SECTION, re.M | re.S) if b.startswith('$ ')]
ROOT = os.path.abspath('root')
PLACES = '/etc/openvirt-backup', '/srv/images', '/srv/disks', '/var/backups/vm'
# What the commands of the walk are here: a user's own root, and a daemon that this shell starts and stops.
PRELUDE = '''
sudo() { "$@"; }
make() { command make -s -C "$TOP" BUILD="$OVB_BUILD" DESTDIR="$ROOT" PREFIX=/usr "$@" >&2; }
virt-backupd() { command virt-backupd --config "$ROOT/etc/openvirt-backup/backupd.conf" "$@"; }
virt-backupctl() { command virt-backupctl --socket "$RUNTIME_DIRECTORY/api.sock" "$@"; }
said() { grep -c -E "$1" "$ROOT/daemon.log"; }
until_more() { for _ in {1..800}; do [ "$(said "$2")" -gt "$1" ] && return; sleep 0.05; done; exit 3; }
systemctl() {
	case $1 in
	enable)	: >"$ROOT/daemon.log"	# it is looked at before the daemon may have opened it
		command virt-backupd --config "$ROOT/etc/openvirt-backup/backupd.conf" 2>>"$ROOT/daemon.log" &
		daemon=$!
		until_more 0 ": ready";;
	reload)	before=$(said "stays in force|again: ")
		kill -HUP $daemon
		until_more $before "stays in force|again: ";;
	esac
}
trap '[ -z "$daemon" ] || { kill $daemon; wait $daemon; }' EXIT
'''


def steps(text):
    """Commands, with their here-documents, and what follows each."""
    found = []
    for line in text.splitlines():
        if line.startswith('$ '):
            found.append([line[2:], [], '<<END' in line])
        elif found[-1][2]:
            found[-1][0] += '\n' + line
            found[-1][2] = line != 'END'
        else:
            found[-1][1].append(line)
    return [(command, said) for command, said, _ in found]


def moved(text):
    for place in PLACES:
        text = text.replace(place, ROOT + place)
    return text


def shape(lines):
    """Without what differs from one machine, and one hour, to another."""
    out = []
    for line in lines:
        line = re.sub(r'\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\dZ)?', 'TIME', line)
        line = re.sub(r'\d[\d.:]* (GB|MB|kB|B|s|min|h|d)\b', 'SOME', line)
        line = re.sub(r'\(\d+%\)', '(SOME)', line)
        out.append(re.sub(r' +', ' ', re.sub(r'virt-backupd [\d.]+,', 'virt-backupd VERSION,', line)).rstrip())
    return out


os.makedirs(ROOT + '/srv/images')
os.makedirs(ROOT + '/var/backups')
for name in ('debian', 'web'):
    images.make('mixed', '%s/srv/images/%s.img' % (ROOT, name), size=4 << 20)
walk = [step for block in BLOCKS for step in steps(block)]
tap.ok(len(walk) > 15, 'the README has a walk of %d steps' % len(walk))
config = re.search(r'<<END\n(.*?)END', walk[2][0], re.S)[1]
with open(os.path.join(tap.TOP, 'packaging', 'man', 'backupd.conf.5'), encoding='utf-8') as f:
    tap.ok(config in f.read(), 'its configuration of %d lines is an example in backupd.conf(5)' % len(config.splitlines()))
MARK = 'ovb-walk-step'
script = PRELUDE + ''.join('%s\nprintf "\\n%s\\n"\n' % (moved(command), MARK) for command, _ in walk)
hour = time.gmtime().tm_hour
env = {'ROOT': ROOT, 'TOP': tap.TOP, 'STATE_DIRECTORY': ROOT + '/state', 'RUNTIME_DIRECTORY': ROOT + '/run', 'PATH': '%s/usr/bin:%s/usr/sbin:%s' % (ROOT, ROOT, os.environ['PATH']),
       'TZ': 'UTC-6' if hour in (0, 1) and 'README_WALK' not in os.environ else 'UTC'}        # far from half past one
with open('said', 'wb') as out:
    shell = tap.start(['bash', '-c', script], env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
    tap.is_(shell.wait(200), 0, 'it can be taken')
with open('said', encoding='utf-8') as f:
    said = f.read().replace(ROOT, '').split('\n%s\n' % MARK)
tap.is_(len(said), len(walk) + 1, 'to its end')
for (command, wanted), got in zip(walk, said):
    name = command.splitlines()[0]
    if 'make install' in name:
        continue
    got = got.rstrip('\n').splitlines()
    if not tap.is_(shape(got), shape(wanted), name):
        tap.diag('\n'.join(got))
if os.environ.get('README_WALK'):
    with open(os.environ['README_WALK'], 'w', encoding='utf-8') as f:
        for (command, _), got in zip(walk, said):
            f.write('$ %s\n%s' % (command, got if got.endswith('\n') or not got else got + '\n'))
tap.done_testing()
