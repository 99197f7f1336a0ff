"""A real daemon with a configuration, a state and a socket of its own; after tap.py.  own_daemon.py makes the configuration too.

    d = daemon.Daemon('name', conf)             conf: the path of its configuration
    d.start(TZ='UTC')                           ready when it returns; the environment's changes
    d.ctl('run', 'job', '--wait')               virt-backupctl, tap's Result
    d.says('a line'), d.until(lambda: ...)      False when that does not come
    d.stop(); d.kill()                          the first returns its status
"""
import json
import os
import sqlite3
import time

import ovb
import tap

CTL = os.path.join(tap.BIN, 'virt-backupctl')


def wait_for(condition, seconds=40):
    deadline = time.monotonic() + seconds * tap.SLOWER
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class Daemon:
    until = staticmethod(wait_for)

    def __init__(self, name, conf, state=None, runtime=None):
        self.name, self.conf = name, os.path.abspath(conf)
        self.state, self.log = os.path.abspath(state or name + '.state'), os.path.abspath(name + '.log')
        self.runtime = os.path.abspath(runtime or self.state + '.run')
        self.socket = os.path.join(self.runtime, 'api.sock')
        self.child = None

    def start(self, wait=True, **env):
        before = self.said().count(': ready')
        with open(self.log, 'ab') as log:
            self.child = tap.start([ovb.BACKUPD, '--config', self.conf], stderr=log, stdout=log, env={
                'STATE_DIRECTORY': self.state, 'RUNTIME_DIRECTORY': self.runtime, 'NOTIFY_SOCKET': None, 'WATCHDOG_USEC': None,
                'WATCHDOG_PID': None, **env})
        if wait and (not wait_for(lambda: self.said().count(': ready') > before or self.child.poll() is not None) or self.child.poll() is not None):
            tap.diag(self.said())
            raise RuntimeError('the daemon %s did not start' % self.name)
        return self

    def stop(self):
        return tap.stop(self.child, 60)

    def kill(self):
        self.child.kill()
        self.child.wait()

    def ctl(self, *args, **kwargs):
        return tap.run([CTL, '--socket', self.socket, *args], **kwargs)

    def status(self):
        return json.loads(self.ctl('--json', 'status').stdout)

    def said(self):
        if not os.path.exists(self.log):
            return ''
        with open(self.log, encoding='utf-8', errors='replace') as f:
            return f.read()

    def says(self, text, seconds=40):
        found = wait_for(lambda: text in self.said(), seconds)
        if not found:
            tap.diag(self.said())
        return found

    def sql(self, text, *values):
        db = sqlite3.connect(os.path.join(self.state, 'state.db'), timeout=20)
        db.row_factory = sqlite3.Row
        try:
            with db:
                return [dict(row) for row in db.execute(text, values)]
        finally:
            db.close()

    def rows(self, question='SELECT * FROM runs ORDER BY id'):
        """What its database answers; nothing while there is none, or it has no tables yet."""
        try:
            return self.sql(question) if os.path.exists(os.path.join(self.state, 'state.db')) else []
        except sqlite3.OperationalError:
            return []

    def runs(self, state=None):
        return [r for r in self.rows() if state in (None, r['state'])]

    def machines(self):
        return self.rows('SELECT * FROM machines ORDER BY run, vm')
