#!/usr/bin/python3 -B
"""The daemon, while 500 clients hang on its socket, half of them slow or malformed, and a job runs: who asks as one should is answered, the job succeeds,
and nobody from outside the group gets in.  (What it costs the job, tests/bench api measures.)"""
import json
import os
import shutil
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import crowd
import daemon
import images
import ovb
import tap

SECONDS = 12

os.mkdir('source')
os.mkdir('slow')
images.make('full', 'source/slow.img', size=2 << 20)
tap.mount_imagefs('--slow', 40, 'source', 'slow')
images.make('mixed', 'small.img', size=1000001)
conf = ovb.make_config(ovb.image_job('slow/slow.img', name='slow'), ovb.image_job('small.img', name='often', schedule='*:*:0/3'))
d = daemon.Daemon('crowd', conf).start()
clients = crowd.Crowd(d.socket)
clients.start()
begun = time.monotonic()
runs = []
while time.monotonic() - begun < SECONDS:
    r = d.ctl('run', 'slow', '--wait')
    runs.append(r.status)
outside = None
if os.geteuid() == 0:
    os.chmod(tap.WORK, 0o755)
    os.chmod(os.path.dirname(tap.WORK), 0o755)
    shutil.copy(daemon.CTL, 'ctl')
    outside = tap.run(['setpriv', '--reuid', '65533', '--regid', '65533', '--clear-groups', './ctl', '--socket', d.socket, 'status'])
clients.finish()
tap.is_(clients.wrong[:5], [], '%d requests are answered, beside 250 clients that misbehave' % clients.asked)
tap.ok(clients.asked >= 2 * 250, 'each of 250 clients has asked more than once')
tap.ok(clients.most >= 400, 'there were %d of them at once' % clients.most)
tap.diag('the longest answer took %.2f s' % clients.longest)
tap.is_(set(runs), {0}, 'a job that is asked for meanwhile runs, and who waits for it is told')
tap.ok([r for r in d.runs('succeeded') if r['reason'] == 'schedule'], 'and the schedule goes on')
tap.is_([r['state'] for r in d.runs() if r['state'] not in ('succeeded', 'running', 'queued')], [], 'nothing of it fails')
if outside is None:
    tap.skip(1, 'needs root')
else:
    tap.ok(outside.status == 1 and 'you may not' in outside.stderr, 'a user outside the group does not get in') or tap.diag(outside.stderr)
tap.ok(not json.loads(d.ctl('status', '--json').stdout)['paused'], 'what the malformed ones began was not done')
tap.is_(d.stop(), 0, 'the daemon ends')
tap.done_testing()
