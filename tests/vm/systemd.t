#!/usr/bin/python3 -B
"""The service under a real systemd, in a guest: what `make install` installs starts, reports, reloads, works within its sandbox and ends; and real guests
are backed up with no more rights than the unit leaves."""
import functools
import glob
import json
import os
import re
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import guest
import capture
import tap

UNIT, SOCKET = 'virt-backupd.service', 'virt-backupd.socket'
CONF = '/etc/openvirt-backup/backupd.conf'
STATE = '/var/lib/openvirt-backup'
GONE = '00000000-1111-2222-3333-444444444444'
LIBRARIES = 'usr/lib/x86_64-linux-gnu'
TREE = os.path.abspath('tree')

host = guest.Host()

# What is installed, and the libraries that the guest has not.
r = tap.run(['make', '-s', '-C', tap.TOP, 'install', 'BUILD=' + tap.BUILD, 'DESTDIR=' + TREE, 'PREFIX=/usr'])
if r.status != 0:
    raise RuntimeError(r.stderr)
with open(os.path.join(TREE, 'usr/lib/systemd/system', UNIT), encoding='utf-8') as f:
    unit = f.read()
os.makedirs(os.path.join(TREE, LIBRARIES))
for program in glob.glob(tap.BIN + '/*'):
    for library in re.findall(r'=> (/\S+)', guest.command('ldd', program)):
        shutil.copy(library, os.path.join(TREE, LIBRARIES, os.path.basename(library)))
with open('files.img', 'wb') as f:
    f.truncate(192 * guest.MIB)
guest.command('mkfs.ext4', '-q', '-d', TREE, 'files.img')
files = os.path.join(guest.FILES, 'files.img')
os.rename('files.img', files)
os.chmod(files, 0o666)

vm = guest.Guest(host, 'systemd', [guest.Disk('vda', 'raw', system=True), guest.Disk('vdb', 'raw', path=files)]).start()
vm.exec = functools.partial(vm.exec, timeout=900)       # a machine may have other things to do
vm.exec('mount /dev/vdb /mnt && cp -an /mnt/usr/. /usr/ && umount /mnt')


def show(name, unit_name=UNIT):
    return vm.exec('systemctl show -P %s %s' % (name, unit_name)).strip()


def journal(*options):
    return vm.exec('journalctl --no-pager -o cat -u %s %s' % (UNIT, ' '.join(options)))


def configure(*jobs, daemon='api_group = "openvirt-backup";'):
    text = 'repositories = ( { name = "local"; url = "/var/backups/vm"; } );\ndaemon = { %s };\njobs = ( %s );\n' % (daemon, ', '.join(jobs))
    vm.exec("mkdir -p /etc/openvirt-backup && cat >%s <<'END'\n%s\nEND" % (CONF, text))


def ctl(*words, check=True):
    return vm.exec('virt-backupctl ' + ' '.join(words), check=check)


def history():
    return json.loads(ctl('--json', 'history'))


def plant_journal():
    """What a run that was killed leaves of a guest that it froze, and that is gone by now."""
    text = json.dumps({'format': 1, 'uri': 'test:///default', 'name': 'gone', 'uuid': GONE, 'token': '12345678', 'frozen': True, 'overlays': []})
    vm.exec("mkdir -p -m 700 %s/journal && echo '%s' >%s/journal/%s.json" % (STATE, text, STATE, GONE))


def wait_for(what, condition, seconds=900):
    if not tap.ok(guest.wait_until(condition, seconds, 0.5), what):
        tap.diag(vm.exec('systemctl status --no-pager %s; journalctl --no-pager -u %s | tail -n 30' % (UNIT, UNIT), check=False)[1])


# Installed, not configured.
vm.exec('systemd-sysusers && systemd-tmpfiles --create openvirt-backup.conf && systemctl daemon-reload')
tap.is_(vm.exec('systemd-analyze verify --man=no %s %s' % (UNIT, SOCKET), check=False), (0, ''), 'systemd-analyze verify finds nothing')
exposure = re.search(r'Overall exposure level for \S+: ([\d.]+)', vm.exec('systemd-analyze security --no-pager ' + UNIT))
tap.ok(exposure and float(exposure[1]) < 4, 'systemd-analyze security: an exposure below 4')
tap.diag('exposure %s' % (exposure and exposure[1]))
vm.exec('systemctl -q enable %s && systemctl start %s %s' % (UNIT, SOCKET, UNIT))
tap.is_((show('ActiveState'), show('Result'), show('ActiveState', SOCKET)), ('inactive', 'success', 'inactive'), 'not configured: not started, and no failure')

# An emulated processor on a busy machine may need longer than the unit gives.
vm.exec("mkdir -p /run/systemd/system/%s.d && printf '[Service]\\nTimeoutStartSec=900\\nTimeoutStopSec=900\\n' >/run/systemd/system/%s.d/patience.conf && systemctl daemon-reload"
        % (UNIT, UNIT))

