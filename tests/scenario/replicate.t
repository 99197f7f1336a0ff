#!/usr/bin/python3 -B
"""Replication: points go from one repository to another, whole or not at all, once, and on from where it broke off."""
import glob
import hashlib
import json
import os
import random
import re
import shutil
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import ovb
import sshd
import tap

CTL = os.path.join(tap.BIN, 'virt-backupctl')
MIB = 1 << 20
IMAGE = 'vda.img'
seed = int(os.environ.get('SEED') or random.SystemRandom().randrange(1 << 32))
rng = random.Random(seed)
tap.diag('seed %d' % seed)


def make_image(path=IMAGE, size=16 * MIB, data=12 * MIB):
    with open(path, 'wb') as f:
        f.truncate(size)
        f.seek(MIB)
        f.write(rng.randbytes(data))


def change(path=IMAGE, size=200000, at=None):
    with open(path, 'r+b') as f:
        f.seek(rng.randrange(os.path.getsize(path) - size) if at is None else at)
        f.write(rng.randbytes(size))


def config(repositories, *jobs, file='backupd.conf'):
    with open(file, 'w', encoding='utf-8') as f:
        f.write('repositories = ( %s );\n' % ', '.join(map(ovb.value, repositories)))
        f.write('jobs = ( %s );\n' % ', '.join(map(ovb.value, jobs)))
    return os.path.abspath(file)


def folder(name):
    return {'name': name, 'url': os.path.abspath(name)}


def job(**keys):
    return ovb.image_job(IMAGE, compression='zstd:1', incremental=True, name='nightly', **keys)


def done(r, name, status=0):
    return tap.ok(r.status == status, name) or tap.diag(r.stdout + r.stderr)


def listed(repository):
    return [p for p in ovb.points(repository) if os.path.exists(p + '/manifest.json')]


def names(repository):
    return [os.path.relpath(p, repository) for p in listed(repository)]


def bytes_of(point):
    """Of what the point is: all files but what stands beside it."""
    found = {}
    for name in os.listdir(point):
        with open(os.path.join(point, name), 'rb') as f:
            found[name.replace('pruned.json', 'manifest.json')] = hashlib.sha256(f.read()).hexdigest()
    found.pop('replica.json', None)
    return found


def left_over(repository):
    return sorted(set(glob.glob(repository + '/.replicas/*')) - set(glob.glob(repository + '/.replicas/*.json'))) + ovb.leftovers(repository) + \
        os.listdir(repository + '/.locks')


def verify(repository, name):
    return done(tap.run([CTL, '-r', os.path.abspath(repository), 'verify']), name)


def ctl(*args, **kwargs):
    return tap.run([CTL, '-c', 'backupd.conf', *args], **kwargs)


def clear(*more):
    for name in ('here', 'there', 'third', *more):
        shutil.rmtree(name, ignore_errors=True)


def state_of(path=IMAGE):
    with open(path, 'rb') as f:
        return hashlib.sha256(f.read()).hexdigest()


def at_time(t):
    """The environment in which it is always that time."""
    return {'FIXED_TIME': str(t), 'LD_PRELOAD': os.path.join(tap.TOOLS, 'preload_fixed.so'),
            'ASAN_OPTIONS': 'verify_asan_link_order=0:' + os.environ.get('ASAN_OPTIONS', '')}


class Nights:
    """The points of a machine at the source, an hour after each other, and what they are to be restored to."""
    def __init__(self, *repositories, size=8 * MIB, data=6 * MIB):
        clear(*repositories)
        make_image(size=size, data=data)
        self.wants, self.now = {}, int(time.time()) - 100 * 86400
        self.conf = config([folder('here')], job(), file='nights.conf')

    def night(self, *changes, hours=1):
        for at, size in changes:
            change(at=at, size=size)
        before = set(names('here'))
        self.now += hours * 3600
        r = ovb.once(self.conf, 'nightly', env=at_time(self.now))
        if r.status != 0:
            raise RuntimeError(r.stderr)
        new, = set(names('here')) - before
        self.wants[new] = state_of()

    def wrong(self, repository, restore=lambda p: ovb.restore(p, 'out.img', '--force')):
        """The points there that are not restored to what they were: two of one second may have each other's names."""
        wrong = []
        for p in listed(repository):
            r = restore(p)
            wants = [state for name, state in self.wants.items() if name.split('Z')[0] == os.path.relpath(p, repository).split('Z')[0]]
            if r.status != 0 or state_of('out.img') not in wants:
                wrong.append('%s: %s' % (p, r.stderr))
        return wrong

    def prune(self, repository, last):
        """What the job made there, and what it brought there."""
        for keys, where in ((dict(replicate=['there']), repository), ({}, repository)):
            c = config([folder('here'), folder('there'), folder('third')], job(keep={'last': last}, **keys), file='prune.conf')
            done(tap.run([CTL, '-c', c, 'prune', 'nightly', '-r', where]), '%s keeps %d' % (repository, last))

    def pull(self, *source, **keys):
        source = source[0] if source else 'here'
        c = config([folder('here'), folder('there'), folder('third')], {'name': 'pull', 'from': source, 'repository': 'there', **keys}, file='pull.conf')
        return ovb.once(c, 'pull')


