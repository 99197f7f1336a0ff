#!/usr/bin/python3 -B
"""The packages: built in a clean tree, checked by lintian, and in a fresh Debian 12 installed, used as the README says, upgraded, removed and purged.

Needs root, packaging/packages.package and a mirror of Debian ($MIRROR); what was fetched of it stays in $OVB_BUILD/package."""
import glob
import hashlib
import json
import os
import re
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import images
import tap

if os.geteuid() != 0:
    tap.skip_all('a Debian is made by root')

KEPT = os.path.join(tap.BUILD, 'package')
MIRROR = os.environ.get('MIRROR') or 'http://deb.debian.org/debian'
ROOT = os.path.abspath('root')
STATE, REPO, CONF = '/var/lib/openvirt-backup', '/var/backups/vm', '/etc/openvirt-backup/backupd.conf'
OLD = '0.0.9'
with open(os.path.join(tap.TOP, 'README.md'), encoding='utf-8') as f:
    README = f.read()
with open(os.path.join(tap.TOP, 'Makefile'), encoding='utf-8') as f:
    VERSION = re.search(r'^VERSION *:= *(\S+)', f.read(), re.M)[1]


def must(*words, timeout=1200, **kwargs):
    r = tap.run(list(words), timeout=timeout, **kwargs)
    if r.status != 0:
        raise RuntimeError('%s: status %s: %s' % (' '.join(words), r.status, (r.stdout + r.stderr)[-3000:]))
    return r.stdout


# Building.

def build(folder, *version):
    out = os.path.join(KEPT, folder)
    shutil.rmtree(out, ignore_errors=True)
    must(os.path.join(tap.TOP, 'packaging', 'build-deb'), out, *version)
    return next(path for path in glob.glob(out + '/*.deb') if 'dbgsym' not in path)


new, old = build('new'), build('old', OLD)
tap.is_([must('dpkg-deb', '-f', deb, 'Version').strip() for deb in (old, new)], [OLD, VERSION], 'the package builds, with the number of the Makefile')
with open(os.path.join(KEPT, 'new', 'log'), encoding='utf-8', errors='replace') as f:
    tap.unlike(f.read(), r'warning:', 'without a warning')
r = tap.run(['lintian', '--allow-root', '--fail-on', 'error,warning', *glob.glob(os.path.join(KEPT, 'new', '*.changes'))], timeout=600)
tap.is_((r.status, r.stdout), (0, ''), 'lintian finds neither errors nor warnings') or tap.diag(r.stderr)


# A fresh Debian.

def bind(source, target):
    os.makedirs(source, exist_ok=True)
    os.makedirs(ROOT + target, exist_ok=True)
    must('mount', '--bind', source, ROOT + target)


def make_root():
    base = os.path.join(KEPT, 'base')
    if not os.path.exists(base + '.done'):
        shutil.rmtree(base, ignore_errors=True)
        os.makedirs(os.path.join(KEPT, 'fetched'), exist_ok=True)
        must('debootstrap', '--variant=minbase', '--cache-dir=' + os.path.join(KEPT, 'fetched'), 'bookworm', base, MIRROR)
        open(base + '.done', 'w', encoding='utf-8').close()
    must('cp', '-a', base, ROOT)
    must('mount', '-t', 'proc', 'proc', ROOT + '/proc')
    bind(os.path.join(KEPT, 'archives'), '/var/cache/apt/archives')
    shutil.copy('/etc/resolv.conf', ROOT + '/etc/resolv.conf')
    with open(ROOT + '/usr/sbin/policy-rc.d', 'w', encoding='utf-8') as f:      # nothing is started in here
        f.write('#!/bin/sh\nexit 101\n')
    os.chmod(ROOT + '/usr/sbin/policy-rc.d', 0o755)


ENVIRONMENT = {'PATH': '/usr/sbin:/usr/bin:/sbin:/bin', 'HOME': '/root', 'DEBIAN_FRONTEND': 'noninteractive', 'TMPDIR': None}


def inside(script, folder='/'):
    """Run shell commands in the Debian."""
    return tap.run(['chroot', ROOT, 'sh', '-c', 'cd %s && %s' % (folder, script)], env=ENVIRONMENT, timeout=900)