# Socket activation.
vm.exec('mkdir -p /srv/images /var/backups && dd if=/dev/urandom of=/srv/images/small.img bs=1M count=1 status=none && truncate -s 64M /srv/images/small.img && '
        'chmod 600 /srv/images/small.img')
configure('{ name = "small"; images = [ "/srv/images/small.img" ]; schedule = "yearly"; compression = "zstd:1"; }')
vm.exec('systemctl start ' + SOCKET)
tap.is_((show('ActiveState'), show('ActiveState', SOCKET)), ('inactive', 'active'), 'configured: the socket listens, the daemon does not run')
tap.like(ctl('status'), r'^small ', 'a client of the socket is answered')
tap.is_((show('ActiveState'), show('SubState')), ('active', 'running'), 'by a daemon that was started for it')
tap.is_(vm.exec('stat -c "%U %G %a" /run/openvirt-backup/api.sock').split(), ['root', 'openvirt-backup', '660'], 'api_group has the socket that systemd made')
tap.is_(vm.exec('setpriv --reuid=nobody --regid=openvirt-backup --clear-groups virt-backupctl jobs >/dev/null', check=False)[0], 0, 'and may look')
tap.ok(vm.exec('setpriv --reuid=nobody --regid=nogroup --clear-groups virt-backupctl jobs', check=False)[0] != 0, 'others may not')

# What systemd knows of it.
tap.like(vm.exec('systemctl status --no-pager ' + UNIT), r'Status: "0 running; next at \d{4}-01-01 00:00:00"', 'systemctl status tells what is next')
tap.ok(int(show('WatchdogTimestampMonotonic')) > 0, 'the watchdog is fed')
tap.like(vm.exec('tr "\\0" "\\n" </proc/%s/environ' % show('MainPID')), r'^WATCHDOG_USEC=120000000$', 'every two minutes at least')
status = dict(line.split(':\t', 1) for line in vm.exec('cat /proc/%s/status' % show('MainPID')).splitlines() if ':\t' in line)
tap.is_((status['NoNewPrivs'], status['Seccomp']), ('1', '2'), 'it runs sandboxed')
wanted = re.search(r'^CapabilityBoundingSet=(.+)', unit, re.M)[1].split()
tap.is_(bin(int(status['CapBnd'], 16)).count('1'), len(wanted), 'with %d capabilities' % len(wanted))

# Reload.
good = vm.exec('cat ' + CONF)
vm.exec("echo 'nonsense = 1;' >>%s && systemctl reload %s" % (CONF, UNIT))
wait_for('a bad configuration is told in systemctl status', lambda: 'the configuration on disk is wrong' in show('StatusText'))
tap.is_((show('ActiveState'), 'small' in ctl('jobs')), ('active', True), 'and the old one stays in force')
tap.like(journal(), r'backupd\.conf:\d+: nonsense: unknown key', 'the log says what is wrong')
configure('{ name = "small"; images = [ "/srv/images/small.img" ]; compression = "zstd:1"; }',
          '{ name = "slow"; images = [ "/srv/images/slow.img" ]; compression = "bzip2:9"; }')
vm.exec('systemctl reload ' + UNIT)
wait_for('a good one is taken', lambda: 'slow' in ctl('jobs'))
tap.unlike(show('StatusText'), 'wrong', 'nothing is wrong any more')

# A job, in the sandbox.
status, said = ctl('run', 'small', '--wait', check=False)
tap.is_(status, 0, 'a job runs in the sandbox') or tap.diag(said + journal())
tap.is_(vm.exec('virt-restore verify small@latest >/dev/null && virt-restore disk small@latest small /srv/out.img >/dev/null && cmp /srv/images/small.img /srv/out.img',
                check=False), (0, ''), 'what it stored restores to the same image')
tap.is_(vm.exec('stat -c %a /var/backups/vm /var/backups/vm/small').split(), ['700', '700'], 'it is for root only')
tap.like(journal('-p', 'info'), r'job small: run \d+ succeeded', 'the journal has it, by priority')
tap.unlike(journal('-p', 'warning'), 'succeeded', 'which is no warning')

# Stopping, in the midst of a run, with something to be undone.
vm.exec('dd if=/dev/urandom of=/srv/images/slow.img bs=1M count=64 status=none')
ctl('run', 'slow')
wait_for('a long run goes on', lambda: any(run['job'] == 'slow' and run['state'] == 'running' for run in json.loads(ctl('--json', 'status')).get('runs', [])))
plant_journal()
vm.exec('systemctl stop %s %s' % (SOCKET, UNIT))
tap.is_((show('ActiveState'), show('Result')), ('inactive', 'success'), 'systemctl stop ends it cleanly')
tap.is_(vm.exec('grep -alE "virt-[b]ackup" /proc/[0-9]*/cmdline', check=False)[1], '', 'no process is left')
tap.is_(vm.exec('ls /var/backups/vm/slow 2>/dev/null; ls %s/journal/*.json 2>/dev/null; true' % STATE), '', 'neither is a half-made point, nor what was to be undone')
tap.like(journal(), 'guest gone: settled what an interrupted run had begun', 'ExecStopPost has undone it')
tap.unlike(journal(), r'timed out|SIGKILL', 'nothing had to be killed')

