#!/usr/bin/python3 -B
"""Repositories on an SFTP server: a real sshd on loopback, from the first point to pruning; who may log in; and nobody there."""
import json
import os
import random
import re
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import images
import ovb
import sshd
import tap

CTL = os.path.join(tap.BIN, 'virt-backupctl')
FAR = os.path.abspath('far')
MIB = 1 << 20

server = sshd.Server('server')
key = sshd.keygen('id')
server.authorize(key)
known = server.known_hosts('known')
images.make('mixed', 'vda.img', size=24 * MIB)


def config(url=None, job=None, **keys):
    """A configuration with one repository, "far"; a key that is None is not given."""
    keys = {k: v for k, v in {'identity': key, 'known_hosts': known, **keys}.items() if v is not None}
    with open('backupd.conf', 'w', encoding='utf-8') as f:
        f.write('repositories = ( %s );\n' % ovb.value({'name': 'far', 'url': url or server.url(FAR), **keys}))
        f.write('jobs = ( %s );\n' % ovb.value({**ovb.image_job('vda.img', compression='zstd:3', incremental=True), **(job or {})}))
    return os.path.abspath('backupd.conf')


def change(seed, size=300000):
    with open('vda.img', 'r+b') as f:
        f.seek(random.Random(seed).randrange(20 * MIB))
        f.write(random.Random(seed).randbytes(size))


def restore(conf, *args, **kwargs):
    return tap.run([ovb.RESTORE, '--config', conf, *args], **kwargs)


def done(r, name):
    return tap.ok(r.status == 0, name) or tap.diag(r.stdout + r.stderr)


# Every command, on a configured repository.
conf = config()
done(ovb.once(conf), 'a full point')
change(1)
done(ovb.once(conf), 'an incremental one')
points = ovb.points('far')
tap.is_([ovb.manifest(p)['kind'] for p in points], ['full', 'incremental'], 'their kinds')
tap.is_(ovb.leftovers('far') + os.listdir('far/.locks'), [], 'nothing is left beside them')
tap.is_([p for p in points if tap.run(['sha256sum', '-c', '--quiet', 'SHA256SUMS'], cwd=p).status != 0], [], 'sha256sum -c passes there')
r = restore(conf, '--json', 'list')
tap.is_([p['kind'] for p in json.loads(r.stdout)], ['full', 'incremental'], 'virt-restore list')
done(restore(conf, 'show', 'vda@latest'), 'virt-restore show')
done(restore(conf, 'disk', 'vda@latest', 'vda', 'out.img'), 'virt-restore disk')
tap.ok(images.same_content('vda.img', 'out.img'), 'the image is identical')
done(restore(conf, 'verify', 'vda@latest'), 'virt-restore verify')
done(restore(conf, 'export', 'vda@latest', 'out.tar.zst'), 'virt-restore export')
done(tap.run(['tar', '--zstd', '-xSf', 'out.tar.zst', 'vda.img', '--to-command=cat >tar.img']), 'tar reads it')
done(tap.run([CTL, '--config', conf, 'verify']), 'virt-backupctl verify')
done(tap.run([CTL, '--config', conf, 'protect', 'vda@latest']), 'virt-backupctl protect')
done(tap.run([CTL, '--config', conf, 'unprotect', 'vda@latest']), '... and no longer')
change(2)
conf = config(job={'keep': {'last': 1}})
done(ovb.once(conf), 'a run that prunes')
tap.is_(len(json.loads(restore(conf, '--json', 'list').stdout)), 1, 'one point is left')
done(restore(conf, 'verify', 'vda@latest'), '... and is whole')
tap.ok(points[0] not in ovb.points('far'), '... and what it needs of the first one was packed') or tap.diag(ovb.points('far'))
r = restore(conf, 'disk', 'vda@1999', 'vda', 'none.img')
tap.like(r.stderr, 'has no restore point', 'a point that is not there')

