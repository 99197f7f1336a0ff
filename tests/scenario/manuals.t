#!/usr/bin/python3 -B
"""The manual pages say what the programs do: every option, command and key is in its page, and nothing else is; the examples work."""
import glob
import os
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import images
import messages
import ovb
import tap

MAN = os.path.join(tap.TOP, 'packaging', 'man')
PROGRAMS = {'virt-backupd.8': ('virt-backupd', 'backupd'), 'virt-backupctl.1': ('virt-backupctl', 'backupd/ctl'), 'virt-restore.1': ('virt-restore', 'restore')}
CONCEPTS = 'openvirt-backup.7'
EXAMPLE = os.path.join(tap.TOP, 'conf', 'backupd.conf.example')


def read(path):
    with open(path, encoding='utf-8') as f:
        return f.read()


def page(name):
    return read(os.path.join(MAN, name))


def same(got, wanted, name):
    """Equal sets; says what is missing and what is too much."""
    if not tap.ok(got == wanted, name):
        tap.diag('missing:        %s' % sorted(wanted - got))
        tap.diag('does not exist: %s' % sorted(got - wanted))


def none(got, name):
    if not tap.ok(not got, name):
        tap.diag(', '.join(sorted(got)))


# Pages.

def plain(text):
    """mdoc's escapes as the characters that they stand for."""
    for escape, character in ('\\(dq', '"'), ('\\(aq', "'"), ('\\-', '-'), ('\\&', ''), ('\\e', '\\'):
        text = text.replace(escape, character)
    return text


def sections(text, macro):
    """What stands below each heading (Sh or Ss)."""
    parts = re.split(r'^\.%s (.*)\n' % macro, text, flags=re.M)
    return {plain(heading): re.split(r'^\.Sh ', body, flags=re.M)[0] for heading, body in zip(parts[1::2], parts[2::2])}


def flags(text):
    """Every option that a page names, as it is typed."""
    found = set()
    for line in re.findall(r'^\.(.*)', text, re.M):
        is_flag = False
        for word in line.split():
            if re.fullmatch('[A-Z][a-z]', word):
                is_flag = word == 'Fl'
            elif is_flag and re.match(r'-?\w', word):
                found.update(['-' + word] if word[0] == '-' else ['-' + letter for letter in word])     # Fl -json, Fl fj
    return found


def option_items(text):
    """Items of the options' list: {long: (short or None, takes an argument)}."""
    found = {}
    for line in re.findall(r'^\.It (.*\bFl -.*)$', text, re.M):
        short, name = re.search(r'\bFl (\w)(?: |$)', line), re.search(r'\bFl -([\w-]+)', line)[1]
        found[name] = (short and short[1], ' Ar ' in line + ' ')
    return found


def key_items(body):
    """The keys that a list describes, with what is said about each; lists inside of items left out."""
    return dict(re.findall(r'^\.It Ic (\w+)\n(.*?)(?=^\.It Ic |\Z)', body, re.M | re.S))


# What the programs have.

def getopt_table(folder):
    found = {}
    for path in glob.glob(os.path.join(tap.TOP, folder, '*.c')):
        for name, arg, short in re.findall(r'\{ *"([\w-]+)", *(\w+_argument|[012]), *\w+, *(\'.\'|\w+) *\}', read(path)):
            found[name] = (short[1] if short[0] == "'" else None, arg not in ('no_argument', '0'))
    return found


def usage_options(text):
    """The same of a usage text."""
    found = {}
    for short, name, arg in re.findall(r'^ +(?:-(\w), +)?--([\w-]+)((?: |=)[A-Z]+)?(?: |$)', text, re.M):
        found[name] = (short or None, bool(arg))
    return found


def usage_commands(text):
    """{command: arguments} of "Usage: PROGRAM [OPTION...] COMMAND ARGUMENTS  what it does"."""
    return {name: words(args) for name, args in re.findall(r'\] ([a-z][\w-]*)((?: \S+)*)(?:  |$)', text, re.M)}