def done(r, name):
    return tap.is_(r.status, 0, name) or tap.diag((r.stdout + r.stderr)[-2000:])


def apt(action, *packages):
    for p in packages:
        if p.startswith('/'):
            shutil.copy(p, ROOT + '/root/')
    names = ['/root/' + os.path.basename(p) if p.startswith('/') else p for p in packages]
    return inside('apt-get -y --no-install-recommends %s %s' % (action, ' '.join(names)))


def tree(folder):
    """{file: SHA-256} of everything in a folder."""
    found = {}
    for at, _, names in os.walk(ROOT + folder):
        for name in names:
            with open(os.path.join(at, name), 'rb') as f:
                found[os.path.relpath(os.path.join(at, name), ROOT + folder)] = hashlib.sha256(f.read()).hexdigest()
    return found


def walk(command, name, **instead):
    """A command that the README names, run as it stands there."""
    tap.ok(command in README, 'the README has: ' + command)
    for was, now in instead.items():
        command = command.replace(getattr(sys.modules[__name__], was), now)
    done(inside(command, os.path.dirname(CONF)), name)


make_root()
os.makedirs(ROOT + '/srv/images')
image = ROOT + '/srv/images/debian.img'
must('mkfs.ext4', '-q', '-d', os.path.join(tap.TOP, 'tests'), image, '1G')
done(inside('apt-get -q update'), 'a fresh Debian 12')
before = set(must('find', ROOT + '/etc', ROOT + '/usr', ROOT + '/var/lib', '-name', '*openvirt*', '-o', '-name', '*virt-*').split())
done(apt('install', old, 'bzip2'), 'version %s is installed by apt with what it depends on' % OLD)
tap.like(inside('virt-backupd --version').stdout, re.escape(OLD), 'it says which it is')
tap.is_(inside('systemctl is-enabled virt-backupd.service virt-backupd.socket').stdout.split(), ['enabled', 'enabled'], 'service and socket are enabled')
tap.like(inside('getent passwd openvirt-backup').stdout, r':/usr/sbin/nologin$', 'the user is there, and cannot log in')
tap.is_(inside('dpkg -V openvirt-backup').stdout, '', 'all files are as packaged')
tap.is_(inside('ls /lib/systemd/system/virt-backupd.* | xargs systemd-analyze verify --man=no').stderr, '', 'systemd-analyze verify finds nothing')

# Five minutes, as the README has them.
SAMPLE = re.search(r'debian/(\d{4}-\d\d-\d\dT\d{6}Z)', README)[1]
config = re.search(r'cat > backupd\.conf <<END\n(.*?\nEND\n)', README, re.S)[1]
done(inside("cat > backupd.conf <<'END'\n" + config, os.path.dirname(CONF)), "the README's configuration")
walk('virt-backupd --config backupd.conf --check-config', 'it is good')
walk('virt-backupd --config backupd.conf --once golden', 'a backup')
walk('virt-restore --repository /var/backups/vm list', 'list')
walk('virt-restore --repository /var/backups/vm show debian@latest', 'show')
walk('virt-restore --repository /var/backups/vm verify debian@latest', 'verify')
walk('virt-restore --repository /var/backups/vm disk debian@latest debian /srv/debian-restored.img', 'restore')
restored = ROOT + '/srv/debian-restored.img'
tap.ok(images.same_content(image, restored), 'the image is identical')
tap.ok(images.allocated(restored) <= images.allocated(image), 'and no larger than it was')
os.unlink(restored)
point = os.path.basename(glob.glob(ROOT + REPO + '/debian/*Z')[0])
walk('cd /var/backups/vm/debian/%s && sha256sum -c SHA256SUMS && tar -xjf disks.tar.bz2' % SAMPLE, 'stock tools', SAMPLE=point)
by_tar = os.path.join(ROOT + REPO, 'debian', point, 'debian.img')
tap.ok(images.same_content(image, by_tar) and images.allocated(by_tar) <= images.allocated(image), 'give the identical image, too')
os.unlink(by_tar)
walk('virt-backupctl --config backupd.conf prune golden --dry-run', 'prune --dry-run')
walk('virt-backupctl --config backupd.conf verify --sample 5', 'verify --sample')


# An upgrade, with a state database and a repository in place.