# The same folder by its local path, and by a URL with what the user's own ssh would do: here, ssh with a configuration of the test's.
r = tap.run([ovb.RESTORE, '--repository', FAR, '--json', 'list'])
tap.is_(len(json.loads(r.stdout)), 1, 'it is a repository like any')
os.mkdir('bin')
with open('bin/ssh', 'w', encoding='utf-8') as f:
    f.write('#!/bin/sh\nexec /usr/bin/ssh -F %s "$@"\n' % os.path.abspath('ssh_config'))
os.chmod('bin/ssh', 0o700)
with open('ssh_config', 'w', encoding='utf-8') as f:
    f.write('Host vault hop\n HostName 127.0.0.1\n Port %d\n IdentityFile %s\n IdentitiesOnly yes\n UserKnownHostsFile %s\n'
            ' GlobalKnownHostsFile none\nHost far\n ProxyJump hop\n HostName 127.0.0.1\n Port %d\n IdentityFile %s\n UserKnownHostsFile %s\n'
            % (server.port, key, known, server.port, key, known))
path = {'PATH': os.path.abspath('bin') + ':' + os.environ['PATH'], 'SSH_AUTH_SOCK': None}
with open('ssh_config', 'a', encoding='utf-8') as f:
    f.write('Host further\n ProxyJump hop,vault\n HostName 127.0.0.1\n Port %d\n IdentityFile %s\n UserKnownHostsFile %s\n'
            'Host odd\n ProxyCommand nc %%h %%p\n' % (server.port, key, known))
for host, what in ('vault', 'ssh_config(5) is used'), ('far', 'ProxyJump is used'), ('further', '... over two hosts'):
    r = tap.run([ovb.RESTORE, '--repository', 'sftp://%s%s' % (host, FAR), 'verify', 'vda@latest'], env=path)
    done(r, what)
r = tap.run([ovb.RESTORE, '--repository', 'sftp://odd/srv', 'list'], env=path)
tap.like(r.stderr, r'has .*ProxyCommand .*not supported: use ProxyJump', 'ProxyCommand is not')
with open('ssh_config', 'a', encoding='utf-8') as f:
    f.write('Host lost\n ProxyJump hop2\nHost hop2\n HostName 127.0.0.1\n Port 1\n')
r = tap.run([ovb.RESTORE, '--repository', 'sftp://lost/srv', 'list'], env=path)
tap.like(r.stderr, r'cannot reach .*@lost through hop2 \(.*Connection refused', 'a jump that fails says why')

# Ciphers and the rest as ssh_config(5) has them.  A server, or a user, may be stricter than libssh2.
talk = sshd.Server('server-talk', log='DEBUG1')
strict = {what: sshd.Server('server-' + what, options=(directive + ' ' + v,)) for what, directive, v in (
    ('etm', 'MACs', 'hmac-sha2-256-etm@openssh.com'), ('chacha', 'Ciphers', 'chacha20-poly1305@openssh.com'))}
with open('ssh_config', 'a', encoding='utf-8') as f:
    for host, at, lines in (('picky', talk, ' Ciphers aes128-gcm@openssh.com,aes192-ctr\n MACs hmac-sha2-512\n KexAlgorithms ecdh-sha2-nistp384\n'),
                            ('gcm', talk, ' Ciphers aes128-gcm@openssh.com\n'), ('etm', strict['etm'], ''), ('chacha', strict['chacha'], '')):
        at.authorize(key)
        f.write('Host %s\n HostName 127.0.0.1\n Port %d\n IdentityFile %s\n UserKnownHostsFile %s\n%s' % (
            host, at.port, key, at.known_hosts('known.' + host), lines))
done(tap.run([ovb.RESTORE, '--repository', 'sftp://picky' + FAR, 'list'], env=path), 'a user with a cipher of his own')
with open('server-talk/log', encoding='utf-8') as f:
    said = f.read()