def words(text):
    """An argument's placeholder is in upper case in the usage text, and in italics in the page."""
    return re.sub(r'[][]', '', text).lower().split()


def manual_commands(text):
    return {name: words(re.sub(r'\b(Ar|Op|Oo|Oc|Ns|Li|No) ', '', args + ' '))
            for name, args in re.findall(r'^\.It Cm ([\w-]+)(.*)$', text, re.M)}


# Options and commands.

def accepted(program, name, short, arg):
    """Whether the program knows an option, long and short."""
    for option in filter(None, ('--' + name, short and '-' + short)):
        r = tap.run([os.path.join(tap.BIN, program), option, *(['x'] if arg else []), '--help'])
        if r.status is None or re.search('(unrecognized|invalid) option|argument', r.stderr):
            return False
    return True


def test_program(name, program, folder):
    text = page(name)
    usage = tap.run([os.path.join(tap.BIN, program), '--help'])
    tap.is_((usage.status, usage.stderr), (0, ''), '%s --help' % program)
    options, table, items = usage_options(usage.stdout), getopt_table(folder), option_items(text)
    tap.ok(len(table) >= 4, '%s: its table of options was found' % program)
    same(set(options.items()), set(table.items()), '%s: --help names the options of the table' % program)
    same(set(items.items()), set(table.items()), '%s describes them' % name)
    typed = {'--' + long for long in table} | {'-' + short for short, _ in table.values() if short}
    none(flags(text) - typed, '%s names no other option' % name)
    synopsis = flags(sections(text, 'Sh')['SYNOPSIS'])
    none({'-' + short if short else '--' + long for long, (short, _) in table.items()} - synopsis, '%s: all are in the synopsis' % name)
    refused = [long for long, (short, arg) in table.items() if not accepted(program, long, short, arg)]
    tap.is_(refused, [], '%s accepts them' % program)
    have = set(re.findall(r'^\t\{ "([\w-]+)", command_\w+,', ''.join(map(read, glob.glob(os.path.join(tap.TOP, folder, 'main.c')))), re.M))
    same(set(usage_commands(usage.stdout)), have, '%s: --help names the commands that there are' % program)
    commands, described = usage_commands(usage.stdout), manual_commands(text)
    tap.is_(described, commands, '%s describes the commands that there are, with their arguments' % name)
    same(set(re.findall(r'^\.Cm ([\w-]+)', sections(text, 'Sh')['SYNOPSIS'], re.M)), set(commands), '%s: they are in the synopsis' % name)
    none(set(re.findall(r'\bCm ([\w-]+)', text)) - set(commands), '%s names no other command' % name)


# Keys.

def libconfig(value):
    """A list is one of groups, a tuple an array."""
    if isinstance(value, dict):
        return '{ %s }' % ' '.join('%s = %s;' % (key, libconfig(v)) for key, v in value.items())
    if isinstance(value, list):
        return '( %s )' % ', '.join(map(libconfig, value))
    return ovb.value(value)


TWO = [{'name': 'a', 'url': '/a'}, {'name': 'b', 'url': '/b'}]
PLACES = {      # what must stand beside a key for it to be looked at
    (): [{'repositories': TWO}],
    ('repositories',): [{'name': 'c', 'url': '/c'}, {'name': 'c', 'url': 'sftp://host/c'}],
    ('jobs',): [{'name': 'j', 'images': ('/x',)}, {'name': 'j', 'domains': ('*',)}, {'name': 'j', 'from': 'b'}],
}
UNKNOWN = 'nosuchkey'


def complaint(path, group):
    """What the program says of a configuration with this group at this place."""
    if path[:1] == ('jobs',):
        root = {'repositories': TWO, 'jobs': [group]}
    else:
        root = {'repositories': TWO + [group]} if path else group
    with open('probe.conf', 'w', encoding='utf-8') as f:
        f.write(''.join('%s = %s;\n' % (key, libconfig(v)) for key, v in root.items()))
    return tap.run([ovb.BACKUPD, '--config', 'probe.conf', '--check-config']).stderr


