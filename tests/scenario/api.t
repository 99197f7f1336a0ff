#!/usr/bin/python3 -B
"""The daemon's interface: every route and error, who may do what, clients that misbehave, streams, metrics.  And virt-backupctl, which uses it.

The real server and the real client; what the daemon would answer is canned (tests/tools/api_daemon.c)."""
import fcntl
import grp
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
import unicodedata

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import tap

DAEMON = os.path.join(tap.TOOLS, 'api_daemon')
CTL = os.path.join(tap.BIN, 'virt-backupctl')
NOBODY = 65534
GROUP = 'nogroup'       # which every Debian has; its members are made with setpriv
STATE = {'id', 'job', 'domain', 'full', 'trigger', 'attempt', 'due', 'not_before', 'state', 'queued', 'started', 'finished', 'vm', 'phase', 'done', 'total', 'rate', 'left', 'limit',
         'machines', 'error'}


# The daemon, and raw HTTP.

class Daemon:
    def __init__(self, *args, path='api.sock', **kwargs):
        self.path = path
        self.child = tap.start([DAEMON, *([path] if path else []), *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, **kwargs)
        if self.child.stdout.readline() != b'ready\n':
            raise RuntimeError('the test daemon did not start')

    def stop(self):
        """Its standard input ends: it stops by itself.  Returns its status."""
        self.child.stdin.close()
        self.child.wait(30)
        return tap.stop(self.child)


def connect(path='api.sock', timeout=30 * tap.SLOWER):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(timeout)
    s.connect(path)
    return s


def receive(s):
    data = b''
    while True:
        try:
            piece = s.recv(65536)
        except ConnectionResetError:
            return data
        if not piece:
            return data
        data += piece


def head(method, target, body=b'', headers=()):
    lines = ['%s %s HTTP/1.1' % (method, target), 'Host: localhost', *headers]
    if body or method == 'POST':
        lines.append('Content-Length: %d' % len(body))
    return '\r\n'.join(lines).encode() + b'\r\n\r\n'


def dechunk(body):
    out = b''
    while body:
        size, _, body = body.partition(b'\r\n')
        n = int(size, 16)
        out, body = out + body[:n], body[n + 2:]
        if n == 0:
            break
    return out


def parse(data):
    """(status, headers, body) of an answer; status 0: none."""
    top, _, body = data.partition(b'\r\n\r\n')
    lines = top.decode('latin-1').split('\r\n')
    m = re.match(r'HTTP/1\.1 (\d{3}) ', lines[0])
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(':') for line in lines[1:])}
    if headers.get('transfer-encoding') == 'chunked':
        body = dechunk(body)
    return int(m[1]) if m else 0, headers, body


def http(method, target, body=b'', path='api.sock', headers=()):
    with connect(path) as s:
        s.sendall(head(method, target, body, headers) + body)
        return parse(receive(s))


def get(target, **kwargs):
    status, _, body = http('GET', target, **kwargs)
    return status, json.loads(body)


def post(target, body=None, **kwargs):
    status, _, answer = http('POST', target, json.dumps(body).encode() if body is not None else b'', **kwargs)
    return status, json.loads(answer)


def wait_until_over(run):
    deadline = time.monotonic() + 60
    while get('/v1/runs/%d' % run)[1]['finished'] is None:
        if time.monotonic() > deadline:
            raise RuntimeError('run %d does not end' % run)
        time.sleep(0.02)
    return get('/v1/runs/%d' % run)[1]


# Routes.

def test_reads():
    status, o = get('/v1/status')
    tap.is_((status, sorted(o)), (200, ['config', 'jobs', 'paused', 'repositories', 'runs', 'started', 'time', 'version', 'warnings']), 'status')
    tap.is_(sorted(o['config']), ['error', 'file', 'loaded'], 'its configuration')
    status, jobs = get('/v1/jobs')
    tap.is_((status, [j['name'] for j in jobs]), (200, ['nightly', 'broken', 'long', 'later', 'busy', 'full']), 'jobs')
    tap.is_(jobs, o['jobs'], 'the same as in status')
    status, records = get('/v1/history')
    tap.is_((status, len(records)), (200, 100), 'history: 100 without a limit')
    tap.is_([len(get('/v1/history?limit=%d' % n)[1]) for n in (1, 7, 10000)], [1, 7, 2000], 'history: limit')
    tap.is_({r['job'] for r in get('/v1/history?job=long&limit=5')[1]}, {'long'}, 'history: job')
    tap.is_({r['job'] for r in get('/v1/history?limit=5&job=a%20%c3%a4%2F%26')[1]}, {'a \u00e4/&'}, 'history: an encoded name')
    tap.is_([len(get('/v1/schedule' + q)[1]) for q in ('', '?next=3')], [10, 3], 'schedule')
    status, headers, body = http('GET', '/v1/runs/7/log')
    tap.is_((status, headers['content-type']), (200, 'text/plain; charset=utf-8'), 'log')
    tap.like(body.decode(), '^2026-11-22T01:30:00Z web: frozen', 'its text')
    tap.is_(http('GET', '/v1/runs/9/log')[::2], (200, b''), 'an empty log')
    status, headers, body = http('HEAD', '/v1/status')
    tap.is_((status, body, headers['content-type']), (200, b'', 'application/json'), 'HEAD')
    tap.is_((headers['connection'], headers['cache-control']), ('close', 'no-store'), 'a connection serves one request')
    tap.is_(http('GET', '/v1/%73tatus')[0], 200, 'an encoded path')
    tap.is_(http('GET', '/v1/status', headers=['X-%d: %s' % (n, 'x' * 1000) for n in range(8)])[0], 200, '8 kB of headers')
    tap.ok(http('GET', '/v1/status', headers=['X-%d: %s' % (n, 'x' * 1000) for n in range(64)])[0] in (0, 400, 413, 431), '64 kB of headers are too much')


