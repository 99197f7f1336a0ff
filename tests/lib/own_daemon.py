"""daemon.py's, with a repository and a configuration of its own.

    d = own_daemon.Daemon('plain').start()              one job "plain" over small.img, every other second, into ./plain.repo
    d = own_daemon.Daemon('many', jobs=[{...}, {...}])  these jobs
    d.stop(); d.kill(); d.start()
    d.said(), d.rows(), d.ended('failed')           what it printed, and what is in its database
    d.ctl('status')                                 virt-backupctl with its socket
    d.quiet('at the end')                           no process, no lock, no unfinished point; all points are good
"""
import glob
import os

import daemon
import ovb
import tap
from daemon import wait_for     # what its users need, too


class Daemon(daemon.Daemon):
    def __init__(self, name, state=None, runtime=None, repository=None, jobs=None, **keys):
        super().__init__(name, name + '.conf', state, runtime)
        self.repo = os.path.abspath(repository or name + '.repo')
        self.env = {}
        self.configure(**({'jobs': jobs} if jobs else {}), **keys)

    def configure(self, image='small.img', daemon='stop_timeout = 10;', schedule='*:*:0/2', jobs=None, **keys):
        jobs = jobs or [ovb.image_job(image, name=self.name, schedule=schedule, **keys)]
        ovb.make_config(*jobs, repository=self.repo, file=self.conf)
        with open(self.conf, 'a', encoding='utf-8') as f:
            f.write('daemon = { %s };\n' % daemon)

    def start(self, notify=None, wait=True):
        return super().start(wait, NOTIFY_SOCKET=notify, WATCHDOG_USEC=notify and '400000', **self.env)

    def ended(self, state='succeeded'):
        return self.runs(state)

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
