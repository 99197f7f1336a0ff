#!/usr/bin/python3 -B
"""Who is told, and the hooks around a job: mail to a server or by sendmail, webhooks, alarms; whatever of it fails or hangs, backups and the schedule go on."""
import http.server
import json
import os
import socketserver
import ssl
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import daemon
import images
import ovb
import tap
from daemon import wait_for

def write(path, text, mode=0o600):
    with open(path, 'w', encoding='utf-8') as f:
        f.write(text)
    os.chmod(path, mode)
    return os.path.abspath(path)


def read(path):
    if not os.path.exists(path):
        return ''
    with open(path, encoding='utf-8', errors='replace') as f:
        return f.read()


# Those who are told.

class Smtp(socketserver.ThreadingTCPServer):
    """A mail server.  login: (user, password) that it demands; refuse: what it answers to RCPT; hang: it accepts and says nothing; tls: (cert, key)."""
    daemon_threads = allow_reuse_address = True

    def __init__(self, login=None, refuse=None, hang=False, tls=None):
        super().__init__(('127.0.0.1', 0), Mail)
        self.login, self.refuse, self.hang, self.tls, self.mails = login, refuse, hang, tls, []
        self.url = 'smtp://127.0.0.1:%d' % self.server_address[1]
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


class Mail(socketserver.StreamRequestHandler):
    timeout = 60

    def say(self, line):
        self.wfile.write(line.encode() + b'\r\n')

    def handle(self):
        try:
            self.talk()
        except OSError:
            pass

    def talk(self):
        if self.server.hang:
            self.connection.recv(1000)
            time.sleep(60)
            return
        self.say('220 test')
        secure = known = False
        to, sender = [], ''
        while line := self.rfile.readline().decode().strip():
            word = line.split(' ')[0].upper()
            if word == 'EHLO':
                if self.server.tls and not secure:
                    self.say('250-STARTTLS')
                self.say('250 AUTH PLAIN')
            elif word == 'STARTTLS':
                self.say('220 go')
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(*self.server.tls)
                self.connection = context.wrap_socket(self.connection, server_side=True)
                self.setup_files()
                secure = True
            elif word == 'AUTH':
                import base64
                given = line.split(' ')[2] if line.count(' ') > 1 else self.ask()
                known = tuple(base64.b64decode(given).decode().split('\0')[1:]) == self.server.login
                self.say('235 ok' if known else '535 5.7.8 wrong password')
            elif word == 'MAIL':
                sender = line
                self.say('250 ok' if known or not self.server.login else '530 5.7.0 log in first')
            elif word == 'RCPT':
                to.append(line)
                self.say(self.server.refuse or '250 ok')
            elif word == 'DATA':
                self.say('354 go on')
                data = b''
                while not data.endswith(b'\r\n.\r\n'):
                    data += self.rfile.readline()
                self.server.mails.append({'from': sender, 'to': to, 'data': data.decode(), 'secure': secure})
                self.say('250 ok')
            elif word == 'QUIT':
                self.say('221 bye')
                return
            else:
                self.say('500 what?')

    def ask(self):
        self.say('334 ')
        return self.rfile.readline().decode().strip()

    def setup_files(self):
        self.rfile, self.wfile = self.connection.makefile('rb'), self.connection.makefile('wb', 0)


class Web(http.server.ThreadingHTTPServer):
    """A web server that takes everything, or answers with another status."""
    daemon_threads = True

    def __init__(self, status=200):
        super().__init__(('127.0.0.1', 0), Post)
        self.status, self.posts = status, []
        self.url = 'http://127.0.0.1:%d' % self.server_address[1]
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def paths(self):
        return [p['path'] for p in self.posts]


class Post(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get('Content-Length', 0))).decode()
        self.server.posts.append({'path': self.path, 'headers': dict(self.headers), 'body': body})
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(b'so it is')

    def log_message(self, *args):
        pass


SENDMAIL = '''#!/bin/sh
{ echo "to: $*"; cat; echo "== end"; } >> %s
exit %d
'''