def test_push():
    clear()
    make_image()
    conf = config([folder('here'), folder('there')], job(replicate=['there'], keep={'last': 3}))
    r = ovb.once(conf, 'nightly')
    done(r, 'a run that replicates')
    tap.like(r.stdout, r'here to there: 1 point copied, 0 there before; 1\d MB in ', 'it says what went')
    for _ in range(3):
        change()
        done(ovb.once(conf, 'nightly'), 'the next one')
    tap.is_(names('there'), names('here'), 'the same points are at both ends, and "keep" has let go of the same')
    tap.is_(len(names('there')), 3, 'three of them')
    tap.is_([bytes_of(p) for p in ovb.points('there')], [bytes_of(p) for p in ovb.points('here')], 'byte by byte, the archives that they need too')
    tap.is_([p for p in ovb.points('there') if tap.run(['sha256sum', '-c', '--quiet', 'SHA256SUMS'], cwd=p).status != 0 and
             os.path.exists(p + '/manifest.json')], [], 'sha256sum -c passes there')
    tap.is_(left_over('there'), [], 'nothing else is there')
    shutil.move('here', 'lost')
    r = ovb.restore(listed('there')[-1], 'out.img')
    tap.ok(r.status == 0 and tap.run(['cmp', IMAGE, 'out.img']).status == 0, 'the first repository lost, the last point comes back from the other')
    shutil.move('lost', 'here')
    r = ctl('replicate', 'nightly')
    tap.like(r.stdout, r'0 points copied, \d there before', 'again, nothing is to be done')
    r = ctl('prune', 'nightly', '-r', 'there', '--dry-run')
    tap.like(r.stdout, '3 would stay', 'prune knows what the job has where it replicates to')


def test_json():
    clear()
    make_image()
    conf = config([folder('here'), folder('there')], job(replicate=['there']))
    r = ovb.once(conf, 'nightly', '--json')
    events = [json.loads(line) for line in r.stdout.splitlines()]
    one = next((e for e in events if e['event'] == 'replicated'), {})
    tap.is_((one.get('to'), one.get('vm'), one.get('resumed')), ('there', 'vda', 0), 'events tell of each point')
    tap.is_([(e['sent'], e['present'], e['failed']) for e in events if e['event'] == 'replication'], [(1, 0, 0)], 'and of all')