def known_in(place, beside, below):
    """The keys of the group that is at the path below in a group at the place, or None if no group can stand there."""
    for many in (False, True):
        group = {UNKNOWN: 1}
        for key in reversed(below):
            group = {key: [group] if many and key == below[-1] else group}
        if below:
            group = {**{k: v for k, v in beside.items() if k != below[0]}, **group}
        else:
            group = {**beside, **group}
        m = re.search(r'%s: unknown key; known here: (.*)' % '.*'.join(map(re.escape, (*below, UNKNOWN))), complaint(place, group))
        if m:
            return m[1].split(', ')
    return None


def find_groups(place, below=()):
    """{path: keys} of this group and of all groups in it."""
    found, keys = {}, None
    for beside in PLACES[place]:
        keys = known_in(place, beside, below)
        if keys is not None:
            break
    if keys is not None:
        found[place + below] = keys
        for key in keys:
            path = place + below + (key,)
            found.update(find_groups(path) if path in PLACES else find_groups(place, below + (key,)))
    return found


def assigned(text):
    """Which keys a configuration assigns: {path of the group: keys}."""
    text = re.sub(r'"(?:\\.|[^"\\\n])*"', '""', text)
    found, stack, key = {}, [], None
    for token in re.findall(r'[A-Za-z]\w*(?= *[=:])|[(){}]', re.sub(r'(#|//).*', '', text)):
        if token in '({':
            stack.append(key)
            key = None
        elif token in ')}':
            stack.pop()
            key = None
        else:
            key = token
            found.setdefault(tuple(filter(None, stack)), set()).add(key)
    return found


def test_keys():
    groups = find_groups(())
    tap.is_(sorted(groups), [(), ('daemon',), ('jobs',), ('jobs', 'hooks'), ('jobs', 'keep'), ('notify',), ('notify', 'mail'), ('notify', 'webhook'), ('repositories',)], 'the groups of keys; PLACES finds those in them')
    text, example = page('backupd.conf.5'), assigned(read(EXAMPLE))
    headings = sections(text, 'Ss')
    for path, keys in groups.items():
        heading = path[-1] if path else 'The file'
        same(set(key_items(headings.get(heading, ''))), set(keys), 'backupd.conf.5, "%s": its keys' % heading)
        same(example.get(path, set()), set(keys), 'the example has each key of "%s"' % heading)
    every = {key for keys in groups.values() for key in keys}
    none(set(re.findall(r'\bIc (\w+)', text + ''.join(map(page, [CONCEPTS, *PROGRAMS])))) - every, 'no page names another key')
    typed = {'--' + name for _, folder in PROGRAMS.values() for name in getopt_table(folder)}
    for name in 'backupd.conf.5', CONCEPTS:
        none(flags(page(name)) - typed, '%s names no option that no program has' % name)
    r = tap.run([ovb.BACKUPD, '--config', EXAMPLE, '--check-config'])
    none(re.findall(r'.*not acted upon.*', r.stderr), 'each key is acted upon')


# What is written.

def literals(name):
    """The literal displays of a page's examples."""
    examples = sections(page(name), 'Sh')['EXAMPLES']
    return [plain(block) for block in re.findall(r'^\.Bd -literal[^\n]*\n(.*?)^\.Ed', examples, re.M | re.S)]