def with_daemon(*commands):
    """Run commands while the daemon runs; returns their results."""
    with open('daemon.log', 'ab') as log:
        daemon = tap.start(['chroot', ROOT, 'virt-backupd'], env=ENVIRONMENT, stderr=log)
        r = inside('for i in $(seq 300); do test -S /run/openvirt-backup/api.sock && break; sleep 0.1; done')
        results = [inside(command) for command in commands]
        tap.is_((r.status, tap.stop(daemon, 60)), (0, 0), 'the daemon runs, and ends')
    return results


def history(r):
    return [(run['id'], run['job'], run['state']) for run in json.loads(r.stdout or '[]')]


ran, listed = with_daemon('virt-backupctl run golden --wait', 'virt-backupctl --json history')
done(ran, 'a run of the old daemon')
tap.is_(history(listed), [(1, 'golden', 'succeeded')], 'is remembered')
repository = tree(REPO)
done(apt('install', new), 'upgraded to ' + VERSION)
tap.like(inside('virt-backupd --version').stdout, re.escape(VERSION), 'it is the new one')
tap.is_(tree(REPO), repository, 'the repository is not touched')
tap.ok(os.path.exists(ROOT + CONF), 'nor the configuration')
listed, checked, ran, again = with_daemon('virt-backupctl --json history', 'virt-backupctl verify', 'virt-backupctl run golden --wait', 'virt-backupctl --json history')
tap.is_(history(listed), [(1, 'golden', 'succeeded')], 'the new daemon remembers the run of the old one')
done(checked, 'the old points are sound')
done(ran, 'the next run goes on from them')
tap.is_(len(history(again)), 2, 'and is remembered')
points = sorted(os.listdir(ROOT + REPO + '/debian'))
with open(os.path.join(ROOT + REPO, 'debian', points[-1], 'manifest.json'), encoding='utf-8') as f:
    tap.is_((len(points), json.load(f)['kind']), (3, 'incremental'), 'as an incremental point')

# Going.
inner = STATE + '/repository'       # where nobody should have one, but somebody will
shutil.copytree(ROOT + REPO, ROOT + inner)
repository = tree(REPO)
done(apt('remove', 'openvirt-backup'), 'removed')
tap.ok(not os.path.exists(ROOT + '/usr/sbin/virt-backupd') and os.path.exists(ROOT + STATE + '/state.db') and os.path.exists(ROOT + CONF),
       'the programs are gone, state and configuration are not')
tap.is_(tree(REPO), repository, 'nor the repository')
done(apt('purge', 'openvirt-backup'), 'purged')
tap.is_(tree(REPO), repository, 'the repository is not touched')
tap.is_((tree(inner), os.listdir(ROOT + STATE)), (repository, ['repository']), 'not even in the state folder, of which nothing else is left')
tap.ok(os.path.exists(ROOT + CONF), 'what the administrator wrote is left')
shutil.rmtree(ROOT + inner)
done(apt('install', new), 'installed once more')
with_daemon()
os.unlink(ROOT + CONF)
done(apt('purge', 'openvirt-backup'), 'purged, with nothing of anybody in its folders')
after = set(must('find', ROOT + '/etc', ROOT + '/usr', ROOT + '/var/lib', '-name', '*openvirt*', '-o', '-name', '*virt-*').split())
tap.is_(sorted(os.path.relpath(p, ROOT) for p in after - before if 'libvirt' not in p), [], 'nothing is left of it')

# The other packages.
if shutil.which('rpmbuild'):
    must(os.path.join(tap.TOP, 'packaging', 'build-rpm'), os.path.join(KEPT, 'rpm'))
    rpm = glob.glob(os.path.join(KEPT, 'rpm', 'RPMS', '*', '*.rpm'))
    listing = must('rpm', '-qpl', *rpm)
    for wanted in '/usr/sbin/virt-backupd', '/usr/bin/virt-backupctl', '/usr/bin/virt-restore', '/usr/lib/systemd/system/virt-backupd.service':
        tap.ok(wanted in listing.split(), 'the RPM package has ' + wanted)
    tap.is_(must('rpm', '-qp', '--qf', '%{VERSION}', *rpm), VERSION, 'and the same number')
else:
    tap.skip(5, 'rpmbuild is not installed')
tap.done_testing()