def test_pull():
    clear()
    make_image()
    config([folder('here')], job(keep={'last': 2}))
    for _ in range(4):
        ovb.once(os.path.abspath('backupd.conf'), 'nightly')
        change()
    # The repository that pulls has points of its own, of a job of the same name.
    shutil.copyfile(IMAGE, 'own.img')
    pull = {'name': 'pull', 'from': 'here', 'repository': 'there', 'keep': {'last': 3}}
    own = {**job(keep={'last': 1}), 'images': [os.path.abspath('own.img')], 'repository': 'there'}
    conf = config([folder('here'), folder('there')], pull, own)
    ovb.once(conf, 'nightly')
    done(ovb.once(conf, 'pull'), 'a job that pulls')
    tap.is_([n for n in names('there') if n.startswith('vda')], names('here'), 'what the source lists came')
    for _ in range(3):
        change()
        config([folder('here')], job(keep={'last': 2}))
        ovb.once(os.path.abspath('backupd.conf'), 'nightly')
        conf = config([folder('here'), folder('there')], pull, own)
        ovb.once(conf, 'pull')
    tap.is_(len([n for n in names('there') if n.startswith('vda')]), 3, 'its own "keep" keeps three, where the source keeps two')
    before = names('there')
    r = ovb.once(conf, 'pull')
    tap.is_((r.status, names('there')), (0, before), 'what it let go of does not come again')
    done(ovb.once(conf, 'nightly'), 'a job of its own with the name of theirs')
    tap.is_((len([n for n in names('there') if n.startswith('vda')]), len([n for n in names('there') if n.startswith('own')])), (3, 1),
            'its "keep" judges its own points only')
    verify('there', 'all of it is sound')
    tap.like(ctl('prune', 'pull', '--dry-run').stdout, '3 would stay', 'prune shows what the job that pulls keeps')
    # Somebody at the source forges times.
    last = listed('here')[-1]
    shutil.copytree(last, os.path.join(os.path.dirname(last), '2199-01-01T000000Z'))
    r = ovb.once(conf, 'pull')
    tap.ok(r.status == 1 and 'still to come' in r.stderr, 'a point of the future is refused: it would push out real ones') or tap.diag(r.stderr)
    tap.is_(names('there'), [n for n in names('there') if '2199' not in n], 'and is not there')


def test_damage():
    clear()
    make_image()
    conf = config([folder('here'), folder('there')], job())
    # The third does not write over what the second has.
    for n in range(3):
        ovb.once(conf, 'nightly')
        change(at=(2 + 4 * n) * MIB)
    points = ovb.points('here')
    with open(ovb.archive(points[1]), 'r+b') as f:
        f.seek(3000)
        old = f.read(1)
        f.seek(3000)
        f.write(bytes([old[0] ^ 1]))
    r = ctl('replicate', '--from', 'here', '--to', 'there')
    tap.is_(r.status, 1, 'with a damaged point at the source it fails')
    tap.like(r.stderr, r'is damaged at the source: disks.tar.zst does not have the SHA-256 that was taken when it was written: disk vda (at|from) offset \d+',
             'and names disk and offset')
    tap.like(r.stderr, 'which it needs, could not be copied', 'and the point that needs it')
    tap.is_(names('there'), names('here')[:1], 'what does not need it came')
    tap.is_(left_over('there'), [], 'and nothing else')
    for name, wrong in ('index.bin', 'index.bin does not'), ('SHA256SUMS', 'is damaged at the source'), ('manifest.json', 'damaged|manifest'):
        clear()
        config([folder('here'), folder('there')], job())
        ovb.once(conf, 'nightly')
        with open(os.path.join(ovb.points('here')[0], name), 'r+b') as f:
            f.seek(40)
            f.write(b'#')
        r = ctl('replicate', '--from', 'here', '--to', 'there')
        tap.ok(r.status == 1 and names('there') == [], name + ' damaged: it does not come')
        tap.like(r.stderr, wrong, 'and the message says so')


def test_names():
    """Two hosts have machines of one name that are backed up in the same second."""
    clear('other')
    os.makedirs('b', exist_ok=True)
    make_image()
    make_image('b/' + IMAGE)
    a = config([folder('here')], job(), file='a.conf')
    b = config([folder('other')], {**job(), 'images': [os.path.abspath('b/' + IMAGE)]}, file='b.conf')
    for _ in range(20):
        clear('other')
        first, second = (tap.start(ovb.once_command(c, 'nightly'), stdout=-3) for c in (a, b))
        first.wait()
        second.wait()
        if names('here') == names('other'):
            break
    tap.is_(names('other'), names('here'), 'two points of one name')
    for source in 'here', 'other', 'here', 'other':
        r = ctl('replicate', '--from', './' + source, '--to', './there')
        done(r, 'both come to one place')
    tap.is_(names('there'), names('here') + [names('here')[0] + '-2'], 'and are two points there')
    restored = []
    for p in listed('there'):
        ovb.restore(p, 'out.img', '--force')
        restored.append(next((i for i in (IMAGE, 'b/' + IMAGE) if tap.run(['cmp', i, 'out.img']).status == 0), None))
    tap.is_(sorted(map(str, restored)), sorted([IMAGE, 'b/' + IMAGE]), 'each with its own data')