def documented(heading):
    """The keys of a table in API.md."""
    with open(os.path.join(tap.TOP, 'backupd', 'API.md'), encoding='utf-8') as f:
        table = re.search(r'^\*\*%s\*\*.*?((?:^\|[^\n]*\n)+)' % heading, f.read(), re.M | re.S)[1]
    return {key for line in table.splitlines()[2:] for key in re.findall(r'`(\w+)`', line.split('|')[1])}


def test_documented():
    o = get('/v1/status')[1]
    job, run = o['jobs'][0], post('/v1/jobs/nightly/run')[1]['id']
    for heading, keys in (('Status', set(o)), ('Job', set(job)), ('Record', set(get('/v1/history?limit=1')[1][0])), ('Run', set(get('/v1/runs/%d' % run)[1]))):
        tap.is_(sorted(documented(heading)), sorted(keys), 'API.md has the keys of a %s' % heading.lower())
    tap.is_(set(job['machines'][0]) - documented('Record'), {'last_success'}, "and of a job's machines")
    wait_until_over(run)


def test_acts():
    status, o = post('/v1/jobs/nightly/run', {'domain': 'web', 'full': True})
    tap.is_((status, list(o)), (202, ['id']), 'run')
    status, run = get('/v1/runs/%d' % o['id'])
    tap.is_((status, set(run)), (200, STATE), 'its state')
    tap.is_((run['job'], run['domain'], run['full']), ('nightly', 'web', True), 'as it was asked for')
    tap.is_(wait_until_over(o['id'])['state'], 'succeeded', 'it succeeds')
    status, second = post('/v1/jobs/nightly/run', {'domain': None})
    tap.is_((status, get('/v1/runs/%d' % second['id'])[1]['domain']), (202, None), 'run: no domain')
    tap.is_(post('/v1/jobs/long/run')[0], 202, 'run: no body')
    status, o = post('/v1/runs/%d/cancel' % (second['id'] + 1), {})
    tap.is_((status, o['state']), (202, 'cancelling'), 'cancel')
    tap.is_(wait_until_over(second['id'] + 1)['state'], 'cancelled', 'it is cancelled')
    tap.is_([post('/v1/pause'), get('/v1/status')[1]['paused'], post('/v1/pause'), post('/v1/resume'), get('/v1/status')[1]['paused']],
            [(200, {'paused': True}), True, (200, {'paused': True}), (200, {'paused': False}), False], 'pause, resume')
    wait_until_over(second['id'])
    tap.is_(post('/v1/notify-test', {'job': 'nightly'}), (202, {'id': 1}), 'a test of notifications')
    status, o = get('/v1/notify-test/1')
    tap.is_((status, set(o), [set(c) for c in o['channels']]), (200, {'id', 'finished', 'channels'}, [{'channel', 'ok', 'error'}] * 2), 'what came of it')