tap.like(said, 'kex: algorithm: ecdh-sha2-nistp384', 'KexAlgorithms is used')
tap.is_(set(re.findall(r'(?:client->server|server->client) cipher: (\S+) MAC: (\S+)', said)), {('aes192-ctr', 'hmac-sha2-512')}, '... Ciphers and MACs, both ways')
for host, wanted in (
        ('gcm', r'ssh_config\(5\) allows Ciphers aes128-gcm@openssh.com for .*@gcm, of which libssh2 \S+ has none: allow one of .*aes256-ctr'),
        ('etm', r'@etm offers only MACs \(hmac-sha2-256-etm@openssh.com\) that cannot be used: libssh2 .* has .*hmac-sha2-256.*sshd_config\(5\)'),
        ('chacha', r'@chacha offers only Ciphers \(chacha20-poly1305@openssh.com\) that cannot be used: libssh2 .*aes128-ctr')):
    r = tap.run([ovb.RESTORE, '--repository', 'sftp://%s/srv' % host, 'list'], env=path)
    tap.ok(r.status == 1 and re.search(wanted, r.stderr), host + ': nothing in common, said by name') or tap.diag(r.stderr)
for one in (talk, *strict.values()):
    one.stop()

# Keys.  Nothing may come to the server of those who are refused.
agent = os.path.abspath('agent')
tap.start(['ssh-agent', '-D', '-a', agent], stdout=-3)
until = time.monotonic() + 10
while not os.path.exists(agent) and time.monotonic() < until:
    time.sleep(0.02)
with_agent = {'SSH_AUTH_SOCK': agent}
sealed, other, rsa = sshd.keygen('sealed', passphrase='right'), sshd.keygen('other'), sshd.keygen('rsa', 'rsa')
server.authorize(key, sealed, rsa, sshd.keygen('ecdsa', 'ecdsa'))
for name, text, mode in ('right', 'right\n', 0o600), ('wrong', 'wrong\n', 0o600), ('open', 'right\n', 0o644):
    with open('passphrase.' + name, 'w', encoding='utf-8') as f:
        f.write(text)
    os.chmod('passphrase.' + name, mode)
passphrase = os.path.abspath('passphrase.')
bare = sshd.keygen('bare')
os.chmod(bare, 0o644)
nobody = os.path.abspath('nobody')
only_rsa = sshd.Server('server-rsa', kinds=('rsa',))
with open('changed', 'w', encoding='utf-8') as f, open(other + '.pub', encoding='utf-8') as k:
    f.write('# a comment\n[127.0.0.1]:%d %s\n' % (server.port, k.read()))
changed = os.path.abspath('changed')

only_new = sshd.Server('server-new', kinds=('ed25519',))
of_another_type = server.known_hosts('known.type', kinds=('ecdsa',), port=only_new.port)
by_rsa = server.known_hosts('known.rsa', kinds=('rsa',))