def test_first_name():
    """Of a machine that is new there, the point that another one of its second came before."""
    clear()
    make_image()
    conf = config([folder('here'), folder('there')], job())
    ovb.once(conf, 'nightly')
    point, = listed('here')
    os.rename(point, point + '-2')
    done(ctl('replicate', '--from', 'here', '--to', 'there'), 'the second point of a second, whose first is gone')
    tap.is_(names('there'), names('here'), 'has the same name there')


def test_consolidated():
    clear()
    make_image()
    conf = config([folder('here'), folder('there')], job())
    def replicate():
        return ctl('replicate', '--from', 'here', '--to', 'there')
    ovb.once(conf, 'nightly')
    change()
    ovb.once(conf, 'nightly')
    done(ctl('protect', ovb.spec(listed('here')[0])), 'one is protected')
    replicate()
    tap.ok(os.path.exists(listed('there')[0] + '/protected'), 'it is at the other end too')
    done(ctl('consolidate', '-r', 'here', ovb.spec(listed('here')[1])), 'a point is consolidated at the source')
    tap.like(replicate().stdout, '0 points copied, 2 there before', 'it is the same point still')
    shutil.rmtree('there/.replicas')
    tap.like(replicate().stdout, '0 points copied, 2 there before', 'also when what came is not remembered')
    change()
    ovb.once(conf, 'nightly')
    replicate()
    done(ctl('consolidate', '-r', 'there', ovb.spec(listed('there')[2])), 'another one is, at the far end')
    tap.ok(os.path.exists(listed('there')[2] + '/replica.json'), 'who brought it stays known')
    change()
    ovb.once(conf, 'nightly')
    done(replicate(), 'the next one needs what it was before')
    verify('there', 'and has it')
    r = ovb.restore(listed('there')[-1], 'out.img', '--force')
    tap.is_(r.status, 0, 'it comes back')


def test_back_again():
    """The far end let go of points, packed what was left of their archives, and gets them again: now the archives are there twice, whole and not."""
    n = Nights()
    n.night()
    n.night((MIB, 2 * MIB))
    n.night((MIB, 3 * MIB))
    done(n.pull(keep={'last': 1}), 'of three points, the far end keeps one')
    tap.is_([len(ids) for ids, _ in packed('there').values()], [1], 'and packs what that needs of the first')
    n.night((5 * MIB, MIB))
    done(n.pull(), 'without "keep", it gets the older ones again')
    tap.is_((names('there'), n.wrong('there')), (names('here'), []), 'all are there, as they were')
    done(n.pull(keep={'last': 3}), 'it lets go of the first again, whose whole archive is there, and what was left of it')
    tap.is_((names('there'), n.wrong('there')), (names('here')[1:], []), 'the second, which needs more of it than what was left, is what it was')
    verify('there', 'verify finds nothing')
    tap.is_([len(ids) for ids, _ in packed('there').values()], [1], 'and what was there twice is there once') or tap.diag(packed('there'))
    done(n.pull(keep={'last': 2}), 'it lets go of the second')
    tap.is_((names('there'), n.wrong('there')), (names('here')[2:], []), 'the others are what they were')


def test_name_again():
    """What was left of an archive is packed, and gets a name that another point of the same second had, which is remembered still."""
    n = Nights()
    n.night()
    n.night((MIB, 2 * MIB), hours=0)
    n.night((2 * MIB, MIB))
    n.night((MIB, 3 * MIB))
    done(n.pull(keep={'last': 1}), 'of four points, the far end keeps one')
    tap.is_([os.path.basename(os.path.dirname(path)) for _, path in packed('there').values()], [os.path.basename(names('here')[1])],
            'what is left of the first has the name of the second')
    n.night((5 * MIB, MIB))
    done(n.pull(), 'without "keep", it gets the older ones again')
    tap.is_((len(names('there')), n.wrong('there')), (5, []), 'and the third, which needs the second, is what it was')


def rescue(point):
    if os.path.exists('out.img'):
        os.unlink('out.img')
    machine, name = point.split('/')[-2:]
    return tap.run([sys.executable, '-B', os.path.join(tap.TOP, 'restore', 'rescue.py'), os.path.dirname(os.path.dirname(point)), machine + '/' + name,
                    'vda', 'out.img'])


