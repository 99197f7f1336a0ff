#!/usr/bin/python3 -B
"""An offsite account as conf/sshd-offsite.conf makes it, that very file in a real sshd: backups go there, a second account only reads them, and neither
can do anything else.  The host's files are this test's, in a mount namespace."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import images
import ovb
import sshd
import tap

CTL = os.path.join(tap.BIN, 'virt-backupctl')
SNIPPET = os.path.join(tap.TOP, 'conf', 'sshd-offsite.conf')
USER = 64801    # both accounts are the same user
MIB = 1 << 20

if os.geteuid() != 0 or tap.run(['unshare', '-m', 'true']).status != 0:
    tap.skip_all('needs root and mount namespaces')

# The offsite host: /srv and the few files of /etc that sshd reads are ours.
os.makedirs('srv/vm-backup/repository')
os.chmod('srv', 0o755)
os.chmod('srv/vm-backup', 0o755)
os.chmod('srv/vm-backup/repository', 0o750)
os.chown('srv/vm-backup/repository', USER, USER)
os.makedirs('ssh/authorized_keys.d')
for file, lines in (('passwd', ['root:x:0:0:root:/root:/bin/sh', 'sshd:x:64800:65534::/run/sshd:/usr/sbin/nologin',
                                'vm-backup:x:%d:%d::/nonexistent:/usr/sbin/nologin' % (USER, USER),
                                'vm-reader:x:%d:%d::/nonexistent:/usr/sbin/nologin' % (USER, USER)]),
                    ('group', ['root:x:0:', 'nogroup:x:65534:', 'vm-backup:x:%d:' % USER]),
                    ('shadow', ['root:*:19000:0:99999:7:::', 'vm-backup:*:19000:0:99999:7:::', 'vm-reader:*:19000:0:99999:7:::'])):
    with open(file, 'w', encoding='utf-8') as f:
        f.write('\n'.join(lines) + '\n')
keys = {}
for user in 'vm-backup', 'vm-reader':
    keys[user] = sshd.keygen(user)
    with open('ssh/authorized_keys.d/' + user, 'w', encoding='utf-8') as out, open(keys[user] + '.pub', encoding='utf-8') as f:
        out.write(f.read())
BIND = ''.join('mount --bind %s %s && ' % (os.path.abspath(mine), theirs) for mine, theirs in (
    ('srv', '/srv'), ('passwd', '/etc/passwd'), ('group', '/etc/group'), ('shadow', '/etc/shadow'), ('ssh', '/etc/ssh')))
server = sshd.Server('server', kinds=('ed25519', 'ecdsa'), sftp='/usr/lib/openssh/sftp-server', options=['Include ' + SNIPPET],
                     force=False, wrap=['unshare', '-m', 'sh', '-c', BIND + 'exec "$0" "$@"'])


def config(file, user, **job):
    with open(file, 'w', encoding='utf-8') as f:
        f.write('repositories = ( %s );\n' % ovb.value(dict(
            name='far', url='sftp://%s@127.0.0.1:%d/repository' % (user, server.port), identity=keys[user], known_hosts=server.known_hosts('known'))))
        f.write('jobs = ( %s );\n' % ovb.value(ovb.image_job('vda.img', compression='zstd:3', incremental=True, **job)))
    return os.path.abspath(file)


def done(what, *command):
    r = tap.run(list(command))
    return tap.ok(r.status == 0, what) or tap.diag(r.stdout + r.stderr)


def refused(what, wanted, *command):
    r = tap.run(list(command))
    tap.like(r.stderr + r.stdout, wanted, what)
    tap.ok(r.status != 0, '... and fails')


FAR = 'srv/vm-backup/repository'
writer, reader = config('writer.conf', 'vm-backup'), config('reader.conf', 'vm-reader')
images.make('mixed', 'vda.img', size=8 * MIB)
done('a full point', *ovb.once_command(writer))
for i in range(3):
    with open('vda.img', 'r+b') as f:
        f.seek(i * MIB)
        f.write(bytes([i + 1]) * 100000)
    done('an incremental one', *ovb.once_command(writer))
done('consolidate', CTL, '--config', writer, 'consolidate', 'vda@latest')
done('a run that prunes', *ovb.once_command(config('prune.conf', 'vm-backup', keep={'last': 2})))
done('verify', CTL, '--config', writer, 'verify')
tap.is_(ovb.leftovers(FAR) + os.listdir(FAR + '/.locks'), [], 'nothing is left')
modes = {oct(os.lstat(os.path.join(top, n)).st_mode & 0o777) for top, folders, files in os.walk(FAR) for n in files if top != FAR + '/.locks'}
tap.ok(modes == {'0o600'}, 'no file is for others') or tap.diag(modes)
tap.is_({os.lstat(os.path.join(top, n)).st_uid for top, folders, files in os.walk(FAR) for n in folders + files}, {USER}, 'all belongs to that user')

# The other account.
r = tap.run([ovb.RESTORE, '--config', reader, '--json', 'list'])
tap.is_((r.status, len(json.loads(r.stdout or '[]'))), (0, 2), 'one that only reads: list') or tap.diag(r.stderr)
done('... verify', ovb.RESTORE, '--config', reader, 'verify', 'vda@latest')
done('... disk', ovb.RESTORE, '--config', reader, 'disk', 'vda@latest', 'vda', 'out.img')
tap.ok(images.same_content('vda.img', 'out.img'), '... which is the image')
refused('... but no backup', 'Permission denied', *ovb.once_command(reader))
refused('... nor prune', 'Permission denied', CTL, '--config', reader, 'consolidate', 'vda@latest')

# Replication: pushed as the one, fetched as the other.
with open('replicate.conf', 'w', encoding='utf-8') as f:
    f.write('repositories = ( %s );\n' % ', '.join(ovb.value(v) for v in [
        {'name': name, 'url': os.path.abspath(name)} for name in ('near', 'fetched')] + [
        {'name': user, 'url': 'sftp://%s@127.0.0.1:%d/repository' % (user, server.port), 'identity': keys[user], 'known_hosts': os.path.abspath('known')}
        for user in keys]))
    f.write('jobs = ( %s );\n' % ovb.value(ovb.image_job('other.img', compression='zstd:3', repository='near')))
images.make('mixed', 'other.img', size=4 * MIB, seed=3)
done('a point of another image, here', *ovb.once_command('replicate.conf'))
done('... is pushed', CTL, '--config', 'replicate.conf', 'replicate', '--from', 'near', '--to', 'vm-backup')
done('all is fetched', CTL, '--config', 'replicate.conf', 'replicate', '--from', 'vm-reader', '--to', 'fetched')
tap.is_([p.split(os.sep)[1:] for p in ovb.points('fetched')], [p.split(os.sep)[-2:] for p in ovb.points(FAR)], '... every point')
done('... and is whole', CTL, '--config', 'replicate.conf', '--repository', 'fetched', 'verify')

# Neither can do anything else.
for user in 'vm-backup', 'vm-reader':
    ssh = ['-F', 'none', '-i', keys[user], '-o', 'UserKnownHostsFile=known', '-o', 'BatchMode=yes', '-o', 'IdentitiesOnly=yes', '-o', 'LogLevel=ERROR']
    at = ['-p', str(server.port), *ssh, user + '@127.0.0.1']
    r = tap.run(['ssh', *at, 'id'], timeout=20)
    tap.ok('uid' not in r.stdout, user + ' runs no command')
    r = tap.run(['ssh', '-W', '127.0.0.1:%d' % server.port, *at], timeout=20)
    tap.ok(r.status != 0 and 'SSH-2.0' not in r.stdout, '... forwards nothing')
    r = tap.run(['sftp', '-b', '-', '-P', str(server.port), *ssh, user + '@127.0.0.1'], input='ls /\nln -s /etc/passwd /repository/link\n', timeout=20)
    tap.ok(r.status != 0 and not os.path.lexists(FAR + '/link'), '... makes no link') or tap.diag(r.stdout + r.stderr)
    tap.like(r.stdout, r'ls /\n/repository *\n', '... sees nothing but the chroot')
tap.done_testing()