refused = os.path.abspath('refused')
url = server.url(refused)
messages = []
for what, keys, env, wanted in (
        ('an unknown host key', {'known_hosts': nobody}, {}, r'host key of .* is not known: it shows ssh-ed25519 SHA256:.*ssh-keyscan -p'),
        ('another host key', {'known_hosts': changed}, {}, r'host key of .* has changed: .*changed line 2 has another.*ssh-keygen -R'),
        ('a host key of another type', {'url': only_new.url(refused), 'known_hosts': of_another_type}, {},
         r'shows a host key of another type \(ssh-ed25519 SHA256:.*\) than the one that .*known.type line 1 has \(ecdsa-sha2-nistp256\)'),
        ('a host known by an RSA key only', {'known_hosts': by_rsa}, {}, r'known.rsa line 1 knows .* by an RSA key only, which libssh2 .* cannot check'),
        ('a host that is nowhere', {'url': 'sftp://backup@no-such-host.invalid/srv'}, {},
         r'the host no-such-host.invalid was not found \(.*\): is the url right|no address of no-such-host.invalid was found in time'),
        ('a key that the server does not know', {'identity': other}, {}, r'does not accept the key .*other: is its public key in the authorized_keys'),
        ('a wrong passphrase', {'identity': sealed, 'passphrase_file': passphrase + 'wrong'}, {}, r'the passphrase in .*wrong is wrong for the key'),
        ('an agent without the key', {'identity': sealed}, with_agent, r'has a passphrase, and ssh-agent at .* does not hold it: add it \(ssh-add'),
        ('an RSA key', {'identity': rsa}, {}, r'an RSA key, which libssh2 1\.\d+.* cannot use.*: take an Ed25519 or ECDSA key'),
        ('a host with an RSA key only', {'url': only_rsa.url(refused)}, {}, r'only RSA .*\(rsa-sha2-512.*\) that libssh2 .* Ed25519 or ECDSA host key'),
        ('no agent', {'identity': sealed}, {}, r'has a passphrase: give passphrase_file, or add the key to an ssh-agent'),
        ('a passphrase that all may read', {'identity': sealed, 'passphrase_file': passphrase + 'open'}, {}, r'others may read .*chmod 600'),
        ('a key that all may read', {'identity': bare}, {}, r'others may read the private key in .*bare \(mode 0644\): chmod 600'),
        ('no key', {'identity': os.path.abspath('missing')}, {}, r'cannot read the key file .*missing: No such file'),
        ('a file that is no key', {'identity': known}, {}, r'holds no private key')):
    r = ovb.once(config(**{'url': url, **keys}), env={'SSH_AUTH_SOCK': None, **env})
    tap.like(r.stderr, wanted, what + ' is refused')
    messages.append(r.stderr)
tap.is_(len(set(messages)), len(messages), 'each in its own words')
tap.ok(not os.path.exists(refused) and not os.path.exists(nobody), 'nothing came to the server, nobody was trusted')
only_rsa.stop()
only_new.stop()

by_name = os.path.abspath('known.name')
with open(server.known_hosts('known.number'), encoding='utf-8') as f, open(by_name, 'w', encoding='utf-8') as out:
    out.write(f.read().replace('127.0.0.1', 'localhost'))
for what, keys, env in (
        ('a host by its name', {'url': server.url(FAR).replace('127.0.0.1', 'localhost'), 'known_hosts': by_name}, {}),
        ('a key with its passphrase in a file', {'identity': sealed, 'passphrase_file': passphrase + 'right'}, {}),
        # libssh2 1.10 forgets two numbers of such a key at each login.
        ('an ECDSA key', {'identity': os.path.abspath('ecdsa')}, tap.NO_LEAK_CHECK),
        ('a host known by ECDSA only', {'known_hosts': server.known_hosts('known.ecdsa', ('ecdsa',))}, {})):
    done(restore(config(**keys), 'list', env={'SSH_AUTH_SOCK': None, **env}), what)
askpass = os.path.abspath('askpass')
with open(askpass, 'w', encoding='utf-8') as f:
    f.write('#!/bin/sh\necho right\n')
os.chmod(askpass, 0o700)
tap.run(['ssh-add', '-q', sealed], env={**with_agent, 'SSH_ASKPASS': askpass, 'SSH_ASKPASS_REQUIRE': 'force'})
done(restore(config(identity=sealed), 'list', env=with_agent), 'a key with its passphrase, in the agent')
done(restore(config(identity=None, known_hosts=known), 'list', env={**path, **with_agent}), 'any key of the agent')
tap.run(['ssh-add', '-q', '-D'], env=with_agent)
tap.run(['ssh-add', '-q', other], env=with_agent)
r = restore(config(identity=None), 'list', env={**path, **with_agent})
tap.like(r.stderr, r'accepts none of the 1 key that ssh-agent .* holds', 'an agent with other keys only')