def test_two_parts():
    """Two archives there stand for one, and one of them holds less: so it is when two runs, or two sources, bring what is left of it at the same time."""
    n = Nights()
    n.night()
    n.night((MIB, 2 * MIB))
    c = config([folder('here'), folder('third')], {'name': 'keep', 'from': 'here', 'repository': 'third', 'keep': {'last': 1}})
    done(ovb.once(c, 'keep'), 'a third repository has let go of the first point, and packed what the second needs of it')
    n.night((MIB, 4 * MIB))
    n.prune('here', 1)
    (_, less), = packed('here').values()
    done(n.pull('third'), 'that is copied')
    done(n.pull('here'), 'and a later point, that needs less of it, from the first repository')
    for name in 'less', 'more':
        for _, p in packed('there').values():
            shutil.rmtree(os.path.dirname(p))
        (_, more), = packed('third').values()
        place = os.path.dirname(more).replace('/third/', '/there/').split('Z')[0] + 'Z-'
        shutil.copytree(os.path.dirname(less), place + ('9' if name == 'less' else '7'))
        shutil.copytree(os.path.dirname(more), place + '8')
        tap.is_((len(names('there')), n.wrong('there')), (2, []), 'both points are what they were, where the one with %s is the last' % name)
        tap.is_(n.wrong('there', rescue), [], '... to rescue.py too')
    done(n.pull(keep={'last': 9}), 'the next prune')
    tap.is_((len(packed('there')), n.wrong('there')), (1, []), 'leaves the one with more')


def packed(repository):
    """The archives that stand for others there: by their ids, what they stand for, and their paths."""
    found = {}
    for path in glob.glob(os.path.abspath(repository) + '/*/*/pruned.json'):
        with open(path, encoding='utf-8') as f:
            m = json.load(f)
        if m.get('replaces'):
            found[m['archive']['id']] = set(m['replaces']), os.path.join(os.path.dirname(path), m['archive']['file'])
    return found


