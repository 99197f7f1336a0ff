#!/usr/bin/python3 -B
"""Shell completion: bash and zsh offer the options that the programs have, and the jobs, runs and points that there are."""
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import images
import ovb
import tap

FOLDER = os.path.join(tap.TOP, 'packaging', 'completion')
ENV = {'PATH': '%s:%s' % (tap.BIN, os.environ['PATH'])}
BASH = '''. "$1"
COMP_LINE=$2 COMP_POINT=${#2}
_openvirt_backup virt-x
printf '%s\\n' "${COMPREPLY[@]}"
'''


def bash(line):
    r = tap.run(['bash', '-c', BASH, 'bash', os.path.join(FOLDER, 'openvirt-backup.bash'), line], env=ENV)
    if r.stderr.replace('bash: line 0: compopt: not currently executing completion function\n', ''):
        tap.diag(r.stderr)
    return sorted(filter(None, r.stdout.splitlines()))


class Zsh:
    """An interactive shell on a terminal, as completion works nowhere else."""

    SETUP = '''PS1='READY> '; zstyle ':completion:*' list-prompt ''; zstyle ':completion:*' menu no; LISTMAX=1000; unsetopt list_ambiguous auto_menu
fpath=(%s $fpath); autoload -U compinit; compinit -u -d ./zcompdump; bindkey '^I' list-choices; stty cols 200; print SET''UP\n'''

    def __init__(self):
        self.master, slave = pty.openpty()
        self.child = tap.start(['zsh', '-f', '-i'], env={**ENV, 'TERM': 'dumb', 'HOME': tap.WORK}, stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        os.write(self.master, (self.SETUP % FOLDER).encode())
        self.read_until('SETUP\r.*READY> ')

    def read_until(self, regex):
        seen, deadline = '', time.monotonic() + 60
        while not re.search(regex, seen, re.S) and time.monotonic() < deadline:
            if select.select([self.master], [], [], 1)[0]:
                seen += os.read(self.master, 65536).decode(errors='replace')
        return seen

    def offers(self, line):
        """What is listed below the line; then the line is given up, which a mark shows."""
        os.write(self.master, line.encode() + b'\t')
        os.write(self.master, b'\x15print -r MA""RK\n')
        shown = self.read_until('MARK\r.*READY> ')
        return sorted(set(re.findall(r'(?<=[\s])[\w@.:/-]+(?=[=*/|%@]?\s)', re.sub(r'\x1b\[[0-9;?]*[a-zA-Z]', '', shown).replace(line, ''))))


def options_of(program):
    return sorted(set(re.findall(r'^ +(?:-., +)?(--[a-z-]+)', tap.run([os.path.join(tap.BIN, program), '--help']).stdout, re.M)))


def commands_of(program):
    return sorted(re.findall(r'OPTION\.\.\.\] ([a-z-]+)', tap.run([os.path.join(tap.BIN, program), '--help']).stdout))


def check(name, offers, exact):
    def offered(line, wanted):
        got = offers(line)
        if not tap.ok(got == sorted(wanted) if exact else set(wanted) <= set(got), '%s: %s' % (name, line)):
            tap.diag('got:    %s' % got)
            tap.diag('wanted: %s' % sorted(wanted))

    for program in 'virt-backupctl', 'virt-backupd', 'virt-restore':
        offered(program + ' --', options_of(program))
    for program in 'virt-backupctl', 'virt-restore':
        offered(program + ' ', commands_of(program))
    offered('virt-backupctl -s api.sock run ', JOBS)
    offered('virt-backupctl -s api.sock --json history --job ', JOBS)
    offered('virt-backupctl -s api.sock log ', ['7'])
    offered('virt-restore --repository ./repo disk ', [SPEC, 'vda@latest'])
    offered('virt-restore --repository ./repo list ', ['vda'])
    offered('virt-restore --format ', ['raw', 'qcow2'])
    offered('virt-backupctl -s api', ['api.sock'])


JOBS = ['nightly', 'broken', 'long', 'later', 'busy', 'full']
images.make('mixed', 'vda.img', size=100000)
SPEC = ovb.spec(ovb.backup('vda.img'))
daemon = tap.start([os.path.join(tap.TOOLS, 'api_daemon'), 'api.sock'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
daemon.stdout.readline()
check('bash', bash, True)
tap.is_(bash('virt-restore -r ./repo disk vda@'), sorted([SPEC.split('@')[1], 'latest']),
        'bash: after a character that breaks words, the rest')
tap.is_(bash('virt-backupctl status '), [], 'bash: nothing where nothing goes')
if shutil.which('zsh'):
    zsh = Zsh()
    check('zsh', zsh.offers, False)
    tap.stop(zsh.child)
else:
    tap.skip(1, 'no zsh')
tap.done_testing()