def test_lint():
    for path in sorted(glob.glob(os.path.join(MAN, '*.[1-8]'))):
        name = os.path.basename(path)
        r = tap.run(['mandoc', '-T', 'lint', '-W', 'warning', path])
        tap.is_((r.status, r.stdout + r.stderr), (0, ''), '%s: mandoc finds nothing' % name)
        wanted = ['NAME', 'SYNOPSIS', 'DESCRIPTION', 'FILES', 'EXIT STATUS', 'EXAMPLES', 'DIAGNOSTICS', 'SEE ALSO', 'CAVEATS']
        if name.endswith('.5'):
            wanted = [s for s in wanted if s not in ('SYNOPSIS', 'EXIT STATUS')]
        elif name == CONCEPTS:
            wanted = ['NAME', 'DESCRIPTION', 'DISASTER RECOVERY', 'FILES', 'SEE ALSO', 'CAVEATS']
        none(set(wanted) - set(sections(page(name), 'Sh')), '%s: has its sections' % name)
        ours = set(re.findall(r'^\.Xr ((?:virt-(?:backup|restore)|backupd|openvirt-)\S* \d)', page(name), re.M))
        none({'%s.%s' % tuple(x.split()) for x in ours} - set(os.listdir(MAN)), '%s: the pages of ours that it refers to are there' % name)
        same({x.replace(' ', '.') for x in re.findall(r'^\.Xr (\S+ \d)', sections(page(name), 'Sh')['SEE ALSO'], re.M)} & set(os.listdir(MAN)), set(os.listdir(MAN)) - {name},
             '%s: "SEE ALSO" has all the other ones' % name)


def test_diagnostics():
    """The messages that a page explains are those of the programs; words in upper case stand for something."""
    code = ''.join(read(p) for d in messages.FOLDERS for p in glob.glob(os.path.join(tap.TOP, d, '*.c')))
    code = re.sub(r'" *\n?\s*"', '', code).replace('\\"', '"')
    for path in sorted(glob.glob(os.path.join(MAN, '*.[1-8]'))):
        shown = [plain(m) for m in re.findall(r'^\.It "(.*)"$', sections(page(os.path.basename(path)), 'Sh').get('DIAGNOSTICS', ''), re.M)]
        unknown = {m for m in shown for part in re.split(r'\b(?!QEMU)[A-Z]+\b|: ', m) if len(part) > 4 and part.strip(' "') not in code}
        none(unknown, '%s: its messages exist (%d)' % (os.path.basename(path), len(shown)))


def in_sandbox(text, point='2026-11-22T013000Z'):
    """A command of a page, with its folders moved into the test's."""
    text = text.replace('2026-11-22T013000Z', point).replace('@2026-11-22 ', '@%s ' % point)
    text = text.replace('qemu:///system', 'test:///default')    # libvirt's own driver for tests, which has one domain
    for folder in '/srv/', '/var/backups/vm', '/mnt/archive', '/etc/openvirt-backup', '/dev/vg0/', '/run/':
        text = text.replace(folder, tap.WORK + folder)
    return re.sub(r'^(virt-\w+)', r'\1 --config %s/etc/openvirt-backup/backupd.conf' % tap.WORK, text)


def serve(command):
    """The NBD server that a command speaks to."""
    m = re.search(r'nbd\+unix:///(\w+)\?socket=([^\'\s]+)', command)
    if m:
        image = 'srv/images/%s-export.img' % m[1]
        images.make('zeroes', image, size=0)
        os.truncate(image, 8 << 20)
        tap.start(['qemu-nbd', '-f', 'raw', '-x', m[1], '-k', m[2], image])
        while not os.path.exists(m[2]):
            time.sleep(0.05)


def shape(text):
    """Output without what differs from run to run."""
    text = re.sub(r'\b[kMGT]?B\b', 'B', re.sub(r'\d[\d.]*', 'N', text.replace(tap.WORK, ''))).strip()
    text = re.sub(r'\bN (s|min|h|d)\b', 'N TIME', text)
    return re.sub(' +', ' ', text.replace('NZ-N', 'NZ'))    # two points of one second