WRONG = [
    ('GET', '/', b'', 404), ('GET', '/v1', b'', 404), ('GET', '/v2/status', b'', 404), ('GET', '/v1/status/', b'', 404), ('GET', '//v1/status', b'', 404),
    ('GET', '/v1/runs/x', b'', 404), ('GET', '/v1/runs/-1', b'', 404), ('GET', '/v1/runs/9223372036854775808', b'', 404), ('GET', '/v1/runs/99', b'', 404),
    ('GET', '/v1/runs/99?follow=true', b'', 404), ('GET', '/v1/runs/99/log', b'', 404), ('GET', '/v1/runs/8/log', b'', 500),
    ('GET', '/v1/history/../status', b'', 404), ('GET', '/v1/st%00atus', b'', 404), ('GET', '/v1/status?x=1', b'', 400),
    ('GET', '/v1/history?limit=0', b'', 400), ('GET', '/v1/history?limit=10001', b'', 400), ('GET', '/v1/history?limit=-1', b'', 400),
    ('GET', '/v1/history?limit=99999999999999999999', b'', 400), ('GET', '/v1/history?limit=1x', b'', 400), ('GET', '/v1/history?job=', b'', 400),
    ('GET', '/v1/history?job=%1b', b'', 400), ('GET', '/v1/history?job=%ff', b'', 400), ('GET', '/v1/history?job=%2', b'', 400),
    ('GET', '/v1/history?job=' + 'a' * 300, b'', 400), ('GET', '/v1/schedule?next=0', b'', 400), ('GET', '/v1/runs/7?follow=maybe', b'', 400),
    ('PUT', '/v1/status', b'', 405), ('DELETE', '/v1/runs/7', b'', 405), ('POST', '/v1/status', b'', 405), ('GET', '/v1/pause', b'', 405),
    ('HEAD', '/v1/jobs/nightly/run', b'', 405), ('OPTIONS', '/metrics', b'', 405),
    ('POST', '/v1/jobs/nope/run', b'', 404), ('POST', '/v1/jobs//run', b'', 404), ('POST', '/v1/jobs/nightly/run', b'{"domain": "db"}', 404),
    ('POST', '/v1/jobs/nightly/run', b'{', 400), ('POST', '/v1/jobs/nightly/run', b'[]', 400), ('POST', '/v1/jobs/nightly/run', b'"x"', 400),
    ('POST', '/v1/jobs/nightly/run', b'{"full": 1}', 400), ('POST', '/v1/jobs/nightly/run', b'{"force": true}', 400),
    ('POST', '/v1/jobs/nightly/run', b'{"full": true, "full": false}', 400), ('POST', '/v1/jobs/nightly/run', b'{"domain": "a\\u0007"}', 400),
    ('POST', '/v1/jobs/nightly/run', b'{"domain": ""}', 400), ('POST', '/v1/jobs/nightly/run', b'\x00\xff', 400), ('POST', '/v1/pause', b'{"x": 1}', 400),
    ('POST', '/v1/jobs/nightly/run', b'[' * 4000, 400), ('POST', '/v1/jobs/nightly/run', b' ' * 4097, 413), ('POST', '/v1/pause', b'x' * 300000, 413),
    ('POST', '/v1/runs/99/cancel', b'', 404), ('POST', '/v1/runs/100/cancel', b'', 409), ('POST', '/v1/jobs/busy/run', b'', 409),
    ('POST', '/v1/jobs/full/run', b'', 503), ('GET', '/v1/notify-test', b'', 405), ('POST', '/v1/notify-test/1', b'', 405), ('GET', '/v1/notify-test/2', b'', 404),
    ('POST', '/v1/notify-test', b'{"job": "nope"}', 404), ('POST', '/v1/notify-test', b'{"job": 1}', 400), ('POST', '/v1/notify-test', b'{"domain": "web"}', 400),
]


def test_errors():
    """Needs the run 100 to be there and over."""
    before = get('/v1/status')[1]
    for method, target, body, wanted in WRONG:
        status, headers, answer = http(method, target, body)
        try:
            good = method == 'HEAD' or (list(json.loads(answer)) == ['error'] and json.loads(answer)['error'])
        except ValueError:
            good = False
        good = good and headers.get('content-type') == 'application/json' and (status != 405 or headers.get('allow') in ('GET, HEAD', 'POST'))
        name = '%d: %s %s %s' % (wanted, method, target[:60], body[:40])
        if not tap.ok(status == wanted and good, name):
            tap.diag((status, headers, answer))
    tap.is_(get('/v1/status')[1], before, 'none of them did anything')


# Streams.

def follow(run, path='api.sock'):
    with connect(path, timeout=60) as s:
        s.sendall(head('GET', '/v1/runs/%d?follow=true' % run))
        return parse(receive(s))


def test_stream():
    run = post('/v1/jobs/nightly/run')[1]['id']
    status, headers, body = follow(run)
    tap.is_((status, headers['content-type']), (200, 'application/x-ndjson'), 'a stream')
    states = [json.loads(line) for line in body.decode().splitlines()]
    tap.ok(all(set(s) == STATE for s in states) and body.endswith(b'\n'), 'each line is the run')
    tap.ok(len(states) > 3 and [s['done'] for s in states] == sorted(s['done'] for s in states), 'it goes on (%d lines)' % len(states))
    tap.is_([s['finished'] is None for s in states], [True] * (len(states) - 1) + [False], 'and ends with the run')
    tap.is_([json.loads(line)['id'] for line in follow(run)[2].splitlines()], [run], 'of a run that has ended: one line')
    # Somebody leaves in the middle; others do not notice.
    run = post('/v1/jobs/long/run')[1]['id']
    gone = [connect() for _ in range(20)]
    for s in gone:
        s.sendall(head('GET', '/v1/runs/%d?follow=true' % run))
        s.recv(100)
    for s in gone:
        s.close()
    watcher = connect()
    watcher.sendall(head('GET', '/v1/runs/%d?follow=true' % run))
    watcher.recv(100)
    tap.is_(post('/v1/runs/%d/cancel' % run)[0], 202, 'cancel while somebody follows')
    lines = parse(b'HTTP/1.1 200 \r\ntransfer-encoding: none\r\n\r\n' + receive(watcher))[2]
    watcher.close()
    tap.ok(b'"state":"cancelled"' in lines, 'who follows is told')


def test_many_streams():
    """64 at once, then no more; when they are gone, there is room again."""
    run = post('/v1/jobs/long/run')[1]['id']
    open_ = [connect() for _ in range(64)]
    for s in open_:
        s.sendall(head('GET', '/v1/runs/%d?follow=true' % run))
    tap.ok(all(s.recv(15).startswith(b'HTTP/1.1 200') for s in open_), '64 streams')
    status, _, body = follow(run)
    tap.ok(status == 503 and '64' in json.loads(body)['error'], 'one more is refused')
    for s in open_:
        s.close()
    deadline = time.monotonic() + 60
    while True:     # who is gone is seen at the next line
        with connect() as s:
            s.sendall(head('GET', '/v1/runs/%d?follow=true' % run))
            if s.recv(15).startswith(b'HTTP/1.1 200') or time.monotonic() > deadline:
                break
    tap.ok(time.monotonic() < deadline, 'when they are gone, there is room again')
    post('/v1/runs/%d/cancel' % run)
    wait_until_over(run)