# Killed: undone by ExecStopPost, started again by systemd, and the run goes on.
vm.exec('systemctl start %s %s' % (SOCKET, UNIT))
wait_for('the run is taken up again', lambda: any(run['job'] == 'slow' and run['state'] == 'running' for run in json.loads(ctl('--json', 'status')).get('runs', [])))
plant_journal()
settled = journal().count('guest gone: settled')
old = show('MainPID')
vm.exec('kill -9 ' + old)
wait_for('killed, it is started again', lambda: show('MainPID') not in ('0', old) and show('ActiveState') == 'active')
tap.is_(journal().count('guest gone: settled'), settled + 1, 'what was to be undone is undone')
r = vm.exec('ls %s/journal/*.json' % STATE, check=False)
tap.ok(r[0] != 0, 'and forgotten')
tap.is_(show('NRestarts'), '1', 'by systemd')
vm.exec('systemctl stop %s %s' % (SOCKET, UNIT))

# As a user of its own, where there are images only.
vm.exec('install -D -m 644 /usr/share/doc/openvirt-backup/own-user.conf /etc/systemd/system/%s.d/own-user.conf && '
        'install -d -o openvirt-backup -g openvirt-backup -m 700 /var/backups/own && systemctl daemon-reload' % UNIT)
configure('{ name = "small"; images = [ "/srv/images/small.img" ]; compression = "zstd:1"; }', daemon='')
vm.exec("sed -i 's,/var/backups/vm,/var/backups/own,' %s && systemctl start %s %s" % (CONF, SOCKET, UNIT))
tap.is_(vm.exec('stat -c %U /proc/' + show('MainPID')).strip(), 'openvirt-backup', 'the daemon as a user of its own')
status, said = ctl('run', 'small', '--wait', check=False)
tap.is_(status, 0, "backs up root's images") or tap.diag(said + journal('-n', '30'))
tap.is_(vm.exec('stat -c "%U %a" /var/backups/own/small').split(), ['openvirt-backup', '700'], 'into its own repository')
vm.exec('systemctl stop %s %s' % (SOCKET, UNIT))
tap.is_(show('Result'), 'success', 'and ends cleanly')
vm.destroy()

# A real libvirt: with no more rights than the unit leaves, and no other system calls than it lets through.
allowed = set()
listing = guest.command('systemd-analyze', 'syscall-filter', '--no-pager')
sets = {name: body.split() for name, body in re.findall(r'^(@[\w-]+)\n((?:    .*\n)*)', re.sub(r'^\s+#.*\n', '', listing, flags=re.M), re.M)}


def allow(words):
    for word in words:
        if word.startswith('@'):
            allow(sets[word])
        else:
            allowed.add(word)


allow(re.search(r'^SystemCallFilter=(.+)', unit, re.M)[1].split())
limits = ['setpriv', '--no-new-privs', '--inh-caps=-all',
          '--bounding-set=-all,' + ','.join('+' + name.removeprefix('CAP_').lower() for name in wanted)]
once = capture.ovb.once_command
capture.ovb.once_command = lambda *args: ['strace', '-f', '-qq', '-o', 'trace', *limits, *once(*args)]
web = guest.Guest(host, 'web', [guest.Disk('vda', 'qcow2', system=True)]).start()
for method, consistency in (('backup', 'quiesced'), ('snapshot', 'quiesced'), ('offline', 'offline')):
    if method == 'offline':
        web.kill()
        os.chmod(web.disks[0].path, 0o600)
    run = capture.once('web', capture='auto' if method == 'offline' else method)
    ok = tap.is_((run.status, run.status == 0 and run.manifest['consistency']), (0, consistency), 'within the limits of the unit: ' + method)
    if not ok:
        tap.diag(run.said)
    with open('trace', encoding='utf-8', errors='replace') as f:
        used = set(re.findall(r'^\d+ +(\w+)\(', f.read(), re.M))
    tap.ok(len(used) > 30, 'its system calls are known: %d' % len(used))
    tap.is_(sorted(used - allowed), [], 'all of them are let through')
web.start()
os.chmod('/run/openvirt-backup', 0o700)
run = capture.once('web', capture='backup')
os.chmod('/run/openvirt-backup', 0o711)
tap.ok(run.status == 1 and re.search(r"Permission denied; QEMU has to be let at /run/openvirt-backup/\S+ and /\S+: see Permissions in virt-backupd\(8\)", run.said),
       'a QEMU that may not have the socket: what to do is said') or tap.diag(run.said)
tap.is_(web.clean(checkpoints=None), [], 'the guest is as it was')
tap.done_testing()