def test_outage(server=None):
    """Points come and go at the source, and are packed, while nothing is copied; what the other end has already stands in the way of the packed archive."""
    n = Nights(size=16 * MIB, data=12 * MIB)
    there = folder('there')
    if server is not None:
        key = sshd.keygen('id-out')
        server.authorize(key)
        there = remote(server, key, server.known_hosts('known-out', kinds=('ed25519',)))
    how = 'over SSH' if server is not None else 'between folders'
    prune = config([folder('here'), there], job(replicate=['there'], keep={'last': 3}), file='prune.conf')
    push = config([folder('here'), there], job(replicate=['there'], keep={'last': 6}), file='push.conf')
    n.night()
    n.night((2 * MIB, MIB))
    done(tap.run([CTL, '-c', push, 'replicate', 'nightly']), how + ': two points are copied')
    # Each night's blocks are needed in part by later ones; what the first night's archive has is half overwritten.
    n.night((3 * MIB, 2 * MIB))
    n.night((4 * MIB, 2 * MIB), (9 * MIB, MIB))
    n.night((5 * MIB, 3 * MIB))
    for at in 6, 7, 8:
        n.night((at * MIB, MIB))
    done(tap.run([CTL, '-c', prune, 'prune', 'nightly', '-r', 'here']), how + ': then the source has let go of points that were not copied')
    of = packed('here')
    tap.ok([len(ids) >= 4 for ids, _ in of.values()] == [True], how + ': and has packed what they share') or tap.diag(of)
    n.night((7 * MIB + MIB // 2, MIB))
    archive, = (path for _, path in of.values())
    with open(archive, 'rb') as f:
        whole = f.read()
    with open(archive, 'wb') as f:
        f.write(whole[:len(whole) // 2] + bytes(b ^ 0xff for b in whole[len(whole) // 2:len(whole) // 2 + 4096]) + whole[len(whole) // 2 + 4096:])
    r = tap.run([CTL, '-c', push, 'replicate', 'nightly'])
    tap.ok(r.status == 1 and re.search(r'%s cannot be used: .*%s' % (os.path.dirname(archive), os.path.basename(archive)), r.stderr),
           how + ': what is damaged in it is told, with where it lies') or tap.diag(r.stderr)
    tap.is_(n.wrong('there'), [], how + ': and is not copied')
    with open(archive, 'wb') as f:
        f.write(whole)
    r = tap.run([CTL, '-c', push, 'replicate', 'nightly'])
    done(r, how + ': what there is goes over all the same')
    tap.is_(sorted(set(names('here')) - set(names('there'))), [], how + ': they are listed there')
    tap.is_(n.wrong('there'), [], how + ': every point there is restored to what it was')
    tap.is_(sorted(set(packed('there')) & set(of)), [], how + ': the packed archive itself is not there')
    tap.is_([ids for ids, _ in packed('there').values() if len(ids) != 1], [], how + ': but what was missing, one by one')
    tap.is_(left_over('there'), [], how + ': nothing else is left')
    verify('there', how + ': verify finds nothing')
    r = tap.run([CTL, '-c', push, 'replicate', 'nightly'])
    tap.like(r.stdout, '0 points copied', how + ': again, nothing is to be done')
    # Both ends go on with what they have.
    for at in 2, 10, 3:
        n.night((at * MIB, MIB))
        for repository in 'here', 'there':
            done(tap.run([CTL, '-c', prune, 'prune', 'nightly', '-r', repository]), '%s: %s lets go of points' % (how, repository))
        done(tap.run([CTL, '-c', push, 'replicate', 'nightly']), how + ': and the next night is copied')
    tap.is_(n.wrong('there'), [], how + ': every point there is still what it was')
    verify('there', how + ': and verify finds nothing')
    if server is not None:
        server.stop()


def test_late():
    """A point comes late, of which the other end has let go, with what only it used."""
    n = Nights(size=16 * MIB, data=12 * MIB)
    config([folder('here'), folder('there')], job())
    keep = [config([folder('here'), folder('there')], job(replicate=['there'], keep={'last': last}), file='keep%d.conf' % last) for last in range(1, 4)]
    n.night()
    n.night((2 * MIB, MIB))
    n.night((2 * MIB, 7 * MIB))
    done(tap.run([CTL, '-c', keep[2], 'replicate', 'nightly']), 'all points are copied')
    for c, repository in (keep[0], 'there'), (keep[1], 'here'):
        done(tap.run([CTL, '-c', c, 'prune', 'nightly', '-r', repository]), 'points are let go of')
    tap.is_((len(names('here')), len(names('there')), len(packed('there'))), (2, 1, 1), 'more of them at the other end, which has packed what is left')
    r = ctl('replicate', '--from', 'here', '--to', 'there')
    done(r, 'copied again by hand, the older one comes')
    tap.like(r.stdout, '1 point copied, 1 archive that they need', '... with what only it used')
    tap.is_(names('there'), names('here'), '... and is listed')
    for _ in range(2):
        tap.is_(n.wrong('there'), [], 'every point there is what it was')
        verify('there', 'and verify finds nothing')
        done(tap.run([CTL, '-c', keep[1], 'prune', 'nightly', '-r', 'there']), 'also after upkeep there')
    tap.is_(left_over('there'), [], 'nothing is left')


def test_wrong():
    clear()
    make_image()
    conf = config([folder('here'), folder('there')], job())
    ovb.once(conf, 'nightly')
    shutil.copytree('here', 'there')
    for args, status, wrong in (
            (['replicate'], 2, 'replicate takes a job, or --from and --to'),
            (['replicate', 'nightly', '--from', 'here'], 2, 'replicate takes a job, or --from and --to'),
            (['replicate', 'nightly'], 1, 'has no job "nightly" that replicates; those that do: none'),
            (['replicate', '--from', 'here', '--to', 'nowhere'], 1, 'has no repository "nowhere"'),
            (['replicate', '--from', 'here', '--to', 'there'], 1, 'are one repository, or copies of one'),
            (['replicate', '--from', './gone', '--to', './there'], 1, 'gone')):
        r = ctl(*args)
        tap.ok(r.status == status and wrong in r.stderr, 'virt-backupctl %s: %s' % (' '.join(args), wrong)) or tap.diag(r.stderr)


def remote(server, key, known, port=None, path='there', **keys):
    return {'name': 'there', 'url': server.url(os.path.abspath(path), port), 'identity': key, 'known_hosts': known,
            'idle_timeout': 5 * tap.SLOWER, 'connect_timeout': 10 * tap.SLOWER, **keys}


def cut(proxy, server, conf, how, after):
    """Start replicating, and cut the line when so many bytes have passed."""
    before = proxy.bytes
    child = tap.start([CTL, '-c', conf, 'replicate', '--from', 'here', '--to', 'there'], stdout=-1, stderr=-1)
    until = time.monotonic() + 60 * tap.SLOWER
    while proxy.bytes - before < after and child.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    if how == 'kill':
        child.kill()
    elif how == 'reset':
        proxy.reset()
    elif how == 'stall':
        proxy.stalled = True
    else:
        server.kill_sessions()
    out, err = child.communicate(timeout=60 * tap.SLOWER)
    proxy.stalled = False
    if how == 'stall':
        proxy.reset()
    server.kill_sessions()
    return child.returncode, out.decode() + err.decode()


def test_sftp(shell):
    clear()
    make_image()
    server = sshd.Server('server-%s' % shell, kinds=('ed25519',), force=not shell, sftp='/usr/lib/openssh/sftp-server' if shell else 'internal-sftp')
    key = sshd.keygen('id-%s' % shell)
    server.authorize(key)
    proxy = sshd.Proxy(server.port)
    known = server.known_hosts('known-%s' % shell, kinds=('ed25519',), port=proxy.port)
    conf = config([folder('here'), remote(server, key, known, proxy.port, read_back=100)], job())
    what = 'with sha256sum there' if shell else 'without a shell there'
    for _ in range(2):
        ovb.once(conf, 'nightly')
        change()
    for how in 'kill', 'reset', 'stall', 'sessions':
        shutil.rmtree('there', ignore_errors=True)
        status, text = cut(proxy, server, conf, how, 5 * MIB)
        tap.ok(status not in (0, None), '%s: %s in the middle of an archive: it fails' % (what, how)) or tap.diag(text)
        tap.is_(names('there'), [], '%s: nothing is listed' % how)
        parts = glob.glob('there/.replicas/*.part')
        tap.is_(len(parts), 1, '%s: what arrived stays' % how)
        if how == 'reset' and parts:
            with open(parts[0], 'r+b') as f:
                f.write(b'damage')      # at its begin: what is right before a damage is kept
        # An hour of waiting for the dead lock of a killed process on this host is not needed: it is seen to be dead.
        r = ctl('replicate', '--from', 'here', '--to', 'there')
        done(r, '%s: the next one goes on' % how)
        if how == 'reset':
            tap.unlike(r.stdout, 'gone on with what had arrived', '%s: what arrived is wrong, and is sent again' % how)
        else:
            tap.like(r.stdout, 'gone on with what had arrived', '%s: from where it was' % how)
        tap.is_([bytes_of(p) for p in ovb.points('there')], [bytes_of(p) for p in ovb.points('here')], '%s: all came, as it is here' % how)
        tap.is_(left_over('there'), [], '%s: nothing else is left' % how)
    verify('there', what + ': the copy is sound')
    server.stop()


def test_read_only_source():
    clear()
    make_image()
    server = sshd.Server('server-ro', kinds=('ed25519',), sftp='internal-sftp -R')
    key = sshd.keygen('id-ro')
    server.authorize(key)
    known = server.known_hosts('known-ro', kinds=('ed25519',))
    ovb.once(config([folder('here')], job()), 'nightly')
    conf = config([folder('third'), remote(server, key, known, path='here')], {'name': 'pull', 'from': 'there', 'repository': 'third'})
    before = sorted(glob.glob('here/**', recursive=True) + os.listdir('here'))
    done(ovb.once(conf, 'pull'), 'a job pulls from an account that can only read')
    tap.is_(sorted(glob.glob('here/**', recursive=True) + os.listdir('here')), before, 'which it left as it was')
    tap.is_(names('third'), names('here'), 'and has its points')
    server.stop()


def test_vanishing():
    """A point goes away at the source while others are under way."""
    clear()
    make_image()
    server = sshd.Server('server-van', kinds=('ed25519',))
    key = sshd.keygen('id-van')
    server.authorize(key)
    proxy = sshd.Proxy(server.port, delay=0.02)
    known = server.known_hosts('known-van', kinds=('ed25519',), port=proxy.port)
    here = config([folder('here')], job(), file='here.conf')
    for _ in range(3):
        ovb.once(here, 'nightly', '--full')
        change()
    conf = config([folder('third'), remote(server, key, known, proxy.port, path='here', parallel=1)], {'name': 'pull', 'from': 'there', 'repository': 'third'})
    child = tap.start(ovb.once_command(conf, 'pull', '--json'), stdout=-1, stderr=-1)
    for line in child.stdout:
        if json.loads(line)['event'] == 'begin':
            shutil.rmtree(ovb.points('here')[-1])
            break
    rest = [json.loads(line) for line in child.stdout]
    tap.is_(child.wait(), 0, 'that is no failure')
    tap.is_([(e['sent'], e['vanished']) for e in rest if e['event'] == 'replication'], [(2, 1)], 'it is counted')
    tap.is_((names('third'), left_over('third')), (names('here'), []), 'the others came')
    server.stop()


def test_at_random():
    """Backups, upkeep at both ends, and replication that is killed, in any order: what is listed at the far end is always whole."""
    clear()
    make_image(size=6 * MIB, data=4 * MIB)
    conf = config([folder('here'), folder('there')], job())
    wants = {}
    start = int(time.time()) - 3600

    def backup():
        """Each in a second of its own: a name that is free again could be given to another point, and two ends name points of one second differently."""
        change(size=rng.choice((5000, 200000, 900000)))
        before = set(names('here'))
        r = ovb.once(conf, 'nightly', *(['--full'] if rng.random() < 0.1 else []), env=at_time(start + len(wants)))
        if r.status != 0:
            raise RuntimeError(r.stderr)
        new, = set(names('here')) - before
        wants[new] = state_of()

    def prune(repository):
        keep = {'last': rng.randrange(1, 5)}
        c = config([folder('here'), folder('there')], job(replicate=['there'], keep=keep), file='prune.conf')
        return tap.run([CTL, '-c', c, 'prune', 'nightly', '-r', repository])

    def consolidate(repository):
        points = listed(repository)
        if points:
            tap.run([CTL, '-c', conf, 'consolidate', '-r', repository, ovb.spec(rng.choice(points))])

    def replicate():
        c = config([folder('here'), folder('there')], job(replicate=['there'], keep={'last': 100}), file='push.conf')
        command = [CTL, '-c', c, 'replicate', 'nightly'] if rng.random() < 0.7 else [CTL, '-c', conf, 'replicate', '--from', 'here', '--to', 'there']
        child = tap.start(command, stdout=-3, stderr=-1)
        if rng.random() < 0.3:
            time.sleep(rng.random() * 0.15)
            child.send_signal(signal.SIGKILL)
        text = child.communicate(timeout=120)[1].decode()
        return child.returncode, text

    outcomes = {}
    wrong = []
    for step in range(int(os.environ.get('STEPS') or 60)):
        what = rng.choice(['backup'] * 4 + ['replicate'] * 4 + ['prune here', 'prune there', 'consolidate here', 'consolidate there'])
        if what == 'backup':
            backup()
        elif what == 'replicate':
            if not os.path.isdir('here'):
                continue
            status, text = replicate()
            outcomes[status] = outcomes.get(status, 0) + 1
            if status == 1:
                wrong.append('step %d: %s' % (step, text))
        elif os.path.isdir(what.split()[1]):
            (prune if what.startswith('prune') else consolidate)(what.split()[1])
        for p in listed('there') if os.path.isdir('there') else []:
            r = ovb.restore(p, 'out.img', '--force')
            if r.status != 0 or state_of('out.img') != wants.get(os.path.relpath(p, 'there')):
                wrong.append('step %d, %s: %s %s' % (step, what, p, r.stderr))
    tap.diag('replications by exit status: %s' % outcomes)
    tap.is_(wrong, [], 'after every step each point there restores to what it was')
    ctl('replicate', '--from', 'here', '--to', 'there')
    verify('there', 'and verify finds nothing')
    tap.is_(left_over('there'), [], 'nothing is left of those that were killed')


test_push()
test_json()
test_pull()
test_damage()
test_names()
test_first_name()
test_consolidated()
test_back_again()
test_name_again()
test_two_parts()
test_outage()
test_outage(sshd.Server('server-out', kinds=('ed25519',), sftp='internal-sftp'))
test_late()
test_wrong()
test_sftp(True)
test_sftp(False)
test_read_only_source()
test_vanishing()
test_at_random()
tap.done_testing()