# Clients that misbehave.

def bad_client(n):
    """One of several kinds; returns its socket, if it stays."""
    s = connect()
    kinds = [b'', b'GET /v1/status HTTP/1.1\r\nHost: x\r\nX-', b'\x00\xff\xfe garbage \r\n\r\n\r\n', b'GET /v1/status\r\n', b'A' * 100000,
             b'POST /v1/jobs/nightly/run HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{', b'GET /' + b'a' * 20000 + b' HTTP/1.1\r\n\r\n',
             b'POST /v1/pause HTTP/1.1\r\nContent-Length: -5\r\n\r\n', b'POST /v1/pause HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n',
             b'GET /v1/history?limit=10000 HTTP/1.1\r\nHost: x\r\n\r\n']       # the last one does not read its 700 kB
    try:
        s.sendall(kinds[n % len(kinds)])
    except OSError:
        pass        # dropped already
    return s


def test_crowd():
    """100 slow or malformed clients stay; 100 requests beside them are answered."""
    begun, bad, wrong = time.monotonic(), [bad_client(n) for n in range(100)], []

    def ask(n):
        for target in ('/v1/status', '/v1/history?limit=10000', '/metrics', '/v1/runs/100'):
            try:
                status, headers, body = http('GET', target)
                if status != 200 or len(body) != int(headers['content-length']):
                    wrong.append((n, target, status))
            except OSError as e:
                wrong.append((n, target, str(e)))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(100)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    took = time.monotonic() - begun
    tap.is_(wrong, [], '100 clients that behave are answered, beside 100 that do not')
    tap.diag('400 requests in %.1f s' % took)
    # Whoever drips its request is dropped all the same: silence is not what counts.
    s = connect()
    s.sendall(b'GET /v1/status HTTP/1.1\r\n')
    dropped, sent = False, 0
    while not dropped and sent < 600:
        try:
            s.sendall(b'X: y\r\n')
            sent += 1
            ready, _, _ = select.select([s], [], [], 0.1)
            dropped = bool(ready) and s.recv(4096) == b''
        except OSError:
            dropped = True
    tap.ok(dropped, 'a client that drips its request is dropped (after %.1f s)' % (sent * 0.1))
    for b in bad[:9]:
        b.settimeout(60)
    ended = [parse(receive(b))[0] for b in bad[:9]]     # each of these is at its end, by itself
    tap.ok(all(status in (0, 400, 413, 414, 431) for status in ended), 'the others are answered with an error, or dropped: %s' % ended)
    for b in bad:
        b.close()
    tap.is_(get('/v1/status')[1]['paused'], False, 'what they began was not done')


def test_limit():
    """More slow clients than places: others wait, and get their turn."""
    d = Daemon('--connections', '20', '--request-s', '5', path='small.sock')
    slow = [connect('small.sock') for _ in range(60)]
    for s in slow:
        s.sendall(b'GET /v1/sta')
    status, _, _ = http('GET', '/v1/status', path='small.sock', headers=['X-Wait: as long as it takes'])
    tap.is_(status, 200, 'with three times as many slow clients as places, a request is answered')
    for s in slow:
        s.close()
    tap.is_(d.stop(), 0, 'that daemon ends')


def test_memory():
    """Clients that ask for much and do not read it: there is an end to what they make the daemon hold, and others are served."""
    greedy, wanted, memory = [], b'GET /v1/history?limit=10000 HTTP/1.1\r\nHost: x\r\n\r\n', '/proc/%d/status' % daemon.child.pid
    for _ in range(150):
        s = connect()
        s.sendall(wanted)
        greedy.append(s)
    tap.is_(get('/v1/status')[0], 200, '150 clients that ask for 700 kB and do not read it: status is there')
    for _ in range(50):     # until all of them were heard
        status, o = get('/v1/history?limit=10000')
        if status == 503:
            break
        time.sleep(0.1)
    if status == 200 and tap.SANITIZE:
        tap.skip(1, 'made under %s, answers are given up for unread as fast as others are made' % tap.SANITIZE)
    else:
        tap.ok(status == 503 and 'long answers' in o['error'], 'more history is refused meanwhile')
    with open(memory) as f:
        used = int(re.search(r'VmRSS:\s+(\d+)', f.read())[1])
    if tap.SANITIZE:
        tap.skip(1, 'the memory is also that of ' + tap.SANITIZE)
    else:
        tap.ok(used < 80 << 10, 'memory: %d MiB' % (used >> 10))
    for s in greedy:
        s.close()
    deadline = time.monotonic() + 60
    while get('/v1/history?limit=10000')[0] != 200 and time.monotonic() < deadline:
        time.sleep(0.1)
    tap.is_(get('/v1/history?limit=10000')[0], 200, 'and is there again when they are gone')


# Who may do what.