def sendmail(name, status=0):
    """A stand-in: (its path, where it puts mails)."""
    box = os.path.abspath(name + '.box')
    return write(name + '.sh', SENDMAIL % (box, status), 0o700), box


# Those who tell.

def configure(name, *jobs, notify=None, repository=None, **keys):
    conf = ovb.make_config(*jobs, repository=repository or name + '.repo', file=name + '.conf')
    text = read(conf)
    for key, v in keys.items():
        text = text.replace('name = "local";', 'name = "local"; %s = %s;' % (key, ovb.value(v)))
    return write(conf, text + ('notify = %s;\n' % ovb.value(notify) if notify else ''))


def job(image='a.img', name='j', hooks=None, **keys):
    return ovb.image_job(image, name=name, **({'hooks': hooks} if hooks else {}), **keys)


class Daemon(daemon.Daemon):
    def __init__(self, name, *jobs, **keys):
        super().__init__(name, configure(name, *jobs, **keys))


def gone(path):
    """The process whose number is in the file has ended."""
    return wait_for(lambda: read(path).strip() and not os.path.exists('/proc/%s' % read(path).strip()), 10)


# Hooks.

SHOW = 'echo "$OVB_HOOK $OVB_JOB ${OVB_VM:--} ${OVB_RESULT:--} $OVB_SUCCEEDED/$OVB_FAILED" >> hooks.out; '


