#!/usr/bin/python3 -B
"""Make the seeds of fuzz_ssh, always the same, with keys that are none.    make_ssh_seeds.py CORPUS (writes CORPUS/ssh)"""
import base64
import hashlib
import hmac
import struct

import seed_files

HOST = b'[vault.example.net]:2222'


def string(b):
    return struct.pack('>I', len(b)) + b


def public(kind=b'ssh-ed25519', seed=0):
    return string(kind) + string(bytes((i * 7 + seed) % 256 for i in range(32)))


def line(host=HOST, kind=b'ssh-ed25519', key=None, mark=b''):
    return mark + host + b' ' + kind + b' ' + base64.b64encode(key if key is not None else public(kind)) + b' comment\n'


def hashed(host=HOST):
    salt = bytes(range(20))
    return b'|1|%s|%s' % (base64.b64encode(salt), base64.b64encode(hmac.new(salt, host, hashlib.sha1).digest()))


def known(*lines, key=None):
    key = public() if key is None else key
    return b'K' + bytes([len(key)]) + key + b''.join(lines)


def private(cipher=b'none', keys=1, blob=None):
    body = b'openssh-key-v1\0' + string(cipher) + string(b'none') + string(b'') + struct.pack('>I', keys) + string(public() if blob is None else blob) + \
        string(b'secret' * 20)
    text = base64.b64encode(body + b'\0' * (-len(body) % 3))
    return b'P-----BEGIN OPENSSH PRIVATE KEY-----\n' + b'\n'.join(text[i:i + 70] for i in range(0, len(text), 70)) + \
        b'\n-----END OPENSSH PRIVATE KEY-----\n'


def message(kind, body):
    return string(bytes([kind]) + body)


def keys(*blobs, count=None):
    return message(12, struct.pack('>I', len(blobs) if count is None else count) + b''.join(string(b) + string(b'a comment') for b in blobs))


SIGNED = message(14, string(string(b'ssh-ed25519') + string(bytes(64))))


def kexinit(kinds, before=b''):
    body = bytes([6, 20]) + bytes(16) + string(b'curve25519-sha256') + string(kinds) + string(b'aes256-ctr')
    return b'S' + before + b'SSH-2.0-OpenSSH_9.2\r\n' + struct.pack('>I', len(body)) + body


CONFIG = b"""Guser backup
hostname vault.example.net
port 2222
hostkeyalias alias
proxyjump jump.example.net
identitiesonly yes
identityagent ~/agent.sock
identityfile ~/.ssh/id_%r_%h_%u_%%
identityfile %d/key
identityfile %C
stricthostkeychecking accept-new
userknownhostsfile ~/.ssh/known_hosts /etc/k2 none
globalknownhostsfile /etc/ssh/ssh_known_hosts
"""

SEEDS = {
    'known': known(line()),
    'known-hashed': known(line(hashed())),
    'known-list': known(line(b'a,b,*.example.net,' + HOST)),
    'known-pattern': known(line(b'[*.example.?et]:2222')),
    'known-against': known(line(b'*,!' + HOST)),
    'known-changed': known(line(key=public(seed=1))),
    'known-other-type': known(line(kind=b'ssh-rsa')),
    'known-revoked': known(line(mark=b'@revoked '), line()),
    'known-authority': known(line(mark=b'@cert-authority ')),
    'known-none': known(b'# nothing\n\n', line(b'other')),
    'known-cut': known(line()[:-12]),
    'known-no-base64': known(HOST + b' ssh-ed25519 !!!!\n'),
    'known-bad-hash': known(line(b'|1|AAAA'), line(b'|1|AAAA|BBBB'), line(b'|1||')),
    'known-many-types': known(*[line(kind=b'type-%d' % i) for i in range(10)]),
    'known-odd-key': known(line(), key=b'\0\0\0\xffx'),
    'known-zero-byte': known(b'a\0b c d\n', line()),
    'config': CONFIG,
    'config-none': b'Gproxyjump none\nidentityfile none\nidentityagent none\nuserknownhostsfile none\nstricthostkeychecking false\n',
    'config-port': b'Gport 70000\nport -1\nport x\nport 22\n',
    'config-command': b'Gproxycommand nc %h %p\n',
    'config-variable': b'Gidentityagent $HOME\nidentityagent SSH_AUTH_SOCK\nidentityagent relative\n',
    'config-many': b'G' + b''.join(b'identityfile /k%d\n' % i for i in range(20)) + b'userknownhostsfile' + b' /f' * 20 + b'\n',
    'config-odd': b'Ghostname \nuser\n \nidentityfile %\nidentityfile ~\nhostname  a b\0c\n',
    'key': private(),
    'key-encrypted': private(b'aes256-ctr'),
    'key-two': private(keys=2),
    'key-odd-blob': private(blob=b'\xff\xff\xff\xff'),
    'key-cut': private()[:-30],
    'key-no-base64': b'P-----BEGIN OPENSSH PRIVATE KEY-----\n????\n-----END OPENSSH PRIVATE KEY-----\n',
    'key-short': b'P-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1r\n-----END OPENSSH PRIVATE KEY-----\n',
    'key-pem': b'P-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n',
    'key-public': b'Pssh-ed25519 AAAA me\n',
    'agent': b'A' + keys(public()) + SIGNED,
    'agent-two': b'A' + keys(public(), public(b'ssh-rsa')) + SIGNED + SIGNED,
    'agent-none': b'A' + keys(),
    'agent-locked': b'A' + message(5, b''),
    'agent-count-lies': b'A' + keys(public(), count=1000000) + SIGNED,
    'agent-long': b'A' + struct.pack('>I', 0xffffffff),
    'agent-empty': b'A' + struct.pack('>I', 0),
    'agent-signature-cut': b'A' + keys(public()) + message(14, string(string(b'ssh-ed25519') + b'\0\0\0\xff')),
    'agent-signature-empty': b'A' + keys(public()) + message(14, string(string(b'ssh-ed25519') + string(b''))),
    'seen-rsa': kexinit(b'rsa-sha2-512,rsa-sha2-256,ssh-rsa'),
    'seen-both': kexinit(b'ssh-ed25519,rsa-sha2-512', b'Welcome\r\n'),
    'seen-long': kexinit(b'x-%s@example.net,' % (b'y' * 300)),
    'seen-http': b'SHTTP/1.1 400 Bad Request\r\n\r\n',
    'seen-cut': kexinit(b'ssh-rsa')[:60],
    'seen-nothing': b'S',
}


if __name__ == '__main__':
    seed_files.write(seed_files.corpus(), 'ssh', SEEDS.items())