def test_peers():
    if os.geteuid() != 0:
        tap.skip(9, 'needs root')
        return
    os.chmod(tap.WORK, 0o755)
    os.chmod(os.path.dirname(tap.WORK), 0o755)
    shutil.copy(CTL, 'ctl')     # where everybody reaches it
    gid = grp.getgrnam(GROUP).gr_gid

    def as_user(groups, *args, path='group.sock'):
        return tap.run(['setpriv', '--reuid', '65533', '--regid', '65533', *(['--groups', groups] if groups else ['--clear-groups']),
                        './ctl', '--socket', path, *args])

    st = os.stat('api.sock')
    tap.is_((st.st_mode & 0o777, st.st_uid), (0o600, 0), 'without a group the socket is for root alone')
    for acts in (False, True):
        d = Daemon('--group', GROUP, *(['--group-acts'] if acts else []), path='group.sock')
        st = os.stat('group.sock')
        if not acts:
            tap.is_((st.st_mode & 0o777, st.st_gid), (0o660, gid), 'with a group: 0660, its own')
            r = as_user(None, 'status')
            tap.ok(r.status == 1 and 'you may not connect' in r.stderr, 'a user outside the group does not get in') or tap.diag(r.stderr)
            os.chmod('group.sock', 0o666)       # as systemd's SocketMode= may make it
            r = as_user(None, 'status')
            tap.ok(r.status == 1 and 'you may not use this daemon' in r.stderr, 'nor is it served where the socket lets it in') or tap.diag(r.stderr)
            os.chmod('group.sock', 0o660)
        r = as_user(GROUP, 'jobs')
        tap.ok(r.status == 0 and 'nightly' in r.stdout, 'a member of the group reads')
        r = as_user(GROUP, 'pause')
        if acts:
            tap.is_((r.status, json.loads(http('GET', '/v1/status', path='group.sock')[2])['paused']), (0, True), 'and acts, if so configured')
        else:
            tap.ok(r.status == 1 and 'you may look, but not act' in r.stderr, 'and does not act')
        d.stop()
    tap.ok(not os.path.exists('group.sock'), 'the socket is gone with its daemon')


def test_socket():
    os.makedirs('run')
    d = Daemon(path=None, env={'RUNTIME_DIRECTORY': os.path.abspath('run/ours')})
    tap.is_(http('GET', '/v1/status', path='run/ours/api.sock')[0], 200, 'RUNTIME_DIRECTORY')
    second = tap.run([DAEMON, 'run/ours/api.sock'])
    tap.ok(second.status == 1 and 'another daemon listens on' in second.stderr, 'a second daemon does not take the socket')
    tap.is_(http('GET', '/v1/status', path='run/ours/api.sock')[0], 200, 'the first one answers on')
    d.child.kill()
    d.child.wait()
    tap.ok(os.path.exists('run/ours/api.sock'), 'killed: its socket is left')
    d = Daemon(path='run/ours/api.sock')
    tap.is_((http('GET', '/v1/status', path='run/ours/api.sock')[0], os.listdir('run/ours')), (200, ['api.sock']), 'the next daemon replaces it')
    d.stop()
    r = tap.run([DAEMON, 'x.sock', '--group', 'no-such-group'])
    tap.ok(r.status == 1 and 'there is no group "no-such-group"' in r.stderr, 'a group that is not there')
    open('file', 'w').close()
    r = tap.run([DAEMON, 'file'])
    tap.ok(r.status == 1 and 'no socket: remove it' in r.stderr and os.path.exists('file'), 'a file in its place is left alone')
    r = tap.run([DAEMON, 'x' * 200])
    tap.ok(r.status == 1 and 'has 107 bytes at most' in r.stderr, 'a path that is too long')


def test_activation():
    """A socket that systemd passes: descriptor 3, LISTEN_PID, LISTEN_FDS."""
    s = socket.socket(socket.AF_UNIX)
    s.bind('passed.sock')
    s.listen(64)
    early = connect('passed.sock')
    early.sendall(head('GET', '/v1/status'))
    script = 'exec 3<&%d; export LISTEN_PID=$$ LISTEN_FDS=1; exec "$0"' % s.fileno()
    child = tap.start(['sh', '-c', script, DAEMON], pass_fds=[s.fileno()], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    tap.is_((child.stdout.readline(), parse(receive(early))[0]), (b'ready\n', 200), 'socket activation: who came before the daemon is answered')
    early.close()
    child.stdin.close()
    tap.is_((child.wait(30), os.path.exists('passed.sock')), (0, True), "systemd's socket stays")
    tap.stop(child)
    s.close()


# Metrics.

SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (-?[0-9.e+-]+|NaN|[+-]Inf)\Z')
LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|\Z)')