def test_hooks():
    hooks = {k: SHOW for k in ('before_job', 'after_job', 'before_domain', 'after_domain')}
    hooks['after_domain'] += 'echo "$OVB_POINT $OVB_KIND $OVB_CONSISTENCY $OVB_REPOSITORY" >> hooks.point; env > hooks.env'
    conf = configure('hooks', {**job('a.img', hooks=hooks), 'images': [os.path.abspath('a.img'), os.path.abspath('b.img')]})
    r = ovb.once(conf, 'j')
    tap.is_((r.status, r.stderr), (0, ''), 'a job with hooks')
    tap.is_(read('hooks.out').splitlines(), ['before_job j - - 0/0', 'before_domain j a - 0/0', 'after_domain j a succeeded 1/0', 'before_domain j b - 1/0',
                                            'after_domain j b succeeded 2/0', 'after_job j - succeeded 2/0'], 'each runs at its time, with the facts')
    tap.is_(read('hooks.point').splitlines(), ['%s@%s full offline %s' % (vm, os.path.basename(p), os.path.abspath('hooks.repo')) for vm, p in zip('ab', ovb.points('hooks.repo'))],
            'the point that was made')
    tap.unlike(read('hooks.env'), '^(NOTIFY_SOCKET|OVB_RESULT_FILE)=', 'what is the program\'s own is not in their environment')

    conf = configure('refuses', job('a.img', hooks={'before_job': 'echo no disk >&2; exit 3', 'after_job': 'echo "$OVB_RESULT $OVB_ERROR" > refuses.after'}))
    r = ovb.once(conf, 'j')
    tap.is_(r.status, 1, 'a job whose hook before_job fails')
    tap.like(r.stderr, '^virt-backupd: hook before_job: it ended with status 3: no disk$', 'says so')
    tap.is_(ovb.points('refuses.repo'), [], 'nothing is backed up')
    tap.ok(not os.path.exists('refuses.repo'), 'and the repository not touched')
    tap.like(read('refuses.after'), '^failed hook before_job: it ended with status 3: no disk$', 'after_job knows it')

    conf = configure('one', {**job('a.img', hooks={'before_domain': '[ "$OVB_VM" != a ]', 'after_domain': 'echo "$OVB_VM $OVB_RESULT" >> one.after; exit 4', 'after_job': 'kill -9 $$'}),
                             'images': [os.path.abspath('a.img'), os.path.abspath('b.img')]})
    r = ovb.once(conf, 'j')
    tap.is_(r.status, 1, 'a machine whose hook before_domain fails')
    tap.is_([os.path.basename(os.path.dirname(p)) for p in ovb.points('one.repo')], ['b'], 'is not backed up, the others are')
    tap.is_(read('one.after').splitlines(), ['a failed', 'b succeeded'], 'after_domain is run for both')
    tap.like(r.stderr, '^virt-backupd: a: hook before_domain: it ended with status 1$', 'the machine says why')
    tap.like(r.stderr, '^virt-backupd: warning: hook after_domain: it ended with status 4$', 'one that comes after fails with a warning')
    tap.like(r.stderr, r'^virt-backupd: warning: hook after_job: it was killed by signal 9', 'so does one that is killed')

    conf = configure('hangs', job('a.img', hooks={'after_domain': 'sleep 300 & echo $! > hangs.pid; echo waiting; wait', 'timeout': 1}))
    r = ovb.once(conf, 'j', timeout=60)
    tap.is_(r.status, 0, 'a hook that hangs harms no backup')
    tap.like(r.stderr, '^virt-backupd: warning: hook after_domain: it did not end within 1 s, and was killed: waiting$', 'it is killed at its deadline')
    tap.ok(gone('hangs.pid'), 'with all that it has started')

    conf = configure('talks', job('a.img', hooks={'before_job': 'yes "so it is and so it stays" | head -n 200000; printf "%s" last'}))
    r = ovb.once(conf, 'j', timeout=60)
    tap.ok(r.status == 0 and 60000 < len(r.stderr) < 300000, 'what a hook prints is bounded') or tap.diag('%d' % len(r.stderr))
    tap.like(r.stderr, r'^virt-backupd: hook before_job says: \(more of its output is not kept\)$', 'which is said')

    conf = configure('lost', job('a.img', hooks={'before_job': 'sleep 300 & echo $! > lost.pid; wait'}))
    child = tap.start(ovb.once_command(conf, 'j'))
    wait_for(lambda: read('lost.pid').strip())
    child.kill()
    child.wait()
    tap.ok(gone('lost.pid'), 'a run that is killed leaves no hook')
    os.unlink('lost.pid')
    child = tap.start(ovb.once_command(conf, 'j'), stderr=-1)
    wait_for(lambda: read('lost.pid').strip())
    child.terminate()
    text = child.communicate(timeout=30)[1].decode()
    tap.ok(child.returncode == 1 and gone('lost.pid'), 'one that is told to stop does not wait for it')
    tap.like(text, '^virt-backupd: hook before_job: it was killed, as the run is to stop$', 'and says so')


# A run without a daemon.