def run_tasks():
    """Of the tasks of openvirt-backup.7, what needs no daemon, no guest and no server."""
    for block in re.findall(r'^\.Bd -literal[^\n]*\n(.*?)^\.Ed', sections(page(CONCEPTS), 'Sh')['COMMON TASKS'], re.M | re.S):
        for line in re.findall(r'^# ((?:virt-restore (?:list|show|disk)|virt-backupctl (?:prune|verify))\b.*|cp .*)$', plain(block), re.M):
            r = tap.run(['sh', '-c', in_sandbox(line)], env={'PATH': '%s:%s' % (tap.BIN, os.environ['PATH'])})
            tap.is_((r.status, r.stderr), (0, ''), '%s: %s' % (CONCEPTS, line))


def run_examples(name):
    """Run what stands after a prompt; what follows it must look like the output."""
    where = tap.WORK
    for block in literals(name):
        for line, output in re.findall(r'^[#$] (.*)\n((?:(?![#$] ).*\n)*)', block, re.M):
            full = [os.path.basename(p) for p in ovb.points('var/backups/vm') if ovb.manifest(p)['kind'] == 'full']     # what tar can restore
            command = in_sandbox(line, *full[-1:])
            if command.startswith('cd '):
                where = command[3:]
                tap.ok(os.path.isdir(where), '%s: %s' % (name, line))
                continue
            serve(command)
            r = tap.run(['sh', '-c', command], env={'PATH': '%s:%s' % (tap.BIN, os.environ['PATH'])}, cwd=where)
            tap.is_((r.status, r.stderr), (0, ''), '%s: %s' % (name, line))
            if output:
                tap.is_(shape(output), shape(r.stdout), '%s: its output' % name)


def test_examples():
    for folder in 'srv/images', 'srv/large', 'srv/restored', 'var/backups', 'mnt/archive', 'etc/openvirt-backup', 'dev/vg0', 'run':
        os.makedirs(folder)
    for image in 'original.img', 'srv/images/debian.img', 'srv/large/large.img':
        images.make('holes', image, size=8 << 20)
    conf = os.path.join('etc', 'openvirt-backup', 'backupd.conf')
    with open(os.path.join('etc', 'openvirt-backup', 'mail.password'), 'w', encoding='utf-8', opener=lambda *a: os.open(*a, 0o600)) as f:
        f.write('secret\n')
    for n, block in enumerate(reversed(literals('backupd.conf.5'))):    # the first one, which the commands use, last
        with open(conf, 'w', encoding='utf-8') as f:
            f.write(in_sandbox(block))
        r = tap.run([ovb.BACKUPD, '--config', conf, '--check-config'])
        tap.is_((r.status, r.stderr), (0, ''), 'backupd.conf.5: example %d from the end is good' % (n + 1))
    for name in PROGRAMS:
        run_examples(name)
    run_tasks()
    copies = glob.glob('srv/images/*.img') + glob.glob('srv/restored/*.img') + glob.glob('dev/vg0/*')
    for copy in sorted(copies):
        tap.is_(images.first_difference('original.img', copy), None, '%s is the image' % copy)


def test_install():
    """What `make install` puts there, `make uninstall` takes away."""
    make = ['make', '-C', tap.TOP, '-s', '-o', 'all', 'BUILD=' + tap.BUILD, 'PREFIX=/usr', 'DESTDIR=' + os.path.join(tap.WORK, 'root')]
    clean = {'MAKEFLAGS': None, 'MAKELEVEL': None, 'MFLAGS': None}
    for goal, wanted in ('install', sorted('root/usr/share/man/man%s/%s' % (m[-1], m) for m in os.listdir(MAN))), ('uninstall', []):
        r = tap.run(make + [goal], env=clean)
        tap.is_((r.status, r.stderr), (0, ''), 'make ' + goal)
        tap.is_(sorted(glob.glob('root/usr/share/man/man*/*')), wanted, 'make %s: the pages' % goal)
    tap.is_([f for _, _, files in os.walk('root') for f in files], [], 'nothing is left')


test_lint()
for name_, what in PROGRAMS.items():
    test_program(name_, *what)
test_keys()
test_diagnostics()
test_examples()
test_install()
tap.done_testing()
