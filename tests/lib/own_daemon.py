"""A daemon of a test's own, with its state, its repository and its configuration; after tap.py.

    d = daemon.Daemon('plain').start()              one job "plain" over small.img, every other second, into ./plain.repo
    d = daemon.Daemon('many', jobs=[{...}, {...}])  these jobs
    d.stop(); d.kill(); d.start()
    d.said(), d.rows(), d.ended('failed')           what it printed, and what is in its database
    d.ctl('status')                                 virt-backupctl with its socket
    d.quiet('at the end')                           no process, no lock, no unfinished point; all points are good
"""
import glob
import os
import sqlite3
import time

import ovb
import tap

CTL = os.path.join(tap.BIN, 'virt-backupctl')


def wait_for(condition, seconds=40):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class Daemon:
    def __init__(self, name, state=None, runtime=None, repository=None, jobs=None, **keys):
        self.name, self.state = name, os.path.abspath(state or name + '.state')
        self.conf, self.repo, self.log = (os.path.abspath(name + ending) for ending in ('.conf', '.repo', '.log'))
        self.runtime = os.path.abspath(runtime or self.state + '.run')
        if repository:
            self.repo = os.path.abspath(repository)
        self.child = None
        self.env = {}
        self.configure(**({'jobs': jobs} if jobs else {}), **keys)

    def configure(self, image='small.img', daemon='stop_timeout = 10;', schedule='*:*:0/2', jobs=None, **keys):
        jobs = jobs or [ovb.image_job(image, name=self.name, schedule=schedule, **keys)]
        ovb.make_config(*jobs, repository=self.repo, file=self.conf)
        with open(self.conf, 'a', encoding='utf-8') as f:
            f.write('daemon = { %s };\n' % daemon)

    def start(self, notify=None, wait=True):
        before = self.said().count(': ready')
        with open(self.log, 'ab') as log:
            self.child = tap.start([ovb.BACKUPD, '--config', self.conf], stderr=log, stdout=log,
                                   env=dict(STATE_DIRECTORY=self.state, RUNTIME_DIRECTORY=self.runtime, NOTIFY_SOCKET=notify,
                                            WATCHDOG_USEC=notify and '400000', WATCHDOG_PID=None, **self.env))
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
        return tap.run([CTL, '--socket', os.path.join(self.runtime, 'api.sock'), *args], **kwargs)

    def said(self):
        if not os.path.exists(self.log):
            return ''
        with open(self.log, encoding='utf-8', errors='replace') as f:
            return f.read()

    def rows(self, question='SELECT * FROM runs ORDER BY id'):
        if not os.path.exists(os.path.join(self.state, 'state.db')):
            return []
        db = sqlite3.connect(os.path.join(self.state, 'state.db'), timeout=20)
        db.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in db.execute(question)]
        except sqlite3.OperationalError:
            return []
        finally:
            db.close()

    def ended(self, state='succeeded'):
        return [r for r in self.rows() if r['state'] == state]

    def processes(self):
        """All that runs for this daemon, itself included, with their command lines."""
        found, mark = {}, b'STATE_DIRECTORY=' + self.state.encode() + b'\0'
        for path in glob.glob('/proc/[0-9]*'):
            try:
                with open(path + '/environ', 'rb') as f:
                    ours = mark in f.read() + b'\0'
                if ours:
                    with open(path + '/cmdline', 'rb') as f:
                        words = [w.decode(errors='replace') for w in f.read().split(b'\0')]
                    if any(words):      # not one that has ended
                        found[int(path.split('/')[2])] = words
            except OSError:
                pass
        return found

    def workers(self):
        """Processes of runs, by job."""
        return {words[2]: pid for pid, words in self.processes().items() if words[1:2] == ['--once']}

    def worker(self, job=None):
        return self.workers().get(job or self.name)

    def partials(self):
        return ovb.leftovers(self.repo)

    def locks(self):
        return [f for f in glob.glob(os.path.join(self.repo, '.locks', '*')) if os.path.exists(f)]

    def quiet(self, name):
        tap.is_((self.workers(), self.locks(), self.partials()), ({}, [], []), name + ': no process, no lock, no unfinished point')
        bad = [p for p in ovb.points(self.repo) if ovb.verify(p).status != 0]
        tap.is_(bad, [], name + ': all points are good')