def test_once():
    path, box = sendmail('once')
    web = Web()
    notify = {'mail': {'to': ['root', 'ops@example.net'], 'from': 'backup@example.net', 'sendmail': path, 'on': ['success', 'failure']},
              'webhook': {'ping': web.url + '/ping/{job}'}}
    conf = configure('once', job('a.img'), job('missing.img', name='bad'), notify=notify)
    r = ovb.once(conf, 'j')
    tap.is_((r.status, r.stderr), (0, ''), '--once')
    tap.is_(web.paths(), ['/ping/j/start', '/ping/j'], 'start and success are pinged')
    r = ovb.once(conf, 'bad')
    tap.is_(r.status, 1, '--once of a job that fails')
    tap.is_(web.paths()[2:], ['/ping/bad/start', '/ping/bad/fail'], 'start and failure are pinged')
    tap.like(web.posts[3]['body'], 'missing.img matches no file', 'the ping says why')
    mails = read(box).split('== end\n')
    tap.is_(len(mails), 3, 'two mails')
    tap.like(mails[0], '^to: -i -f backup@example.net -- root ops@example.net$', 'sendmail gets the addresses')
    tap.like(mails[0], r'^Subject: \[openvirt-backup\] \S+: job j succeeded$', 'a subject')
    tap.like(mails[0], r'^a@\d{4}-\S+Z: full, offline, \S+ kB stored$', 'what was done')
    tap.like(mails[0], r'^Date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d \+0000$', 'a date')
    tap.like(mails[1], r'^Subject: .*: job bad failed$', 'of the failure')
    tap.like(mails[1], r'missing.img matches no file', 'and why')

    secret = write('secret', 'x\n', 0o640)
    conf = configure('checked', job('a.img'), notify={'mail': {'to': ['root'], 'server': 'smtp://h', 'user': 'u', 'password_file': secret},
                                                      'webhook': {'url': 'http://h/', 'token_file': '/nonexistent/token'}})
    r = tap.run([ovb.BACKUPD, '--config', conf, '--check-config'])
    tap.is_(r.status, 0, '--check-config with secrets that others can read')
    tap.like(r.stderr, '^warning: notify: others may read the password in %s .mode 0640.: chmod 600 it' % secret, 'warns')
    tap.like(r.stderr, '^warning: notify: cannot read the token in /nonexistent/token: No such file', 'and of one that is not there')

    path, box = sendmail('broken', 75)
    web = Web(500)
    for what, mail in ('a sendmail that fails', {'sendmail': path}), ('a server that is not there', {'server': 'smtp://127.0.0.1:1'}), \
            ('no sendmail', {'sendmail': '/nonexistent/sendmail'}):
        conf = configure('warns', job('a.img'), notify={'mail': {'to': ['root'], 'on': ['success'], **mail}, 'webhook': {'success_url': web.url + '/secret'}})
        r = ovb.once(conf, 'j')
        tap.is_(r.status, 0, what + ' is no failure')
        tap.like(r.stderr, r'^virt-backupd: warning: not notified by mail: (%s/broken.sh: it ended with status 75|smtp://127.0.0.1:1: .*see whether it runs|'
                 '/nonexistent/sendmail: it ended with status 127: it cannot be run)' % tap.WORK, 'but a warning')
        tap.like(r.stderr, r'^virt-backupd: warning: not notified by webhook: http://127.0.0.1:\d+/\.\.\.: it answers with the HTTP status 500: so it is$', 'so is a webhook\'s 500')


# The daemon.

def make_certificate():
    r = tap.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', 'key.pem', '-out', 'cert.pem', '-days', '2',
                 '-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1'])
    return ('cert.pem', 'key.pem') if r.status == 0 else None


