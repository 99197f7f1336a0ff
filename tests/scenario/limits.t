#!/usr/bin/python3 -B
"""Limits, with the real programs: how fast a run writes, when it must have ended, what a retry repeats, and what is counted."""
import glob
import json
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import daemon
import images
import ovb
import sshd
import tap

MIB = 1 << 20


def events(text):
    return [json.loads(line) for line in text.splitlines()]


def tree(folder):
    return sum(os.path.getsize(f) for f in glob.glob(os.path.join(folder, '**'), recursive=True) if os.path.isfile(f))


def random_image(path, size):
    with open(path, 'wb') as f:
        f.write(os.urandom(size))


# How fast.

def test_rate():
    random_image('fast.img', 3 * MIB)
    conf = ovb.make_config(ovb.image_job('fast.img', rate_limit='1M'), repository='slow-repo')
    begun = time.monotonic()
    r = ovb.once(conf, 'job', '--json')
    took = time.monotonic() - begun
    tap.is_(r.status, 0, 'a run with a rate limit') or tap.diag(r.stderr)
    tap.ok(took > 2, '3 MiB at 1 MiB/s take their time') or tap.diag(took)     # a busy machine makes it longer, nothing makes it shorter
    seen = [e for e in events(r.stdout) if e['event'] == 'progress']
    tap.is_({e.get('limit') for e in seen}, {MIB}, 'its progress tells the limit')
    tap.is_([e['sent'] for e in events(r.stdout) if e['event'] == 'done'], [0], 'nothing went over a network')
    [point] = ovb.points('slow-repo')
    ovb.restore(point, 'fast.out')
    tap.ok(images.same_content('fast.img', 'fast.out'), 'what it wrote is the image')
    r = ovb.once(ovb.make_config(ovb.image_job('fast.img', name='free'), repository='slow-repo'), 'free', '--json')
    tap.is_([e for e in events(r.stdout) if 'limit' in e], [], 'without one, none is told')