def parse_metrics(text):
    """{(name, labels): value} by the rules of the text format; a ValueError says which line breaks one."""
    found, families, current = {}, {}, None
    if not text.endswith('\n'):
        raise ValueError('the last line has no end')
    for line in text.splitlines():
        m = re.match(r'# (HELP|TYPE) (\S+) (.+)\Z', line)
        if m:
            if m[1] == 'HELP':
                if m[2] in families:
                    raise ValueError('a second family ' + line)
                current, families[m[2]] = m[2], None
            elif m[2] != current or families[m[2]] is not None or m[3] not in ('gauge', 'counter'):
                raise ValueError(line)
            else:
                families[m[2]] = m[3]
            continue
        m = SAMPLE.match(line)
        if not m or m[1] != current or families.get(m[1]) is None:
            raise ValueError(line)
        labels = LABEL.findall(m[2] or '')
        if ','.join('%s="%s"' % pair for pair in labels) != (m[2] or ''):
            raise ValueError(line)
        key = (m[1], tuple(sorted((k, re.sub(r'\\(.)', lambda e: '\n' if e[1] == 'n' else e[1], v)) for k, v in labels)))
        if key in found:
            raise ValueError('twice: ' + line)
        found[key] = float(m[3])
    return found


def test_metrics():
    status, headers, body = http('GET', '/metrics')
    tap.is_((status, headers['content-type']), (200, 'text/plain; version=0.0.4; charset=utf-8'), 'metrics')
    try:
        found = parse_metrics(body.decode())
    except ValueError as e:
        found = {}
        tap.diag(str(e))
    tap.ok(found, 'their format is right')

    def value(name, **labels):
        return found.get(('openvirt_backup_' + name, tuple(sorted(labels.items()))))

    tap.is_([value('job_last_run_success', job=j) for j in ('nightly', 'broken', 'busy')], [1, 0, None], 'result; of a job that never ran there is none')
    tap.is_([value('job_' + n, job='nightly') for n in ('last_success_timestamp_seconds', 'last_success_age_seconds', 'last_run_duration_seconds')],
            [1795311185, 66415, 185], 'time, age and duration of a job')
    tap.is_((value('job_overdue', job='broken'), value('job_overdue', job='nightly')), (1, 0), 'overdue')
    tap.is_([value('domain_last_run_' + n, job='nightly', domain='web') for n in
             ('read_bytes', 'stored_bytes', 'sent_bytes', 'frozen_seconds', 'duration_seconds', 'success')], [25900000, 8100000, 0, 0.194, 185.25, 1],
            'bytes, freeze time, duration and result of a domain')
    tap.is_(value('domain_last_run_success', job='broken', domain='quote"back\\slash'), 1, 'a name with quotes')
    tap.is_(value('repository_low_space', repository='local'), 0, 'little space')
    tap.is_((value('repository_free_bytes', repository='local'), value('paused'), value('runs', state='running')), (412e9, 0, 0), 'space, runs')
    if shutil.which('promtool'):
        r = tap.run(['promtool', 'check', 'metrics'], input=body)
        tap.is_((r.status, r.stdout + r.stderr), (0, ''), 'promtool finds nothing')
    else:
        tap.skip(1, 'no promtool (package prometheus)')


# virt-backupctl.

def ctl(*args, **kwargs):
    return tap.run([CTL, '--socket', 'api.sock', *args], **kwargs)