def test_daemon():
    tls = make_certificate()
    smtp, web = Smtp(login=('backup', 'geheim'), tls=tls), Web()
    password, token = write('password', 'geheim\n'), write('token', 'abc123\n')
    mail = {'to': ['ops@example.net', 'root@example.net'], 'server': smtp.url, 'user': 'backup', 'password_file': password,
            **({'ca_file': os.path.abspath('cert.pem')} if tls else {'starttls': 'never'})}
    events = ['start', 'success', 'failure', 'retry']
    d = Daemon('told', job('a.img', name='good'), job('missing.img', name='bad', retries=1, retry_wait=1),
               notify={'mail': mail, 'webhook': {'url': web.url + '/hook', 'token_file': token, 'on': events}}).start()
    tap.is_(d.ctl('run', 'good', '--wait').status, 0, 'a run of the daemon')
    tap.ok(wait_for(lambda: len(web.posts) == 2), 'start and success are posted')
    facts = [json.loads(p['body']) for p in web.posts]
    tap.is_([(f['event'], f['job'], f['run'], f['repository']) for f in facts], [('start', 'good', 1, 'local'), ('success', 'good', 1, 'local')], 'with the facts')
    tap.is_((facts[1]['state'], facts[1]['machines'], facts[1]['error']), ('succeeded', {'succeeded': 1, 'failed': 0}, None), 'how it ended')
    tap.is_({(p['headers'].get('Authorization'), p['headers'].get('Content-Type')) for p in web.posts}, {('Bearer abc123', 'application/json')}, 'as JSON, with the token')
    d.ctl('run', 'bad')
    tap.ok(wait_for(lambda: len(web.posts) == 6), 'a run that fails, and is tried again')
    facts = [json.loads(p['body']) for p in web.posts[2:]]
    tap.is_([(f['event'], f['run'], f['next_run']) for f in facts], [('start', 2, None), ('retry', 2, 3), ('start', 3, None), ('failure', 3, None)], 'the last one is a failure')
    tap.ok(wait_for(lambda: len(smtp.mails) == 1), 'of which a mail tells')
    m = smtp.mails[0]
    tap.ok(m['secure'] == bool(tls), 'by a connection that is encrypted' if tls else 'in the clear, as configured')
    tap.is_(m['to'], ['RCPT TO:<ops@example.net>', 'RCPT TO:<root@example.net>'], 'to those it is meant for')
    tap.like(m['data'], r'(?m)^Subject: \[openvirt-backup\] \S+: job bad failed\r$', 'its subject')
    tap.like(m['data'], r'missing.img matches no file', 'its reason')
    tap.like(m['data'], r'(?m)^virt-backupctl log 3 says more', 'and what says more')
    tap.unlike(d.said(), 'not notified', 'nothing failed') or tap.diag(d.said())

    r = d.ctl('notify-test')
    tap.is_((r.status, r.stdout, r.stderr), (0, 'webhook: sent\nmail: sent\n', ''), 'notify-test')
    tap.is_((json.loads(web.posts[-1]['body'])['event'], 'This is a test' in smtp.mails[-1]['data']), ('test', True), 'what they get')
    tap.is_(d.ctl('notify-test', '--job', 'bad').status, 0, 'notify-test --job')
    tap.is_(json.loads(web.posts[-1]['body'])['job'], 'bad', 'is as if of that job')
    r = d.ctl('notify-test', '--job', 'nosuch')
    tap.is_((r.status, r.stderr), (1, 'virt-backupctl: there is no job "nosuch"\n'), 'notify-test of a job that there is not')
    write('password', 'falsch\n')
    web.status = 503
    r = d.ctl('--json', 'notify-test')
    tap.is_(r.status, 1, 'a wrong password, and a webhook that is busy')
    channels = json.loads(r.stdout)['channels']
    tap.is_([(c['channel'], c['ok']) for c in channels], [('webhook', False), ('mail', False)], 'each channel says it')
    tap.like(channels[0]['error'], 'HTTP status 503', 'the webhook\'s answer')
    tap.like(channels[1]['error'], '(denied|authenticate|Login).*see user and password_file', 'what to look at')
    os.chmod('password', 0o644)
    tap.like(d.ctl('notify-test').stdout, r'^mail: failed: smtp://\S+: others may read the password in %s .mode 0644.: chmod 600' % password, 'a password that others can read is refused')
    os.unlink('password')
    tap.like(d.ctl('notify-test').stdout, r'^mail: failed: smtp://\S+: cannot read the password in %s: No such file' % password, 'one that is not there')
    tap.is_(d.stop(), 0, 'it ends')
    d = Daemon('untold', job()).start()
    r = d.ctl('notify-test')
    tap.ok(r.status == 1 and 'nobody is to be notified: add a group "notify"' in r.stderr, 'notify-test without anybody to notify')
    tap.is_(d.stop(), 0, 'it ends, too')


