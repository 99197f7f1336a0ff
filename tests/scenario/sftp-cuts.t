#!/usr/bin/python3 -B
"""Lines that break at any moment: whatever is done ends in good time and says why, the next run goes on, what is listed is whole, nothing stale stays.

CUTS is how often (9); each cut is one of three: the processes of sshd are killed, the connections are reset, or nothing answers any more.
"""
import glob
import json
import os
import random
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import images
import ovb
import sshd
import tap

CTL = os.path.join(tap.BIN, 'virt-backupctl')
FAR, MIB = os.path.abspath('far'), 1 << 20
CUTS = int(os.environ.get('CUTS') or 9)
SEED = int(os.environ.get('SEED') or 7)
IDLE, CONNECT = 4 * tap.SLOWER, 20 * tap.SLOWER
LONGEST = 90 * tap.SLOWER    # what the deadlines come to, on a machine that does other things too
SAYS = ('the connection to', 'does not answer', 'did not finish', 'does not talk SSH', 'ended the login', 'does not begin SFTP', 'cannot connect to')

server = sshd.Server('server', kinds=('ed25519', 'ecdsa'))
key = sshd.keygen('id')
server.authorize(key)
proxy = sshd.Proxy(server.port)
rng = random.Random(SEED)


def config(file, idle=IDLE, **job):
    with open(file, 'w', encoding='utf-8') as f:
        f.write('repositories = ( %s );\n' % ovb.value(dict(
            name='far', url=server.url(FAR, proxy.port), identity=key, known_hosts=server.known_hosts('known', port=proxy.port),
            idle_timeout=idle, connect_timeout=CONNECT)))
        f.write('jobs = ( %s );\n' % ovb.value(ovb.image_job('vda.img', compression='zstd:1', incremental=True, **job)))
    return os.path.abspath(file)


def change(seed):
    with open('vda.img', 'r+b') as f:
        f.seek(random.Random(seed).randrange(20 * MIB))
        f.write(random.Random(seed).randbytes(300000))


def stop_answering():
    proxy.stall()


# libssh2 waits a minute for the answer to a key, and calls silence a refusal.  It goes on beside all the rest.
thinks = sshd.Server('server-thinks', options=('AuthorizedKeysCommand /bin/sleep 100', 'AuthorizedKeysCommandUser root'))
with open('thinks.conf', 'w', encoding='utf-8') as f:
    f.write('repositories = ( %s );\n' % ovb.value(dict(name='far', url=thinks.url(FAR), identity=key, known_hosts=thinks.known_hosts('known-thinks'),
                                                        idle_timeout=200, connect_timeout=200)))
logging_in = tap.start([ovb.RESTORE, '--config', os.path.abspath('thinks.conf'), 'list'], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

CONF = config('keep.conf')
PRUNE = config('prune.conf', keep={'last': 2})
COMMANDS = {
    'full': ovb.once_command(CONF, 'job', '--full'),
    'incremental': ovb.once_command(CONF),
    'prune': ovb.once_command(PRUNE, 'job', '--full'),
    'consolidate': [CTL, '--direct', '--config', CONF, 'consolidate', 'vda@latest'],
    'disk': [ovb.RESTORE, '--config', CONF, '--force', 'disk', 'vda@latest', 'vda', 'out.img'],
    'verify': [CTL, '--config', CONF, 'verify'],
}
WAYS = {'killed': server.kill_sessions, 'reset': proxy.reset, 'black hole': stop_answering}

images.make('mixed', 'vda.img', size=24 * MIB)
took = {}
for name, command in COMMANDS.items():
    if name == 'consolidate':
        change(1)
        tap.run(COMMANDS['incremental'])
    began = time.monotonic()
    r = tap.run(command)
    took[name] = time.monotonic() - began
    tap.is_(r.status, 0, 'undisturbed: ' + name) or tap.diag(r.stderr)

bad, silent, cut = [], [], {way: 0 for way in WAYS}
for i in range(CUTS):
    name, way = list(COMMANDS)[i % len(COMMANDS)], list(WAYS)[(i + i // 3) % len(WAYS)]
    where = '%d: %s, %s' % (i, name, way)
    change(i + 10)
    if name == 'consolidate':
        tap.run(COMMANDS['incremental'])
    child = tap.start(COMMANDS[name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(rng.uniform(0.1, 1) * took[name])
    WAYS[way]()
    try:
        out, text = child.communicate(timeout=LONGEST)
    except subprocess.TimeoutExpired:
        bad.append(where + ': no end')
        break
    finally:
        if way == 'black hole':
            # Those that hang in it get a reset, as a firewall's would come in the end.
            proxy.reset()
            proxy.stalled = False
    if child.returncode not in (0, 1):
        bad.append('%s: status %d: %s' % (where, child.returncode, text))
    cut[way] += child.returncode != 0
    if child.returncode != 0 and not any(s in text for s in SAYS):
        silent.append('%s: %s' % (where, text))
    if os.path.exists('out.img.partial') or glob.glob('*.partial'):
        bad.append(where + ': a partial image')
    if name == 'disk' and child.returncode == 0 and not os.path.exists('out.img'):
        bad.append(where + ': no image')
    r = tap.run(COMMANDS['incremental'])
    if r.status != 0:
        bad.append('%s: the next run: %s' % (where, r.stderr))
    listed = json.loads(tap.run([ovb.RESTORE, '--config', CONF, '--json', 'list']).stdout)
    r = tap.run(COMMANDS['verify'])
    if r.status != 0 or not listed:
        bad.append('%s: verify: %s' % (where, r.stderr + r.stdout))
    stale = ovb.leftovers('far') + glob.glob('far/.locks/*')
    if stale:
        bad.append('%s: %s' % (where, stale))
    if len(listed) > 6:
        tap.run(COMMANDS['prune'])
tap.is_(bad, [], '%d cuts: all ends, the next run goes on, all that is listed is whole, nothing stale stays' % CUTS)
tap.is_(silent, [], '... and each that failed said why')
tap.ok(sum(cut.values()) >= CUTS // 3, '... %s' % ', '.join('%d were %s' % (n, way) if way != 'black hole' else '%d fell silent' % n for way, n in cut.items()))

r = tap.run(COMMANDS['prune'])
tap.is_(r.status, 0, 'a run that prunes') or tap.diag(r.stderr)
tap.is_(ovb.leftovers('far') + glob.glob('far/.locks/*'), [], '... leaves nothing')
r = tap.run(COMMANDS['disk'])
tap.ok(r.status == 0 and images.same_content('vda.img', 'out.img'), 'the last point is the image')

# A longer silence than that after which it is asked whether it lives: our own question is no sign of life.
child = tap.start(ovb.once_command(config('patient.conf', idle=17, rate_limit='4M'), 'job', '--full'), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
while child.poll() is None and not glob.glob('far/*/*.partial/disks.*'):
    time.sleep(0.01)
proxy.stall()
_, text = child.communicate(timeout=400)
proxy.reset()
proxy.stalled = False
tap.like(text, 'does not answer: nothing came from it, or went to it, for 17 s', 'a server that does not answer its keepalives is given up in time')
_, text = logging_in.communicate(timeout=400)
tap.like(text, 'does not answer: it said nothing for a minute, while we were logging in', 'silence is not taken for a key that is refused')
tap.done_testing()