done(restore(config(known_hosts=nobody, host_key='accept-new'), 'list'), 'accept-new takes a host that is not known')
done(restore(config(known_hosts=nobody, host_key='strict'), 'list'), '... and knows it then')
tap.like(restore(config(known_hosts=changed, host_key='accept-new'), 'list').stderr, 'has changed', '... but none whose key has changed')
tap.run(['ssh-keygen', '-H', '-f', nobody])
done(restore(config(known_hosts=nobody), 'list'), 'names that are hashed')
with open(nobody, 'a', encoding='utf-8') as f, open(server.keys['ed25519'] + '.pub', encoding='utf-8') as k:
    f.write('@revoked * ' + k.read())
tap.like(restore(config(known_hosts=nobody), 'list').stderr, r'line 2 has revoked', 'a revoked key')

# A lock of somebody whose clock was far ahead is made to grow old, by the server's clock.
lock = 'far/.locks/run-0123456789abcdef.lock'
text = '{"token": "0123456789abcdef", "host": "elsewhere", "pid": 1, "boot_id": "x", "program": "virt-backupd"}\n'
with open(lock, 'w', encoding='utf-8') as f:
    f.write(text)
os.utime(lock, (time.time() + 9000, time.time() + 9000))
done(ovb.once(config()), 'a run beside a lock from the future')
tap.ok(abs(os.stat(lock).st_mtime - time.time()) < 60, '... its time is set by the server')
with open(lock, encoding='utf-8') as f:
    tap.is_(f.read(), text, '... its text is as it was')
os.utime(lock, (time.time() - 900, time.time() - 900))
done(ovb.once(config()), 'a run beside it')
tap.ok(not os.path.exists(lock), 'it was old, and is broken')

# A server that cannot fsync: said in the point.
plain = sshd.Server('server-plain', sftp='internal-sftp -P fsync')
plain.authorize(key)
conf = config(plain.url(os.path.abspath('plain')), known_hosts=plain.known_hosts('known.plain'))
done(ovb.once(conf), 'a server without fsync')
tap.like(' '.join(ovb.manifest(ovb.points('plain')[0])['notes']), 'cannot be told to make files durable', '... is noted in the point')
plain.stop()

# A folder that is not there.
tap.like(restore(config(server.url(os.path.abspath('nowhere'))), 'list').stderr, r'cannot open the repository sftp://\S+/nowhere \(is it mounted there, and written so\?\)', 'no repository')
tap.like(ovb.once(config(server.url(os.path.abspath('no/where')))).stderr, r"cannot make the repository's folder sftp://\S+/no/where \(the folder that it is in must be",
         'nothing to make one in')

# A disk that is full, or read-only.
small = ovb.mount_tmpfs('small', 4 * MIB)
if os.path.ismount(small):
    r = ovb.once(config(server.url(small + '/repo'), job={'compression': 'none'}))
    tap.like(r.stderr, r'No space left on device', 'a full server')
    tap.is_(ovb.points(small + '/repo') + ovb.leftovers(small + '/repo'), [], '... and nothing is left there')
    tap.run(['mount', '-o', 'remount,ro', small])
    tap.like(ovb.once(config(server.url(small + '/other'))).stderr, r'cannot make the folder .*Read-only file system', 'a read-only one')
else:
    tap.skip(3, 'cannot mount')

# Nobody there.  (Lines that break meanwhile: sftp-cuts.t; servers that misbehave: sftp-hostile.t.)
silence = socket.create_server(('127.0.0.1', 0))
port = silence.getsockname()[1]
r = restore(config(server.url(FAR, port), connect_timeout=1), 'list')
tap.like(r.stderr, r'did not finish .* within 1 s', 'a server that says nothing')
silence.close()
tap.like(restore(config(server.url(FAR, port)), 'list').stderr, r'cannot connect to 127.0.0.1 port %d \(Connection refused\): is sshd running there' % port, 'none at all')
tap.done_testing()