def test_trouble():
    """Whatever is wrong with those who are told: a line in both logs, and the schedule goes on."""
    for name, smtp, web, wanted in (('refused', Smtp(refuse='550 5.1.1 no such user'), Web(500), ('no such user', 'HTTP status 500')),
                                    ('hung', Smtp(hang=True), Web(), ('tim', None)),
                                    ('absent', None, None, ('see whether it runs', 'see whether it runs'))):
        server, url = (smtp.url, web.url) if smtp else ('smtp://127.0.0.1:1', 'http://127.0.0.1:1')
        events = ['success']
        d = Daemon(name, job('a.img', name=name, schedule='*:*:0/2'), notify={'mail': {'to': ['root'], 'server': server, 'on': events, 'timeout': 2},
                                                                              'webhook': {'url': url, 'on': events, 'timeout': 2}}).start()
        tap.ok(d.says('warning: not notified by mail (success): %s: ' % server), name + ': a line in the daemon\'s log')
        line = next(line for line in d.said().splitlines() if 'not notified by mail' in line)
        tap.like(line, r'^virt-backupd: job %s: run 1: warning: .*%s' % (name, wanted[0]), name + ': which run it is, and why')
        if wanted[1]:
            tap.like(d.said(), r'^virt-backupd: job %s: run 1: warning: not notified by webhook \(success\): .*%s' % (name, wanted[1]), name + ': the webhook, too')
        tap.like(d.ctl('log', '1').stdout, 'warning: not notified by mail', name + ': a line in the log of the run')
        seen = d.said().count('succeeded')
        tap.ok(wait_for(lambda: d.said().count('succeeded') > seen), name + ': the schedule goes on')
        tap.is_({r['state'] for r in json.loads(d.ctl('--json', 'history').stdout)}, {'succeeded'}, name + ': all runs succeeded')
        tap.is_(d.stop(), 0, name + ': it ends')


def test_hook_hangs():
    d = Daemon('stuck', job('a.img', name='stuck', schedule='*:*:0/2', hooks={'after_job': 'echo stuck; sleep 300', 'timeout': 1}),
               job('a.img', name='upset', hooks={'before_job': 'echo no disk; exit 1', 'after_job': 'echo all is well; exit 1'}),
               job('a.img', name='never', hooks={'before_job': 'sleep 300 & echo $! > never.pid; wait'})).start()
    tap.ok(d.says('job stuck: run 1: warning: hook after_job: it did not end within 1 s, and was killed: stuck'), 'a hook that hangs: a line in the log')
    tap.ok(d.says('job stuck: run 1 succeeded'), 'its run succeeded')
    tap.ok(wait_for(lambda: len(json.loads(d.ctl('--json', 'history').stdout)) > 1), 'the schedule goes on')
    tap.like(d.ctl('log', '1').stdout, r'hook after_job says: stuck\n', 'what it printed is in the log of the run')
    r = d.ctl('run', 'upset', '--wait')
    tap.like(r.stderr, r'^virt-backupctl: run \d+ of upset: failed: hook before_job: it ended with status 1: no disk; virt-backupctl log \d+ says more$', 'one that forbids a run')
    run = json.loads(d.ctl('--json', 'run', 'never').stdout)['id']
    wait_for(lambda: read('never.pid').strip())
    tap.ok(wait_for(lambda: any(r['phase'] == 'hook before_job' for r in d.status()['runs'])), 'status shows which hook a run is at')
    d.kill()
    tap.ok(gone('never.pid'), 'a daemon that is killed leaves no hook')
    d.start()
    # Its worker has ended by then, or is just about to, which on a busy machine takes longer.
    tap.ok(wait_for(lambda: 'job never: run %d was interrupted: the daemon, or the machine, went down' % run in d.said() or
                    'job never: run %d interrupted: the daemon ended while it ran' % run in d.said()), 'the next one names the run that was interrupted') or tap.diag(d.said())
    tap.like(d.said(), r'^virt-backupd: job never: run %d was interrupted, and is queued again as run \d+$' % run, 'and by which one it is tried again')
    tap.is_(d.stop(), 0, 'it ends')


# Alarms.

