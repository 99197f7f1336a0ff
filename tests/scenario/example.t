#!/usr/bin/python3 -B
"""The example configurations are good, and what conf/backupd.conf.example says of each key's default is what the programs take.
(That it has each key is in manuals.t.)"""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import images
import ovb
import tap

CONF = os.path.join(tap.TOP, 'conf')
VALUES = os.path.join(tap.BUILD, 'tests', 'tools', 'conf_values')
EXAMPLES = 'backupd.conf.example', 'minimal.conf'
NOT_ALONE = 'window_end',       # keys that may only be given with another one
LITERAL = r'("[^"]*"|\d+|true|false)(?=[,.;\s]|$)'
PROSE = {'the first one above': '"local"'}      # defaults that are not said literally, but are not "unset" either
# What each kind of job has at least, by its name in the example.
LEAST = {'nightly': 'domains = [ "*" ];', 'golden': 'images = [ "/srv/images/*.img" ];', 'pull': 'from = "offsite";'}


def read(path):
    with open(path, encoding='utf-8') as f:
        return f.read()


def write(name, text):
    with open(name, 'w', encoding='utf-8') as f:
        f.write(text)
    return name


def example_keys(text):
    """[(path, key, comment)]: each key that is assigned, with the comments above and behind it."""
    found, stack, comment, waiting = [], [], '', None
    for line in text.splitlines():
        code, _, behind = re.match(r'((?:"(?:\\.|[^"\\])*"|[^"#])*)(#?)(.*)', line).groups()
        if not code.strip():
            comment = comment + ' ' + behind.strip() if behind else ''
            continue
        for m in re.finditer(r'(\w+) *=|[({};)]', re.sub(r'"(?:\\.|[^"\\])*"', '""', code)):
            if m[1]:
                found.append((tuple(filter(None, stack)), m[1], (comment + ' ' + behind).strip()))
                comment, waiting = '', m[1]
            elif m[0] in '({':
                stack.append(waiting)
                waiting = None
            elif m[0] == ';':
                waiting = None
            else:
                stack.pop()
    return found


def default_of(comment):
    """What a comment says: a literal, "unset", None if nothing is said."""
    m = re.search(r'\bDefault: (?:%s|([^".][^.]*))' % LITERAL, comment)
    return m and (m[1] or PROSE.get(m[2].split(',')[0], 'unset'))


def values(name):
    r = tap.run([VALUES, name])
    if r.status != 0:
        tap.diag(r.stderr)
    return dict(re.findall(r'^(\S+) = (.*)$', r.stdout, re.M))


def stated():
    """{place: default} of every key of the example; the place is as conf_values prints it."""
    found, needed, silent, who = {}, [], [], None
    text = read(os.path.join(CONF, 'backupd.conf.example'))
    names = iter(re.findall(r'^ *name = "([^"]*)";', text, re.M))
    for path, key, comment in example_keys(text):
        if path == () or path[0] == 'notify':    # the defaults of its keys are in tests/unit/test_config_notify.c
            continue
        if key == 'name':
            who = next(names)
        place = '.'.join([who if path[0] in ('repositories', 'jobs') else path[0], *path[1:], key])
        default = default_of(comment)
        if default is not None:
            found[place] = default
        elif 'Needed' in comment or key in LEAST.get(who, ''):
            needed.append(key)
        else:
            silent.append(place)
    return found, needed, silent


def least(extra):
    """The three kinds of job with nothing but what they need, and what is given besides: {job, repository or group: text}."""
    more = dict(extra)
    urls = ('local', '/var/backups/vm'), ('offsite', 'sftp://backup@vault.example.net/srv/vm')
    repositories = ',\n  '.join('{ name = "%s"; url = "%s";%s }' % (name, url, more.pop(name, '')) for name, url in urls)
    jobs = ',\n  '.join('{ name = "%s"; %s%s }' % (name, text, more.pop(name, '')) for name, text in LEAST.items())
    return 'repositories = ( %s );\njobs = ( %s );\n' % (repositories, jobs) + ''.join('%s = {%s };\n' % group for group in more.items())


def test_defaults():
    defaults, needed, silent = stated()
    said = {place.split('.', 1)[1] for place in defaults} | set(needed)     # a key may be repeated in a later job, without a word
    tap.is_([place for place in silent if place.split('.', 1)[1] not in said], [], 'each key says its default, or that it is needed')
    tap.is_(sorted(set(needed)), ['domains', 'from', 'images', 'name', 'url'], 'what is needed')
    real = values(write('least.conf', least({})))
    tap.is_([place for place in [*defaults, *silent] if place not in real], [], 'tests/tools/conf_values.c knows each key')
    wrong = ['%s: the example says %s, it is %s' % (place, says, real.get(place)) for place, says in defaults.items() if says != real.get(place)]
    tap.is_(wrong, [], 'what the example says of %d defaults is so' % len(defaults))
    extra = {}
    for place, says in defaults.items():
        who, _, key = place.partition('.')
        if says != 'unset' and not key.startswith(('keep.', 'hooks.')) and key not in NOT_ALONE:
            extra[who] = extra.get(who, '') + ' %s = %s;' % (key, says)
    same = {place: v for place, v in values(write('spelled.conf', least(extra))).items() if real[place] != v}
    tap.is_(same, {}, 'to write them out changes nothing')
    tap.ok(len(defaults) > 40 and len(real) > 100, 'they are all looked at')


def checked(name):
    """--check-config of one of our files, with the images that it names and libvirt's own driver for tests."""
    text = read(os.path.join(CONF, name)).replace('qemu:///system', 'test:///default').replace('"/', '"%s/' % tap.WORK)
    return tap.run([ovb.BACKUPD, '--config', write(name, text), '--check-config'])


def test_examples():
    os.makedirs('srv/images')
    images.make('holes', 'srv/images/debian.img', size=1 << 20)
    for path in 'etc/openvirt-backup/mail.password', 'etc/openvirt-backup/chat.token', 'usr/sbin/sendmail':
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.chmod(write(path, 'secret\n'), 0o700)
    for name in EXAMPLES:
        r = checked(name)
        tap.ok(r.status == 0 and 'the configuration is good' in r.stdout, '%s is good' % name) or tap.diag(r.stderr)
        tap.is_(r.stderr, '', '%s: no warning' % name)


def test_minimal():
    text = read(os.path.join(CONF, 'minimal.conf'))
    tap.is_(len(re.findall(r'^[^#\n]', text, re.M)), 5, 'conf/minimal.conf has five lines')
    r = checked('minimal.conf')
    tap.is_((r.status, r.stderr), (0, ''), 'without a warning')
    os.makedirs('var/backups')
    r = tap.run([ovb.BACKUPD, '--config', 'minimal.conf', '--once', 'images'], umask=0)
    tap.is_((r.status, len(ovb.points('var/backups/vm'))), (0, 1), 'and is enough for a backup') or tap.diag(r.stderr)
    modes = {os.path.join(at, name): os.lstat(os.path.join(at, name)).st_mode & 0o777 for at, folders, files in os.walk('var/backups/vm') for name in ['.', *folders, *files]}
    open_ = ['%s: %o' % (path, mode) for path, mode in modes.items() if mode != (0o700 if os.path.isdir(path) else 0o600)]
    tap.ok(len(modes) > 5, 'it made files and folders')
    tap.is_(open_, [], 'which only their owner may read')


test_defaults()
test_examples()
test_minimal()
tap.done_testing()