def test_stop():
    random_image('long.img', 24 * MIB)
    conf = ovb.make_config(ovb.image_job('long.img', rate_limit='64K'), repository='stop-repo')
    child = tap.start(ovb.once_command(conf, 'job'), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    tap.ok(daemon.Daemon.until(lambda: [f for f in glob.glob('stop-repo/long/*.partial/disks.tar') if os.path.getsize(f) > 0]), 'six minutes of writing begin')
    child.send_signal(signal.SIGTERM)
    try:
        out, err = child.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        child.kill()
        out, err = child.communicate()
    tap.is_(child.returncode, 1, 'who is told to stop while it waits for its turn does') or tap.diag(out + err)
    tap.like(err.decode(), 'long: .*stopped', 'and says so')
    tap.is_((ovb.points('stop-repo'), ovb.leftovers('stop-repo'), glob.glob('stop-repo/.locks/*')), ([], [], []), 'nothing is left of it')
    tap.stop(child)


# What goes over the network.

def test_sent():
    far = os.path.abspath('far')
    server = sshd.Server('server')
    key = sshd.keygen('id')
    server.authorize(key)
    random_image('sent.img', 2 * MIB)
    with open('sent.conf', 'w', encoding='utf-8') as f:
        f.write('repositories = ( %s, %s );\njobs = ( %s, %s );\n' % (
            ovb.value({'name': 'far', 'url': server.url(far), 'identity': key, 'known_hosts': server.known_hosts('known'), 'max_parallel': 1}),
            ovb.value({'name': 'near', 'url': os.path.abspath('near')}), ovb.value(ovb.image_job('sent.img', name='away', rate_limit='2M')),
            ovb.value(ovb.image_job('sent.img', name='copied', repository='near', replicate=['far'], rate_limit='2M'))))
    d = daemon.Daemon('sent', 'sent.conf').start(SSH_AUTH_SOCK=None)
    r = d.ctl('run', 'away', '--wait')
    tap.is_(r.status, 0, 'a run over SFTP, with a rate limit') or tap.diag(r.stderr)
    [point] = ovb.points(far)
    [record] = json.loads(d.ctl('history', '--json').stdout)
    tap.ok(tree(point) <= record['sent'] <= tree(point) + 16384, 'its history tells what was sent: its files, and little besides') or tap.diag((tree(point), record))
    [machine] = json.loads(d.ctl('jobs', '--json').stdout)[0]['machines']
    tap.is_(machine['sent'], record['sent'], 'and its job, where the metrics are from')
    r = d.ctl('run', 'copied', '--wait')
    tap.is_(r.status, 0, 'a run into a folder, copied to a server') or tap.diag(r.stderr)
    [near] = ovb.points('near')
    [record] = json.loads(d.ctl('history', '--job', 'copied', '--json').stdout)
    tap.is_(record['sent'], os.path.getsize(ovb.archive(near)), 'the copy is what was sent')
    d.stop()
    server.stop()


# When it must have ended.

def window_daemon(name, due, closes):
    """A job that is due so many seconds from now, in a window that closes so many from now: windows count in minutes, so in a local time of its own.
    Returns the daemon, when its window closes, and when it opens next."""
    now = int(time.time())
    at = time.gmtime(now + due)
    shift = (60 - (now + closes) % 60) % 60
    local = now + closes + shift
    window = '%02d:%02d-%02d:%02d' % (*time.gmtime(local - 60)[3:5], *time.gmtime(local)[3:5])
    conf = ovb.make_config(ovb.image_job('wide.img', name='night', rate_limit='64K', schedule='*-*-* %02d:%02d:%02d UTC' % at[3:6], window=window,
                                         window_end='cancel', retries=1, retry_wait=1), repository=name + '.repo', file=name + '.conf')
    d = daemon.Daemon(name, conf).start(TZ='OVB-00:00:%02d' % shift)
    return d, window, now + closes, now + closes - 60 + 86400, now + due


def test_window_end():
    random_image('wide.img', 24 * MIB)
    for due, closes in (3, 8), (10, 20), (25, 40):      # a busy machine may need longer to start it
        name = 'window%d' % due
        d, window, end, opens, begins = window_daemon(name, due, closes)
        if time.time() < begins:
            break
        d.stop()
    tap.ok(d.until(lambda: d.runs('running')), 'a run begins in its window')
    tap.ok(d.until(lambda: d.runs('cancelled'), 80), 'when that closes, the run is told to end, and does')
    [run] = d.runs('cancelled') or [{}]
    tap.is_(run.get('message'), 'not done when its window %s closed (window_end)' % window, 'it says why')
    tap.ok(run.get('finished', 0) >= end, 'not before it closed') or tap.diag((run, end))
    tap.is_([(r['attempt'], r['not_before']) for r in d.runs('queued')], [(2, opens)], 'the next attempt waits until the window opens again')
    tap.like(d.ctl('status').stdout, r'(?m)^night .*cancelled: not done when its w', 'status shows it')
    tap.is_(d.stop(), 0, 'the daemon ends')
    tap.is_((ovb.points(name + '.repo'), ovb.leftovers(name + '.repo')), ([], []), 'nothing is left of the run')


# What a retry repeats.

def test_retry():
    images.make('mixed', 'good.img', size=1000001)
    os.mkfifo('bad.img')        # which is no image
    conf = ovb.make_config(ovb.image_job('good.img', 'bad.img', name='two', retries=5, retry_wait=1, keep={'last': 5}), repository='retry-repo', file='retry.conf')
    d = daemon.Daemon('retry', conf).start()
    tap.is_(d.ctl('run', 'two', '--wait').status, 1, 'one of two machines fails')
    tap.ok(d.until(lambda: len(d.runs('failed')) >= 2), 'it is tried again')
    os.unlink('bad.img')
    images.make('mixed', 'bad.img', size=1000001)
    tap.ok(d.until(lambda: d.runs('succeeded')), 'until it succeeds')
    machines = d.machines()
    tap.is_([(m['vm'], m['state']) for m in machines if m['run'] == 1], [('bad', 'failed'), ('good', 'succeeded')], 'the first attempt did both')
    tap.is_({m['vm'] for m in machines if m['run'] > 1}, {'bad'}, 'the others only what had failed')
    tap.is_([os.path.basename(os.path.dirname(p)) for p in ovb.points('retry-repo')], ['bad', 'good'], 'there is one point of each')
    last = d.runs('succeeded')[-1]
    tap.is_((last['succeeded'], last['failed']), (1, 0), 'the last attempt counts what it did')
    tap.ok(json.loads(d.ctl('jobs', '--json').stdout)[0]['last_success'], 'and the job as a whole has succeeded')
    tap.like(d.ctl('log', str(last['id'])).stdout, 'left out: 1 machine that an earlier attempt has backed up', 'its log tells what was left out')
    # A name that cannot be is refused; one that can be, and is not there, fails the run.
    r = d.ctl('run', 'two', '--domain', 'ugly')
    tap.ok(r.status == 1 and 'job two has no machine "ugly"' in r.stderr, 'a machine that the job cannot have is refused') or tap.diag(r.stderr)
    tap.is_([x for x in d.runs() if x['domain']], [], 'no run was queued for it')
    d.stop()


def test_absent():
    os.mkdir('some')
    images.make('mixed', 'some/here.img', size=1000001)
    with open('absent.conf', 'w', encoding='utf-8') as f:
        f.write('repositories = ( { name = "r"; url = %s; } );\njobs = ( { name = "some"; images = [ %s ]; } );\n' % (
            ovb.quoted(os.path.abspath('absent-repo')), ovb.quoted(os.path.abspath('some') + '/*.img')))
    d = daemon.Daemon('absent', 'absent.conf').start()
    r = d.ctl('run', 'some', '--domain', 'gone', '--wait')
    tap.ok(r.status == 1 and 'job some has no machine "gone"' in r.stderr, 'a machine that is not there: the run says so') or tap.diag(r.stderr)
    tap.ok(not os.path.exists('absent-repo'), 'before it does anything')
    tap.is_(d.ctl('run', 'some', '--domain', 'here', '--wait').status, 0, 'one that is there is backed up')
    d.stop()


for test in (test_rate, test_stop, test_sent, test_window_end, test_retry, test_absent):
    test()
tap.done_testing()