def test_overdue():
    path, box = sendmail('overdue')
    d = Daemon('late', job('a.img', name='late', alert_after='2d'), job('a.img', name='new', alert_after='2d'), job('a.img', name='any'),
               notify={'mail': {'to': ['root'], 'sendmail': path}}).start()
    tap.is_([j['overdue'] for j in d.status()['jobs']], [False, False, False], 'a job that is new is not overdue')
    tap.is_(d.stop(), 0, 'three days later')
    now = int(time.time())
    d.sql("UPDATE settings SET value = ? WHERE name = 'since late'", now - 3 * 86400)
    d.start()
    tap.ok(d.says('job late: it has never succeeded (alert_after = "2d")'), 'it is: a line in the log')
    tap.is_([j['overdue'] for j in d.status()['jobs']], [True, False, False], 'it is overdue')
    tap.is_(d.status()['warnings'], ['job late: it has never succeeded (alert_after = "2d")'], 'status warns')
    tap.like(d.ctl('status').stdout, '^job late: it has never succeeded', 'at its head')
    tap.ok(wait_for(lambda: '== end' in read(box)), 'a mail')
    tap.like(read(box), r'^Subject: .*: job late has never succeeded$', 'says it')
    tap.is_(d.stop(), 0, 'it ends')
    d.start()
    tap.is_([j['overdue'] for j in d.status()['jobs']], [True, False, False], 'after a restart it is overdue')
    tap.is_(d.stop(), 0, 'it ends')
    tap.is_((d.said().count('job late: it has'), read(box).count('== end')), (1, 1), 'and is not told again')
    d.sql("UPDATE settings SET value = ? WHERE name = 'overdue late'", now - 86400 - 5)
    d.sql("INSERT INTO successes (job, vm, finished) VALUES ('late', '', ?)", now - 5 * 86400)
    d.start()
    tap.ok(d.says('job late: no success for 5 d (alert_after = "2d")'), 'the day after it is')
    tap.is_(d.ctl('run', 'late', '--wait').status, 0, 'it runs')
    tap.is_(([j['overdue'] for j in d.status()['jobs']], d.status()['warnings']), ([False] * 3, []), 'and is not overdue any more')
    tap.is_(d.stop(), 0, 'it ends')
    tap.is_(read(box).count('== end'), 2, 'two mails in all')


def test_low_space():
    folder = ovb.mount_tmpfs('space', 16 << 20)
    if folder not in tap.mounts():
        tap.skip(1, 'nothing can be mounted here')
        return
    web = Web()
    d = Daemon('space', job('a.img', name='space'), repository=os.path.join(folder, 'repo'), low_space='8M',
               notify={'webhook': {'url': web.url, 'on': ['low_space']}}).start()
    tap.is_(d.ctl('run', 'space', '--wait').status, 0, 'a run')
    tap.ok(wait_for(lambda: d.status()['repositories'][0]['free'] is not None), 'the space is known')
    tap.is_([(r['low'], r['total']) for r in d.status()['repositories']], [(False, 16 << 20)], 'there is enough')
    images.make('full', os.path.join(folder, 'filler'), size=10 << 20)
    for _ in range(2):
        d.ctl('run', 'space', '--wait')     # after it, the space is looked at
        tap.ok(d.says('repository local (%s/repo): only ' % folder), 'there is little: a line in the log')
    tap.ok(wait_for(lambda: d.status()['repositories'][0]['low']), 'it is low')
    tap.like(d.status()['warnings'][0], r'^repository local: only \S+ MB of 17 MB left \(low_space = "8M"\)$', 'status warns')
    tap.ok(wait_for(lambda: web.posts), 'somebody is told')
    facts = json.loads(web.posts[0]['body'])
    tap.is_((facts['event'], facts['repository'], facts['low_space'], facts['total']), ('low_space', 'local', '8M', 16 << 20), 'the facts')
    os.unlink(os.path.join(folder, 'filler'))
    d.ctl('run', 'space', '--wait')
    tap.ok(d.says('repository local: there is room again: '), 'there is room again')
    tap.is_((d.said().count(': only '), len(web.posts)), (1, 1), 'it was told once')
    tap.is_(d.stop(), 0, 'it ends')


images.make('full', 'a.img', size=1 << 16)
images.make('full', 'b.img', size=1 << 16)
for test in test_hooks, test_once, test_daemon, test_trouble, test_hook_hangs, test_overdue, test_low_space:
    test()
tap.done_testing()
