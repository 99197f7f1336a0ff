"""A real daemon with a configuration, a state and a socket of its own; after tap.py.

    d = daemon.Daemon('name', conf)             conf: the path of its configuration
    d.start(TZ='UTC')                           ready when it returns; the environment's changes
    d.ctl('run', 'job', '--wait')               virt-backupctl, tap's Result
    d.until(lambda: d.runs('succeeded'))        False when that does not come
    d.stop()                                    its status
"""
import os
import sqlite3
import time

import ovb
import tap

CTL = os.path.join(tap.BIN, 'virt-backupctl')


class Daemon:
    def __init__(self, name, conf):
        self.name, self.conf = name, os.path.abspath(conf)
        self.state, self.log = os.path.abspath(name + '.state'), os.path.abspath(name + '.log')
        self.socket = os.path.join(self.state + '.run', 'api.sock')
        self.child = None

    def start(self, **env):
        before = self.said().count(': ready')
        with open(self.log, 'ab') as log:
            self.child = tap.start([ovb.BACKUPD, '--config', self.conf], stderr=log, stdout=log, env={
                'STATE_DIRECTORY': self.state, 'RUNTIME_DIRECTORY': self.state + '.run', 'NOTIFY_SOCKET': None, 'WATCHDOG_USEC': None, **env})
        if not self.until(lambda: self.said().count(': ready') > before or self.child.poll() is not None) or self.child.poll() is not None:
            tap.diag(self.said())
            raise RuntimeError('the daemon %s did not start' % self.name)
        return self

    def stop(self):
        return tap.stop(self.child, 60)

    def ctl(self, *args, **kwargs):
        return tap.run([CTL, '--socket', self.socket, *args], **kwargs)

    def said(self):
        if not os.path.exists(self.log):
            return ''
        with open(self.log, encoding='utf-8', errors='replace') as f:
            return f.read()

    def rows(self, question):
        db = sqlite3.connect(os.path.join(self.state, 'state.db'), timeout=20)
        db.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in db.execute(question)]
        finally:
            db.close()

    def runs(self, state=None):
        return [r for r in self.rows('SELECT * FROM runs ORDER BY id') if state in (None, r['state'])]

    def machines(self):
        return self.rows('SELECT * FROM machines ORDER BY run, vm')

    @staticmethod
    def until(condition, seconds=40):
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True