def on_terminal(command, columns=80, env=None):
    """What a terminal shows of the command's output, and its exit status."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack('HHHH', 24, columns, 0, 0))
    child = tap.start(command, stdin=subprocess.DEVNULL, stdout=slave, stderr=slave, env={'TERM': 'xterm', **(env or {})})
    os.close(slave)
    shown = b''
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(master)
    child.wait()
    return tap.stop(child), shown.decode(errors='replace').replace('\r\n', '\n')


def bare(text):
    return re.sub(r'\x1b\[[0-9;]*[mKHJ]', '', text)


def width(text):
    return sum(2 if unicodedata.east_asian_width(c) in 'WF' else 1 for c in text)


STATUS = '''\
virt-backupd VERSION, up for 2 d, 6 jobs
job broken: no success for 3 days

JOB              NEXT RUN         LAST SUCCESS LAST RUN
nightly          2026-11-23 01:30 18 h ago     succeeded in 3:05 min
broken           2026-11-23 01:30 3 d ago      failed: web: cannot freeze: the agent does not answer within 30 s; see whether qemu-guest-agent runs in the guest
long             2026-11-23 01:30 18 h ago     succeeded in 3:05 min
later            2026-11-23 01:30 never        never ran
busy             2026-11-23 01:30 never        never ran
full             2026-11-23 01:30 18 h ago     succeeded in 3:05 min

REPOSITORY       SPACE LEFT                       WHERE
local            412 GB of 1.0 TB (41%)           /var/backups/vm
'''
HISTORY = '''\
RUN   JOB            MACHINE        STARTED          TOOK      RESULT
7     nightly        web            2026-11-22 01:30 3:05 min  succeeded, 8.1 MB
7     broken         web            2026-11-22 01:30 3:05 min  failed: cannot freeze: the agent does not answer
'''
JOBS = '''\
JOB              REPOSITORY     SCHEDULE                 NEXT RUN
nightly          local          *-*-* 01:30:00           2026-11-23 01:30
'''
SCHEDULE = '''\
NEXT RUN         JOB                          SCHEDULE
2026-11-23 00:30 nightly                      *-*-* *:30:00
2026-11-23 01:30 nightly                      *-*-* *:30:00
'''


def test_tables():
    tap.is_(re.sub(r'virt-backupd [\d.]+', 'virt-backupd VERSION', ctl('status').stdout), STATUS, 'status')
    tap.is_(ctl('history', '--limit', '2').stdout, HISTORY, 'history')
    tap.is_(ctl('jobs').stdout[:len(JOBS)], JOBS, 'jobs')
    tap.is_(ctl('schedule', '--next', '2').stdout, SCHEDULE, 'schedule')
    tap.is_(ctl('schedule', '--next', '1', env={'TZ': 'Asia/Tokyo'}).stdout.split('\n')[1][:16], '2026-11-23 09:30', 'times are local')
    tap.is_({line.split()[1] for line in ctl('history', '--job', 'long', '--limit', '3').stdout.splitlines()[1:]}, {'long'}, 'history --job')
    for verb in (['status'], ['history'], ['jobs'], ['schedule']):
        tap.is_(json.loads(ctl(*verb, '--json').stdout), get('/v1/' + verb[0])[1], '%s --json' % verb[0])
    run = json.loads(ctl('run', 'long', '--json').stdout)['id']
    while get('/v1/runs/%d' % run)[1]['state'] != 'running':
        time.sleep(0.02)
    for command in (['status'], ['history'], ['jobs'], ['schedule']):
        for columns in (80, 40):
            status, shown = on_terminal([CTL, '-s', 'api.sock', *command], columns)
            lines = bare(shown).splitlines()
            if columns == 80:
                tap.ok(status == 0 and all(width(line) <= 80 for line in lines), '%s: 80 columns' % command[0]) or tap.diag(bare(shown))
                tap.ok('\x1b[1m' in shown, '%s: colours on a terminal' % command[0])
            else:
                tap.is_(status, 0, '%s: a narrow terminal' % command[0])
    shown = on_terminal([CTL, '-s', 'api.sock', 'status'])[1]
    reason = re.search(r'failed: (web: cannot freeze: .*)', STATUS)[1]
    tap.ok(reason in ' '.join(bare(shown).split()), 'status: why something failed is there in full')
    tap.ok(re.search('\x1b\\[31mfailed\x1b\\[0m\r?\n      \x1b\\[31mweb: cannot', shown) and '\x1b[36mrunning\x1b[0m' in shown, 'status: what failed is red, what runs is blue')
    tap.like(bare(shown), r'^%d +long +web +running +\d+%% of 20 GB, 312 MB/s, 42 s, capped$' % run, 'status: progress and rate of a run')
    later = json.loads(ctl('run', 'later', '--json').stdout)['id']
    tap.like(ctl('status').stdout, r'^%d +later +web +waiting +until 2026-11-22 20:15$' % later, 'status: until when a run waits')
    ctl('cancel', str(later))
    tap.unlike(ctl('status').stdout, '\x1b', 'no colours elsewhere')
    for env in ({'NO_COLOR': '1'}, {'TERM': 'dumb'}):
        tap.unlike(on_terminal([CTL, '-s', 'api.sock', 'status'], env=env)[1], '\x1b', 'nor with %s' % env)
    ctl('pause')
    tap.like(ctl('status').stdout, '^paused: scheduled runs are not started until virt-backupctl resume', 'status: paused')
    tap.is_(ctl('resume').stdout, 'resumed: scheduled runs are started again\n', 'resume')
    tap.is_(json.loads(ctl('cancel', str(run), '--json').stdout)['state'], 'cancelling', 'cancel --json')
    wait_until_over(run)


def test_watch():
    child = tap.start([CTL, '-s', 'api.sock', 'status', '--watch', '--json'], stdout=subprocess.PIPE)
    lines = [json.loads(child.stdout.readline()) for _ in range(2)]
    child.send_signal(signal.SIGINT)
    tap.is_(([len(o['jobs']) for o in lines], child.wait(60)), ([6, 6], 0), 'status --watch, until it is interrupted')
    tap.stop(child)


def test_log():
    tap.is_(ctl('log', '7').stdout_bytes, http('GET', '/v1/runs/7/log')[2], 'log: as it is')
    shown = on_terminal([CTL, '-s', 'api.sock', 'log', '7'])[1]
    tap.ok('?[31mred' in shown and '\x1b' not in shown, 'log: nothing that a terminal would act on')
    tap.is_(json.loads(ctl('log', '7', '--json').stdout), {'id': 7, 'log': http('GET', '/v1/runs/7/log')[2].decode()}, 'log --json')
    tap.is_(ctl('log', '9').stdout, '', 'log: an empty one')


def test_run():
    r = ctl('run', 'nightly', '--domain', 'web', '--full')
    run = int(re.match(r'run (\d+) of nightly is queued; ', r.stdout)[1])
    o = get('/v1/runs/%d' % run)[1]
    tap.is_((r.status, o['domain'], o['full']), (0, 'web', True), 'run')
    r = ctl('run', 'nightly', '--wait')
    tap.ok(r.status == 0 and re.fullmatch(r'run \d+ of nightly: succeeded\n', r.stdout) and r.stderr == '', 'run --wait') or tap.diag(r.stdout + r.stderr)
    r = ctl('run', 'broken', '--wait')
    tap.is_(r.status, 1, 'run --wait: exit 1 when it fails')
    tap.like(r.stderr, r'run (\d+) of broken: failed: web: cannot freeze: the agent does not answer; virt-backupctl log \1 says more', 'it says why')
    status, shown = on_terminal([CTL, '-s', 'api.sock', 'run', 'nightly', '--wait'])
    tap.is_(status, 0, 'run --wait on a terminal')
    bars = [line for line in bare(shown).split('\r') if '%' in line]
    tap.ok(bars and all(line.startswith('nightly: web [') and width(line) <= 80 for line in bars), 'a progress bar') or tap.diag(repr(shown))
    lines = [json.loads(line) for line in ctl('run', 'nightly', '--wait', '--json').stdout.splitlines()]
    tap.ok(len(lines) > 1 and set(lines[0]) == STATE and lines[-1]['state'] == 'succeeded', 'run --wait --json')
    child = tap.start([CTL, '-s', 'api.sock', 'run', 'long', '--wait', '--json'], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    run = json.loads(child.stdout.readline())['id']
    child.send_signal(signal.SIGINT)
    err = child.communicate(timeout=60)[1].decode()
    tap.is_((child.returncode, err), (1, 'virt-backupctl: run %d goes on without being waited for; virt-backupctl cancel %d ends it\n' % (run, run)),
            'interrupted while it waits')
    tap.stop(child)
    tap.is_(get('/v1/runs/%d' % run)[1]['finished'], None, 'the run goes on')
    r = ctl('cancel', str(run))
    tap.is_((r.status, r.stdout), (0, 'run %d is being cancelled; virt-backupctl status shows when it has ended\n' % run), 'cancel')
    wait_until_over(run)


def test_refused():
    for args, text in ((['run', 'nope'], 'there is no job "nope"'), (['run', 'a/b \u00e4?&'], 'there is no job "a/b \u00e4?&"'),
                       (['run', 'busy'], 'job busy runs already'), (['run', 'nightly', '--domain', 'db'], 'job nightly has no domain "db"'),
                       (['cancel', '5'], 'there is no run 5'), (['log', '5'], 'there is no run 5'), (['log', '8'], 'cannot read the log of run 8')):
        r = ctl(*args)
        tap.is_((r.status, r.stdout, r.stderr[:len(text) + 16]), (1, '', 'virt-backupctl: ' + text), 'refused: %s' % ' '.join(args))
    r = ctl('run', 'nightly', '--domain', b'\xe4')
    tap.ok(r.status == 1 and 'UTF-8' in r.stderr, 'a domain that is no text is not taken for all domains')
    for args in (['cancel', 'x'], ['log'], ['status', 'x'], ['run'], ['status', '--full'], ['jobs', '--watch'], ['history', '--limit', '0'],
                 ['schedule', '--next', '1x'], ['cancel', '99999999999999999999'], ['pause', '--json', '--wait'], ['status', '--dry-run']):
        r = ctl(*args)
        tap.is_((r.status, r.stdout), (2, ''), 'wrong usage: %s' % ' '.join(args))
    for path, text in (('none.sock', 'no daemon answers on none.sock: .*start it'), ('file', 'no daemon answers on file')):
        r = tap.run([CTL, '--socket', path, 'status'])
        tap.ok(r.status == 1 and re.search(text, r.stderr), 'no daemon: it says so') or tap.diag(r.stderr)
    r = tap.run([CTL, '-s', 'api.sock', 'status'], env={'http_proxy': 'http://127.0.0.1:9', 'ALL_PROXY': 'http://127.0.0.1:9'})
    tap.is_(r.status, 0, 'no proxy is asked')
    s = socket.socket(socket.AF_UNIX)
    s.bind('other.sock')
    s.listen(1)

    def answer():
        c, _ = s.accept()
        c.recv(4096)
        c.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello')
        c.close()
    t = threading.Thread(target=answer)
    t.start()
    r = tap.run([CTL, '--socket', 'other.sock', 'status'])
    t.join()
    s.close()
    tap.ok(r.status == 1 and 'is it virt-backupd?' in r.stderr, 'somebody else answers there')


def test_restart():
    """A run is waited for over a restart of the daemon; of one that comes back without the run it is said."""
    d = Daemon(path='restart.sock')
    child = tap.start([CTL, '-s', 'restart.sock', 'run', 'long', '--wait', '--json'], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    child.stdout.readline()
    tap.is_(d.stop(), 0, 'the daemon stops while a run is followed')
    tap.is_(child.poll(), None, 'the client waits on')
    d = Daemon(path='restart.sock')
    err = child.communicate(timeout=60)[1].decode()
    tap.is_((child.returncode, err), (1, 'virt-backupctl: there is no run 100\n'), 'the daemon is back: it asks again')
    tap.stop(child)
    d.stop()


daemon = Daemon('--request-s', '5')
test_reads()
test_acts()
test_documented()
test_errors()
test_stream()
test_many_streams()
test_crowd()
test_limit()
test_memory()
test_peers()
test_socket()
test_activation()
test_metrics()
test_tables()
test_watch()
test_log()
test_run()
test_refused()
test_restart()
fds = len(os.listdir('/proc/%d/fd' % daemon.child.pid))
tap.ok(fds < 20, 'the daemon is left with few descriptors (%d)' % fds)
tap.is_(daemon.stop(), 0, 'the daemon ends when it is told to')
tap.ok(not os.path.exists('api.sock'), 'and takes its socket along')
tap.done_testing()
